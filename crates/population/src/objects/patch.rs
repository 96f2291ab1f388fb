//! Patches of single fields, each bound to the object that it was decided on.
//!
//! The API server rejects a merge patch that names a UID for another object of the same name. A
//! JSON patch can also test the values that it replaces.

use populator_api::names::{RESULT_FINALIZER, START_DEADLINE, annotation as key, label};
use serde_json::{Value, json};

use crate::model::{Claim, LastFailure, LostPod, RejectedNode, Uid, Volume};

/// JSON patch of a volume that holds `disk`: gives it to `claim`, if it has the resource version
/// that was seen and still belongs to the claim with the UID `from`. It is one write, so that the
/// volume belongs to a claim at every moment, and never to the target without the proof of what it
/// holds.
#[must_use]
pub fn rebind(volume: &Volume, from: &Uid, claim: &Claim, disk: Option<&str>) -> Value {
    let populator = format!("{}/{}", claim.populator_namespace(), claim.reference.name);
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": volume.resource_version}),
        json!({"op": "test", "path": "/spec/claimRef/uid", "value": from}),
        json!({"op": "replace", "path": "/spec/claimRef", "value": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": claim.uid,
        }}),
    ];
    if !volume.is_annotated {
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    let mut annotate = |name, value| {
        patch.push(json!({"op": "add", "path": annotation_path(name), "value": value}));
    };
    annotate(key::POPULATED_FROM, populator.as_str());
    annotate(key::POPULATED_FOR, claim.uid.as_str());
    // Added also when the disk is unknown: a recycled volume may still name another one.
    annotate(key::POPULATED_DISK, disk.unwrap_or_default());
    Value::Array(patch)
}

/// JSON patch of a claim: lets the scheduler choose again, if its choice is still `node`, and
/// records the rejected nodes. In one write, so that a rejection is counted once for each choice.
pub fn reject_node(
    claim_uid: &Uid,
    node: &str,
    rejected: &[RejectedNode],
) -> serde_json::Result<Value> {
    let path = annotation_path(key::SELECTED_NODE);
    let rejected = serde_json::to_string(rejected)?;
    Ok(json!([
        {"op": "test", "path": "/metadata/uid", "value": claim_uid},
        {"op": "test", "path": path, "value": node},
        {"op": "remove", "path": path},
        // The map is there: it has held the choice.
        {"op": "add", "path": annotation_path(key::REJECTED_NODES), "value": rejected},
    ]))
}

/// Merge patch of a claim: counts a failure, and records it.
pub fn record_failure(
    claim_uid: &Uid,
    recreations: u32,
    failure: &LastFailure,
) -> serde_json::Result<Value> {
    let failure = serde_json::to_string(failure)?;
    Ok(json!({"metadata": {"uid": claim_uid, "annotations": {
        (key::RECREATIONS): recreations.to_string(),
        (key::LAST_FAILURE): failure,
    }}}))
}

/// Merge patch of a claim: removes its failures, since the user requested another attempt.
#[must_use]
pub fn forget_failures(claim_uid: &Uid) -> Value {
    json!({"metadata": {"uid": claim_uid, "annotations": {
        (key::RECREATIONS): null,
        (key::LAST_FAILURE): null,
    }}})
}

/// Merge patch of a temporary claim: records the pod whose node does not answer, or removes the
/// record.
pub fn node_lost(temporary_uid: &Uid, lost: Option<&LostPod>) -> serde_json::Result<Value> {
    let lost = lost.map(serde_json::to_string).transpose()?;
    Ok(json!({"metadata": {"uid": temporary_uid, "annotations": {(key::NODE_LOST): lost}}}))
}

/// Merge patch of a pod's status: the pod has failed, since it did not start in time.
#[must_use]
pub fn fail_pod(pod_uid: &Uid, message: &str) -> Value {
    json!({
        "metadata": {"uid": pod_uid},
        "status": {"phase": "Failed", "reason": START_DEADLINE, "message": message},
    })
}

/// JSON patch of a pod: removes our finalizer, which was seen at this index of the list.
#[must_use]
pub fn release_pod(pod_uid: &Uid, position: usize) -> Value {
    let path = format!("/metadata/finalizers/{position}");
    json!([
        {"op": "test", "path": "/metadata/uid", "value": pod_uid},
        {"op": "test", "path": path, "value": RESULT_FINALIZER},
        {"op": "remove", "path": path},
    ])
}

/// Merge patch of a pod that Forklift created: the label that our watches select.
#[must_use]
pub fn adopt_pod(pod_uid: &Uid, claim_uid: &Uid) -> Value {
    json!({"metadata": {"uid": pod_uid, "labels": {(label::POPULATED_CLAIM): claim_uid}}})
}

/// Merge patch of a temporary claim that Forklift created: the labels that ours have.
#[must_use]
pub fn adopt_temporary_claim(temporary_uid: &Uid, claim_uid: &Uid) -> Value {
    json!({"metadata": {"uid": temporary_uid, "labels": {
        (label::POPULATED_CLAIM): claim_uid,
        (label::VELERO_EXCLUDE): "true",
    }}})
}

/// JSON pointer to the annotation, with the escape of RFC 6901 for its slash.
fn annotation_path(name: &str) -> String {
    format!(
        "/metadata/annotations/{}",
        name.replace('~', "~0").replace('/', "~1")
    )
}
