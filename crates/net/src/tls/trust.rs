//! Whom to trust, and the rustls configuration made from it.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::Verifier as SystemVerifier;

use super::{authority::is_authority, bundle::Bundle, verify::Verifier};
use crate::{Error, Kind};

/// Whom to trust.
#[derive(Clone, Default)]
pub enum Trust {
    /// The system's certificate authorities.
    #[default]
    System,
    /// Exactly these certificates: authorities with what they issue, and servers' own certificates, which
    /// vouch for themselves alone. They replace the system's.
    Bundle(Vec<CertificateDer<'static>>),
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
        let text = String::from_utf8_lossy(pem);
        let bundle = Bundle::read(&text);
        if bundle.certificates.is_empty() {
            let text = format!("`cacert` {}", bundle.nothing(&text));
            return Err(Error::new(Kind::Settings, text));
        }
        for complaint in &bundle.complaints {
            tracing::warn!(
                "`cacert`: {complaint}; the {} others are used",
                bundle.certificates.len()
            );
        }
        Ok(Self::Bundle(bundle.certificates))
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
            // A system without roots is an error of the first HTTPS connection and not of the
            // start, since plain HTTP needs none.
            Self::System => Ok(match SystemVerifier::new(Arc::clone(provider)) {
                Ok(verifier) => Arc::new(verifier),
                Err(_) => Arc::new(Verifier::no_system_roots(provider)),
            }),
            Self::Bundle(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates.iter().filter(|one| is_authority(one)) {
                    roots.add(certificate.clone()).map_err(|_| {
                        let text = "`cacert` holds a certificate that is not an X.509 certificate";
                        Error::new(Kind::Settings, text)
                    })?;
                }
                // webpki finds the certificates that the bundle's authorities issued. A server's
                // own certificate, which it may refuse, is compared by our verifier before.
                let issued = if roots.is_empty() {
                    None
                } else {
                    let issued = WebPkiServerVerifier::builder_with_provider(
                        roots.into(),
                        Arc::clone(provider),
                    );
                    let unusable =
                        |_| Error::new(Kind::Settings, "`cacert` holds no usable authority");
                    Some(issued.build().map_err(unusable)?)
                };
                let verifier = Verifier::pinned_or_issued(provider, certificates.clone(), issued);
                Ok(Arc::new(verifier))
            }
            Self::Insecure => Ok(Arc::new(Verifier::any(provider))),
        }
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Bundle(certificates) => {
                write!(f, "Bundle({} certificates)", certificates.len())
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
        }
    }
}
