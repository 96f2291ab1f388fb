//! What the cluster shows, as plain values.
//!
//! Each value holds what decisions need and nothing else, so that caches stay small and tests
//! describe a whole cluster in a few lines. Pure functions (`from_object`) convert Kubernetes
//! objects into them.

mod claim;
mod node;
mod pod;
mod populator;
mod quantity;
mod storage_class;
mod temporary_claim;
mod uid;
mod volume;
mod world;

pub use claim::{
    Attempts, Claim, ClaimPhase, LastFailure, Reference, RejectedNode, Verdict, VolumeMode,
};
pub use node::{Node, NodeTerm, Nodes, Requirement};
pub use pod::{Ended, Pod, PodPhase};
pub use populator::{DiskLocation, InvalidSpec, Kind, Network, OpenstackDisk, PopulatorSpec};
pub use quantity::Quantity;
pub use storage_class::{Binding, StorageClass};
pub use temporary_claim::{LostPod, TemporaryClaim};
pub use uid::Uid;
pub use volume::{ClaimReference, Volume, VolumePhase};
pub use world::{Grant, Lookup, World};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::text;

/// Longest value of an annotation that is kept, in bytes: whoever may write claims of one namespace
/// must not fill the memory of the controller, which serves all.
const MOST_ANNOTATION: usize = 8 << 10;
/// Longest name that is kept, in bytes. Kubernetes knows none that are longer than 253; a longer one
/// in a reference is cut, and names nothing.
const MOST_NAME: usize = 254;
/// Owners of an object that are looked at.
const MOST_OWNERS: usize = 16;
/// Longest sentence from the status of an object that is kept, in bytes.
const MOST_SENTENCE: usize = 1024;

/// The value of an annotation; one that is empty or too long counts as absent.
fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    let value = metadata.annotations.as_ref()?.get(key)?;
    Some(value.as_str()).filter(|value| !value.is_empty() && value.len() <= MOST_ANNOTATION)
}

fn name(text: &str) -> String {
    text::cut(text, MOST_NAME)
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// When the object was created; the Unix epoch for one without a time.
fn created(metadata: &ObjectMeta) -> Timestamp {
    let created = metadata.creation_timestamp.as_ref();
    created.map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// UIDs of the claims that own the object.
fn owning_claims(metadata: &ObjectMeta) -> Vec<Uid> {
    let owners = metadata.owner_references.iter().flatten().take(MOST_OWNERS);
    owners
        .filter(|owner| owner.kind == "PersistentVolumeClaim" && owner.api_version == "v1")
        .map(|owner| Uid::from(owner.uid.as_str()))
        .collect()
}
