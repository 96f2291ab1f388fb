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

use super::{Quantity, annotation, created, label};

/// A claim with a `dataSourceRef`.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as the cluster shows it"
)]
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Namespace of the claim, and of all that is made for it.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
    /// UID of the claim; names of the objects that are made for it come from it.
    pub uid: String,
    /// When the claim was made.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// What it is to be filled from.
    pub reference: Reference,
    /// Forklift's labels, which the temporary claim gets too.
    pub labels: BTreeMap<String, String>,

    /// Storage class; `Some("")` means "no provisioning", `None` "whatever the default is or will be".
    pub class: Option<String>,
    /// Access modes.
    pub access_modes: Vec<String>,
    /// What the user asks for, by resource.
    pub requests: BTreeMap<String, String>,
    /// What the volume may have at most, by resource.
    pub limits: BTreeMap<String, String>,
    /// Block or filesystem.
    pub mode: VolumeMode,
    /// Class of the volume's attributes.
    pub attributes_class: Option<String>,
    /// Whether volumes are chosen by label.
    pub has_selector: bool,

    /// The volume that the claim is bound to, or that the user asked for.
    pub volume: Option<String>,
    /// Whether Kubernetes has bound the claim to that volume; its phase follows.
    pub bind_completed: bool,
    /// Phase of the claim.
    pub phase: ClaimPhase,
    /// The node that the scheduler chose for the first consumer.
    pub selected_node: Option<String>,
    /// Whether the claim is to be bound without a consumer.
    pub bind_immediately: bool,
    /// Whether a CSI driver serves the claim's in-tree storage class.
    pub migrated_to_csi: bool,

    /// Service account for the pod.
    pub service_account: Option<String>,
    /// Whether the image's bytes are wanted as they are.
    pub verbatim: bool,
    /// Attempts that failed so far.
    pub attempts: Attempts,
    /// A new value asks for a new attempt after a permanent failure.
    pub retry: Option<String>,
}

/// A `dataSourceRef`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// API group; empty for the core.
    pub group: String,
    /// Kind, as it is written.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace, where it is not the claim's.
    pub namespace: Option<String>,
}

/// How the volume appears in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeMode {
    /// A device.
    Block,
    /// A file system, with the disk as a file.
    Filesystem,
}

/// Phase of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimPhase {
    /// Not bound.
    Pending,
    /// Bound to a volume.
    Bound,
    /// Bound to a volume that is gone or points elsewhere.
    Lost,
}

/// What was tried.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attempts {
    /// How often the pod was made anew because of a failure (annotation `recreations`).
    pub recreations: u32,
    /// The last failure that is counted in there.
    pub last_failure: Option<LastFailure>,
}

/// A failed attempt, as it is kept in an annotation of the claim while there is no pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastFailure {
    /// UID of the pod, so that no failure is counted twice.
    pub pod: String,
    /// When it was counted; the next attempt's pause begins here.
    pub at: Time,
    /// Why it failed, in one word.
    pub reason: Reason,
    /// Why it failed, in a sentence.
    pub message: String,
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
            let owned = map.unwrap_or_default().into_iter();
            owned.map(|(name, quantity)| (name, quantity.0)).collect()
        };
        let is_true = |name| annotation(metadata, name) == Some("true");
        let labels = [label_key::MIGRATION, label_key::PLAN, label_key::VM_ID];
        let copied = |name: &str| Some((name.to_owned(), label(metadata, name)?.to_owned()));
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            created: created(metadata),
            terminating: metadata.deletion_timestamp.is_some(),
            reference: Reference {
                group: reference.api_group.clone().unwrap_or_default(),
                kind: reference.kind.clone(),
                name: reference.name.clone(),
                namespace: reference.namespace.clone().filter(|name| !name.is_empty()),
            },
            labels: labels.into_iter().filter_map(copied).collect(),
            class: spec.storage_class_name.clone(),
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            requests: quantities(resources.requests),
            limits: quantities(resources.limits),
            mode: match spec.volume_mode.as_deref() {
                Some("Block") => VolumeMode::Block,
                _ => VolumeMode::Filesystem,
            },
            attributes_class: spec.volume_attributes_class_name.clone(),
            has_selector: spec.selector.is_some(),
            volume: spec.volume_name.clone().filter(|name| !name.is_empty()),
            bind_completed: annotation(metadata, key::BIND_COMPLETED).is_some(),
            phase: ClaimPhase::from_object(object),
            selected_node: annotation(metadata, key::SELECTED_NODE).map(str::to_owned),
            bind_immediately: annotation(metadata, key::BIND_IMMEDIATELY)
                .is_some_and(|value| value != "false")
                || annotation(metadata, key::CDI_BIND_IMMEDIATELY)
                    .is_some_and(|value| value != "false"),
            migrated_to_csi: annotation(metadata, key::MIGRATED_TO).is_some(),
            service_account: annotation(metadata, key::SERVICE_ACCOUNT).map(str::to_owned),
            verbatim: is_true(key::REQUIRES_CONVERSION),
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
