//! What proves that a claim has its disk: `docs/adr/0008-what-proves-success.md`.
//!
//! Existence proves nothing. A volume that was filled may have been filled for another claim, a pod that ended with 0 may
//! have copied another disk, and an image that is no populator ends with 0 as well.

use contract::{Exit, Termination, termination};

use crate::{
    model::{Lookup, Pod, PodPhase, PopulatorSpec, Volume, World},
    objects,
};

/// The disk that the resource names, where it is another one than `disk`. A resource that is gone or on its way out
/// says nothing: Forklift deletes it while the last steps are under way.
pub(super) fn other_disk<'a>(
    populator: &'a Lookup<PopulatorSpec>,
    disk: Option<&str>,
) -> Option<&'a str> {
    let populator = populator
        .found()
        .filter(|populator| !populator.terminating)?;
    let wanted = populator.location.disk();
    // Both kinds of identifiers are UUIDs, which are equal in any case.
    let is_same = disk.is_some_and(|disk| disk.eq_ignore_ascii_case(wanted));
    (!is_same).then_some(wanted)
}

/// The disk that the resource names, where the pod copies another one.
pub(super) fn disk_beside_pods<'a>(world: &'a World, pod: &Pod) -> Option<&'a str> {
    other_disk(&world.populator, objects::disk_argument(pod))
}

/// Whether the pod that ended with 0 says itself that all of its disk is in place and durable. Pods that Forklift's
/// controller made run Forklift's populators, which say nothing.
pub(super) fn says_complete(pod: &Pod) -> bool {
    let message = pod.ended.as_ref().map(|ended| ended.message.trim());
    let told = message.and_then(|message| serde_json::from_str::<Termination>(message).ok());
    match told.filter(|told| told.version == termination::VERSION) {
        Some(told) => {
            told.exit == Exit::Success
                && told.copied_bytes > 0
                && told.source_bytes == Some(told.copied_bytes)
        }
        None => pod.temporary_claim.is_none(),
    }
}

/// The claim's volume, if what it holds is this claim's disk.
///
/// Ours says so by the claim's UID, in the write that gave it to the claim. Of one that Forklift's controller gave away
/// three things must agree: it names the claim's resource, it is not older than the claim (a volume of `Retain` that is
/// used again is, and so is one of an earlier claim to the same resource), and Kubernetes did not choose it.
pub(super) fn populated_volume(world: &World) -> Option<&Volume> {
    let claim = &world.claim;
    let named = |volume: &&Volume| {
        claim
            .volume
            .as_ref()
            .is_none_or(|name| *name == volume.name)
    };
    let volume = world.volume.as_ref().filter(named)?;
    let belongs = volume
        .claim
        .as_ref()
        .is_some_and(|owner| owner.uid == claim.uid);
    let is_proven = match &volume.populated_for {
        Some(uid) => *uid == claim.uid,
        None => is_of_forklift(world, volume),
    };
    (belongs && is_proven).then_some(volume)
}

fn is_of_forklift(world: &World, volume: &Volume) -> bool {
    let claim = &world.claim;
    let from = format!("{}/{}", claim.populator_namespace(), claim.reference.name);
    let temporary = populator_api::names::temporary_claim(&claim.uid);
    // Forklift's controller gives the volume away when the pod has succeeded, and not before.
    let is_filling = world
        .own_pod()
        .is_some_and(|pod| pod.phase != PodPhase::Succeeded);
    let own_temporary = world
        .own_temporary()
        .and_then(|temporary| temporary.volume.as_ref());
    volume.populated_from.as_ref() == Some(&from)
        && !volume.was_chosen
        && volume.created >= claim.created
        && volume
            .provisioned_for
            .as_ref()
            .is_none_or(|name| *name == temporary)
        && own_temporary.is_none_or(|name| *name == volume.name)
        && !is_filling
}
