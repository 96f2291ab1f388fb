//! Failures of TLS in words: who, why, and what to do. The texts of the TLS library are meant for
//! programmers, and are not repeated.

use std::{error, fmt};

use rustls::{AlertDescription, CertificateError, Error as TlsError, OtherError};

use crate::{Error, Kind, printable};

/// What else can always be done about a certificate.
const OR_TRUST_ALL: &str = "or set `insecureSkipVerify` to check nothing";

/// Why a certificate is refused, with what only the check knows.
#[derive(Debug, Clone)]
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    /// As the TLS library takes it.
    pub(super) fn into_error(self) -> TlsError {
        CertificateError::Other(OtherError(std::sync::Arc::new(self))).into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Refusal {}

/// This system has no certificate authorities.
#[derive(Debug, Clone)]
pub(super) struct MissingRoots;

impl fmt::Display for MissingRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no certificate authorities")
    }
}

impl error::Error for MissingRoots {}

/// The error for a failed handshake with `peer`.
pub(crate) fn handshake_error(peer: &str, error: &TlsError) -> Error {
    let (kind, text) = match error {
        TlsError::InvalidCertificate(why) => (
            Kind::Certificate,
            format!("the server's certificate is not accepted: {}", explain(why)),
        ),
        TlsError::Other(other) if other.0.is::<MissingRoots>() => (
            Kind::Settings,
            "this system has no certificate authorities: give the server's in `cacert`".to_owned(),
        ),
        TlsError::InvalidMessage(_) => (
            Kind::Tls,
            "the peer does not speak TLS: check scheme (http or https) and port".to_owned(),
        ),
        TlsError::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity,
        )
        | TlsError::PeerIncompatible(_) => (
            Kind::Tls,
            "no common TLS version or cipher: the server must speak TLS 1.2 or 1.3".to_owned(),
        ),
        TlsError::AlertReceived(alert) if wants_a_client_certificate(*alert) => (
            Kind::Tls,
            "the server wants a client's certificate, which cannot be given".to_owned(),
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
            format!("the TLS handshake was broken off ({})", reason(error)),
        ),
        _ => (
            Kind::Tls,
            format!(
                "the TLS handshake failed ({}): check the server's TLS settings and log",
                reason(error)
            ),
        ),
    };
    Error::new(kind, format!("{peer}: {text}"))
}

/// The error for a connection with `peer` that fails after its handshake.
pub(crate) fn broken_tls(peer: &str, error: &TlsError) -> Error {
    // TLS 1.3 servers check the client's certificate after the handshake has ended for the client.
    if let TlsError::AlertReceived(alert) = error
        && wants_a_client_certificate(*alert)
    {
        return handshake_error(peer, error).sent(true);
    }
    let text = format!("{peer}: the TLS connection broke ({})", reason(error));
    Error::new(Kind::Closed, text)
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
        CertificateError::Other(other) => match other.0.downcast_ref::<Refusal>() {
            Some(Refusal(text)) => text.clone(),
            None => unusual(&other.0.to_string()),
        },
        CertificateError::UnknownIssuer => {
            format!("unknown issuer; give the issuing authority in `cacert`, {OR_TRUST_ALL}")
        }
        CertificateError::NotValidForName => format!(
            "it is for another host name; use the name in the certificate as the address, {OR_TRUST_ALL}"
        ),
        CertificateError::NotValidForNameContext { presented, .. } => match presented.as_slice() {
            [] => format!(
                "it names no host in a subject alternative name; have it issued again with one, give \
                 the certificate itself in `cacert`, {OR_TRUST_ALL}"
            ),
            names => format!(
                "it is for {}, not for this host; use a name in the certificate as the address, \
                 {OR_TRUST_ALL}",
                list(names)
            ),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("it has expired; have it renewed, check this machine's clock, {OR_TRUST_ALL}")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("it is not valid yet; check this machine's clock, {OR_TRUST_ALL}")
        }
        CertificateError::BadSignature => {
            "a signature in the chain is wrong (an authority with the same name but another key?); \
             give the current authority in `cacert`"
                .to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "it, or a certificate above it, is signed in a way that is not secure any more (SHA-1, \
             MD5); have it issued again with SHA-256, give the server's own certificate in `cacert`, \
             {OR_TRUST_ALL}"
        ),
        other => unusual(&format!("{other:?}")),
    }
}

/// A fault that is too rare for a text of its own.
fn unusual(identifier: &str) -> String {
    format!(
        "{}; have it issued again, give the server's own certificate in `cacert`, {OR_TRUST_ALL}",
        spaced(identifier)
    )
}

/// What the peer said or did, in a few words.
fn reason(error: &TlsError) -> String {
    match error {
        TlsError::AlertReceived(alert) => {
            format!(
                "alert {}: {}",
                u8::from(*alert),
                spaced(&format!("{alert:?}"))
            )
        }
        TlsError::PeerMisbehaved(how) => spaced(&format!("{how:?}")),
        TlsError::InvalidMessage(how) => spaced(&format!("{how:?}")),
        other => spaced(&format!("{other:?}")),
    }
}

/// The first identifier of a text in words: `UnhandledCriticalExtension` is "unhandled critical
/// extension".
fn spaced(text: &str) -> String {
    let end = text
        .find(|letter: char| !letter.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    let mut words = String::new();
    for letter in text[..end].chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// The names in a certificate, without the TLS library's wrapping (`DnsName("a.example")`).
pub(super) fn list(names: &[String]) -> String {
    const MOST: usize = 5;
    let bare = |name: &String| -> String {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        let inner = inner.trim_end_matches(')').trim_matches('"');
        printable(inner)
    };
    let listed = names
        .iter()
        .take(MOST)
        .map(bare)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(MOST) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use rustls::{InvalidMessage, PeerIncompatible, PeerMisbehaved};
    use rustls_pki_types::{ServerName, UnixTime};
    use testkit::plain::assert_plain;

    use super::*;

    fn certificate_errors() -> Vec<CertificateError> {
        use std::{sync::Arc, time::Duration};
        let time = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
        let name = |text: &str| format!("DnsName(\"{text}\")");
        vec![
            CertificateError::BadEncoding,
            CertificateError::Expired,
            CertificateError::ExpiredContext {
                time,
                not_after: time,
            },
            CertificateError::NotValidYet,
            CertificateError::NotValidYetContext {
                time,
                not_before: time,
            },
            CertificateError::Revoked,
            CertificateError::UnhandledCriticalExtension,
            CertificateError::UnknownIssuer,
            CertificateError::UnknownRevocationStatus,
            CertificateError::ExpiredRevocationListContext {
                time,
                next_update: time,
            },
            CertificateError::BadSignature,
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: vec![6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 5],
                supported_algorithms: Vec::new(),
            },
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: vec![6, 9, 42],
                public_key_algorithm_id: vec![6, 9, 42],
            },
            CertificateError::NotValidForName,
            CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("a.example").unwrap(),
                presented: Vec::new(),
            },
            CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("a.example").unwrap(),
                presented: (0..300)
                    .map(|index| name(&format!("n{index}\u{7}\\x")))
                    .collect(),
            },
            CertificateError::InvalidPurpose,
            CertificateError::InvalidOcspResponse,
            CertificateError::ApplicationVerificationFailure,
            CertificateError::Other(OtherError(Arc::new(std::io::Error::other(
                "UnsupportedCertVersion { version: [1, 2, 3] }",
            )))),
        ]
    }

    #[test]
    fn every_refusal_of_a_certificate_is_a_sentence_that_says_what_to_do() {
        for error in certificate_errors() {
            let error = handshake_error("https://a.example:1", &TlsError::from(error));
            assert_eq!(error.kind(), Kind::Certificate);
            let text = error.chain();
            assert_plain(&text);
            assert!(
                text.contains("`cacert`") || text.contains("`insecureSkipVerify`"),
                "{text}"
            );
        }
    }

    #[test]
    fn every_failure_of_a_handshake_is_a_sentence() {
        let alerts =
            (0..=u8::MAX).map(|code| TlsError::AlertReceived(AlertDescription::from(code)));
        let others = [
            TlsError::DecryptError,
            TlsError::EncryptError,
            TlsError::HandshakeNotComplete,
            TlsError::PeerSentOversizedRecord,
            TlsError::NoApplicationProtocol,
            TlsError::FailedToGetRandomBytes,
            TlsError::General("a \\x00 {text}".to_owned()),
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType),
            TlsError::InvalidMessage(InvalidMessage::MessageTooShort),
            TlsError::PeerMisbehaved(PeerMisbehaved::MessageInterleavedWithHandshakeMessage),
            TlsError::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            TlsError::Other(OtherError(std::sync::Arc::new(MissingRoots))),
        ];
        for error in alerts.chain(others) {
            for error in [
                handshake_error("https://a.example:1", &error),
                broken_tls("https://a.example:1", &error),
            ] {
                assert_plain(&error.chain());
                assert!(
                    error.to_string().starts_with("https://a.example:1: "),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn identifiers_become_words() {
        for (text, words) in [
            ("UnhandledCriticalExtension", "unhandled critical extension"),
            ("Unknown(77)", "unknown"),
            ("Other { a: [1] }", "other"),
            ("", ""),
        ] {
            assert_eq!(spaced(text), words);
        }
    }
}
