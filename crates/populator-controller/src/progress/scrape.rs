//! A pod's metrics, by its address.

use std::{net::SocketAddr, time::Duration};

use contract::args::METRICS_ADDRESS;

use population::progress::Measured;

use super::ScrapeTarget;

/// For the connection, the handshake and the answer together.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than this is no answer of a mover.
const MOST_BYTES: usize = 1 << 20;

/// Reads metrics over HTTPS.
///
/// The certificate is made by the pod at its start and signed by nobody, so it is not checked: what an
/// impostor could gain is a wrong percentage. No proxy is used, and no redirect followed.
#[derive(Debug, Clone)]
pub struct Scraper {
    client: reqwest::Client,
    port: u16,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum ScraperError {
    /// The pod could not be asked.
    #[error("no answer")]
    Unreachable(#[source] reqwest::Error),
    /// It answered with something else than 200.
    #[error("the answer's status is {0}")]
    Status(u16),
    /// The answer is longer than a mover's can be.
    #[error("the answer is longer than {MOST_BYTES} bytes")]
    TooLong,
    /// The answer does not say how far this claim is.
    #[error("the answer holds no progress of this claim")]
    Silent,
}

impl Scraper {
    /// For the port that movers listen on.
    ///
    /// # Errors
    /// There is no provider of cryptography.
    pub fn new() -> reqwest::Result<Self> {
        let port = METRICS_ADDRESS.parse::<SocketAddr>();
        Self::for_port(port.map_or(8443, |address| address.port()))
    }

    /// For another port.
    ///
    /// # Errors
    /// As for [`Self::new`].
    #[allow(
        clippy::disallowed_methods,
        reason = "pods are asked without the settings that sources are asked with: no proxy, no roots"
    )]
    pub fn for_port(port: u16) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            // Pods are many and asked rarely: no connection is kept.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client, port })
    }

    /// How far the pod is.
    ///
    /// # Errors
    /// It does not say.
    pub async fn measure(&self, target: &ScrapeTarget) -> Result<Measured, ScraperError> {
        let address = SocketAddr::new(target.address, self.port);
        let request = self.client.get(format!("https://{address}/metrics")).send();
        let mut answer = request.await.map_err(ScraperError::Unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(ScraperError::Status(answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(ScraperError::Unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BYTES {
                return Err(ScraperError::TooLong);
            }
        }
        let text = String::from_utf8_lossy(&body);
        Measured::from_text(&text, &target.claim_uid).ok_or(ScraperError::Silent)
    }
}
