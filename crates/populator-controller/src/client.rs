//! The clients of the API server: where it is, who we say we are, and how long an answer may take.
//!
//! There is one retry loop for each path of calls, with its own backoff: kube's retries inside a call
//! are off.

use std::{
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time;
use tower_service::Service;

use crate::cli::Options;

/// For the answer of a call, and for each next part of it.
pub const CALL: Duration = Duration::from_secs(10);
/// The API server ends a watch after this long, in seconds, and it is resumed at once. A connection
/// that is dead is noticed [5 s](kube::runtime::watcher::Config::timeout) later.
pub const WATCH: u32 = 60;
/// For the answer of a watch or of a list, and for each next part of it: longer than a watch lasts in
/// which nothing happens.
const WATCH_SILENCE: Duration = Duration::from_secs(75);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The clients.
#[derive(Clone)]
pub struct Clients {
    /// For calls that are answered at once.
    pub calls: Client,
    /// For watches, and the lists that they begin with.
    pub watches: Client,
}

impl Clients {
    /// Clients for one API server.
    ///
    /// # Errors
    /// The credentials or the certificates cannot be used.
    pub fn new(config: &Config) -> kube::Result<Self> {
        if config.proxy_url.is_some() {
            tracing::warn!("the API server is reached directly: a proxy for it is not supported");
        }
        let client = |silence| -> kube::Result<Client> {
            let mut config = config.clone();
            // Of the environment, which is meant for the sources, or of the kubeconfig. kube is built without
            // proxies, and its error shows the URL, with the password in it.
            config.proxy_url = None;
            config.default_retry = false;
            config.headers.push((USER_AGENT, user_agent()));
            config.read_timeout = Some(silence);
            // The time in which a pooled connection was idle is no silence of the server.
            config.reset_reader_on_write = true;
            let namespace = config.default_namespace.clone();
            let client = Client::try_from(config)?;
            Ok(within(silence, client, &namespace))
        };
        Ok(Self {
            calls: client(CALL)?,
            watches: client(WATCH_SILENCE)?,
        })
    }
}

/// Who we say we are, in the form that Kubernetes' own components use.
fn user_agent() -> HeaderValue {
    HeaderValue::from_static(concat!("populator-controller/", env!("CARGO_PKG_VERSION")))
}

/// A client whose requests fail when they have not been answered for so long.
#[must_use]
pub fn within(limit: Duration, client: Client, namespace: &str) -> Client {
    Client::new(Deadline { client, limit }, namespace)
}

struct Deadline {
    client: Client,
    limit: Duration,
}

impl Service<Request<Body>> for Deadline {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, limit) = (self.client.clone(), self.limit);
        Box::pin(async move {
            let answer = time::timeout(limit, client.send(request)).await;
            let answer = answer.map_err(|_| {
                let seconds = limit.as_secs();
                format!("the API server has not answered for {seconds} s")
            })?;
            answer.map_err(|error| Box::new(error) as BoxError)
        })
    }
}

/// Address and credentials for the API server: from the flags, from the pod's service account, or
/// from a user's kubeconfig.
///
/// # Errors
/// There is none, or what was named cannot be used.
pub async fn config(options: &Options) -> anyhow::Result<Config> {
    let mut config = match &options.kubeconfig {
        Some(path) => from_file(path)
            .await
            .with_context(|| format!("--kubeconfig={} cannot be used", path.display()))?,
        // In the order of client-go, and so of Forklift; `infer` alone prefers a kubeconfig.
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_) => Config::infer().await.context(
                "there is neither a pod's service account nor a kubeconfig; name one by --kubeconfig",
            )?,
        },
    };
    if let Some(master) = &options.master {
        config.cluster_url = master.clone();
    }
    Ok(config)
}

async fn from_file(path: &Path) -> anyhow::Result<Config> {
    let file = Kubeconfig::read_from(path)?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}
