//! The loop over one claim, with an API server with scripted answers and a clock that the test
//! moves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

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
    namespaces::Scope,
    observe::{Cache, Observer},
    reconcile::Controller,
    status::StatusWriter,
    telemetry::Telemetry,
};
use prometheus_client::encoding::text::encode;
use runtime::Tasks;
use serde_json::{Value, json};

use api::{Api, Asked, SILENCE, refusal};

/// A claim that has begun: its temporary claim has a volume.
fn begun() -> Cache {
    let mut cache = Cache::default();
    begin(&mut cache, "c");
    cache
}

fn apply<K: serde::de::DeserializeOwned>(object: Value) -> Event<K> {
    Event::Apply(serde_json::from_value(object).unwrap())
}

/// The claim of that UID and name.
fn claim(uid: &str) -> Value {
    json!({
        "metadata": {"namespace": "vms", "name": format!("disk-{uid}"), "uid": uid},
        "spec": {
            "storageClassName": "fast", "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
            "resources": {"requests": {"storage": "1Gi"}},
            "dataSourceRef": {
                "apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator", "name": "source"},
        },
    })
}

fn owned_by(uid: &str) -> Value {
    json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": format!("disk-{uid}"), "uid": uid}])
}

fn temporary(uid: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "vms", "name": names::temporary_claim(uid), "uid": format!("t-{uid}"),
            "labels": {"forklift.konveyor.io/populated-claim": uid},
            "ownerReferences": owned_by(uid),
        },
        "spec": {"storageClassName": "fast", "volumeName": format!("pv-{uid}")},
        "status": {"phase": "Bound"},
    })
}

fn volume(uid: &str) -> Value {
    json!({
        "metadata": {"name": format!("pv-{uid}"), "uid": "v", "resourceVersion": "1"},
        "spec": {"claimRef": {
            "namespace": "vms", "name": names::temporary_claim(uid), "uid": format!("t-{uid}")}},
        "status": {"phase": "Bound"},
    })
}

fn begin(cache: &mut Cache, uid: &str) {
    cache.claims(&Scope::ALL, apply(claim(uid)));
    cache.claims(&Scope::ALL, apply(temporary(uid)));
    cache.volumes(apply(volume(uid)));
    serve(cache);
}

/// The class and the source of all claims.
fn serve(cache: &mut Cache) {
    cache.classes(apply(json!({
        "metadata": {"name": "fast"}, "provisioner": "csi.example.org",
    })));
    cache.resources(
        Kind::Ovirt,
        &Scope::ALL,
        apply(json!({
            "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "OvirtVolumePopulator",
            "metadata": {"namespace": "vms", "name": "source", "uid": "r", "generation": 1},
            "spec": {"engineUrl": "https://engine", "engineSecretName": "secret",
                     "diskId": "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d"},
        })),
    );
}

/// A pod that has failed in a way that may pass.
fn failed_pod() -> Value {
    json!({
        "metadata": {
            "namespace": "vms", "name": names::pod("c"), "uid": "p",
            "labels": {"forklift.konveyor.io/populated-claim": "c"},
            "annotations": {"forklift.konveyor.io/temporary-claim": "t-c"},
            "creationTimestamp": Timestamp::now(),
            "ownerReferences": owned_by("c"),
        },
        "spec": {"containers": [{"name": "populate", "args": [
            "--engine-url=https://engine", "--secret-name=secret",
            "--disk-id=9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d"]}]},
        "status": {"phase": "Failed", "containerStatuses": [{
            "name": "populate", "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
            "state": {"terminated": {"exitCode": 30, "reason": "Error"}}}]},
    })
}

/// The same with that pod.
fn failed() -> Cache {
    let mut cache = begun();
    cache.pods(&Scope::ALL, apply(failed_pod()));
    cache
}

/// What the API server shows while no watch does: the temporary claim, and no pod.
fn live(asked: &Asked) -> (u16, Value) {
    match asked.line.rsplit_once("/persistentvolumeclaims/prime-") {
        Some((_, uid)) => (200, temporary(uid)),
        None => refusal(404, "NotFound", "there is no such object"),
    }
}

/// Reconciles the claim ten times a second for this long; nothing that is written is ever seen.
async fn reconcile(
    cache: Cache,
    seconds: u64,
    answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
) -> Vec<String> {
    let asked = reconcile_all(cache, &["c"], seconds, answer).await;
    asked.into_iter().map(|asked| asked.line).collect()
}

/// The same for several claims, of which one may have a slot.
async fn reconcile_all(
    cache: Cache,
    claims: &[&str],
    seconds: u64,
    answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
) -> Vec<Asked> {
    let telemetry = Telemetry::new("test").0;
    reconcile_with(telemetry, cache, claims, seconds, answer).await
}

/// The same with these metrics.
async fn reconcile_with(
    telemetry: Telemetry,
    cache: Cache,
    claims: &[&str],
    seconds: u64,
    answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
) -> Vec<Asked> {
    let api = Api::default();
    let client = api.client(answer);
    let (recorder, events) = Recorder::with_writer(client.clone(), telemetry.clone());
    let mut tasks = Tasks::new();
    tasks.spawn("events", events.run());
    let mut settings = Settings::default();
    settings.images.insert(Kind::Ovirt, "image".to_owned());
    settings.max_in_flight = 1;
    let controller = Arc::new(Controller {
        observer: Arc::new(Observer::new(client.clone(), cache)),
        writer: Writer::new(client.clone(), telemetry.clone()),
        recorder: Arc::new(recorder),
        status: Arc::new(StatusWriter::new(client, telemetry.clone())),
        slots: Mutex::new(Slots::default()),
        pace: Mutex::default(),
        settings,
        telemetry,
    });
    let claims = claims.iter().map(|uid| Uid::from(*uid)).cycle();
    let claims: Vec<Uid> = claims.take(10_000).collect();
    let triggers = stream::iter(claims).then(|claim| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        claim
    });
    let triggers = std::pin::pin!(triggers);
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    controller.run(triggers, 1, end).await;
    api.take()
}

fn count(asked: &[String], line: &str) -> usize {
    asked.iter().filter(|asked| *asked == line).count()
}

const PODS: &str = "/api/v1/namespaces/vms/pods";

#[tokio::test(start_paused = true)]
async fn pods_that_vanish_are_not_recreated_every_second() {
    let asked = reconcile(begun(), 25, |asked| match &asked.line {
        line if line.starts_with("GET ") => live(asked),
        _ => (201, asked.body.clone()),
    })
    .await;
    assert_eq!(count(&asked, &format!("POST {PODS}")), 3, "{asked:?}");
}

/// Forklift looks every three seconds, and takes a failed pod for the end of the migration.
#[tokio::test(start_paused = true)]
async fn temporary_claims_that_vanish_are_not_recreated_every_second() {
    let mut cache = Cache::default();
    serve(&mut cache);
    cache.claims(&Scope::ALL, apply(claim("c")));
    let asked = reconcile(cache, 25, |asked| match &asked.line {
        line if line.starts_with("GET ") => refusal(404, "NotFound", "there is no such object"),
        _ => (200, asked.body.clone()),
    })
    .await;
    let created = "POST /api/v1/namespaces/vms/persistentvolumeclaims";
    assert_eq!(count(&asked, created), 3, "{asked:?}");
}

/// A claim that is bound to what was filled for it, and is to be cleaned up.
fn populated() -> Cache {
    let mut cache = begun();
    let mut target = claim("c");
    target["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    target["spec"]["volumeName"] = json!("pv-c");
    target["status"] = json!({"phase": "Bound"});
    cache.claims(&Scope::ALL, apply(target));
    let mut lost = temporary("c");
    lost["status"] = json!({"phase": "Lost"});
    cache.claims(&Scope::ALL, apply(lost));
    let mut moved = volume("c");
    moved["metadata"]["annotations"] = json!({"forklift.konveyor.io/populated-for": "c"});
    moved["spec"]["claimRef"] = json!({"namespace": "vms", "name": "disk-c", "uid": "c"});
    cache.volumes(apply(moved));
    cache
}

/// The watch shows the deleted temporary claim for some time.
#[tokio::test(start_paused = true)]
async fn a_success_is_counted_once() {
    let cache = populated();
    let (telemetry, registry) = Telemetry::new("test");
    let asked = reconcile_with(telemetry, cache, &["c"], 25, |asked| {
        (200, asked.body.clone())
    })
    .await;
    let deletion = "DELETE /api/v1/namespaces/vms/persistentvolumeclaims/prime-c";
    let deletions = asked.iter().filter(|asked| asked.line == deletion);
    assert!(deletions.count() > 1, "{asked:?}");
    let mut metrics = String::new();
    encode(&mut metrics, &registry).unwrap();
    let counted = "operation_seconds_count{result=\"success\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

/// The watch that triggers a reconcile is not the one that shows what the last reconcile has done.
#[tokio::test(start_paused = true)]
async fn what_was_ended_is_not_ended_again_because_a_watch_is_late() {
    let mut cache = populated();
    let mut pod = failed_pod();
    pod["metadata"]["finalizers"] = json!([names::RESULT_FINALIZER]);
    pod["status"]["phase"] = json!("Succeeded");
    cache.pods(&Scope::ALL, apply(pod));
    let asked = reconcile(cache, 9, |asked| match &asked.line {
        line if line.starts_with("PATCH ") => (200, failed_pod()),
        _ => (200, asked.body.clone()),
    })
    .await;
    let deletion = "DELETE /api/v1/namespaces/vms/persistentvolumeclaims/prime-c";
    assert_eq!(count(&asked, deletion), 1, "{asked:?}");
    let release = format!("PATCH {PODS}/{}", names::pod("c"));
    assert_eq!(count(&asked, &release), 1, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_pod_does_not_wait_for_an_event() {
    let asked = reconcile(failed(), 2, |asked| match &asked.line {
        line if line.ends_with("/events") => (SILENCE, Value::Null),
        line if line.starts_with("GET ") => (200, failed_pod()),
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
        line if line.starts_with("GET ") => live(asked),
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
        cache.pods(
            &Scope::ALL,
            Event::Apply(serde_json::from_value(pod).unwrap()),
        );
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

/// A quota of pods, a policy, a missing service account.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_pod_is_refused_holds_no_slot() {
    let mut cache = begun();
    begin(&mut cache, "d");
    let asked = reconcile_all(cache, &["c", "d"], 2, |asked| match &asked.line {
        line if line.starts_with("GET ") => live(asked),
        line if *line == format!("POST {PODS}")
            && asked.body["metadata"]["name"] == names::pod("c") =>
        {
            refusal(403, "Forbidden", "pods are forbidden: exceeded quota: pods")
        }
        _ => (201, asked.body.clone()),
    })
    .await;
    let created = asked.iter().any(|asked| {
        asked.line == format!("POST {PODS}") && asked.body["metadata"]["name"] == names::pod("d")
    });
    assert!(created, "{asked:?}");
}

/// It keeps a claim that is Terminating, which the quota counts.
#[tokio::test(start_paused = true)]
async fn a_quota_that_rejects_a_claim_costs_finished_pods_their_place() {
    let cache = || {
        let mut cache = Cache::default();
        serve(&mut cache);
        cache.claims(&Scope::ALL, apply(claim("c")));
        let mut done = claim("f");
        done["spec"]["volumeName"] = json!("pv-f");
        done["status"] = json!({"phase": "Bound"});
        cache.claims(&Scope::ALL, apply(done));
        let mut filled = volume("f");
        filled["spec"]["claimRef"] = json!({"namespace": "vms", "name": "disk-f", "uid": "f"});
        filled["metadata"]["annotations"] = json!({"forklift.konveyor.io/populated-for": "f"});
        cache.volumes(apply(filled));
        let mut pod = failed_pod();
        pod["metadata"]["name"] = json!(names::pod("f"));
        pod["metadata"]["ownerReferences"] = owned_by("f");
        pod["status"]["phase"] = json!("Succeeded");
        cache.pods(&Scope::ALL, apply(pod));
        cache
    };
    let deletion = format!("DELETE {PODS}/{}", names::pod("f"));
    for (words, deleted) in [
        ("exceeded quota: storage, requested: 8Mi", true),
        ("denied by a policy", false),
    ] {
        let asked = reconcile(cache(), 2, move |asked| match &asked.line {
            line if line.ends_with("/persistentvolumeclaims") => refusal(403, "Forbidden", words),
            line if line.starts_with("GET ") => refusal(404, "NotFound", "there is none"),
            _ => (200, asked.body.clone()),
        })
        .await;
        assert_eq!(count(&asked, &deletion) > 0, deleted, "{words}: {asked:?}");
    }
}

/// A cleaner deleted the finished pod between the rebind and the watch's news of it.
#[tokio::test(start_paused = true)]
async fn no_pod_is_created_for_a_volume_that_was_given_away() {
    let asked = reconcile(begun(), 2, |asked| match &asked.line {
        line if line.starts_with("GET ") && line.ends_with("/persistentvolumes/pv-c") => {
            let mut given = volume("c");
            given["spec"]["claimRef"] = json!({"namespace": "vms", "name": "disk-c", "uid": "c"});
            (200, given)
        }
        line if line.starts_with("GET ") => live(asked),
        _ => (201, asked.body.clone()),
    })
    .await;
    assert_eq!(count(&asked, &format!("POST {PODS}")), 0, "{asked:?}");
}

/// The record is written before the pod can go. A watch of claims that is late shows neither.
#[tokio::test(start_paused = true)]
async fn no_pod_is_created_beside_one_that_is_lost() {
    let asked = reconcile(begun(), 2, |asked| match &asked.line {
        line if line.starts_with("GET ") => {
            let (status, mut found) = live(asked);
            let lost = json!({"pod": "p", "node": "n"}).to_string();
            found["metadata"]["annotations"] = json!({"forklift.konveyor.io/node-lost": lost});
            (status, found)
        }
        _ => (201, asked.body.clone()),
    })
    .await;
    assert_eq!(count(&asked, &format!("POST {PODS}")), 0, "{asked:?}");
}

/// The watch of claims shows the temporary claim before this one, or a record that is settled.
#[tokio::test(start_paused = true)]
async fn a_pod_is_not_deleted_for_what_a_late_watch_shows() {
    let earlier = |change: fn(&mut Value)| {
        let mut cache = begun();
        let mut seen = temporary("c");
        change(&mut seen);
        cache.claims(&Scope::ALL, apply(seen));
        let mut running = failed_pod();
        running["status"] = json!({"phase": "Running"});
        cache.pods(&Scope::ALL, apply(running));
        cache
    };
    let another: fn(&mut Value) = |seen| seen["metadata"]["uid"] = json!("t-before");
    let settled: fn(&mut Value) = |seen| {
        let lost = json!({"pod": "before", "node": "n"}).to_string();
        seen["metadata"]["annotations"] = json!({"forklift.konveyor.io/node-lost": lost});
    };
    for change in [another, settled] {
        let asked = reconcile(earlier(change), 2, |asked| match &asked.line {
            line if line.ends_with("/persistentvolumes/pv-c") => (200, volume("c")),
            line if line.starts_with("GET ") => live(asked),
            _ => (200, asked.body.clone()),
        })
        .await;
        let deletions = asked.iter().filter(|line| line.starts_with("DELETE "));
        assert_eq!(deletions.count(), 0, "{asked:?}");
    }
}

/// The watch of claims shows that a later pod's failure was counted.
#[tokio::test(start_paused = true)]
async fn a_failure_that_a_late_watch_shows_again_is_not_counted_again() {
    let mut cache = failed();
    let mut counted = claim("c");
    let last = json!({"pod": "q", "at": Timestamp::now(), "reason": "Retrying", "message": "why"});
    counted["metadata"]["annotations"] =
        json!({"recreations": "2", "forklift.konveyor.io/last-failure": last.to_string()});
    cache.claims(&Scope::ALL, apply(counted));
    let asked = reconcile(cache, 2, |asked| match &asked.line {
        line if line.starts_with("GET ") => {
            let mut running = failed_pod();
            running["metadata"]["uid"] = json!("r");
            running["status"] = json!({"phase": "Running"});
            (200, running)
        }
        _ => (200, asked.body.clone()),
    })
    .await;
    let writes = asked.iter().filter(|line| !line.starts_with("GET "));
    assert_eq!(writes.collect::<Vec<_>>(), [] as [&String; 0]);
}

/// The scheduler may choose a node that the watch of nodes does not show yet.
#[tokio::test(start_paused = true)]
async fn a_node_is_gone_when_the_api_server_says_so_and_not_the_watch() {
    let node = json!({
        "metadata": {"name": "new", "creationTimestamp": Timestamp::now()},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let denied = refusal(403, "Forbidden", "nodes is forbidden").1;
    let node_list = |items: Value| json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": items});
    let answers = [
        (200, node_list(json!([node])), "POST"),
        (200, node_list(json!([])), "PATCH"),
        (403, denied, "POST"),
    ];
    for (code, answer, expected) in answers {
        let mut cache = Cache::default();
        serve(&mut cache);
        cache.classes(apply(late_binding_class()));
        let mut target = claim("c");
        target["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "new"});
        cache.claims(&Scope::ALL, apply(target));
        cache.nodes(Event::Init);
        cache.nodes(Event::InitDone);
        let asked = reconcile_all(cache, &["c"], 1, move |asked| match &asked.line {
            line if line == "GET /api/v1/nodes" => {
                assert_eq!(
                    asked.query.trim_start_matches(['?', '&']),
                    "fieldSelector=metadata.name%3Dnew"
                );
                (code, answer.clone())
            }
            line if line.starts_with("GET ") => live(asked),
            line if line.starts_with("PATCH ") => (200, claim("c")),
            _ => (200, asked.body.clone()),
        })
        .await;
        let of_claims = asked
            .iter()
            .map(|asked| asked.line.split_once(' ').unwrap());
        let mut writes = of_claims
            .filter(|(method, path)| *method != "GET" && path.contains("/persistentvolumeclaims"));
        assert_eq!(
            writes.next().map(|(method, _)| method),
            Some(expected),
            "{code}: {asked:?}"
        );
    }
}

fn late_binding_class() -> Value {
    json!({
        "metadata": {"name": "fast"}, "provisioner": "csi.example.org",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

/// Under a role that may not read nodes, too.
#[tokio::test(start_paused = true)]
async fn a_full_node_is_given_up_with_the_provisioners_words() {
    let mut cache = Cache::default();
    serve(&mut cache);
    cache.classes(apply(late_binding_class()));
    let mut target = claim("c");
    target["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "n1"});
    cache.claims(&Scope::ALL, apply(target));
    let mut given_up = temporary("c");
    given_up["metadata"]["annotations"] = json!({"forklift.konveyor.io/chosen-node": "n1"});
    given_up["spec"] = json!({"storageClassName": "fast"});
    given_up["status"] = json!({"phase": "Pending"});
    cache.claims(&Scope::ALL, apply(given_up.clone()));
    let asked = reconcile_all(cache, &["c"], 2, move |asked| match &asked.line {
        line if line.starts_with("GET ") && line.ends_with("/prime-c") => (200, given_up.clone()),
        line if line.starts_with("GET ") && line.ends_with("/events") => {
            assert!(asked.query.contains("ProvisioningFailed"), "{asked:?}");
            let event = json!({
                "metadata": {"name": "e", "namespace": "vms"}, "involvedObject": {},
                "reason": "ProvisioningFailed", "message": "no space on n1",
            });
            let list =
                json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": [event]});
            (200, list)
        }
        line if line.starts_with("GET ") => live(asked),
        line if line.starts_with("PATCH ") => (200, claim("c")),
        _ => (200, asked.body.clone()),
    })
    .await;
    let of = |line: &str| {
        let found = asked.iter().find(|asked| asked.line.starts_with(line));
        found.unwrap_or_else(|| panic!("{line}: {asked:?}"))
    };
    let claims = "/api/v1/namespaces/vms/persistentvolumeclaims";
    let patch = of(&format!("PATCH {claims}/disk-c"));
    assert_eq!(patch.body[1]["value"], "n1");
    of(&format!("DELETE {claims}/{}", names::temporary_claim("c")));
    let event = of("POST /api/v1/namespaces/vms/events");
    assert_eq!(event.body["reason"], "PopulatorNodeUnsuitable");
    assert!(
        event.body["message"]
            .as_str()
            .unwrap()
            .contains("no space on n1")
    );
}
