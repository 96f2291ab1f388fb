//! The claim that the pod fills, and whose volume the target gets.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use populator_api::names::{self, annotation as key, label};

use super::owned_by;
use crate::{
    model::{Claim, VolumeMode},
    settings::Placement,
};

/// The temporary claim for `claim`. `node` is the node that its volume is provisioned for, if the
/// storage class waits for a consumer; `placement` has what the installation adds.
///
/// It requests exactly what the target requests; Kubernetes would not bind a volume that differs.
#[must_use]
pub fn temporary_claim(
    claim: &Claim,
    node: Option<&str>,
    placement: &Placement,
) -> PersistentVolumeClaim {
    let mut labels = placement.labels.clone();
    labels.extend(claim.labels.clone());
    labels.insert(label::POPULATED_CLAIM.to_owned(), claim.uid.to_string());
    labels.insert(label::VELERO_EXCLUDE.to_owned(), "true".to_owned());
    let mut annotations = placement.annotations.clone();
    if let Some(node) = node {
        let keys = [key::SELECTED_NODE, key::CHOSEN_NODE];
        annotations.extend(keys.map(|key| (key.to_owned(), node.to_owned())));
    }
    let mode = match claim.mode {
        VolumeMode::Block => "Block",
        VolumeMode::Filesystem => "Filesystem",
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            namespace: Some(claim.namespace.clone()),
            name: Some(names::temporary_claim(claim.uid.as_str())),
            labels: Some(labels),
            annotations: Some(annotations).filter(|all| !all.is_empty()),
            owner_references: Some(vec![owned_by(claim)]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(claim.access_modes.clone()),
            resources: Some(VolumeResourceRequirements {
                requests: quantities(&claim.requests),
                limits: quantities(&claim.limits),
            }),
            storage_class_name: claim.class.clone(),
            volume_mode: Some(mode.to_owned()),
            volume_attributes_class_name: claim.attributes_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn quantities(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, Quantity>> {
    let quantity = |(name, value): (&String, &String)| (name.clone(), Quantity(value.clone()));
    (!map.is_empty()).then(|| map.iter().map(quantity).collect())
}
