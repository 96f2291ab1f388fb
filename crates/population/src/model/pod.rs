//! Populator pods.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use populator_api::names::{self, annotation as key, label as label_key};

use super::{annotation, created, label, owning_claims};

/// An object with the name of a populator pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// UIDs of the claims that own it; without the target's it is somebody else's.
    pub owners: Vec<String>,
    /// Whether it carries the label by which such objects are watched.
    pub is_labelled: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it is to be gone, for one that is being deleted.
    pub terminating: Option<Timestamp>,
    /// Whether it is being deleted without waiting for its node's word (`kubectl delete --force`, or the pod garbage
    /// collector).
    pub forced: bool,
    /// Where our finalizer stands among the pod's, for one whose result is still held.
    pub finalizer: Option<usize>,
    /// Phase.
    pub phase: PodPhase,

    /// UID of the temporary claim that it was made for. Forklift's pods do not say.
    pub temporary_claim: Option<String>,
    /// The value of the claim's annotation that it was made for.
    pub retry: Option<String>,
    /// Arguments of the mover.
    pub arguments: Vec<String>,
    /// Secondary networks.
    pub networks: Option<String>,
    /// The one among them that it was made for. Forklift's pods do not say.
    pub transfer_network: Option<String>,
    /// The node that it may run on only.
    pub pinned_to: Option<String>,
    /// The node that it was given.
    pub node: Option<String>,

    /// Where its metrics are, while it runs.
    pub address: Option<IpAddr>,

    /// Why it has no node, for one that the scheduler cannot place.
    pub unschedulable: Option<String>,
    /// Why its container waits.
    pub waiting: Option<String>,
    /// Why the node ended it, or never started it.
    pub evicted: Option<String>,
    /// Whether the pod garbage collector declared it failed, which knows nothing of what the pod does.
    pub collected: bool,
    /// How its container ended.
    pub ended: Option<Ended>,
}

/// Phase of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Not started.
    Pending,
    /// Running, or nobody knows.
    Running,
    /// Ended with 0.
    Succeeded,
    /// Ended otherwise.
    Failed,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub exit_code: i32,
    /// When, by the node's clock.
    pub at: Option<Timestamp>,
    /// The kubelet's word, such as `OOMKilled`.
    pub reason: String,
    /// The termination message.
    pub message: String,
}

impl Pod {
    /// The pod, if it has a name and a UID.
    #[must_use]
    pub fn from_object(object: &core::Pod) -> Option<Self> {
        let metadata = &object.metadata;
        let spec = object.spec.as_ref();
        let status = object.status.clone().unwrap_or_default();
        let containers = spec
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default();
        let mover = containers
            .iter()
            .find(|container| container.name == names::CONTAINER);
        let mover_status = status.container_statuses.unwrap_or_default();
        let state = mover_status
            .into_iter()
            .find(|container| container.name == names::CONTAINER)
            .and_then(|container| container.state)
            .unwrap_or_default();
        let condition = |type_: &str, value: &str| {
            let mut conditions = status.conditions.iter().flatten();
            let found = conditions
                .find(|condition| condition.type_ == type_ && condition.status == value)?;
            Some(sentence(found.reason.as_deref(), found.message.as_deref()))
        };
        let disruption = condition("DisruptionTarget", "True");
        let collected = status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "DisruptionTarget"
                && condition.reason.as_deref() == Some("DeletionByPodGC")
        });
        let told = status.reason.is_some() || status.message.is_some();
        let told = told.then(|| sentence(status.reason.as_deref(), status.message.as_deref()));
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            owners: owning_claims(metadata),
            is_labelled: label(metadata, label_key::POPULATED_CLAIM).is_some(),
            created: created(metadata),
            terminating: metadata.deletion_timestamp.as_ref().map(|time| time.0),
            forced: metadata.deletion_timestamp.is_some()
                && metadata.deletion_grace_period_seconds == Some(0),
            finalizer: metadata
                .finalizers
                .iter()
                .flatten()
                .position(|finalizer| finalizer == names::RESULT_FINALIZER),
            phase: match status.phase.as_deref() {
                Some("Running" | "Unknown") => PodPhase::Running,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Failed") => PodPhase::Failed,
                _ => PodPhase::Pending,
            },
            temporary_claim: annotation(metadata, key::TEMPORARY_CLAIM).map(str::to_owned),
            retry: annotation(metadata, key::RETRY).map(str::to_owned),
            arguments: mover
                .and_then(|mover| mover.args.clone())
                .unwrap_or_default(),
            networks: annotation(metadata, key::NETWORKS).map(str::to_owned),
            transfer_network: annotation(metadata, key::TRANSFER_NETWORK).map(str::to_owned),
            pinned_to: spec.and_then(pin),
            node: spec.and_then(|spec| spec.node_name.clone()),
            address: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
            unschedulable: condition("PodScheduled", "False"),
            waiting: state
                .waiting
                .map(|waiting| sentence(waiting.reason.as_deref(), waiting.message.as_deref())),
            evicted: disruption.or(told),
            collected,
            ended: state.terminated.map(|ended| Ended {
                exit_code: ended.exit_code,
                at: ended.finished_at.map(|time| time.0),
                reason: ended.reason.unwrap_or_default(),
                message: ended.message.unwrap_or_default(),
            }),
        })
    }

    /// The value of one of the mover's flags, in any of the forms that Go's and our parser take.
    #[must_use]
    pub fn argument(&self, flag: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            let bare = argument.trim_start_matches('-');
            if bare.len() == argument.len() {
                continue;
            }
            match bare.split_once('=') {
                Some((name, value)) if name == flag => return Some(value),
                None if bare == flag => return arguments.next().map(String::as_str),
                _ => {}
            }
        }
        None
    }
}

/// The node that the pod's affinity names.
fn pin(spec: &core::PodSpec) -> Option<String> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let name = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    name.values.as_ref()?.first().cloned()
}

fn sentence(reason: Option<&str>, message: Option<&str>) -> String {
    let parts = [reason, message].into_iter().flatten();
    parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_every_form() {
        let mut pod = Pod::from_object(&core::Pod {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some("p".to_owned()),
                uid: Some("u".to_owned()),
                ..Default::default()
            },
            ..Default::default()
        })
        .unwrap();
        let arguments = [
            "--disk-id=d",
            "-secret-name",
            "s",
            "--engine-url=https://e?a=b",
            "disk-id",
        ];
        pod.arguments = arguments.map(str::to_owned).to_vec();
        assert_eq!(pod.argument("disk-id"), Some("d"));
        assert_eq!(pod.argument("secret-name"), Some("s"));
        assert_eq!(pod.argument("engine-url"), Some("https://e?a=b"));
        assert_eq!(pod.argument("image-id"), None);
    }
}
