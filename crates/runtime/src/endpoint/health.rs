//! The health endpoint: `/healthz` and `/readyz`, over plain HTTP.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch};

use super::{
    Error, listener,
    pages::Pages,
    serve::{self, Limits},
};

/// A listener for the node that asks whether the process works.
///
/// It has connections of its own, so that whoever may read the metrics cannot keep the node's
/// probes from being answered, and so have the process restarted.
#[derive(Debug)]
pub struct HealthEndpoint {
    listener: TcpListener,
    ready: watch::Receiver<bool>,
}

impl HealthEndpoint {
    /// Listens on `address`, for which the same holds as for [`super::Endpoint::bind`]. `/readyz`
    /// is 200 while `ready` is true, 503 otherwise.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(address: SocketAddr, ready: watch::Receiver<bool>) -> Result<Self, Error> {
        let listener = listener::bind(address).map_err(|error| Error::Listen(address, error))?;
        Ok(Self { listener, ready })
    }

    /// The address and the port that the kernel gave.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` ends, then finishes the answers under way, for 2 s at most.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let pages = Pages {
            metrics: None,
            ready: Some(self.ready),
        };
        serve::run(self.listener, None, Arc::new(pages), Limits::DEFAULT, stop).await;
    }
}
