//! Kubernetes objects as plain values. The pods in `tests/fixtures` are what a real cluster showed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1 as core, storage::v1 as storage};
use population::{
    model::{
        Binding, Claim, ClaimPhase, ClaimReference, LostPod, Node, Nodes, Pod, PodPhase,
        StorageClass, TemporaryClaim, Uid, Volume, VolumePhase,
    },
    objects::patch,
    plan::FailureClass,
};
use populator_api::{
    Reason,
    names::{self, annotation as key},
};
use serde_json::{Value, from_value, json};

fn pod(name: &str) -> Pod {
    let all: BTreeMap<String, core::Pod> =
        serde_json::from_str(include_str!("fixtures/pods.json")).unwrap();
    Pod::from_object(&all[name]).unwrap()
}

#[test]
fn pods_that_have_not_started() {
    let image = pod("image-missing");
    assert_eq!(image.phase, PodPhase::Pending);
    let waiting = image.waiting.unwrap();
    assert!(
        waiting.starts_with("ImagePullBackOff: Back-off pulling image"),
        "{waiting}"
    );

    let secret = pod("secret-missing");
    assert_eq!(secret.waiting.as_deref(), Some("ContainerCreating"));
    assert_eq!(secret.node.as_deref(), Some("cluster-node"));

    let unschedulable = pod("unschedulable");
    assert_eq!(
        (unschedulable.phase, unschedulable.node),
        (PodPhase::Pending, None)
    );
    let why = unschedulable.unschedulable.unwrap();
    assert!(
        why.starts_with("Unschedulable: 0/1 nodes are available"),
        "{why}"
    );
}

#[test]
fn pods_that_have_started() {
    let running = pod("running");
    assert_eq!(running.phase, PodPhase::Running);
    assert_eq!(
        (
            running.unschedulable,
            running.waiting,
            running.evicted,
            running.ended
        ),
        (None, None, None, None)
    );
    assert_eq!(pod("succeeded").phase, PodPhase::Succeeded);
}

#[test]
fn pods_that_failed() {
    for (name, is_transient, reason, message) in [
        (
            "too-small",
            false,
            Reason::VolumeTooSmall,
            "the target has 1 byte, the disk 2; use a larger volume (exit code 20)",
        ),
        (
            "panic",
            true,
            Reason::Retrying,
            "thread main panicked: at the disco",
        ),
        (
            "out-of-memory",
            true,
            Reason::Retrying,
            "OOMKilled (exit code 137): Killed",
        ),
        ("no-program", true, Reason::Retrying, "no such file"),
        (
            "deadline",
            true,
            Reason::Retrying,
            "DeadlineExceeded: Pod was active",
        ),
        (
            "out-of-cpu",
            true,
            Reason::Retrying,
            "OutOfcpu: Pod was rejected",
        ),
    ] {
        let pod = pod(name);
        assert_eq!(pod.phase, PodPhase::Failed, "{name}");
        let verdict = FailureClass::of(&pod);
        assert_eq!(
            (verdict.is_transient, verdict.reason),
            (is_transient, reason),
            "{name}: {verdict:?}"
        );
        assert!(verdict.message.contains(message), "{name}: {verdict:?}");
    }
}

#[test]
fn a_condition_reports_an_eviction_too() {
    let object = json!({
        "metadata": {"name": "p", "uid": "u"},
        "status": {"phase": "Failed", "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "a more important pod"}]},
    });
    let pod = Pod::from_object(&from_value(object).unwrap()).unwrap();
    assert_eq!(
        pod.evicted.as_deref(),
        Some("PreemptionByScheduler: a more important pod")
    );
}

#[test]
fn an_unknown_phase_is_no_end() {
    for (phase, expected) in [
        ("Unknown", PodPhase::Running),
        ("Running", PodPhase::Running),
        ("Pending", PodPhase::Pending),
    ] {
        let object = json!({"metadata": {"name": "p", "uid": "u"}, "status": {"phase": phase}});
        let pod = Pod::from_object(&from_value(object).unwrap()).unwrap();
        assert_eq!(pod.phase, expected);
    }
}

/// Beside a container that a webhook has added and that has not started.
#[test]
fn a_pod_whose_mover_runs_is_running() {
    let state = |state: Value| json!({"name": names::CONTAINER, "ready": true, "restartCount": 0, "image": "i", "imageID": "i", "state": state});
    for (mover, expected) in [
        (json!({"running": {}}), PodPhase::Running),
        (
            json!({"waiting": {"reason": "ContainerCreating"}}),
            PodPhase::Pending,
        ),
    ] {
        let object = json!({
            "metadata": {"name": "p", "uid": "u"},
            "status": {"phase": "Pending", "containerStatuses": [state(mover)]},
        });
        let pod = Pod::from_object(&from_value(object).unwrap()).unwrap();
        assert_eq!(pod.phase, expected);
    }
}

#[test]
fn the_annotation_of_the_storage_class_comes_before_the_field() {
    let class = |annotations: Value, field: Value| {
        let object = json!({
            "metadata": {"namespace": "n", "name": "c", "uid": "u", "annotations": annotations},
            "spec": {
                "dataSourceRef": {"kind": "OvirtVolumePopulator", "name": "r"},
                "storageClassName": field,
            },
        });
        Claim::from_object(&from_value(object).unwrap())
            .unwrap()
            .class
    };
    let annotation = |name: &str| json!({"volume.beta.kubernetes.io/storage-class": name});
    assert_eq!(class(json!({}), json!("slow")).as_deref(), Some("slow"));
    assert_eq!(
        class(annotation("fast"), Value::Null).as_deref(),
        Some("fast")
    );
    assert_eq!(
        class(annotation("fast"), json!("slow")).as_deref(),
        Some("fast")
    );
    // As in Kubernetes, the empty name asks for a volume made by hand.
    assert_eq!(class(annotation(""), json!("slow")).as_deref(), Some(""));
    assert_eq!(class(json!({}), Value::Null), None);
}

/// One tenant's objects must not fill the memory of the controller, which serves all.
#[test]
fn what_is_kept_of_an_object_is_bounded() {
    let long = "x".repeat(200_000);
    let object = json!({
        "metadata": {"namespace": "n", "name": "c", "uid": "u", "annotations": {
            (key::RETRY): long, (key::SERVICE_ACCOUNT): long, (key::SECRET): long,
            (key::LAST_FAILURE): long, (key::REJECTED_NODES): long, (key::BETA_STORAGE_CLASS): long,
            (key::SELECTED_NODE): long, (key::RECREATIONS): long,
        }},
        "spec": {
            "dataSourceRef": {"kind": long, "name": long, "namespace": long},
            "volumeName": long,
        },
    });
    let claim = Claim::from_object(&from_value(object).unwrap()).unwrap();
    assert!(format!("{claim:?}").len() < 4_096, "{claim:?}");
    let arguments: Vec<&str> = vec![&long[..100]; 2_000];
    let terminated = json!({"exitCode": 1, "reason": long, "message": long});
    let object = json!({
        "metadata": {"name": "p", "uid": "u", "annotations": {
            (key::RETRY): long, (key::NETWORKS): long, (key::SPEC_HASH): long}},
        "spec": {"nodeName": long, "containers": [{"name": "populate", "args": arguments}]},
        "status": {
            "phase": "Failed", "reason": long, "message": long,
            "conditions": [{"type": "PodScheduled", "status": "False", "message": long}],
            "containerStatuses": [{
                "name": "populate", "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
                "state": {"terminated": terminated}}],
        },
    });
    let pod = Pod::from_object(&from_value(object).unwrap()).unwrap();
    let size = format!("{pod:?}").len();
    assert!(size < 32 << 10, "{size}");
}

#[test]
fn temporary_claims_belong_to_the_claims_that_own_them() {
    let owner = |kind: &str, api_version: &str, uid: &str| json!({"apiVersion": api_version, "kind": kind, "name": "n", "uid": uid});
    let object = json!({
        "metadata": {"name": "prime-u", "uid": "t", "ownerReferences": [
            owner("PersistentVolumeClaim", "v1", "claim"),
            owner("VirtualMachine", "kubevirt.io/v1", "vm"),
            owner("PersistentVolumeClaim", "example.org/v1", "impostor")]},
        "spec": {"volumeName": ""}, "status": {"phase": "Lost"},
    });
    let temporary = TemporaryClaim::from_object(&from_value(object).unwrap()).unwrap();
    assert_eq!(temporary.owners, [Uid::from("claim")]);
    assert_eq!(temporary.volume, None);
    assert_eq!(temporary.phase, ClaimPhase::Lost);
    assert!(!temporary.is_labelled);
}

#[test]
fn volumes() {
    let object = json!({
        "metadata": {"name": "pv-1", "resourceVersion": "7"},
        "spec": {
            "claimRef": {"namespace": "vms", "name": "prime-u", "uid": "t"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "node", "operator": "In", "values": ["a"]}]}]}},
        },
        "status": {"phase": "Bound"},
    });
    let volume = Volume::from_object(&from_value(object).unwrap()).unwrap();
    assert_eq!(volume.phase, VolumePhase::Bound);
    let owner = ClaimReference {
        namespace: "vms".to_owned(),
        name: "prime-u".to_owned(),
        uid: "t".into(),
    };
    assert_eq!(volume.claim, Some(owner));
    assert_eq!(
        (volume.is_annotated, volume.populated_from.as_deref()),
        (false, None)
    );

    let now = "2026-01-01T12:00:00Z".parse().unwrap();
    let node = |name: &str, ready: &str| -> Node {
        let object: Value = json!({
            "metadata": {"name": name, "labels": {"node": name}},
            "status": {"conditions": [{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": ready}]},
        });
        Node::from_object(&from_value(object).unwrap()).unwrap()
    };
    assert!(!Nodes::Known([node("a", "Unknown")].into()).none_will_meet(&volume.node_terms, now));
    assert!(Nodes::Known([node("b", "True")].into()).none_will_meet(&volume.node_terms, now));
    assert!(node("b", "True").ready);
    assert!(!node("b", "Unknown").ready);
    assert!(!node("b", "True").unschedulable);

    let object = json!({
        "metadata": {"name": "c", "creationTimestamp": "2026-01-01T11:00:00Z"},
        "spec": {"unschedulable": true},
        "status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T11:59:00Z"}]},
    });
    let node = Node::from_object(&from_value(object).unwrap()).unwrap();
    assert!(node.unschedulable);
    assert_eq!(node.created.to_string(), "2026-01-01T11:00:00Z");
    let since = node.unready_since.unwrap();
    assert_eq!(since.to_string(), "2026-01-01T11:59:00Z");
}

#[test]
fn storage_classes() {
    let class = |mode: Value| {
        let object =
            json!({"metadata": {"name": "c"}, "provisioner": "p", "volumeBindingMode": mode});
        let object: storage::StorageClass = from_value(object).unwrap();
        StorageClass::from_object(&object).unwrap().binding
    };
    assert_eq!(
        class(json!("WaitForFirstConsumer")),
        Binding::WaitForFirstConsumer
    );
    assert_eq!(class(json!("Immediate")), Binding::Immediate);
    assert_eq!(class(Value::Null), Binding::Immediate);
}

/// The fields that show whether a pod's end was seen, and whether its result is still held.
#[test]
fn the_end_of_a_pod() {
    let pod = |change: fn(&mut Value)| {
        let mut object = json!({
            "metadata": {"name": "p", "uid": "u", "finalizers": ["example.org/other", names::RESULT_FINALIZER]},
            "status": {"phase": "Failed"},
        });
        change(&mut object);
        Pod::from_object(&from_value(object).unwrap()).unwrap()
    };
    let plain = pod(|_| ());
    assert_eq!(
        (plain.finalizer, plain.forced, plain.collected),
        (Some(1), false, false)
    );
    let deleted = pod(|object| {
        object["metadata"]["finalizers"] = json!(["example.org/other"]);
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    });
    assert_eq!((deleted.finalizer, deleted.forced), (None, false));
    let forced = pod(|object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        object["status"]["conditions"] = json!([{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists"}]);
    });
    assert!(forced.forced && forced.collected);
}

#[test]
fn a_volume_names_the_disk_that_it_holds() {
    let object = json!({
        "metadata": {
            "name": "pv-1", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {
                key::POPULATED_FROM: "vms/disk", key::POPULATED_FOR: "claim", key::POPULATED_DISK: "d",
                key::BOUND_BY_CONTROLLER: "yes"},
        },
        "spec": {"csi": {"driver": "d", "volumeHandle": "h",
                         "volumeAttributes": {"csi.storage.k8s.io/pvc/name": "prime-claim"}}},
    });
    let volume = Volume::from_object(&from_value(object).unwrap()).unwrap();
    assert_eq!(volume.populated_for, Some("claim".into()));
    assert_eq!(volume.populated_disk.as_deref(), Some("d"));
    assert_eq!(volume.provisioned_for.as_deref(), Some("prime-claim"));
    assert!(volume.was_chosen);
    assert_eq!(volume.created.to_string(), "2026-01-01T00:00:00Z");
}

#[test]
fn a_temporary_claim_remembers_the_pod_that_was_lost_with_its_node() {
    let lost = LostPod {
        pod: "u".into(),
        node: "n".to_owned(),
    };
    let patch = patch::node_lost(&"t".into(), Some(&lost)).unwrap();
    let mut object = json!({"metadata": {"name": "prime-u"}});
    object["metadata"]["uid"] = patch["metadata"]["uid"].clone();
    object["metadata"]["annotations"] = patch["metadata"]["annotations"].clone();
    let temporary = TemporaryClaim::from_object(&from_value(object).unwrap()).unwrap();
    assert_eq!(temporary.lost_pod, Some(lost));
    let forgotten = patch::node_lost(&"t".into(), None).unwrap();
    assert_eq!(
        forgotten["metadata"]["annotations"],
        json!({key::NODE_LOST: null})
    );
}
