//! What proves that a claim has its disk: `docs/adr/0008-what-proves-success.md`.
//!
//! Existence proves nothing. A volume may have been filled for another claim, a pod that ended with
//! 0 may have copied another disk, and an image that is no populator ends with 0 as well.

use contract::{Exit, Termination, termination};

use crate::{
    model::{Lookup, Pod, PodPhase, PopulatorSpec, TemporaryClaim, Volume, World},
    objects,
};

/// Whether the pod was created for an earlier temporary claim. Forklift's pods do not carry its
/// UID. Forklift creates the claim first, and both times are the API server's: the node's clock may
/// be wrong.
pub(super) fn is_of_another(temporary: &TemporaryClaim, pod: &Pod) -> bool {
    match &pod.temporary_claim {
        Some(uid) => *uid != temporary.uid,
        None => pod.created < temporary.created,
    }
}

/// The disk that the resource names, if it is not `disk`. A resource that is gone or terminates
/// proves nothing: Forklift deletes it while the last steps are under way.
pub(super) fn other_disk<'a>(
    populator: &'a Lookup<PopulatorSpec>,
    disk: Option<&str>,
) -> Option<&'a str> {
    let populator = populator
        .found()
        .filter(|populator| !populator.terminating)?;
    let named = populator.location.disk();
    // Both kinds of identifiers are UUIDs, in which upper and lower case mean the same.
    let is_same = disk.is_some_and(|disk| disk.eq_ignore_ascii_case(named));
    (!is_same).then_some(named)
}

/// The disk that the resource names, if the pod copies another one.
pub(super) fn disk_beside_pods<'a>(world: &'a World, pod: &Pod) -> Option<&'a str> {
    other_disk(&world.populator, objects::disk_argument(pod))
}

/// Whether the pod that ended with 0 reports that all of its disk is in place and durable. Pods
/// that Forklift's controller created run Forklift's populators, which report nothing: their exit
/// code is all there is.
pub(super) fn says_complete(pod: &Pod) -> bool {
    match report(pod) {
        Some(report) => {
            report.exit == Exit::Success
                // A mover with `--check` succeeds without a byte.
                && report.copied_bytes > 0
                && report.source_bytes == Some(report.copied_bytes)
        }
        None => pod.temporary_claim.is_none(),
    }
}

/// What a mover says at its end, if it says anything.
fn report(pod: &Pod) -> Option<Termination> {
    let message = pod.ended.as_ref()?.message.trim();
    let report = serde_json::from_str::<Termination>(message).ok()?;
    (report.version == termination::VERSION).then_some(report)
}

/// What the pod that copied the disk left at the source, and what to do about it. Only while the work is being cleaned up:
/// afterwards the claim belongs to its user, and an event every half hour would be noise.
pub(super) fn leftovers(world: &World) -> Option<String> {
    let temporary = world.own_temporary()?;
    let pod = world.own_pod()?;
    let is_news = !world.claim.terminating && temporary.terminating.is_none();
    let has_copied = pod.phase == PodPhase::Succeeded
        && !is_of_another(temporary, pod)
        && disk_beside_pods(world, pod).is_none()
        && says_complete(pod);
    if !is_news || !has_copied {
        return None;
    }
    report(pod)?.warning.filter(|warning| !warning.is_empty())
}

/// The claim's volume, if what it holds is this claim's disk.
///
/// A volume of ours carries the claim's UID, from the write that gave it to the claim. For one of
/// Forklift's controller three things must agree: it names the claim's resource, it is not older
/// than the claim (a recycled volume of `Retain` is older, and so is one of an earlier claim to the
/// same resource), and Kubernetes did not choose it.
pub(super) fn populated_volume(world: &World) -> Option<&Volume> {
    let claim = &world.claim;
    let volume = world.volume.as_ref()?;
    // A claim that is bound to another volume has not got this one.
    let is_named = claim
        .volume
        .as_ref()
        .is_none_or(|name| *name == volume.name);
    let belongs = volume
        .claim
        .as_ref()
        .is_some_and(|owner| owner.uid == claim.uid);
    let is_proven = match &volume.populated_for {
        Some(uid) => *uid == claim.uid,
        None => is_by_forklift(world, volume),
    };
    (is_named && belongs && is_proven).then_some(volume)
}

/// Whether Forklift's controller filled the volume for the claim.
fn is_by_forklift(world: &World, volume: &Volume) -> bool {
    let claim = &world.claim;
    let from = format!("{}/{}", claim.populator_namespace(), claim.reference.name);
    let temporary = populator_api::names::temporary_claim(claim.uid.as_str());
    // Forklift's controller gives the volume to the claim when the pod has succeeded, and not
    // before.
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
