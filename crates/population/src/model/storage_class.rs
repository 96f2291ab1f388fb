//! How volumes come to be.

use k8s_openapi::api::storage::v1::StorageClass as Object;

/// A storage class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageClass {
    /// Name.
    pub name: String,
    /// Who makes the volumes.
    pub provisioner: String,
    /// When volumes are made.
    pub binding: Binding,
}

/// When volumes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// As soon as there is a claim.
    Immediate,
    /// When a pod that uses the claim has got a node.
    WaitForFirstConsumer,
}

impl StorageClass {
    /// The class, if it has a name.
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

    /// Whether the class has no provisioner at all: volumes are made by hand.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.provisioner == "kubernetes.io/no-provisioner"
    }
}
