//! Reads a pod's metrics at its address.

use std::{net::SocketAddr, time::Duration};

use contract::args::METRICS_ADDRESS;

use population::progress::Measured;

use super::ScrapeTarget;

/// For connection, handshake and answer together.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit on the answer, in bytes: a mover's is far smaller.
const MOST_BYTES: usize = 1 << 20;

/// Reads metrics over HTTPS.
///
/// The pod creates its certificate at its start, self-signed, so it is not verified: all that an
/// impostor could achieve is a wrong percentage. No proxy is used, and no redirect is followed.
#[derive(Debug, Clone)]
pub struct Scraper {
    client: reqwest::Client,
    port: u16,
}

/// Why a pod's metrics give no progress.
#[derive(Debug, thiserror::Error)]
pub enum ScraperError {
    /// The pod could not be reached.
    #[error("no answer")]
    Unreachable(#[source] reqwest::Error),
    /// The status of the answer is not 200.
    #[error("the answer's status is {0}")]
    Status(u16),
    /// The answer is longer than a mover's can be.
    #[error("the answer is longer than {MOST_BYTES} bytes")]
    TooLong,
    /// The answer holds no progress of this claim.
    #[error("the answer holds no progress of this claim")]
    Silent,
}

impl Scraper {
    /// A scraper for the port that movers listen on.
    ///
    /// # Errors
    /// No TLS provider is installed.
    pub fn new() -> reqwest::Result<Self> {
        let port = METRICS_ADDRESS.parse::<SocketAddr>();
        Self::for_port(port.map_or(8443, |address| address.port()))
    }

    /// A scraper for another port.
    ///
    /// # Errors
    /// As for [`Self::new`].
    #[allow(
        clippy::disallowed_methods,
        reason = "pods are read without the settings for sources: no proxy, no roots"
    )]
    pub fn for_port(port: u16) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            // Pods are many and polled rarely: no connection is kept.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client, port })
    }

    /// The progress of the pod.
    ///
    /// # Errors
    /// The pod could not be reached, or its answer holds no progress.
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
