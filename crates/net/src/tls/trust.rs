//! Whom to trust, and the rustls configuration made from it.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::Verifier as SystemVerifier;

use super::{
    authority::is_authority,
    bundle::Bundle,
    verify::{Given, Verifier},
};
use crate::{Error, Kind};

/// Where the user gives a bundle that replaces the system's authorities.
const CACERT: &str = "`cacert`";

/// Whom to trust.
#[derive(Clone, Default)]
pub enum Trust {
    /// The system's certificate authorities.
    #[default]
    System,
    /// Exactly these certificates: authorities with what they issue, and servers' own certificates, which
    /// vouch for themselves alone. They replace the system's.
    Bundle(Vec<CertificateDer<'static>>),
    /// The system's certificate authorities, and these certificates, each of which counts as in [`Trust::Bundle`].
    SystemAnd {
        /// The certificates.
        certificates: Vec<CertificateDer<'static>>,
        /// Where the user gave them, for messages.
        name: String,
    },
    /// Every server: no certificate is checked.
    Insecure,
}

impl Trust {
    /// A bundle from PEM text with one or more certificates; other PEM blocks are ignored. A
    /// certificate that cannot be read is left out, with a warning that names it.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] when the text holds no certificate that can be read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        certificates(CACERT, pem).map(Self::Bundle)
    }

    /// The system's authorities and the certificates of a PEM text, as [`Trust::from_pem`] reads it. `name` is where the
    /// user gave the text, for messages.
    ///
    /// # Errors
    /// As [`Trust::from_pem`].
    pub fn system_and(name: impl Into<String>, pem: &[u8]) -> Result<Self, Error> {
        let name = name.into();
        let certificates = certificates(&name, pem)?;
        Ok(Self::SystemAnd { certificates, name })
    }

    /// The client's TLS configuration: TLS 1.2 and 1.3, sessions resumed among all connections made
    /// from it.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| Error::new(Kind::Settings, "TLS cannot be configured"))?;
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth())
    }

    /// The same for the data path, whose record layer needs the keys.
    pub(crate) fn data_config(&self) -> Result<ClientConfig, Error> {
        let mut config = self.client_config()?;
        config.enable_secret_extraction = true;
        Ok(config)
    }

    /// The check of a server's certificate. rustls's default check does for none of the three: it
    /// knows no roots of the system, and no certificate that is trusted without an authority.
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        match self {
            Self::System => Ok(system(provider)),
            Self::Bundle(certificates) => {
                let given = given(CACERT, certificates, None, provider)?;
                Ok(Arc::new(Verifier::pinned_or_issued(provider, given)))
            }
            Self::SystemAnd { certificates, name } => {
                let given = given(name, certificates, Some(system(provider)), provider)?;
                Ok(Arc::new(Verifier::pinned_or_issued(provider, given)))
            }
            Self::Insecure => Ok(Arc::new(Verifier::any(provider))),
        }
    }
}

/// The certificates of a PEM text, at least one. `name` is where the user gave it.
fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = String::from_utf8_lossy(pem);
    let bundle = Bundle::read(&text);
    if bundle.certificates.is_empty() {
        let text = format!("{name} {}", bundle.nothing(&text));
        return Err(Error::new(Kind::Settings, text));
    }
    for complaint in &bundle.complaints {
        tracing::warn!(
            "{name}: {complaint}; the {} others are used",
            bundle.certificates.len()
        );
    }
    Ok(bundle.certificates)
}

/// The check by the system's authorities. A system without roots is an error of the first HTTPS connection and not of
/// the start, since plain HTTP needs none.
fn system(provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    match SystemVerifier::new(Arc::clone(provider)) {
        Ok(verifier) => Arc::new(verifier),
        Err(_) => Arc::new(Verifier::no_system_roots(provider)),
    }
}

/// What the check by certificates that the user gave under this name needs.
fn given(
    name: &str,
    certificates: &[CertificateDer<'static>],
    system: Option<Arc<dyn ServerCertVerifier>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Given, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates.iter().filter(|one| is_authority(one)) {
        roots.add(certificate.clone()).map_err(|_| {
            let text = format!("{name} holds a certificate that is not an X.509 certificate");
            Error::new(Kind::Settings, text)
        })?;
    }
    // webpki finds the certificates that the bundle's authorities issued. A server's own certificate, which it
    // may refuse, is compared by our verifier before.
    let issued = if roots.is_empty() {
        None
    } else {
        let issued =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
        let unusable = |_| Error::new(Kind::Settings, format!("{name} holds no usable authority"));
        Some(issued.build().map_err(unusable)?)
    };
    Ok(Given {
        name: name.to_owned(),
        pinned: certificates.to_vec(),
        issued,
        system,
    })
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Bundle(certificates) => {
                write!(f, "Bundle({} certificates)", certificates.len())
            }
            Self::SystemAnd { certificates, name } => {
                write!(
                    f,
                    "SystemAnd({} certificates of {name})",
                    certificates.len()
                )
            }
            Self::Insecure => f.write_str("Insecure"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_an_error_that_names_the_setting() {
        let cases: [&[u8]; 6] = [
            b"",
            b"rubbish",
            b"-----BEGIN CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ];
        for pem in cases {
            let error = Trust::from_pem(pem).unwrap_err();
            assert_eq!(error.kind(), Kind::Settings, "{error}");
            assert!(error.to_string().contains("`cacert`"), "{error}");
            let error = Trust::system_and("the file", pem).unwrap_err();
            assert_eq!(error.kind(), Kind::Settings, "{error}");
            assert!(error.to_string().starts_with("the file "), "{error}");
        }
    }
}
