//! Faults that the product had, or might have, put back around `plan`: the model must find each.

use population::{
    Plan,
    model::{Lookup, PodPhase, World},
    objects::disk_argument,
    plan::Action,
};

/// A seeded fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The disk that a running or finished pod copies is not compared with the resource's.
    DiskNotCompared,
    /// Any volume that a populator has filled counts as filled for this claim.
    AnyFilledVolume,
    /// A volume that belongs to the claim counts as filled for it.
    AnyOwnVolume,
    /// A pod that was lost with its node is an ordinary failure.
    LostPodForgotten,
    /// Evictions count as failed attempts.
    EvictionsCount,
    /// Nothing keeps the result of a finished pod.
    ResultNotKept,
    /// The temporary claim, with its record of a lost pod, is not read again when its pod is gone.
    RecordFromCache,
    /// The volume of a temporary claim that is lost is not read again when it is not seen.
    VolumeFromCache,
}

/// Hides from the plan what the fault does not look at.
pub(crate) fn before(fault: Option<Fault>, world: &mut World) {
    match fault {
        Some(Fault::DiskNotCompared) => hide_disk(world),
        Some(Fault::AnyFilledVolume) => {
            let is_filled = |world: &World| {
                world
                    .volume
                    .as_ref()
                    .is_some_and(|volume| volume.populated_from.is_some())
            };
            if is_filled(world) {
                claim_volume(world);
            }
        }
        Some(Fault::AnyOwnVolume) => {
            if world.is_rebound() {
                claim_volume(world);
            }
        }
        Some(Fault::LostPodForgotten) => {
            if let Some(temporary) = &mut world.temporary {
                temporary.lost_pod = None;
            }
            if let Some(pod) = &mut world.pod
                && pod.phase == PodPhase::Failed
            {
                pod.collected = false;
                pod.node = None;
            }
        }
        Some(Fault::EvictionsCount) => {
            if let Some(pod) = &mut world.pod {
                pod.evicted = None;
            }
        }
        Some(Fault::ResultNotKept | Fault::RecordFromCache | Fault::VolumeFromCache) | None => {}
    }
}

/// Changes what the plan does.
pub(crate) fn after(fault: Option<Fault>, _world: &World, plan: &mut Plan) {
    match fault {
        Some(Fault::ResultNotKept) => {
            for action in &mut plan.actions {
                if let Action::CreatePod(pod) = action {
                    pod.metadata.finalizers = None;
                }
            }
        }
        Some(Fault::LostPodForgotten) => {
            plan.actions
                .retain(|action| !matches!(action, Action::RecordNodeLost { .. }));
        }
        _ => {}
    }
}

fn hide_disk(world: &mut World) {
    let copied = world
        .pod
        .as_ref()
        .and_then(disk_argument)
        .map(str::to_owned);
    let phase = world.pod.as_ref().map(|pod| pod.phase);
    let has_started = matches!(phase, Some(PodPhase::Running | PodPhase::Succeeded));
    if let (Some(copied), Lookup::Found(populator)) = (copied, &mut world.populator)
        && has_started
        && let population::model::DiskLocation::Ovirt { disk, .. } = &mut populator.location
    {
        *disk = copied;
    }
}

/// Makes the volume look as if it had been filled for the claim.
fn claim_volume(world: &mut World) {
    let uid = world.claim.uid.clone();
    let disk = world
        .populator
        .found()
        .map(|populator| populator.location.disk().to_owned());
    if let Some(volume) = &mut world.volume {
        volume.populated_for = Some(uid);
        volume.populated_disk = disk;
    }
}
