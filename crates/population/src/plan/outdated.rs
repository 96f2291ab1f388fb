//! Whether a pod still does what is wanted.

use crate::{
    model::{Claim, Pod, PopulatorSpec},
    objects,
};

/// Whether the resource, or the wish for a new try, is younger than the pod.
pub(super) fn is_outdated(claim: &Claim, populator: &PopulatorSpec, pod: &Pod) -> bool {
    let differs = |(flag, value): (&str, &str)| pod.argument(flag) != Some(value);
    objects::disk_arguments(&populator.location)
        .into_iter()
        .any(differs)
        || !is_attached(populator, pod)
        || (claim.retry.is_some() && claim.retry != pod.retry)
}

/// Whether the pod is attached to the resource's network, and to none that the resource named before. It may be
/// attached to more: admission adds what the cluster's administrator wants, and a pod must not be replaced for that.
fn is_attached(populator: &PopulatorSpec, pod: &Pod) -> bool {
    let wanted = objects::network_annotation(populator);
    match (&wanted, &pod.transfer_network) {
        (_, Some(_)) => wanted == pod.transfer_network,
        (None, None) => true,
        // Forklift's pod, or one of ours from before there was a network.
        (Some(wanted), None) => {
            let mut networks = pod.networks.as_deref().unwrap_or_default().split(',');
            networks.any(|network| network.trim() == wanted)
        }
    }
}
