//! Whether a pod still does what its claim and its resource say now.

use crate::{
    model::{Claim, Pod, PopulatorSpec},
    objects,
};

/// Whether the resource was changed, or a retry requested, after the pod was created. A pod carries
/// what it was created from in its arguments and annotations, so no time is compared.
pub(super) fn is_outdated(claim: &Claim, populator: &PopulatorSpec, pod: &Pod) -> bool {
    objects::disk_arguments(&populator.location)
        .into_iter()
        .any(|(flag, value)| pod.argument(flag) != Some(value))
        || !is_attached(populator, pod)
        || (claim.retry.is_some() && claim.retry != pod.retry)
}

/// Whether the pod is attached to the resource's network, and to none that the resource named
/// before. It may be attached to more: admission webhooks add networks, and a pod must not be
/// replaced for that.
fn is_attached(populator: &PopulatorSpec, pod: &Pod) -> bool {
    let expected = objects::network_annotation(populator);
    match (&expected, &pod.transfer_network) {
        (_, Some(_)) => expected == pod.transfer_network,
        (None, None) => true,
        // A pod of Forklift's, which has no such annotation, or one created before there was a
        // network.
        (Some(expected), None) => {
            let mut networks = pod.networks.as_deref().unwrap_or_default().split(',');
            networks.any(|network| network.trim() == expected)
        }
    }
}
