//! From the model's small values to the objects of Kubernetes, and from these to the product's
//! `World`, by the product's own conversions.

use contract::{Exit, Termination};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::Time};
use population::model::{
    self, Grant, LastFailure, Lookup, Nodes, PopulatorSpec, RejectedNode, Verdict, World,
};
use populator_api::{
    GROUP, OvirtVolumePopulator, OvirtVolumePopulatorSpec,
    names::{self, annotation as key, label},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{
    planner::{Class, Template, View},
    state::{
        Binding, Deadline, Disk, End, Failure, Id, Node, NodeId, Owner, Phase, Pod, PodPhase,
        Rejected, Target, Temporary, Volume, VolumePhase,
    },
};

const NAMESPACE: &str = "vms";
const CLASS: &str = "fast";
/// Stands for the temporary claim's UID in a pod's template.
pub(crate) const TEMPORARY: &str = "uid-of-the-temporary-claim";

pub(crate) fn uid(id: Id) -> String {
    format!("uid-{id:03}")
}

pub(crate) fn node_name(node: NodeId) -> String {
    format!("node-{node}")
}

pub(crate) fn disk_name(disk: Disk) -> String {
    format!("d15c0000-0000-4000-8000-{disk:012}")
}

fn volume_name(id: Id) -> String {
    format!("pv-{id:03}")
}

/// The number that one of the names above ends with.
pub(crate) fn number(name: &str) -> Id {
    let digits = &name[name.len().saturating_sub(3)..];
    let digits = digits.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no name of the model's: {name}"))
}

pub(crate) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

/// When an object was created. Old ones are older than any time that the settings wait for, and the
/// order of creation is kept.
fn created(id: Id, is_old: bool) -> Timestamp {
    let age = if is_old { 3600 } else { 1 };
    now() - SignedDuration::from_secs(age) + SignedDuration::from_millis(i64::from(id))
}

/// Targets are created every ten seconds, long ago.
fn target_created(target: Id) -> Timestamp {
    now() - SignedDuration::from_hours(2) + SignedDuration::from_secs(10 * i64::from(target))
}

/// A volume is older than the targets that were created after it.
fn volume_created(volume: &Volume) -> Timestamp {
    target_created(volume.era) - SignedDuration::from_secs(5)
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of Kubernetes")
}

/// The world of a claim as the product sees it.
pub(crate) fn world(
    view: &View,
    class: Class,
    templates: &[Template],
    origins: &[String],
) -> World {
    let claim = object(target_object(&view.target, class, origins));
    let storage_class = object(json!({
        "metadata": {"name": CLASS},
        "provisioner": if class.in_tree { "kubernetes.io/gce-pd" } else { "csi.example.org" },
        "volumeBindingMode": if class.waits { "WaitForFirstConsumer" } else { "Immediate" },
    }));
    let class = model::StorageClass::from_object(&storage_class).expect("a class");
    let nodes = view
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.exists);
    let nodes: Vec<model::Node> = nodes.map(|(index, node)| node_of(index, *node)).collect();
    World {
        claim: model::Claim::from_object(&claim).expect("a target"),
        populator: view.resource.map_or(Lookup::Missing, |disk| {
            Lookup::Found(populator(view.target.user, disk))
        }),
        grant: Grant::NotNeeded,
        class: Lookup::Found(class),
        temporary: view.temporary.as_ref().map(|temporary| {
            let object = object(temporary_object(temporary));
            model::TemporaryClaim::from_object(&object).expect("a temporary claim")
        }),
        pod: view.pod.as_ref().map(|pod| {
            let template = &templates[usize::from(pod.template)];
            let object = pod_object(pod, template, view.is_broken || template.is_wrong);
            model::Pod::from_object(&object).expect("a pod")
        }),
        pod_warning: None,
        is_short_of_quota: view.is_short,
        provisioning_warning: None,
        volume: view.volume.as_ref().map(|volume| {
            let object = object(volume_object(volume));
            model::Volume::from_object(&object).expect("a volume")
        }),
        nodes: Nodes::Known(nodes.into()),
    }
}

fn populator(user: usize, disk: Disk) -> PopulatorSpec {
    let spec: OvirtVolumePopulatorSpec = object(json!({
        "engineUrl": "https://engine.example.org",
        "engineSecretName": "engine",
        "diskId": disk_name(disk),
    }));
    let mut resource = OvirtVolumePopulator::new(&resource_name(user), spec);
    resource.metadata.namespace = Some(NAMESPACE.to_owned());
    resource.metadata.uid = Some("uid-of-a-resource".to_owned());
    PopulatorSpec::from_ovirt(&resource).expect("a resource")
}

fn resource_name(user: usize) -> String {
    format!("disk-of-{user}")
}

fn target_object(target: &Target, class: Class, origins: &[String]) -> Value {
    let mut annotations = annotations_of(target.binding, target.node);
    if target.recreations > 0 {
        annotations.insert(
            key::RECREATIONS.to_owned(),
            target.recreations.to_string().into(),
        );
    }
    if let Some(failure) = &target.failure {
        annotations.insert(
            key::LAST_FAILURE.to_owned(),
            failure_text(failure, origins).into(),
        );
    }
    if target.retry > 0 {
        annotations.insert(key::RETRY.to_owned(), target.retry.to_string().into());
    }
    if !target.rejected.is_empty() {
        let text = rejected_text(&target.rejected);
        annotations.insert(key::REJECTED_NODES.to_owned(), text.into());
    }
    if class.bind_immediately {
        annotations.insert(key::BIND_IMMEDIATELY.to_owned(), "true".into());
    }
    if class.in_tree && (target.node.is_some() || !class.waits) {
        annotations.insert(key::MIGRATED_TO.to_owned(), "pd.csi.storage.gke.io".into());
    }
    let labels = if class.is_forklifts {
        json!({(label::MIGRATION): "m-1"})
    } else {
        json!({})
    };
    json!({
        "metadata": {
            "namespace": NAMESPACE,
            "name": format!("root-{}", target.user),
            "uid": uid(target.uid),
            "creationTimestamp": target_created(target.uid),
            "deletionTimestamp": target.terminating.then(now),
            "annotations": annotations,
            "labels": labels,
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "dataSourceRef": {
                "apiGroup": GROUP,
                "kind": "OvirtVolumePopulator",
                "name": resource_name(target.user),
            },
            "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": CLASS,
            "volumeMode": "Block",
            "volumeName": target.binding.volume.map(volume_name),
        },
        "status": {"phase": phase(target.binding)},
    })
}

fn failure_text(failure: &Failure, origins: &[String]) -> String {
    let verdict = failure.verdict.map(|(origin, retry)| Verdict {
        origin: origins[usize::from(origin)].clone(),
        retry: (retry > 0).then(|| retry.to_string()),
    });
    let failure = LastFailure {
        pod: uid(failure.pod).into(),
        at: Time(created(failure.pod, failure.old)),
        reason: failure.reason,
        message: "it failed".to_owned(),
        disruptions: failure.disruptions.into(),
        verdict,
    };
    serde_json::to_string(&failure).expect("a failure")
}

fn rejected_text(rejected: &[Rejected]) -> String {
    let all: Vec<RejectedNode> = rejected
        .iter()
        .map(|rejected| RejectedNode {
            node: node_name(rejected.node),
            at: Time(rejected_at(rejected.old)),
            count: rejected.count.into(),
        })
        .collect();
    serde_json::to_string(&all).expect("nodes")
}

/// Old enough for the longest backoff to be over, and not so old that it is forgotten.
fn rejected_at(is_old: bool) -> Timestamp {
    let age = if is_old { 30 * 60 } else { 1 };
    now() - SignedDuration::from_secs(age)
}

/// A rejection as the plan writes it.
pub(crate) fn rejected(rejected: &RejectedNode) -> Rejected {
    Rejected {
        node: number(&rejected.node),
        // More make no difference to the longest backoff.
        count: u8::try_from(rejected.count.min(3)).expect("a small number"),
        old: rejected.at.0 == rejected_at(true),
    }
}

fn annotations_of(binding: Binding, node: Option<NodeId>) -> Map<String, Value> {
    let mut annotations = Map::new();
    if binding.volume.is_some() {
        annotations.insert(key::BIND_COMPLETED.to_owned(), "yes".into());
    }
    if let Some(node) = node {
        annotations.insert(key::SELECTED_NODE.to_owned(), node_name(node).into());
    }
    annotations
}

fn phase(binding: Binding) -> &'static str {
    match binding.phase {
        Phase::Pending => "Pending",
        Phase::Bound => "Bound",
        Phase::Lost => "Lost",
    }
}

fn temporary_object(temporary: &Temporary) -> Value {
    let mut annotations = annotations_of(temporary.binding, temporary.node);
    if let Some(node) = temporary.chosen {
        annotations.insert(key::CHOSEN_NODE.to_owned(), node_name(node).into());
    }
    if let Some((pod, node)) = temporary.lost {
        let lost = json!({"pod": uid(pod), "node": node_name(node)});
        annotations.insert(key::NODE_LOST.to_owned(), lost.to_string().into());
    }
    json!({
        "metadata": {
            "namespace": NAMESPACE,
            "name": names::temporary_claim(&uid(temporary.owner)),
            "uid": uid(temporary.uid),
            "creationTimestamp": created(temporary.uid, temporary.old),
            "deletionTimestamp": temporary.terminating.map(deleted_at),
            "annotations": annotations,
            "labels": {label::POPULATED_CLAIM: uid(temporary.owner)},
            "ownerReferences": [owned_by(temporary.owner)],
        },
        "spec": {"volumeName": temporary.binding.volume.map(volume_name)},
        "status": {"phase": phase(temporary.binding)},
    })
}

fn owned_by(target: Id) -> Value {
    let uid = uid(target);
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "root", "uid": uid})
}

/// A pod as the plan created it, with what Kubernetes has added since.
fn pod_object(pod: &Pod, template: &Template, is_held_up: bool) -> core::Pod {
    let text = template.json.replace(TEMPORARY, &uid(pod.temporary));
    let mut value: Value = serde_json::from_str(&text).expect("a template");
    let metadata = &mut value["metadata"];
    metadata["uid"] = uid(pod.uid).into();
    metadata["creationTimestamp"] = created(pod.uid, pod.old).to_string().into();
    if let Some(deadline) = pod.terminating {
        metadata["deletionTimestamp"] = deleted_at(deadline).to_string().into();
        let grace = if pod.forced { 0 } else { 30 };
        metadata["deletionGracePeriodSeconds"] = grace.into();
    }
    if !pod.finalizer {
        metadata["finalizers"] = json!([]);
    }
    if let Some(node) = pod.node {
        value["spec"]["nodeName"] = node_name(node).into();
    }
    value["status"] = status_object(pod, is_held_up);
    object(value)
}

/// The end of a grace period.
fn deleted_at(deadline: Deadline) -> Timestamp {
    match deadline {
        Deadline::Ahead => now() + SignedDuration::from_secs(30),
        Deadline::Over => now() - SignedDuration::from_hours(1),
    }
}

fn status_object(pod: &Pod, is_held_up: bool) -> Value {
    let phase = match pod.phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
    };
    let reason = if pod.collected {
        "DeletionByPodGC"
    } else {
        "EvictionByEvictionAPI"
    };
    let disruption = json!({"type": "DisruptionTarget", "status": "True", "reason": reason});
    let conditions: Vec<Value> = pod.evicted.then_some(disruption).into_iter().collect();
    let is_waiting = is_held_up && pod.node.is_some() && pod.phase == PodPhase::Pending;
    let waiting = is_waiting.then(|| json!({"waiting": {"reason": "CreateContainerConfigError"}}));
    let ended = pod
        .ended
        .map(|end| json!({"terminated": ended_object(end, pod.cold)}));
    let container = ended
        .or(waiting)
        .map(|state| json!({"name": names::CONTAINER, "state": state}));
    json!({
        "phase": phase,
        "conditions": conditions,
        "containerStatuses": Vec::from_iter(container),
    })
}

fn ended_object(end: End, is_cold: bool) -> Value {
    let (exit, reason) = match end {
        End::Complete => (Some(Exit::Success), "Completed"),
        End::Silent => (None, "Completed"),
        End::Transient => (Some(Exit::SourceUnavailable), "Error"),
        End::Permanent => (Some(Exit::Credentials), "Error"),
        End::Terminated => (Some(Exit::Terminated), "Error"),
    };
    let report = exit.map(|exit| {
        let mut report = Termination::new(exit, "the mover's own words");
        report.source_bytes = Some(10 << 30);
        report.copied_bytes = if end == End::Complete { 10 << 30 } else { 0 };
        serde_json::to_string(&report).expect("a report")
    });
    json!({
        "exitCode": exit.map_or(0, |exit| i32::from(exit.code())),
        "reason": reason,
        "finishedAt": created(0, is_cold) - SignedDuration::from_mins(10),
        "message": report,
    })
}

fn volume_object(volume: &Volume) -> Value {
    let mut annotations = Map::new();
    let mut annotate = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), value.into());
        }
    };
    let from = volume
        .from
        .map(|user| format!("{NAMESPACE}/{}", resource_name(user)));
    annotate(key::POPULATED_FROM, from);
    annotate(key::POPULATED_FOR, volume.populated_for.map(uid));
    annotate(key::POPULATED_DISK, volume.disk.map(disk_name));
    annotate(
        key::BOUND_BY_CONTROLLER,
        volume.chosen.then(|| "yes".to_owned()),
    );
    let (name, owner) = match volume.owner {
        Some(Owner::Temporary { uid: temporary, of }) => {
            (names::temporary_claim(&uid(of)), Some(uid(temporary)))
        }
        Some(Owner::Target(target)) => ("root".to_owned(), Some(uid(target))),
        Some(Owner::Foreign) => ("thief".to_owned(), Some("uid-of-a-thief".to_owned())),
        None => (String::new(), None),
    };
    let reference = owner.map(|uid| json!({"namespace": NAMESPACE, "name": name, "uid": uid}));
    let affinity = volume.reach.map(|node| {
        let names = [node_name(node)];
        let expression =
            json!({"key": "kubernetes.io/hostname", "operator": "In", "values": names});
        json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
    });
    json!({
        "metadata": {
            "name": volume_name(volume.id),
            "resourceVersion": volume.version.to_string(),
            "creationTimestamp": volume_created(volume),
            "deletionTimestamp": volume.terminating.then(now),
            "annotations": annotations,
        },
        "spec": {"claimRef": reference, "nodeAffinity": affinity},
        "status": {"phase": match volume.phase {
            VolumePhase::Free => "Available",
            VolumePhase::Bound => "Bound",
            VolumePhase::Released => "Released",
        }},
    })
}

fn node_of(index: usize, node: Node) -> model::Node {
    let name = format!("node-{index}");
    let since = node
        .unready
        .map(|deadline| created(0, deadline == Deadline::Over));
    let object = object(json!({
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name},
            "creationTimestamp": created(0, true),
        },
        "spec": {"unschedulable": node.cordoned},
        "status": {"conditions": [
            {
                "type": "Ready",
                "status": if node.unready.is_none() { "True" } else { "Unknown" },
                "lastTransitionTime": since,
            },
        ]},
    }));
    model::Node::from_object(&object).expect("a node")
}
