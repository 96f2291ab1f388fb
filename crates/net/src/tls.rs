//! Whom to trust, and the rustls configuration made from it.

use rustls_pki_types::CertificateDer;

use crate::Error;

/// Whom to trust.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// The system's certificate authorities.
    #[default]
    System,
    /// Exactly these certificates: authorities, or a server's own self-signed certificate.
    /// They replace the system's.
    Bundle(Vec<CertificateDer<'static>>),
    /// Anybody: no certificate is checked.
    Insecure,
}

impl Trust {
    /// A bundle from PEM text with one or more certificates; other PEM blocks are ignored.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] when the text holds no certificate or a malformed one.
    pub fn from_pem(_pem: &[u8]) -> Result<Self, Error> {
        todo!()
    }
}
