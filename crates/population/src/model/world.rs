//! The world of one claim: everything that a plan is decided from.

use super::{Claim, Nodes, Pod, PopulatorSpec, StorageClass, TemporaryClaim, Volume};

/// What the cluster shows about one claim.
///
/// Some parts may be older than others: each comes from a watch of its own. Every action therefore
/// carries the UID or the resource version that it was decided on, and is planned again when that
/// has changed. The observer must guarantee two things. If there is a pod and no temporary claim, it
/// has read the latter from the API server, since the absence of the claim means that the pod is
/// deleted. If there is a temporary claim and no pod, it has read both, the pod first: a pod that may
/// still write is recorded on the temporary claim before it can go.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The claim that is to be populated: the target.
    pub claim: Claim,
    /// The populator resource that it refers to.
    pub populator: Lookup<PopulatorSpec>,
    /// Whether a `ReferenceGrant` allows a reference to another namespace.
    pub grant: Grant,
    /// The claim's storage class; `Missing` also when the claim names none.
    pub class: Lookup<StorageClass>,
    /// The object with the name of the temporary claim, regardless of its owner.
    pub temporary: Option<TemporaryClaim>,
    /// The object with the name of the pod, regardless of its owner.
    pub pod: Option<Pod>,
    /// The newest warning event about the pod, for one that does not start.
    pub pod_warning: Option<String>,
    /// Whether a quota of the namespace has rejected a temporary claim a short time ago.
    pub is_short_of_quota: bool,
    /// Why the temporary claim's volume was not provisioned, in the provisioner's last words.
    pub provisioning_warning: Option<String>,
    /// The volume that the claim names; if it names none, the volume that refers to the claim; if
    /// there is none, the volume that the temporary claim names.
    pub volume: Option<Volume>,
    /// The nodes of the cluster, if they may be read.
    pub nodes: Nodes,
}

/// Result of a lookup of an object that users create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The object exists and can be read.
    Found(T),
    /// There is no such object.
    Missing,
    /// The object exists and cannot be read, for this reason.
    Invalid(String),
}

/// Whether the claim may refer to its populator resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// The reference stays in the claim's namespace.
    NotNeeded,
    /// A `ReferenceGrant` in the other namespace allows it.
    Given,
    /// No grant allows it, or the cluster has no such objects.
    Missing,
}

impl<T> Lookup<T> {
    /// The object that was found.
    pub const fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            Self::Missing | Self::Invalid(_) => None,
        }
    }
}

impl World {
    /// The temporary claim, if it belongs to the claim.
    #[must_use]
    pub fn own_temporary(&self) -> Option<&TemporaryClaim> {
        self.temporary
            .as_ref()
            .filter(|temporary| temporary.owners.contains(&self.claim.uid))
    }

    /// The pod, if it belongs to the claim.
    #[must_use]
    pub fn own_pod(&self) -> Option<&Pod> {
        self.pod
            .as_ref()
            .filter(|pod| pod.owners.contains(&self.claim.uid))
    }

    /// Whether the volume's `claimRef` refers to the claim already: the one irrevocable step is
    /// done.
    #[must_use]
    pub fn is_rebound(&self) -> bool {
        let bound_to = self
            .volume
            .as_ref()
            .and_then(|volume| volume.claim.as_ref());
        bound_to.is_some_and(|claim| claim.uid == self.claim.uid)
    }
}
