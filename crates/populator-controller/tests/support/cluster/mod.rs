//! A cluster in a few lines, for the whole program: an API server that keeps objects, serves watches and
//! checks preconditions, and stand-ins for what acts on them in Kubernetes. Nothing takes time in it, apart
//! from the pods.

#![allow(dead_code, reason = "shared by targets that use a part each")]

mod http;
mod parts;
mod store;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use testkit::process::{Command, Running};
use tokio::{net::TcpListener, task::JoinSet};

pub(crate) use parts::{Moments, Pods};
pub(crate) use store::Store;

/// Namespace of all claims.
pub(crate) const NAMESPACE: &str = "vms";

/// The cluster, which ends when it is dropped.
pub(crate) struct Cluster {
    /// Its objects.
    pub(crate) store: Arc<Store>,
    /// When pods ended and claims were bound.
    pub(crate) moments: Arc<Moments>,
    /// How long pods run.
    pub(crate) pods: Pods,
    address: SocketAddr,
    folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// A cluster with a storage class, a node, and no claims, in which a pod ends so long after it has
    /// started.
    pub(crate) async fn start(pod: Duration) -> Self {
        let store = Arc::new(Store::default());
        let moments = Arc::new(Moments::default());
        let pods = Pods::new(pod);
        parts::furnish(&store);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(http::serve(
            Arc::clone(&store),
            Arc::clone(&moments),
            listener,
        ));
        tasks.spawn(parts::act(
            Arc::clone(&store),
            Arc::clone(&moments),
            pods.clone(),
        ));
        Self {
            store,
            moments,
            pods,
            address,
            folder: tempfile::tempdir().unwrap(),
            _tasks: tasks,
        }
    }

    /// The program, ready to be started on this cluster.
    pub(crate) fn controller(&self, program: impl Into<PathBuf>) -> Command {
        let config = self.folder.path().join("config");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
            "users": [{"name": "u", "user": {}}],
        });
        std::fs::write(&config, text.to_string()).unwrap();
        Command::new(program)
            .flag("kubeconfig", &config)
            .flag("metrics-address", "127.0.0.1:0")
            .env(
                "OPENSTACK_POPULATOR_IMAGE",
                "registry.example.org/openstack-populator:1",
            )
    }

    /// Creates a populator resource and a claim of that name.
    pub(crate) fn claim(&self, name: &str) {
        parts::create_claim(&self.store, name);
    }

    /// Waits until the objects are as wanted.
    pub(crate) async fn until(&self, limit: Duration, what: &str, is_so: impl Fn(&Store) -> bool) {
        let wanted = async {
            loop {
                let seen = self.store.version();
                if is_so(&self.store) {
                    return;
                }
                self.store.changed_since(seen).await;
            }
        };
        let outcome = tokio::time::timeout(limit, wanted).await;
        assert!(outcome.is_ok(), "{what}: not within {limit:?}");
    }
}

/// A field of `/proc/PID/status` in KiB, such as `VmHWM`.
pub(crate) fn memory(process: &Running, field: &str) -> u64 {
    let path = format!("/proc/{}/status", process.pid());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.and_then(|line| line.trim_start_matches(':').trim().strip_suffix(" kB"));
    value.unwrap().parse().unwrap()
}
