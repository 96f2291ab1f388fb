//! All that one decision is made from.

use super::{Claim, Nodes, Pod, PopulatorSpec, StorageClass, TemporaryClaim, Volume};

/// What the cluster shows about one claim.
///
/// Parts may be older than others: each comes from a watch of its own. Every action therefore carries the
/// UID or the version that it was decided on, and is decided anew when that has passed. One thing is asked
/// of whoever fills this in: where there is a pod and no temporary claim, the API server is asked once more
/// for the latter, since its absence condemns the pod.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The claim that is to be populated: the target.
    pub claim: Claim,
    /// The populator resource that it refers to.
    pub populator: Lookup<PopulatorSpec>,
    /// Whether a reference to another namespace is granted.
    pub grant: Grant,
    /// The claim's storage class; `Missing` also when the claim names none.
    pub class: Lookup<StorageClass>,
    /// The object with the name of the temporary claim, whosever it is.
    pub temporary: Option<TemporaryClaim>,
    /// The object with the name of the pod, whosever it is.
    pub pod: Option<Pod>,
    /// The newest warning that others wrote about the pod, for one that does not start.
    pub pod_warning: Option<String>,
    /// The volume that the claim names. Where it names none: the one that refers to the claim; without one, that which
    /// the temporary claim names.
    pub volume: Option<Volume>,
    /// The cluster's nodes.
    pub nodes: Nodes,
}

/// The outcome of looking for an object that others make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It is not there.
    Missing,
    /// It is there and cannot be read, for this reason.
    Invalid(String),
}

/// Whether the claim may refer to where it refers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// The reference stays in the claim's namespace.
    NotNeeded,
    /// A `ReferenceGrant` in the other namespace allows it.
    Given,
    /// None does, or there are no such objects in this cluster.
    Missing,
}

impl<T> Lookup<T> {
    /// What was found.
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
        let owns = |found: &&TemporaryClaim| found.owners.contains(&self.claim.uid);
        self.temporary.as_ref().filter(owns)
    }

    /// The pod, if it belongs to the claim.
    #[must_use]
    pub fn own_pod(&self) -> Option<&Pod> {
        let owns = |found: &&Pod| found.owners.contains(&self.claim.uid);
        self.pod.as_ref().filter(owns)
    }

    /// Whether the volume's reference points at the claim already: the one irrevocable step was made.
    #[must_use]
    pub fn is_rebound(&self) -> bool {
        let bound_to = self
            .volume
            .as_ref()
            .and_then(|volume| volume.claim.as_ref());
        bound_to.is_some_and(|claim| claim.uid == self.claim.uid)
    }
}
