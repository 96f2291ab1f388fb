//! Populator pods.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use populator_api::names::{self, annotation as key, label as label_key};

use super::{MOST_SENTENCE, Uid, annotation, created, label, owning_claims};
use crate::text;

/// Arguments of a pod that are kept, in bytes: a URL of 2048 and three names, with their flags.
const MOST_ARGUMENTS: usize = 8 << 10;
/// Longest termination message that is kept, in bytes, which is what the kubelet keeps
/// (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).
const MOST_REPORT: usize = 4 << 10;

/// A pod with the name of a populator pod.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as the cluster shows it"
)]
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: Uid,
    /// UIDs of the claims that own it; without the target's among them it is not ours.
    pub owners: Vec<Uid>,
    /// Whether it carries the label that our watches select.
    pub is_labelled: bool,
    /// When it was created.
    pub created: Timestamp,
    /// End of its grace period, for a pod that is being deleted.
    pub terminating: Option<Timestamp>,
    /// Whether it is being deleted without waiting for its node (`kubectl delete --force`, or the
    /// pod garbage collector).
    pub forced: bool,
    /// Index of our finalizer among the pod's, for one whose result is still held.
    pub finalizer: Option<usize>,
    /// Phase, as the kubelet or another part of Kubernetes reports it.
    pub phase: PodPhase,

    /// UID of the temporary claim that it was created for. Forklift's pods do not carry it.
    pub temporary_claim: Option<Uid>,
    /// Value of the claim's retry annotation when it was created.
    pub retry: Option<String>,
    /// What the claim said about how the mover copies when the pod was created.
    pub claim_settings: Option<String>,
    /// Arguments of the mover's container.
    pub arguments: Vec<String>,
    /// Secondary networks, as the annotation lists them.
    pub networks: Option<String>,
    /// The one among them that the resource named. Forklift's pods do not carry it.
    pub transfer_network: Option<String>,
    /// Digest of the spec that it was created with. Forklift's pods do not carry it.
    pub spec_hash: Option<String>,
    /// The node that the scheduler chose.
    pub node: Option<String>,

    /// IP address, at which its metrics are served while it runs.
    pub address: Option<IpAddr>,

    /// Why the scheduler finds no node for it.
    pub unschedulable: Option<String>,
    /// Why its container waits, in the kubelet's words.
    pub waiting: Option<String>,
    /// Why the node, or the cluster, ended it or never started it.
    pub evicted: Option<String>,
    /// Whether this controller declared it failed, since it did not start in time.
    pub is_overdue: bool,
    /// Whether the pod garbage collector declared it failed, without knowing what the pod does.
    pub collected: bool,
    /// How its container ended.
    pub ended: Option<Ended>,
}

/// Phase of a pod, with `Unknown` as running: it proves no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Not started yet.
    Pending,
    /// Running, or unknown.
    Running,
    /// Every container has ended with 0.
    Succeeded,
    /// A container has ended otherwise, or the pod was ended.
    Failed,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Exit code of the process.
    pub exit_code: i32,
    /// When it ended, by the node's clock.
    pub at: Option<Timestamp>,
    /// Reason that the kubelet gives, such as `OOMKilled`.
    pub reason: String,
    /// Termination message: the mover's report, or the end of its log.
    pub message: String,
}

impl Pod {
    /// The pod, if it has a name and a UID.
    #[must_use]
    pub fn from_object(object: &core::Pod) -> Option<Self> {
        let metadata = &object.metadata;
        let spec = object.spec.as_ref();
        let status = object.status.clone().unwrap_or_default();
        // A webhook may have added containers: only the mover's counts.
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
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let disruption = explanation(conditions, "DisruptionTarget", "True");
        let collected = conditions.iter().any(|condition| {
            condition.type_ == "DisruptionTarget"
                && condition.reason.as_deref() == Some("DeletionByPodGC")
        });
        let is_overdue = status.reason.as_deref() == Some(names::START_DEADLINE);
        let rejected = status.reason.is_some() || status.message.is_some();
        let rejection =
            rejected.then(|| sentence(status.reason.as_deref(), status.message.as_deref()));
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?.into(),
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
                // The pod is Pending as long as any container is, such as one that a webhook has
                // added; the mover may be copying.
                _ if state.running.is_some() => PodPhase::Running,
                _ => PodPhase::Pending,
            },
            temporary_claim: annotation(metadata, key::TEMPORARY_CLAIM).map(Uid::from),
            retry: annotation(metadata, key::RETRY).map(str::to_owned),
            claim_settings: annotation(metadata, key::CLAIM_SETTINGS).map(str::to_owned),
            arguments: arguments(mover),
            networks: annotation(metadata, key::NETWORKS).map(str::to_owned),
            transfer_network: annotation(metadata, key::TRANSFER_NETWORK).map(str::to_owned),
            spec_hash: annotation(metadata, key::SPEC_HASH).map(str::to_owned),
            node: spec.and_then(|spec| spec.node_name.as_deref().map(super::name)),
            address: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
            unschedulable: explanation(conditions, "PodScheduled", "False"),
            waiting: state
                .waiting
                .map(|waiting| sentence(waiting.reason.as_deref(), waiting.message.as_deref())),
            evicted: disruption.or(rejection),
            is_overdue,
            collected,
            ended: state.terminated.map(|ended| Ended {
                exit_code: ended.exit_code,
                at: ended.finished_at.map(|time| time.0),
                reason: super::name(&ended.reason.unwrap_or_default()),
                message: text::cut(&ended.message.unwrap_or_default(), MOST_REPORT),
            }),
        })
    }

    /// Whether the kubelet says why the mover's container waits, other than that it is being
    /// created.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let routine = ["ContainerCreating", "PodInitializing"];
        self.waiting
            .as_deref()
            .is_some_and(|why| !routine.contains(&why))
    }

    /// The value of one of the mover's flags, in any form that Go's parser and ours accept.
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

/// What a condition of this type and status says.
fn explanation(conditions: &[core::PodCondition], type_: &str, status: &str) -> Option<String> {
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status)?;
    Some(sentence(found.reason.as_deref(), found.message.as_deref()))
}

fn sentence(reason: Option<&str>, message: Option<&str>) -> String {
    let parts = [reason, message].into_iter().flatten();
    let sentence = parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    text::cut(&sentence, MOST_SENTENCE)
}

/// The arguments as the mover gets them: the kubelet replaces `$(NAME)` by a variable's value, and `$$`
/// by one `$`.
fn arguments(mover: Option<&core::Container>) -> Vec<String> {
    let all = mover.and_then(|mover| mover.args.as_deref());
    let mut room = MOST_ARGUMENTS;
    all.unwrap_or_default()
        .iter()
        .map_while(|argument| {
            room = room.checked_sub(argument.len())?;
            Some(argument.replace("$$", "$"))
        })
        .collect()
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
