//! The objects that are created, and the patches that are sent.
//!
//! Forklift's Migration Controller finds these objects by name and label and reads the pod's
//! metrics, so their form is a contract: `tests/golden` holds each as JSON.

mod digest;
pub mod patch;
mod pod;
mod temporary_claim;

pub use pod::{
    SECRET_FOLDER, disk_argument, disk_arguments, network_annotation, origin, pod,
    verbatim_argument,
};
pub use temporary_claim::temporary_claim;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::model::Claim;

/// An owner reference to the claim, so that the garbage collector deletes the object with it.
///
/// Without `blockOwnerDeletion`, which `OpenShift` forbids to accounts that may not set finalizers
/// on the owner.
fn owned_by(claim: &Claim) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "PersistentVolumeClaim".to_owned(),
        name: claim.name.clone(),
        uid: claim.uid.to_string(),
        ..OwnerReference::default()
    }
}
