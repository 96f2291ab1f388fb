//! The metrics endpoint: `/metrics` and `/healthz`, over HTTPS with a certificate of its own, or
//! over plain HTTP; and the health endpoint, for `/healthz` and `/readyz` alone.

mod accept;
mod health;
mod listener;
mod pages;
mod places;
mod serve;
mod tls;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, time};

pub use health::HealthEndpoint;
use pages::{Metrics, Pages};
use serve::Limits;

/// Whether clients speak HTTP or HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP without TLS.
    Plain,
    /// HTTPS with a self-signed certificate that is made in memory and dies with the process.
    Tls {
        /// Common name of the certificate; also its host name, beside `localhost`.
        name: &'static str,
    },
}

/// An endpoint that listens but does not answer yet.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    tls: Option<(Arc<ServerConfig>, CertificateDer<'static>)>,
    registry: Arc<Registry>,
    last: Arc<LastScrape>,
    metrics_path: String,
    ready: Option<watch::Receiver<bool>>,
}

/// Why there is no endpoint.
#[derive(Debug, Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// No certificate could be made.
    #[error("cannot make a certificate for {0}")]
    Certificate(&'static str, #[source] rcgen::Error),
    /// The certificate cannot be used.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

impl Endpoint {
    /// Listens on `address`; `[::]` means both families, and IPv4 alone where there is no IPv6.
    pub fn bind(
        address: SocketAddr,
        transport: Transport,
        registry: Arc<Registry>,
    ) -> Result<Self, Error> {
        let listener = listener::bind(address).map_err(|error| Error::Listen(address, error))?;
        let tls = match transport {
            Transport::Plain => None,
            Transport::Tls { name } => Some(tls::config(name)?),
        };
        Ok(Self {
            listener,
            tls,
            registry,
            last: Arc::default(),
            metrics_path: "/metrics".to_owned(),
            ready: None,
        })
    }

    /// Answers with the metrics at `path` instead of `/metrics`. It begins with a slash.
    #[must_use]
    pub fn with_metrics_path(mut self, path: impl Into<String>) -> Self {
        self.metrics_path = path.into();
        self
    }

    /// Answers at `/readyz`: 200 while `ready` is true, 503 otherwise. Without it there is no
    /// `/readyz`.
    #[must_use]
    pub fn with_readiness(mut self, ready: watch::Receiver<bool>) -> Self {
        self.ready = Some(ready);
        self
    }

    /// The address and the port that the kernel gave.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The certificate that clients see, if any.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref().map(|(_, certificate)| certificate)
    }

    /// What to wait for when the end has come.
    #[must_use]
    pub fn linger(&self) -> Linger {
        Linger(Arc::clone(&self.last))
    }

    /// Answers until `stop` ends, then finishes the answers under way, for 2 s at most.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let pages = Pages {
            metrics: Some(Metrics {
                path: self.metrics_path,
                registry: self.registry,
                last: self.last,
            }),
            ready: self.ready,
        };
        let tls = self.tls.map(|(config, _)| config.into());
        serve::run(self.listener, tls, Arc::new(pages), Limits::DEFAULT, stop).await;
    }
}

/// Waits at the end of a process, so that a last scrape learns how it ended.
#[derive(Debug, Clone)]
pub struct Linger(Arc<LastScrape>);

impl Linger {
    /// Says that the metrics have their last values. Only scrapes that begin after this count.
    pub fn begin(&self) {
        self.0.values_are_final.store(true, Ordering::Release);
    }

    /// Ends when a scrape that began after [`Linger::begin`] has been answered, or after `limit`.
    /// Returns whether there was such a scrape.
    pub async fn wait(&self, limit: Duration) -> bool {
        let mut seen = self.0.seen.subscribe();
        time::timeout(limit, seen.wait_for(|seen| *seen))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }
}

/// Whether the last values have been seen.
#[derive(Debug)]
struct LastScrape {
    values_are_final: AtomicBool,
    seen: watch::Sender<bool>,
}

impl LastScrape {
    /// Runs `encode` as one scrape.
    fn scrape<T>(&self, encode: impl FnOnce() -> T) -> T {
        // Read before the values are: a scrape that began earlier does not count.
        let is_last = self.values_are_final.load(Ordering::Acquire);
        let encoded = encode();
        if is_last {
            self.seen.send_replace(true);
        }
        encoded
    }
}

impl Default for LastScrape {
    fn default() -> Self {
        Self {
            values_are_final: AtomicBool::new(false),
            seen: watch::Sender::new(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn lingers_for_the_limit_when_nobody_comes() {
        let last = Arc::new(LastScrape::default());
        // One that came before the end has not seen it.
        last.scrape(|| ());
        let linger = Linger(last);
        linger.begin();
        let start = time::Instant::now();
        assert!(!linger.wait(LIMIT).await);
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_with_the_first_scrape_after_the_end() {
        let last = Arc::new(LastScrape::default());
        let start = time::Instant::now();
        let scraper = async {
            time::sleep(Duration::from_secs(3)).await;
            last.scrape(|| ());
        };
        let linger = Linger(Arc::clone(&last));
        linger.begin();
        let (seen, ()) = tokio::join!(linger.wait(LIMIT), scraper);
        assert!(seen);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_under_way_at_the_end_does_not_count() {
        let last = Arc::new(LastScrape::default());
        let linger = Linger(Arc::clone(&last));
        last.scrape(|| linger.begin());
        assert!(!linger.wait(LIMIT).await);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_means_no_wait() {
        let start = time::Instant::now();
        assert!(!Linger(Arc::default()).wait(Duration::ZERO).await);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
