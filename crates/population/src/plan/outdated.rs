//! Whether a pod still does what its claim and its resource say now.

use populator_api::names::annotation as key;

use super::types::Situation;
use crate::{
    model::{Claim, Pod, PopulatorSpec, TemporaryClaim},
    objects,
};

/// Whether the controller would now create another pod than this one, which has not started: the
/// image, resources, proxies and service account count as well.
pub(super) fn is_superseded(
    situation: &Situation<'_>,
    populator: &PopulatorSpec,
    temporary: &TemporaryClaim,
    pod: &Pod,
) -> bool {
    let claim = &situation.world.claim;
    if is_outdated(claim, populator, pod) {
        return true;
    }
    // Forklift's pods have another spec than ours, and their own secret.
    if pod.temporary_claim.is_none() {
        return false;
    }
    let wanted = objects::pod(claim, populator, temporary, situation.settings);
    let annotations = wanted.and_then(|wanted| wanted.metadata.annotations);
    annotations.is_some_and(|wanted| wanted.get(key::SPEC_HASH) != pod.spec_hash.as_ref())
}

/// Whether the resource was changed, or a retry requested, after the pod was created. A pod carries
/// what it was created from in its arguments and annotations, so no time is compared.
pub(super) fn is_outdated(claim: &Claim, populator: &PopulatorSpec, pod: &Pod) -> bool {
    objects::disk_arguments(&populator.location)
        .into_iter()
        .any(|(flag, value)| pod.argument(flag) != Some(value))
        || !is_attached(populator, pod)
        || is_converted_otherwise(claim, populator, pod)
        || is_configured_otherwise(claim, pod)
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

/// Whether the claim now says otherwise how the image is written. Forklift's pods do not carry the
/// flag.
fn is_converted_otherwise(claim: &Claim, populator: &PopulatorSpec, pod: &Pod) -> bool {
    objects::verbatim_argument(claim, &populator.location)
        .is_some_and(|(flag, wanted)| pod.argument(flag).is_some_and(|value| value != wanted))
}

/// Whether the claim now says otherwise how the mover copies. What the installation says does not count: each of
/// its changes would repeat the attempts of all claims that have failed.
fn is_configured_otherwise(claim: &Claim, pod: &Pod) -> bool {
    let told = claim.mover.as_ref();
    told.is_ok_and(|told| told.to_annotation() != pod.claim_settings)
}
