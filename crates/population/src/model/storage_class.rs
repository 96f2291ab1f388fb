//! Storage classes: how volumes are provisioned.

use k8s_openapi::api::storage::v1::StorageClass as Object;

/// A storage class, as far as it decides when and by which driver volumes are provisioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageClass {
    /// Name of the class.
    pub name: String,
    /// Name of the driver that provisions the volumes.
    pub provisioner: String,
    /// When volumes are provisioned.
    pub binding: Binding,
}

/// When volumes are provisioned (`volumeBindingMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// As soon as the claim exists.
    Immediate,
    /// When the scheduler has chosen a node for a pod that uses the claim.
    WaitForFirstConsumer,
}

impl StorageClass {
    /// Converts the object, if it has a name.
    #[must_use]
    pub fn from_object(object: &Object) -> Option<Self> {
        Some(Self {
            name: object.metadata.name.clone()?,
            provisioner: object.provisioner.clone(),
            binding: match object.volume_binding_mode.as_deref() {
                Some("WaitForFirstConsumer") => Binding::WaitForFirstConsumer,
                _ => Binding::Immediate,
            },
        })
    }

    /// Whether the provisioner is compiled into Kubernetes, and so knows nothing of populators.
    #[must_use]
    pub fn is_in_tree(&self) -> bool {
        self.provisioner.starts_with("kubernetes.io/")
    }

    /// Whether the class has no provisioner at all: an administrator creates its volumes.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.provisioner == "kubernetes.io/no-provisioner"
    }
}
