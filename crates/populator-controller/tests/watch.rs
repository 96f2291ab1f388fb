//! What is watched, and how little of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use std::{sync::Arc, time::Duration};

use populator_controller::observe::{Cache, Observer, Triggers, watch_all};
use runtime::Tasks;
use serde_json::{Value, json};

use api::{Api, Asked, SILENCE, refusal};

const PODS: &str = "GET /api/v1/pods";
const NODES: &str = "GET /api/v1/nodes";

/// Empty lists, and watches in which nothing happens; nodes may not be read.
fn answer(asked: &Asked) -> (u16, Value) {
    if asked.line == NODES {
        return refusal(403, "Forbidden", "no nodes");
    }
    if asked.query.contains("watch=true") {
        return (SILENCE, Value::Null);
    }
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
    (200, list)
}

#[tokio::test(start_paused = true)]
async fn pods_are_filtered_by_the_server_and_all_lists_are_waited_for() {
    let api = Api::default();
    let client = api.client(answer);
    let observer = Arc::new(Observer::new(client.clone(), Cache::default()));
    let (sender, _receiver) = tokio::sync::mpsc::channel(8);
    let mut tasks = Tasks::new();
    let complete = watch_all(&mut tasks, &client, &observer, &Triggers::new(sender), true);
    let complete = tokio::time::timeout(Duration::from_mins(1), complete).await;
    complete.unwrap();

    let asked = api.take();
    let of_pods: Vec<&Asked> = asked.iter().filter(|asked| asked.line == PODS).collect();
    assert!(!of_pods.is_empty());
    for asked in of_pods {
        let ours = "labelSelector=forklift.konveyor.io%2Fpopulated-claim";
        assert!(asked.query.contains(ours), "{asked:?}");
    }
    for list in [
        "GET /api/v1/persistentvolumeclaims",
        "GET /api/v1/persistentvolumes",
        "GET /apis/storage.k8s.io/v1/storageclasses",
        "GET /apis/forklift.konveyor.io/v1beta1/ovirtvolumepopulators",
        "GET /apis/forklift.konveyor.io/v1beta1/openstackvolumepopulators",
        PODS,
        NODES,
    ] {
        assert!(asked.iter().any(|asked| asked.line == list), "{list}");
    }
}
