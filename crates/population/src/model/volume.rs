//! Persistent volumes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolume;
use populator_api::names::annotation as key;

use super::{NodeTerm, Uid, annotation, created};

/// A persistent volume, as far as it proves whose disk it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name of the volume.
    pub name: String,
    /// Resource version that was seen.
    pub resource_version: String,
    /// When it was created.
    pub created: Timestamp,
    /// Phase, as the binding controller of Kubernetes reports it.
    pub phase: VolumePhase,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The claim that it belongs to (`spec.claimRef`).
    pub claim: Option<ClaimReference>,
    /// Namespace and name of the populator resource that filled it.
    pub populated_from: Option<String>,
    /// UID of the claim that it was filled for. Forklift's controller does not write it.
    pub populated_for: Option<Uid>,
    /// The disk or image that it holds. Forklift's controller does not write it.
    pub populated_disk: Option<String>,
    /// Whether Kubernetes chose it for its claim among available volumes.
    pub was_chosen: bool,
    /// Name of the claim that it was provisioned for, if the provisioner writes it
    /// (`--extra-create-metadata` of the external-provisioner).
    pub provisioned_for: Option<String>,
    /// Whether the object has a map of annotations, to which a JSON patch can add.
    pub is_annotated: bool,
    /// The nodes that reach it: those that any term matches; without a term, all nodes.
    pub node_terms: Vec<NodeTerm>,
}

/// Reference of a volume to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimReference {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// UID of the claim; empty for a volume that an administrator reserved by name.
    pub uid: Uid,
}

/// Phase of a volume, as far as decisions depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumePhase {
    /// Bound to the claim that it refers to.
    Bound,
    /// Pending, available, released or failed.
    Other,
}

impl Volume {
    /// The volume, if it has a name and a version.
    #[must_use]
    pub fn from_object(object: &PersistentVolume) -> Option<Self> {
        let metadata = &object.metadata;
        let spec = object.spec.as_ref()?;
        let phase = object
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let required = spec
            .node_affinity
            .as_ref()
            .and_then(|affinity| affinity.required.as_ref());
        let attributes = spec
            .csi
            .as_ref()
            .and_then(|csi| csi.volume_attributes.as_ref());
        Some(Self {
            name: metadata.name.clone()?,
            resource_version: metadata.resource_version.clone()?,
            created: created(metadata),
            phase: match phase {
                Some("Bound") => VolumePhase::Bound,
                _ => VolumePhase::Other,
            },
            terminating: metadata.deletion_timestamp.is_some(),
            claim: spec.claim_ref.as_ref().map(|claim| ClaimReference {
                namespace: claim.namespace.clone().unwrap_or_default(),
                name: claim.name.clone().unwrap_or_default(),
                uid: claim.uid.clone().unwrap_or_default().into(),
            }),
            populated_from: annotation(metadata, key::POPULATED_FROM).map(str::to_owned),
            populated_for: annotation(metadata, key::POPULATED_FOR).map(Uid::from),
            populated_disk: annotation(metadata, key::POPULATED_DISK).map(str::to_owned),
            was_chosen: annotation(metadata, key::BOUND_BY_CONTROLLER).is_some(),
            provisioned_for: attributes
                .and_then(|attributes| attributes.get("csi.storage.k8s.io/pvc/name"))
                .cloned(),
            is_annotated: metadata.annotations.is_some(),
            node_terms: required
                .map(|required| {
                    required
                        .node_selector_terms
                        .iter()
                        .map(NodeTerm::from_object)
                        .collect()
                })
                .unwrap_or_default(),
        })
    }
}
