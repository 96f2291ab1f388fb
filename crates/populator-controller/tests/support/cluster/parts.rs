//! Stand-ins for what acts in a cluster: a provisioner, the binding of claims to volumes, and a kubelet with
//! its scheduler, whose pods copy nothing and say that they have.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contract::{Exit, Termination};
use http::Method;
use populator_api::names;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{
    NAMESPACE,
    store::{Key, Store},
};

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const SOURCES: &str = "openstackvolumepopulators";
const IMAGE: &str = "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d";
const NODE: &str = "node-1";
/// Size of each image, in bytes.
const SIZE: u64 = 4 << 20;

/// How long the pods run.
#[derive(Debug, Clone)]
pub(crate) struct Pods {
    time: Duration,
    held: watch::Sender<bool>,
}

impl Pods {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            held: watch::Sender::new(false),
        }
    }

    /// From now on pods run until they are let go.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

/// When something happened to a claim, by its UID.
#[derive(Debug, Default)]
pub(crate) struct Moments(Mutex<HashMap<String, Moment>>);

/// The end of one claim's way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moment {
    /// The kubelet wrote that the pod has succeeded.
    pub(crate) succeeded: Option<Instant>,
    /// The controller asked for the volume to be given to the claim.
    pub(crate) given: Option<Instant>,
    /// The claim was bound.
    pub(crate) bound: Option<Instant>,
}

impl Moments {
    /// The moments of all claims.
    pub(crate) fn all(&self) -> Vec<Moment> {
        self.lock().values().copied().collect()
    }

    pub(super) fn note_write(&self, key: &Key, method: &Method) {
        if key.resource == VOLUMES && *method == Method::PATCH {
            let claim = key.name.trim_start_matches("pv-");
            self.lock().entry(claim.to_owned()).or_default().given = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Moment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there before the first claim.
pub(super) fn furnish(store: &Store) {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "csi.example.org",
        "volumeBindingMode": "Immediate",
    });
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"labels": {"kubernetes.io/hostname": NODE}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    store
        .create(&Key::new("storageclasses", "", "fast"), class)
        .unwrap();
    store.create(&Key::new("nodes", "", NODE), node).unwrap();
}

/// A populator resource and a claim of that name, as a migration of Forklift's makes them.
pub(super) fn create_claim(store: &Store, name: &str) {
    let labels = json!({
        "migration": "5f0c1b1e-5d3a-4f0e-9a52-6a1f2a0c7f10", "plan": "0d9c2f64-7d7e-4f67-8a3c-0b1f52f1a7aa",
        "vmID": "8c1b9f70-2f0b-4f28-a1b9-4a3fd5a3a111", "imageID": IMAGE,
    });
    let source = json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "OpenstackVolumePopulator",
        "metadata": {"labels": labels},
        "spec": {"identityUrl": "https://identity.example.org:5000/v3", "secretName": "cloud", "imageId": IMAGE},
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "labels": labels,
            "annotations": {"forklift.konveyor.io/disk-source": IMAGE},
            "finalizers": ["kubernetes.io/pvc-protection"],
        },
        "spec": {
            "storageClassName": "fast", "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
            "resources": {"requests": {"storage": SIZE.to_string()}},
            "dataSourceRef": {
                "apiGroup": "forklift.konveyor.io", "kind": "OpenstackVolumePopulator", "name": name,
            },
        },
        "status": {"phase": "Pending"},
    });
    store
        .create(&Key::new(SOURCES, NAMESPACE, name), source)
        .unwrap();
    store
        .create(&Key::new(CLAIMS, NAMESPACE, name), claim)
        .unwrap();
}

/// Acts on every change, until the future is dropped.
pub(super) async fn act(store: Arc<Store>, moments: Arc<Moments>, pods: Pods) {
    let mut running = JoinSet::new();
    let mut seen = 0;
    loop {
        store.changed_since(seen).await;
        let changes = store.changes(seen);
        seen += changes.len();
        for key in changes {
            let Some(object) = store.get(&key) else {
                continue;
            };
            match key.resource.as_str() {
                CLAIMS => provision(&store, &key, &object),
                VOLUMES => bind(&store, &moments, &key, &object),
                "pods" if object["status"]["phase"].is_null() => {
                    start(&store, &key);
                    let (store, moments) = (Arc::clone(&store), Arc::clone(&moments));
                    running.spawn(end(store, moments, pods.clone(), key));
                }
                _ => {}
            }
        }
    }
}

/// A volume for a temporary claim, bound to it.
fn provision(store: &Store, key: &Key, claim: &Value) {
    let Some(target) = key.name.strip_prefix("prime-") else {
        return;
    };
    let metadata = &claim["metadata"];
    if claim["spec"]["volumeName"].is_string() || metadata["deletionTimestamp"].is_string() {
        return;
    }
    let name = format!("pv-{target}");
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "csi.example.org"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": SIZE.to_string()},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": NAMESPACE,
                         "name": key.name, "uid": metadata["uid"]},
            "csi": {"driver": "csi.example.org", "volumeHandle": name,
                    "volumeAttributes": {"storage.kubernetes.io/csiProvisionerIdentity": "1-csi.example.org"}},
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "fast", "volumeMode": "Block",
        },
        "status": {"phase": "Bound"},
    });
    if store.create(&Key::new(VOLUMES, "", &name), volume).is_ok() {
        bind_claim(store, key, &name);
    }
}

fn bind_claim(store: &Store, key: &Key, volume: &str) {
    let bound = store.change(key, |claim| {
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
        claim["spec"]["volumeName"] = json!(volume);
        claim["status"] = json!({"phase": "Bound", "capacity": {"storage": SIZE.to_string()}});
        Ok(())
    });
    bound.unwrap();
}

/// Binds a claim that a volume refers to, and declares the one before it lost.
fn bind(store: &Store, moments: &Moments, key: &Key, volume: &Value) {
    let owner = &volume["spec"]["claimRef"];
    let name = owner["name"].as_str().unwrap_or_default();
    let target = Key::new(CLAIMS, NAMESPACE, name);
    let claim = store
        .get(&target)
        .filter(|claim| claim["metadata"]["uid"] == owner["uid"]);
    let is_bound = claim.is_none_or(|claim| claim["spec"]["volumeName"].is_string());
    if is_bound || name.starts_with("prime-") {
        return;
    }
    bind_claim(store, &target, &key.name);
    let uid = owner["uid"].as_str().unwrap_or_default();
    moments.lock().entry(uid.to_owned()).or_default().bound = Some(Instant::now());
    let temporary = Key::new(CLAIMS, NAMESPACE, &names::temporary_claim(uid));
    let lost = store.change(&temporary, |claim| {
        claim["status"]["phase"] = json!("Lost");
        Ok(())
    });
    lost.unwrap();
}

/// The scheduler chooses the node, and its kubelet starts the container.
fn start(store: &Store, key: &Key) {
    for status in [
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}),
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
               "containerStatuses": [container(&json!({"running": {}}))]}),
    ] {
        let started = store.change(key, |pod| {
            pod["spec"]["nodeName"] = json!(NODE);
            pod["status"] = status;
            Ok(())
        });
        started.unwrap();
    }
}

/// The container ends, and says that all of the disk is in place.
async fn end(store: Arc<Store>, moments: Arc<Moments>, pods: Pods, key: Key) {
    tokio::time::sleep(pods.time).await;
    let mut held = pods.held.subscribe();
    // The sender is among the pods, which live longer.
    let _ = held.wait_for(|held| !held).await;
    let report = Termination {
        source_bytes: Some(SIZE),
        copied_bytes: SIZE,
        ..Termination::new(Exit::Success, "the copy is complete")
    };
    let report = serde_json::to_string(&report).unwrap();
    let claim = key.name.trim_start_matches("populate-").to_owned();
    moments.lock().entry(claim).or_default().succeeded = Some(Instant::now());
    // One that was deleted meanwhile has no end to report.
    let _ = store.change(&key, |pod| {
        let ended =
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": report}});
        pod["status"] = json!({"phase": "Succeeded", "containerStatuses": [container(&ended)]});
        Ok(())
    });
}

fn container(state: &Value) -> Value {
    json!({"name": names::CONTAINER, "ready": false, "restartCount": 0, "image": "i", "imageID": "i", "state": state})
}
