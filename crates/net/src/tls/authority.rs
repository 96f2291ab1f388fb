//! Which certificates may issue others.

use rustls_pki_types::CertificateDer;
use x509_parser::{parse_x509_certificate, x509::X509Version};

/// Whether a certificate is an authority's: marked as one (RFC 5280, 4.2.1.9), and for signing certificates
/// where it states what its key is for (4.2.1.3); or of version 1, which has no such marks. webpki takes any
/// certificate as a trust anchor, so that the key of one host could issue certificates for all others.
pub(super) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
        return false;
    };
    if parsed.version() == X509Version::V1 {
        return true;
    }
    // Where an extension is there twice, neither counts.
    let is_marked = matches!(parsed.basic_constraints(), Ok(Some(mark)) if mark.value.ca);
    let may_sign = match parsed.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    is_marked && may_sign
}

/// Whether `issuer` has the name that `certificate` states as its issuer's.
pub(super) fn is_named_as_issuer(
    issuer: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
) -> bool {
    match (
        parse_x509_certificate(issuer),
        parse_x509_certificate(certificate),
    ) {
        (Ok((_, named)), Ok((_, other))) => named.subject() == other.issuer(),
        _ => false,
    }
}
