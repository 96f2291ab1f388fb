//! The loop over one claim, with an API server with scripted answers and a clock that the test
//! moves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::watcher::Event;
use population::{
    Settings,
    model::{Kind, Uid},
    slots::Slots,
};
use populator_api::names;
use populator_controller::{
    apply::{Recorder, Writer},
    observe::{Cache, Observer},
    reconcile::Controller,
    status::StatusWriter,
    telemetry::Telemetry,
};
use runtime::Tasks;
use serde_json::{Value, json};

use api::{Api, Asked, SILENCE, refusal};

/// A claim that has begun: its temporary claim has a volume.
fn begun() -> Cache {
    fn apply<K: serde::de::DeserializeOwned>(object: Value) -> Event<K> {
        Event::Apply(serde_json::from_value(object).unwrap())
    }
    let mut cache = Cache::default();
    cache.claims(apply(json!({
        "metadata": {"namespace": "vms", "name": "disk", "uid": "c"},
        "spec": {
            "storageClassName": "fast", "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
            "resources": {"requests": {"storage": "1Gi"}},
            "dataSourceRef": {
                "apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator", "name": "source"},
        },
    })));
    cache.claims(apply(json!({
        "metadata": {
            "namespace": "vms", "name": names::temporary_claim("c"), "uid": "t",
            "labels": {"forklift.konveyor.io/populated-claim": "c"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "disk", "uid": "c"}],
        },
        "spec": {"storageClassName": "fast", "volumeName": "pv"},
        "status": {"phase": "Bound"},
    })));
    cache.volumes(apply(json!({
        "metadata": {"name": "pv", "uid": "v", "resourceVersion": "1"},
        "spec": {"claimRef": {"namespace": "vms", "name": names::temporary_claim("c"), "uid": "t"}},
        "status": {"phase": "Bound"},
    })));
    cache.classes(apply(json!({
        "metadata": {"name": "fast"}, "provisioner": "csi.example.org",
    })));
    cache.resources(
        Kind::Ovirt,
        apply(json!({
            "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "OvirtVolumePopulator",
            "metadata": {"namespace": "vms", "name": "source", "uid": "r", "generation": 1},
            "spec": {"engineUrl": "https://engine", "engineSecretName": "secret",
                     "diskId": "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d"},
        })),
    );
    cache
}

/// The same with a pod that has failed in a way that may pass.
fn failed() -> Cache {
    let mut cache = begun();
    let pod = json!({
        "metadata": {
            "namespace": "vms", "name": names::pod("c"), "uid": "p",
            "labels": {"forklift.konveyor.io/populated-claim": "c"},
            "annotations": {"forklift.konveyor.io/temporary-claim": "t"},
            "creationTimestamp": Timestamp::now(),
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "disk", "uid": "c"}],
        },
        "spec": {"containers": [{"name": "populate", "args": [
            "--engine-url=https://engine", "--secret-name=secret",
            "--disk-id=9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d"]}]},
        "status": {"phase": "Failed", "containerStatuses": [{
            "name": "populate", "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
            "state": {"terminated": {"exitCode": 30, "reason": "Error"}}}]},
    });
    cache.pods(Event::Apply(serde_json::from_value(pod).unwrap()));
    cache
}

/// Reconciles the claim ten times a second for this long; nothing that is written is ever seen.
async fn reconcile(
    cache: Cache,
    seconds: u64,
    answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
) -> Vec<String> {
    let api = Api::default();
    let client = api.client(answer);
    let telemetry = Telemetry::new("test").0;
    let (recorder, events) = Recorder::with_writer(client.clone(), telemetry.clone());
    let mut tasks = Tasks::new();
    tasks.spawn("events", events.run());
    let mut settings = Settings::default();
    settings.images.insert(Kind::Ovirt, "image".to_owned());
    let controller = Arc::new(Controller {
        observer: Arc::new(Observer::new(client.clone(), cache)),
        writer: Writer::new(client.clone(), telemetry.clone()),
        recorder: Arc::new(recorder),
        status: Arc::new(StatusWriter::new(client, telemetry.clone())),
        slots: Mutex::new(Slots::default()),
        pods: Mutex::default(),
        settings,
        telemetry,
    });
    let triggers = stream::repeat(Uid::from("c")).then(|claim| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        claim
    });
    let triggers = std::pin::pin!(triggers);
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    controller.run(triggers, 1, end).await;
    api.lines()
}

fn count(asked: &[String], line: &str) -> usize {
    asked.iter().filter(|asked| *asked == line).count()
}

const PODS: &str = "/api/v1/namespaces/vms/pods";

#[tokio::test(start_paused = true)]
async fn pods_that_vanish_are_not_recreated_every_second() {
    let asked = reconcile(begun(), 25, |asked| match &asked.line {
        line if line.starts_with("GET ") => refusal(404, "NotFound", "there is no pod"),
        _ => (201, asked.body.clone()),
    })
    .await;
    assert_eq!(count(&asked, &format!("POST {PODS}")), 3, "{asked:?}");
}

/// Forklift looks every three seconds, and takes a failed pod for the end of the migration.
#[tokio::test(start_paused = true)]
async fn a_failed_pod_does_not_wait_for_an_event() {
    let asked = reconcile(failed(), 2, |asked| match &asked.line {
        line if line.ends_with("/events") => (SILENCE, Value::Null),
        _ => (200, asked.body.clone()),
    })
    .await;
    let deletion = format!("DELETE {PODS}/{}", names::pod("c"));
    assert!(count(&asked, &deletion) > 0, "{asked:?}");
}

/// A refusal is tried again with backoff, and reported at a pace of its own.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_once_and_not_with_each_try() {
    let asked = reconcile(begun(), 60, |asked| match &asked.line {
        line if line.starts_with("GET ") => refusal(404, "NotFound", "there is no pod"),
        line if line.ends_with("/pods") => refusal(403, "Forbidden", "exceeded quota"),
        _ => (201, asked.body.clone()),
    })
    .await;
    assert!(count(&asked, &format!("POST {PODS}")) > 10, "{asked:?}");
    let events = "POST /api/v1/namespaces/vms/events";
    assert_eq!(count(&asked, events), 1, "{asked:?}");
}

/// Its finalizer protects nothing any more, and must not keep the pod.
#[tokio::test(start_paused = true)]
async fn a_pod_whose_claim_is_gone_is_released() {
    let pod = |deleted: bool| {
        let mut pod = json!({
            "metadata": {
                "namespace": "vms", "name": names::pod("c"), "uid": "p",
                "finalizers": ["example.org/other", names::RESULT_FINALIZER],
                "labels": {"forklift.konveyor.io/populated-claim": "c"},
            },
            "status": {"phase": "Succeeded"},
        });
        if deleted {
            pod["metadata"]["deletionTimestamp"] = json!(Timestamp::now());
        }
        let mut cache = Cache::default();
        cache.pods(Event::Apply(serde_json::from_value(pod).unwrap()));
        cache
    };
    let patch = format!("PATCH {PODS}/{}", names::pod("c"));
    let answer = |asked: &Asked| {
        if asked.line.starts_with("PATCH ") {
            assert_eq!(asked.body[2]["path"], "/metadata/finalizers/1");
        }
        (200, json!({"metadata": {"name": names::pod("c")}}))
    };
    let asked = reconcile(pod(true), 1, answer).await;
    assert!(count(&asked, &patch) > 0, "{asked:?}");
    // Its claim may be one that is not seen yet.
    assert_eq!(reconcile(pod(false), 1, answer).await, Vec::<String>::new());
}
