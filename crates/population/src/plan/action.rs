//! What the controller can do. There is nothing else.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use populator_api::names::event as name;

use super::Event;
use crate::model::{LastFailure, LostPod, Volume};

/// One write, with all that is needed to make it and to refuse it when it is late.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the temporary claim. That it exists already is no success: plan again with it.
    CreateTemporaryClaim(Box<PersistentVolumeClaim>),
    /// Make the pod. That it exists already is no success: plan again with it.
    CreatePod(Box<Pod>),
    /// Give a temporary claim that Forklift made the label by which ours are watched.
    AdoptTemporaryClaim {
        /// Its name.
        name: String,
        /// Its UID, the precondition.
        uid: String,
    },
    /// Give a pod that Forklift made the label by which ours are watched.
    AdoptPod {
        /// Its name.
        name: String,
        /// Its UID, the precondition.
        uid: String,
    },
    /// Delete the pod.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID, the precondition.
        uid: String,
    },
    /// Take our finalizer from the pod: its result was taken account of, or is of no use.
    /// [`crate::objects::patch::release_pod`].
    ReleasePod {
        /// Its name.
        name: String,
        /// Its UID, a precondition.
        uid: String,
        /// Where the finalizer stands in the list, a precondition.
        position: usize,
    },
    /// Remember on the temporary claim that a pod of it is on a node that does not answer, or forget it:
    /// [`crate::objects::patch::node_lost`].
    RecordNodeLost {
        /// Name of the temporary claim.
        name: String,
        /// Its UID, the precondition.
        uid: String,
        /// The pod; nothing to forget it.
        lost: Option<LostPod>,
    },
    /// Delete the temporary claim.
    DeleteTemporaryClaim {
        /// Its name.
        name: String,
        /// Its UID, the precondition.
        uid: String,
        /// What it means.
        reason: DeleteReason,
    },
    /// Give the volume to the claim: [`crate::objects::patch::rebind`].
    RebindVolume {
        /// The volume, as it was seen; its version is a precondition.
        volume: Box<Volume>,
        /// UID of the temporary claim that it belongs to, a precondition.
        from: String,
        /// The disk or image that it holds, when the pod says so.
        disk: Option<String>,
    },
    /// Count a failed attempt: [`crate::objects::patch::record_failure`].
    RecordFailure {
        /// How often the pod will have been made anew.
        recreations: u32,
        /// The failure.
        failure: LastFailure,
    },
    /// Forget the failed attempts: [`crate::objects::patch::forget_failures`].
    ForgetFailures,
    /// Let the scheduler choose a node again: [`crate::objects::patch::clear_selected_node`].
    ClearSelectedNode {
        /// The node that does not exist any more, a precondition.
        node: String,
    },
}

/// Why a temporary claim goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteReason {
    /// The target has its volume; the work is done.
    Populated,
    /// Its volume is not wanted, or gone.
    Abandoned,
}

impl Action {
    /// What the claim's owner is told when the action has succeeded.
    #[must_use]
    pub fn announcement(&self) -> Option<Event> {
        match self {
            Self::CreatePod(pod) => {
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                Some(Event::normal(
                    name::CREATED,
                    &format!("made the pod {pod}, which fills the volume"),
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
            } => {
                let message = format!(
                    "{}; attempt {} follows",
                    failure.message,
                    recreations.saturating_add(1)
                );
                Some(Event::warning(name::RETRYING, &message))
            }
            Self::ClearSelectedNode { node } => {
                let message = format!("the node {node} is gone; the scheduler chooses another one");
                Some(Event::warning(name::NODE_GONE, &message))
            }
            Self::CreateTemporaryClaim(_)
            | Self::AdoptTemporaryClaim { .. }
            | Self::AdoptPod { .. }
            | Self::DeletePod { .. }
            | Self::ReleasePod { .. }
            | Self::RecordNodeLost { .. }
            | Self::DeleteTemporaryClaim { .. }
            | Self::RebindVolume { .. }
            | Self::ForgetFailures => None,
        }
    }

    /// Whether the action starts nothing, so that it is done also where there is no slot for what the plan would start.
    pub(super) const fn needs_no_slot(&self) -> bool {
        match self {
            Self::AdoptTemporaryClaim { .. }
            | Self::AdoptPod { .. }
            | Self::ReleasePod { .. }
            | Self::RecordNodeLost { .. } => true,
            Self::CreateTemporaryClaim(_)
            | Self::CreatePod(_)
            | Self::DeletePod { .. }
            | Self::DeleteTemporaryClaim { .. }
            | Self::RebindVolume { .. }
            | Self::RecordFailure { .. }
            | Self::ForgetFailures
            | Self::ClearSelectedNode { .. } => false,
        }
    }

    /// Reason of the event with which a failure of the action is reported, where its owner can do
    /// something about it (a quota, a policy, a missing service account).
    #[must_use]
    pub const fn failure_reason(&self) -> Option<&'static str> {
        match self {
            Self::CreateTemporaryClaim(_) => Some(name::CLAIM_CREATION_ERROR),
            Self::CreatePod(_) => Some(name::CREATION_ERROR),
            Self::AdoptTemporaryClaim { .. }
            | Self::AdoptPod { .. }
            | Self::DeletePod { .. }
            | Self::ReleasePod { .. }
            | Self::RecordNodeLost { .. }
            | Self::DeleteTemporaryClaim { .. }
            | Self::RebindVolume { .. }
            | Self::RecordFailure { .. }
            | Self::ForgetFailures
            | Self::ClearSelectedNode { .. } => None,
        }
    }
}
