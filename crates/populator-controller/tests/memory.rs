//! The program's memory, when the claims of one tenant are as large as Kubernetes allows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testkit::process::{Command, Signal};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// As many as a namespace gets in a minute.
const CLAIMS: usize = 1_500;
/// All annotations of an object may have 256 KiB together.
const ANNOTATION: usize = 250_000;
/// Limit of the Deployment, in MiB.
const LIMIT: u64 = 256;
const DEPLOYMENT: &str = include_str!("../../../manifests/base/deployment.yaml");

/// An API server with these claims and nothing else.
#[derive(Clone)]
struct ApiServer {
    filler: Arc<String>,
    listed: Arc<AtomicUsize>,
    /// A permit for each event that was sent.
    events: Arc<Semaphore>,
}

impl ApiServer {
    fn claim(&self, index: usize) -> Value {
        let filler = self.filler.as_str();
        json!({
            "metadata": {
                "namespace": "evil", "name": format!("c-{index}"), "uid": format!("u-{index}"),
                "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {
                    "forklift.konveyor.io/retry": filler,
                    "forklift.konveyor.io/serviceAccount": "",
                },
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "dataSourceRef": {
                    "apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator", "name": "none",
                },
            },
            "status": {"phase": "Pending"},
        })
    }

    fn claims(&self, query: &str) -> Value {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name)?.1.parse::<usize>().ok()
        };
        let first = parameter("continue").unwrap_or_default();
        let end = parameter("limit").map_or(CLAIMS, |limit| CLAIMS.min(first + limit));
        self.listed.fetch_add(end - first, Ordering::Relaxed);
        let mut metadata = json!({"resourceVersion": "1"});
        if end < CLAIMS {
            metadata["continue"] = json!(end.to_string());
        }
        let items: Vec<Value> = (first..end).map(|index| self.claim(index)).collect();
        json!({"kind": "PersistentVolumeClaimList", "apiVersion": "v1", "metadata": metadata, "items": items})
    }

    async fn answer(&self, request: Request<Incoming>) -> (StatusCode, Value) {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_read = request.method() == Method::GET;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if query.contains("watch=true") {
            // Nothing ever happens.
            return std::future::pending().await;
        }
        match path.rsplit('/').next().unwrap_or_default() {
            "persistentvolumeclaims" if is_read => (StatusCode::OK, self.claims(&query)),
            "selfsubjectaccessreviews" => {
                let mut review = body;
                review["status"] = json!({"allowed": true});
                (StatusCode::CREATED, review)
            }
            "events" => {
                self.events.add_permits(1);
                (StatusCode::CREATED, body)
            }
            _ if path.contains("/leases") => {
                let denied = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden"});
                (StatusCode::FORBIDDEN, denied)
            }
            _ => {
                let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
                (StatusCode::OK, list)
            }
        }
    }

    async fn serve(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let server = self.clone();
            let answer = service_fn(move |request| {
                let server = server.clone();
                async move {
                    let (status, body) = server.answer(request).await;
                    let body = Full::new(Bytes::from(body.to_string()));
                    Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
                }
            });
            connections
                .spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), answer));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_the_largest_size_do_not_fill_the_memory() {
    assert!(DEPLOYMENT.contains(&format!("memory: {LIMIT}Mi")));
    let server = ApiServer {
        filler: Arc::new("x".repeat(ANNOTATION)),
        listed: Arc::default(),
        events: Arc::new(Semaphore::new(0)),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
        "users": [{"name": "u", "user": {}}],
    });
    std::fs::write(&config, text.to_string()).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.clone().serve(listener));
    let controller = Command::new(env!("CARGO_BIN_EXE_populator-controller"))
        .flag("kubeconfig", &config)
        .flag("metrics-address", "127.0.0.1:0")
        .env("OVIRT_POPULATOR_IMAGE", "image")
        .spawn();
    // Claims were reconciled when events say why they wait.
    let events = server.events.acquire_many(100);
    let events = tokio::time::timeout(testkit::DEADLINE, events).await;
    assert!(events.is_ok(), "{:#?}", controller.lines());
    controller.signal(Signal::TERM);
    let ended = tokio::task::spawn_blocking(move || controller.wait())
        .await
        .unwrap();
    assert!(
        server.listed.load(Ordering::Relaxed) >= CLAIMS,
        "{}",
        ended.output()
    );
    let peak = ended.peak_rss >> 20;
    assert!(peak > 0 && peak < LIMIT, "{peak} MiB");
}
