//! The claim that is to be populated.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::PersistentVolumeClaim,
    apimachinery::pkg::{api::resource, apis::meta::v1::Time},
};
use populator_api::{
    Reason,
    names::{annotation as key, label as label_key},
};
use serde::{Deserialize, Serialize};

use super::{Kind, Quantity, Uid, annotation, created, label};
use crate::settings::{InvalidSetting, MoverSettings};

/// A claim with a `dataSourceRef`.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as the cluster shows it"
)]
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Namespace of the claim, and of all objects that are created for it.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// UID of the claim; the objects that are created for it are named after it.
    pub uid: Uid,
    /// When the claim was created.
    pub created: Timestamp,
    /// Whether the claim is being deleted.
    pub terminating: bool,
    /// The populator resource to fill it from (`spec.dataSourceRef`).
    pub reference: Reference,
    /// Forklift's labels, which are copied to the temporary claim.
    pub labels: BTreeMap<String, String>,

    /// Storage class; `Some("")` means no provisioning, `None` the default class, present or
    /// future.
    pub class: Option<String>,
    /// Access modes, as Kubernetes writes them (`ReadWriteOnce`).
    pub access_modes: Vec<String>,
    /// What the volume must have at least, by resource (`storage`), as quantities.
    pub requests: BTreeMap<String, String>,
    /// What the volume may have at most, by resource, as quantities.
    pub limits: BTreeMap<String, String>,
    /// Whether the pod sees the volume as a device or as a file system.
    pub mode: VolumeMode,
    /// Name of the `VolumeAttributesClass`.
    pub attributes_class: Option<String>,
    /// Whether `spec.selector` chooses a volume by its labels.
    pub has_selector: bool,

    /// The volume that the claim is bound to, or that the user asked for by name.
    pub volume: Option<String>,
    /// Whether Kubernetes has bound the claim to that volume; the phase follows later.
    pub bind_completed: bool,
    /// Phase of the claim, as the binding controller of Kubernetes reports it.
    pub phase: ClaimPhase,
    /// The node that the scheduler chose for the first consumer.
    pub selected_node: Option<String>,
    /// Nodes that could not get the volume.
    pub rejected_nodes: Vec<RejectedNode>,
    /// Whether an annotation asks for binding without a consumer.
    pub bind_immediately: bool,
    /// Whether a CSI driver serves the claim's in-tree storage class.
    pub migrated_to_csi: bool,

    /// Service account for the pod; `None` for the namespace's default.
    pub service_account: Option<String>,
    /// Secret for a populator resource of another namespace, which cannot name one of this.
    pub secret: Option<String>,
    /// Whether the image is copied without conversion, byte for byte.
    pub verbatim: bool,
    /// How the mover copies, where the claim's annotations say so.
    pub mover: Result<MoverSettings, InvalidSetting>,
    /// The attempts that have failed so far.
    pub attempts: Attempts,
    /// The retry annotation: a new value requests another attempt after a permanent failure.
    pub retry: Option<String>,
}

/// A `dataSourceRef` of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind, as the user wrote it; it may be unknown.
    pub kind: String,
    /// Name of the resource.
    pub name: String,
    /// Namespace, if it is not the claim's.
    pub namespace: Option<String>,
}

/// How the volume appears in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeMode {
    /// The pod sees a block device.
    Block,
    /// The pod sees a file system, with the disk as a file in it.
    Filesystem,
}

/// Phase of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimPhase {
    /// Not bound yet.
    Pending,
    /// Bound to its volume.
    Bound,
    /// Was bound to a volume that is gone or refers to another claim.
    Lost,
}

/// Failed attempts, as annotations of the claim count them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attempts {
    /// How often the pod was recreated because of a failure (annotation `recreations`).
    pub recreations: u32,
    /// The last failure that is included in that count.
    pub last_failure: Option<LastFailure>,
}

/// A failed attempt, as it is kept in an annotation of the claim while there is no pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastFailure {
    /// UID of the failed pod, so that no failure is counted twice.
    pub pod: Uid,
    /// When it was counted; the backoff before the next attempt starts here.
    pub at: Time,
    /// Why the attempt failed, in one word.
    pub reason: Reason,
    /// Why the attempt failed, in a sentence.
    pub message: String,
    /// How many pods the cluster has ended so far, which are no failed attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disruptions: u32,
    /// For a failure that is the last word: what the pod was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What a pod was created from that failed for good. The failure stands until one of these changes,
/// whatever becomes of the pod: a cleaner that deletes it must not cause another attempt with the
/// same wrong password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Digest of what the resource and the claim said: [`crate::objects::origin`].
    pub origin: String,
    /// Value of the claim's retry annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
}

/// A node that could not get the claim's volume, as an annotation of the claim keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedNode {
    /// Name of the node.
    pub node: String,
    /// When it was rejected last.
    pub at: Time,
    /// How often it was rejected, for the backoff.
    pub count: u32,
}

/// Requests and limits of a claim that are kept; Kubernetes knows one, `storage`.
const MOST_QUANTITIES: usize = 16;

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "in the form that serde calls"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Claim {
    /// The claim, if it has a `dataSourceRef`, a name, a namespace and a UID.
    #[must_use]
    pub fn from_object(object: &PersistentVolumeClaim) -> Option<Self> {
        let metadata = &object.metadata;
        let spec = object.spec.as_ref()?;
        let reference = spec.data_source_ref.as_ref()?;
        let resources = spec.resources.clone().unwrap_or_default();
        let quantities = |map: Option<BTreeMap<String, resource::Quantity>>| {
            let owned = map.unwrap_or_default().into_iter().take(MOST_QUANTITIES);
            owned.map(|(name, quantity)| (name, quantity.0)).collect()
        };
        let labels = [label_key::MIGRATION, label_key::PLAN, label_key::VM_ID];
        let copied = |name: &str| Some((name.to_owned(), label(metadata, name)?.to_owned()));
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?.into(),
            created: created(metadata),
            terminating: metadata.deletion_timestamp.is_some(),
            reference: Reference {
                group: reference.api_group.clone().unwrap_or_default(),
                kind: super::name(&reference.kind),
                name: super::name(&reference.name),
                namespace: reference
                    .namespace
                    .as_deref()
                    .filter(|name| !name.is_empty())
                    .map(super::name),
            },
            labels: labels.into_iter().filter_map(copied).collect(),
            // The annotation, which Kubernetes has deprecated and still honours, comes first, as in
            // its own `GetPersistentVolumeClaimClass`.
            class: metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(key::BETA_STORAGE_CLASS))
                .or(spec.storage_class_name.as_ref())
                .map(|class| super::name(class)),
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            requests: quantities(resources.requests),
            limits: quantities(resources.limits),
            mode: match spec.volume_mode.as_deref() {
                Some("Block") => VolumeMode::Block,
                _ => VolumeMode::Filesystem,
            },
            attributes_class: spec.volume_attributes_class_name.clone(),
            has_selector: spec.selector.is_some(),
            volume: spec
                .volume_name
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(super::name),
            bind_completed: annotation(metadata, key::BIND_COMPLETED).is_some(),
            phase: ClaimPhase::from_object(object),
            selected_node: annotation(metadata, key::SELECTED_NODE).map(str::to_owned),
            rejected_nodes: annotation(metadata, key::REJECTED_NODES)
                .and_then(|value| serde_json::from_str(value).ok())
                .unwrap_or_default(),
            bind_immediately: [key::BIND_IMMEDIATELY, key::CDI_BIND_IMMEDIATELY]
                .into_iter()
                .filter_map(|name| annotation(metadata, name))
                .any(|value| value != "false"),
            migrated_to_csi: annotation(metadata, key::MIGRATED_TO).is_some(),
            service_account: annotation(metadata, key::SERVICE_ACCOUNT).map(super::name),
            secret: annotation(metadata, key::SECRET).map(super::name),
            verbatim: annotation(metadata, key::REQUIRES_CONVERSION) == Some("true"),
            mover: MoverSettings::of_claim(
                metadata.annotations.iter().flatten(),
                Kind::from_name(&reference.kind),
            ),
            attempts: Attempts {
                recreations: annotation(metadata, key::RECREATIONS)
                    .and_then(|value| value.parse().ok())
                    .unwrap_or_default(),
                last_failure: annotation(metadata, key::LAST_FAILURE)
                    .and_then(|value| serde_json::from_str(value).ok()),
            },
            retry: annotation(metadata, key::RETRY).map(str::to_owned),
        })
    }

    /// The size that the user asks for, in bytes.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        Quantity::parse(self.requests.get("storage")?)?.bytes()
    }

    /// Whether a migration of Forklift's has created it.
    #[must_use]
    pub fn is_of_forklift(&self) -> bool {
        self.labels.contains_key(label_key::MIGRATION)
    }

    /// Namespace of the populator resource.
    #[must_use]
    pub fn populator_namespace(&self) -> &str {
        self.reference
            .namespace
            .as_deref()
            .unwrap_or(&self.namespace)
    }
}

impl ClaimPhase {
    pub(super) fn from_object(object: &PersistentVolumeClaim) -> Self {
        let phase = object
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        match phase {
            Some("Bound") => Self::Bound,
            Some("Lost") => Self::Lost,
            _ => Self::Pending,
        }
    }
}
