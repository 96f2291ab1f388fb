//! Checks of a server's certificate beyond webpki's, and the words for their failures.

use std::{fmt, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error as TlsError, OtherError,
    SignatureScheme,
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

use crate::{Error, Kind};

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
    PinnedOrIssued {
        pinned: Vec<CertificateDer<'static>>,
        issued: Arc<WebPkiServerVerifier>,
    },
    /// All of them.
    Any,
    /// None, since the system has no certificate authorities.
    None(MissingRoots),
}

/// Why the system's certificate authorities could not be loaded.
#[derive(Debug, Clone)]
struct MissingRoots(String);

impl Verifier {
    /// Trusts what is in the bundle, or was issued by it.
    pub(crate) const fn pinned_or_issued(
        provider: &CryptoProvider,
        pinned: Vec<CertificateDer<'static>>,
        issued: Arc<WebPkiServerVerifier>,
    ) -> Self {
        Self::new(provider, Rule::PinnedOrIssued { pinned, issued })
    }

    /// Trusts every server that holds the key of the certificate it shows.
    pub(crate) const fn any(provider: &CryptoProvider) -> Self {
        Self::new(provider, Rule::Any)
    }

    /// Trusts no server, for the reason given.
    pub(crate) fn no_system_roots(provider: &CryptoProvider, reason: &TlsError) -> Self {
        Self::new(provider, Rule::None(MissingRoots(reason.to_string())))
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
            Rule::PinnedOrIssued { pinned, issued } => {
                if !pinned.iter().any(|pinned| pinned == end_entity) {
                    return issued.verify_server_cert(
                        end_entity,
                        intermediates,
                        server_name,
                        ocsp_response,
                        now,
                    );
                }
                check_dates(end_entity, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Rule::Any => Ok(ServerCertVerified::assertion()),
            Rule::None(reason) => Err(TlsError::Other(OtherError(Arc::new(reason.clone())))),
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

impl fmt::Display for MissingRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MissingRoots {}

/// The error for a failed handshake with `peer`: who, why, and what to do.
pub(crate) fn handshake_error(peer: &str, error: TlsError) -> Error {
    let (kind, text) = match &error {
        TlsError::InvalidCertificate(why) => (
            Kind::Certificate,
            format!(
                "{peer}: the server's certificate is not accepted: {}",
                explain(why)
            ),
        ),
        TlsError::Other(other) if other.0.is::<MissingRoots>() => (
            Kind::Settings,
            format!(
                "{peer}: this system has no certificate authorities: give the server's in `cacert`"
            ),
        ),
        TlsError::InvalidMessage(_) => (
            Kind::Tls,
            format!("{peer}: the peer does not speak TLS: check scheme (http or https) and port"),
        ),
        TlsError::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity,
        )
        | TlsError::PeerIncompatible(_) => (
            Kind::Tls,
            format!(
                "{peer}: no common TLS version or cipher: the server must speak TLS 1.2 or 1.3"
            ),
        ),
        TlsError::AlertReceived(alert) if wants_a_client_certificate(*alert) => (
            Kind::Tls,
            format!("{peer}: the server wants a client's certificate, which cannot be given"),
        ),
        // A server that restarts, and bytes that were damaged on their way.
        TlsError::AlertReceived(
            AlertDescription::CloseNotify
            | AlertDescription::UserCanceled
            | AlertDescription::InternalError
            | AlertDescription::BadRecordMac
            | AlertDescription::DecryptError,
        )
        | TlsError::DecryptError => (
            Kind::Closed,
            format!("{peer}: the TLS handshake was broken off"),
        ),
        _ => (Kind::Tls, format!("{peer}: the TLS handshake failed")),
    };
    Error::with_source(kind, text, error)
}

/// The error for a connection with `peer` that fails after its handshake.
pub(crate) fn broken_tls(peer: &str, error: TlsError) -> Error {
    // TLS 1.3 servers check the client's certificate after the handshake has ended for the client.
    if let TlsError::AlertReceived(alert) = error
        && wants_a_client_certificate(alert)
    {
        return handshake_error(peer, error).sent(true);
    }
    let text = format!("{peer}: the TLS connection broke");
    Error::with_source(Kind::Closed, text, error)
}

const fn wants_a_client_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
    )
}

fn explain(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "unknown issuer; give the issuing authority in `cacert`, or set `insecureSkipVerify` \
             to check nothing"
                .into()
        }
        CertificateError::NotValidForName => {
            "it is for another host name; use the name in the certificate as the address, or set \
             `insecureSkipVerify` to check nothing"
                .into()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = match presented.as_slice() {
                [] => "it names no host".to_owned(),
                names => format!("it is for {}", names.join(", ")),
            };
            format!(
                "{names}, not for this host; use a name in the certificate as the address, or set \
                 `insecureSkipVerify` to check nothing"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; have it renewed, check this machine's clock, or set \
             `insecureSkipVerify` to check nothing"
                .into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check this machine's clock, or set `insecureSkipVerify` to check \
             nothing"
                .into()
        }
        CertificateError::BadSignature => {
            "a signature in the chain is wrong (an authority with the same name but another key?); \
             give the current authority in `cacert`"
                .into()
        }
        other => format!(
            "{other}; give the server's own certificate in `cacert`, or set `insecureSkipVerify` \
             to check nothing"
        ),
    }
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
