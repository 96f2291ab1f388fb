//! Every write that the controller makes for a claim; there are no others.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use populator_api::names::event as name;

use super::event::Event;
use crate::model::{LastFailure, LostPod, RejectedNode, Uid, Volume};

/// One write, with all that it needs, and the preconditions by which the API server rejects it when
/// the cluster has changed since the plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the temporary claim. If it exists already, that is no success: plan again with it.
    CreateTemporaryClaim(Box<PersistentVolumeClaim>),
    /// Create the pod. If it exists already, that is no success: plan again with it.
    CreatePod(Box<Pod>),
    /// Give a temporary claim that Forklift created the label that our watches select.
    AdoptTemporaryClaim {
        /// Name of the temporary claim.
        name: String,
        /// UID of the temporary claim, the precondition.
        uid: Uid,
    },
    /// Give a pod that Forklift created the label that our watches select.
    AdoptPod {
        /// Name of the pod.
        name: String,
        /// UID of the pod, the precondition.
        uid: Uid,
    },
    /// Delete the pod.
    DeletePod {
        /// Name of the pod.
        name: String,
        /// UID of the pod, the precondition.
        uid: Uid,
    },
    /// Declare the pod failed that has not started in time, so that others see the end:
    /// [`crate::objects::patch::fail_pod`]. Needs a permission of its own, and is left out without
    /// it.
    FailPod {
        /// Name of the pod.
        name: String,
        /// UID of the pod, the precondition.
        uid: Uid,
        /// Why, in a sentence.
        message: String,
    },
    /// Remove our finalizer from the pod, whose result was used or is of no use:
    /// [`crate::objects::patch::release_pod`].
    ReleasePod {
        /// Name of the pod.
        name: String,
        /// UID of the pod, a precondition.
        uid: Uid,
        /// Index of the finalizer in the pod's list, a precondition.
        position: usize,
    },
    /// Record on the temporary claim that its pod is on a node that does not answer, or remove the
    /// record: [`crate::objects::patch::node_lost`].
    RecordNodeLost {
        /// Name of the temporary claim.
        name: String,
        /// UID of the temporary claim, the precondition.
        uid: Uid,
        /// The pod; `None` removes the record.
        lost: Option<LostPod>,
    },
    /// Delete the temporary claim.
    DeleteTemporaryClaim {
        /// Name of the temporary claim.
        name: String,
        /// UID of the temporary claim, the precondition.
        uid: Uid,
        /// Why it is deleted, which decides what its owner learns.
        reason: DeleteReason,
    },
    /// Give the volume to the claim: [`crate::objects::patch::rebind`].
    RebindVolume {
        /// The volume as it was seen; its resource version is a precondition.
        volume: Box<Volume>,
        /// UID of the temporary claim that it belongs to, a precondition.
        from: Uid,
        /// The disk or image that the volume holds, if the pod's arguments name it.
        disk: Option<String>,
    },
    /// Count a failed attempt: [`crate::objects::patch::record_failure`].
    RecordFailure {
        /// How often the pod will have been recreated.
        recreations: u32,
        /// The failure that is counted.
        failure: LastFailure,
    },
    /// Forget the failed attempts: [`crate::objects::patch::forget_failures`].
    ForgetFailures,
    /// Let the scheduler choose a node again: [`crate::objects::patch::reject_node`].
    RejectNode {
        /// The node that cannot get the volume; that the claim names it is a precondition.
        node: String,
        /// All rejected nodes, with this one.
        rejected: Vec<RejectedNode>,
        /// What the claim's owner learns.
        event: Event,
    },
}

/// Why a temporary claim is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteReason {
    /// The target has its volume; the population is done.
    Populated,
    /// Its volume is of no use, or gone.
    Abandoned,
}

impl Action {
    /// The event for the claim's owner when the action has succeeded.
    #[must_use]
    pub fn announcement(&self) -> Option<Event> {
        match self {
            Self::CreatePod(pod) => {
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                Some(Event::normal(
                    name::CREATED,
                    &format!("created the pod {pod}, which fills the volume"),
                ))
            }
            Self::DeleteTemporaryClaim {
                reason: DeleteReason::Populated,
                ..
            } => Some(Event::normal(
                name::FINISHED,
                "the volume is populated, and the claim bound to it",
            )),
            Self::RecordFailure {
                recreations,
                failure,
            } if failure.verdict.is_none() => {
                let message = format!(
                    "{}; attempt {} follows",
                    failure.message,
                    recreations.saturating_add(1)
                );
                Some(Event::warning(name::RETRYING, &message))
            }
            Self::RejectNode { event, .. } => Some(event.clone()),
            Self::CreateTemporaryClaim(_)
            | Self::RecordFailure { .. }
            | Self::AdoptTemporaryClaim { .. }
            | Self::AdoptPod { .. }
            | Self::DeletePod { .. }
            | Self::FailPod { .. }
            | Self::ReleasePod { .. }
            | Self::RecordNodeLost { .. }
            | Self::DeleteTemporaryClaim { .. }
            | Self::RebindVolume { .. }
            | Self::ForgetFailures => None,
        }
    }

    /// Whether the rest of the plan is done although the API server rejects the action.
    #[must_use]
    pub const fn is_optional(&self) -> bool {
        matches!(self, Self::FailPod { .. })
    }

    /// Whether the action starts no work, so that it is done without a slot too.
    pub(super) const fn needs_no_slot(&self) -> bool {
        match self {
            Self::AdoptTemporaryClaim { .. }
            | Self::AdoptPod { .. }
            | Self::ReleasePod { .. }
            | Self::RecordNodeLost { .. } => true,
            Self::CreateTemporaryClaim(_)
            | Self::CreatePod(_)
            | Self::DeletePod { .. }
            | Self::FailPod { .. }
            | Self::DeleteTemporaryClaim { .. }
            | Self::RebindVolume { .. }
            | Self::RecordFailure { .. }
            | Self::ForgetFailures
            | Self::RejectNode { .. } => false,
        }
    }

    /// The event for the claim's owner when the API server rejects the action, for the reason `why`:
    /// a quota, a policy, a missing permission. The work does not go on until a user acts.
    #[must_use]
    pub fn rejected(&self, why: &str) -> Event {
        let (reason, doing) = match self {
            Self::CreateTemporaryClaim(_) => (name::CLAIM_CREATION_ERROR, None),
            Self::CreatePod(_) => (name::CREATION_ERROR, None),
            Self::RebindVolume { volume, .. } => (
                name::REJECTED,
                Some(format!("give the volume {} to the claim", volume.name)),
            ),
            Self::DeletePod { name, .. } => {
                (name::REJECTED, Some(format!("delete the pod {name}")))
            }
            Self::DeleteTemporaryClaim { name, .. } => (
                name::REJECTED,
                Some(format!("delete the temporary claim {name}")),
            ),
            Self::AdoptPod { name, .. }
            | Self::FailPod { name, .. }
            | Self::ReleasePod { name, .. } => {
                (name::REJECTED, Some(format!("change the pod {name}")))
            }
            Self::AdoptTemporaryClaim { name, .. } | Self::RecordNodeLost { name, .. } => (
                name::REJECTED,
                Some(format!("change the temporary claim {name}")),
            ),
            Self::RecordFailure { .. } | Self::ForgetFailures | Self::RejectNode { .. } => {
                (name::REJECTED, Some("change the claim".to_owned()))
            }
        };
        let message = match doing {
            Some(doing) => format!("the API server refuses to {doing}: {why}"),
            None => why.to_owned(),
        };
        Event::warning(reason, &message)
    }
}
