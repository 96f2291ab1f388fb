//! The claim that the pod fills.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use populator_api::names::{annotation as key, label as label_key};
use serde::{Deserialize, Serialize};

use super::{ClaimPhase, Uid, annotation, created, label, owning_claims};

/// A claim with the name of a temporary claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryClaim {
    /// Name of the claim.
    pub name: String,
    /// UID of the claim.
    pub uid: Uid,
    /// UIDs of the claims that own it; without the target's among them it is not ours.
    pub owners: Vec<Uid>,
    /// When it was created, which is when the population started.
    pub created: Timestamp,
    /// Whether it carries the label that our watches select.
    pub is_labelled: bool,
    /// Since when it is being deleted.
    pub terminating: Option<Timestamp>,
    /// Phase, as the binding controller of Kubernetes reports it.
    pub phase: ClaimPhase,
    /// The volume that it is bound to, or was.
    pub volume: Option<String>,
    /// The node that its volume is provisioned for; a provisioner that cannot provision it there
    /// removes it.
    pub selected_node: Option<String>,
    /// The node that it was created for, if its class waits for a consumer that has a node.
    pub chosen_node: Option<String>,
    /// The pod that may write to the volume although it has disappeared.
    pub lost_pod: Option<LostPod>,
}

/// A pod whose node does not answer, as an annotation of the temporary claim records it: the pod
/// itself may disappear, by the pod garbage collector or by force, and continue to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostPod {
    /// UID of the pod.
    pub pod: Uid,
    /// Name of its node, for messages.
    pub node: String,
}

impl TemporaryClaim {
    /// The object, if it has a name and a UID.
    #[must_use]
    pub fn from_object(object: &PersistentVolumeClaim) -> Option<Self> {
        let metadata = &object.metadata;
        let volume = object
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone());
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?.into(),
            owners: owning_claims(metadata),
            created: created(metadata),
            is_labelled: label(metadata, label_key::POPULATED_CLAIM).is_some(),
            terminating: metadata.deletion_timestamp.as_ref().map(|time| time.0),
            phase: ClaimPhase::from_object(object),
            volume: volume.filter(|name| !name.is_empty()),
            selected_node: annotation(metadata, key::SELECTED_NODE).map(str::to_owned),
            chosen_node: annotation(metadata, key::CHOSEN_NODE).map(str::to_owned),
            lost_pod: annotation(metadata, key::NODE_LOST)
                .and_then(|value| serde_json::from_str(value).ok()),
        })
    }
}
