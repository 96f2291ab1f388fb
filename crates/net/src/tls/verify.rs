//! Checks of a server's certificate beyond webpki's.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::parse_x509_certificate;

use super::{
    authority::{is_authority, is_named_as_issuer},
    words::{MissingRoots, Refusal},
};
use crate::printable;

/// Checks a server's certificate by one of three rules, and always that the server holds its key.
#[derive(Debug)]
pub(crate) struct Verifier {
    rule: Rule,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Which certificates are accepted.
#[derive(Debug)]
enum Rule {
    /// Certificates issued by the bundle, and certificates that are themselves in the bundle.
    ///
    /// webpki refuses a server certificate that is marked as an authority (RFC 5280, 4.2.1.9),
    /// which self-signed server certificates often are; one that the user gave as trusted is
    /// accepted, as long as it names the host and is within its dates.
    PinnedOrIssued(Given),
    /// All of them.
    Any,
    /// None, since the system has no certificate authorities.
    None,
}

/// A bundle that the user gave.
#[derive(Debug)]
pub(crate) struct Given {
    /// Where, for messages.
    pub(crate) name: String,
    /// All of its certificates.
    pub(crate) pinned: Vec<CertificateDer<'static>>,
    /// Finds what its authorities issued; `None` where it has none.
    pub(crate) issued: Option<Arc<WebPkiServerVerifier>>,
    /// The check by the system's authorities, where they count beside it.
    pub(crate) system: Option<Arc<dyn ServerCertVerifier>>,
}

impl Verifier {
    /// Trusts what is in the bundle, or was issued by it, or by the system's authorities where they count.
    pub(crate) const fn pinned_or_issued(provider: &CryptoProvider, given: Given) -> Self {
        Self::new(provider, Rule::PinnedOrIssued(given))
    }

    /// Trusts every server that holds the key of the certificate it shows.
    pub(crate) const fn any(provider: &CryptoProvider) -> Self {
        Self::new(provider, Rule::Any)
    }

    /// Trusts no server.
    pub(crate) const fn no_system_roots(provider: &CryptoProvider) -> Self {
        Self::new(provider, Rule::None)
    }

    const fn new(provider: &CryptoProvider, rule: Rule) -> Self {
        Self {
            rule,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Where every certificate is accepted, some cannot be read, and their signatures not checked.
    fn skips_signature(&self, certificate: &CertificateDer<'_>) -> bool {
        matches!(self.rule, Rule::Any) && !is_readable(certificate)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match &self.rule {
            Rule::PinnedOrIssued(given) => {
                let verified = given.check(end_entity, intermediates, server_name, now);
                let is_unknown = matches!(&verified, Err(error) if is_of_unknown_issuer(error));
                let verified = match verified {
                    Err(TlsError::InvalidCertificate(why)) => {
                        given.forgive(why, end_entity, server_name)
                    }
                    other => other,
                };
                let (Err(_), Some(system)) = (&verified, &given.system) else {
                    return verified;
                };
                let by_system = system.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
                match by_system {
                    Ok(trusted) => Ok(trusted),
                    // The system's authorities have issued it, and something else is wrong with it.
                    Err(error @ TlsError::InvalidCertificate(_))
                        if is_unknown && !is_of_unknown_issuer(&error) =>
                    {
                        Err(error)
                    }
                    Err(_) => verified,
                }
            }
            Rule::Any => Ok(ServerCertVerified::assertion()),
            Rule::None => Err(TlsError::Other(OtherError(Arc::new(MissingRoots)))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if self.skips_signature(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if self.skips_signature(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Given {
    /// Whether the bundle vouches for the certificate.
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            check_dates(end_entity, now)?;
            check_name(end_entity, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let Some(issued) = &self.issued else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        // The name is the last that it checks.
        issued.verify_server_cert(end_entity, intermediates, server_name, &[], now)
    }

    /// What a refusal means where the user gave the certificates to trust.
    ///
    /// A certificate without a subject alternative name is accepted for the host in its common name, as
    /// other clients do: those of old installations have nothing else.
    fn forgive(
        &self,
        why: CertificateError,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<ServerCertVerified, TlsError> {
        let Ok((_, parsed)) = parse_x509_certificate(end_entity) else {
            return Err(why.into());
        };
        match why {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                if !matches!(parsed.subject_alternative_name(), Ok(None)) {
                    return Err(why.into());
                }
                let names = parsed.subject().iter_common_name();
                let names: Vec<&str> = names.filter_map(|name| name.as_str().ok()).collect();
                let host = server_name.to_str();
                if names.iter().any(|name| is_name_of(name, &host)) {
                    return Ok(ServerCertVerified::assertion());
                }
                let names = printable(&names.join(", "));
                Err(Refusal(format!(
                    "it has no subject alternative name, and its common name is \"{names}\", not this \
                     host; use that name as the address, have it issued again with this host's name, or \
                     set `insecureSkipVerify` to check nothing"
                ))
                .into_error())
            }
            CertificateError::UnknownIssuer => {
                let issuer = printable(&parsed.issuer().to_string());
                let mut pinned = self.pinned.iter();
                let given_issuer = pinned.find(|one| is_named_as_issuer(one, end_entity));
                let text = if given_issuer.is_some_and(|given| !is_authority(given)) {
                    self.no_authority(&issuer)
                } else {
                    self.unknown(&issuer)
                };
                Err(Refusal(text).into_error())
            }
            why => Err(why.into()),
        }
    }

    fn no_authority(&self, issuer: &str) -> String {
        let name = &self.name;
        format!(
            "unknown issuer: its issuer \"{issuer}\" is in {name}, but is not marked as an \
             authority (CA:TRUE) for signing certificates, so that it stands for itself alone; add \
             the server's own certificate to {name}, or set `insecureSkipVerify` to check nothing"
        )
    }

    fn unknown(&self, issuer: &str) -> String {
        let (name, given) = (&self.name, self.pinned.len());
        let (or_system, or_secret) = match self.system {
            Some(_) => (
                " and none of the system's authorities",
                ", give it in `cacert`",
            ),
            None => ("", ""),
        };
        format!(
            "unknown issuer: none of the {given} in {name}{or_system} has issued it, or what it was \
             issued by; add the certificate of its issuer \"{issuer}\" to {name}{or_secret}, or set \
             `insecureSkipVerify` to check nothing"
        )
    }
}

const fn is_of_unknown_issuer(error: &TlsError) -> bool {
    matches!(
        error,
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer)
    )
}

/// Whether a common name is the host's: the same, or with `*` for its first label.
fn is_name_of(name: &str, host: &str) -> bool {
    let rest = |text: &str| {
        text.split_once('.')
            .map(|(_, rest)| rest.to_ascii_lowercase())
    };
    name.eq_ignore_ascii_case(host)
        || name.starts_with("*.")
            && host.parse::<std::net::IpAddr>().is_err()
            && rest(name).is_some_and(|rest_of_name| {
                rest_of_name.contains('.') && rest(host) == Some(rest_of_name)
            })
}

fn check_name(
    end_entity: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
) -> Result<(), TlsError> {
    let parsed = ParsedCertificate::try_from(end_entity).map_err(|_| {
        Refusal(
            "it has a form that cannot be used (X.509 version 1?); have it issued again, or set \
             `insecureSkipVerify` to check nothing"
                .to_owned(),
        )
        .into_error()
    })?;
    verify_server_name(&parsed, server_name)
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), TlsError> {
    let (_, parsed) =
        parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Whether webpki can read the certificate; version 1 certificates, for one, it cannot.
fn is_readable(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names() {
        for (name, host, is_name) in [
            ("host.example", "host.example", true),
            ("HOST.example", "host.EXAMPLE", true),
            ("*.example.org", "host.example.org", true),
            ("*.example.org", "a.host.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.org", "example.org", false),
            ("*", "host", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("*.0.0.1", "10.0.0.1", false),
            ("host", "host.example", false),
            ("", "host", false),
        ] {
            assert_eq!(is_name_of(name, host), is_name, "{name} {host}");
        }
    }
}
