//! Faults that the product had, or might have, put back around `plan`: the model must find each.

use population::{
    Plan,
    model::{Lookup, PodPhase, StorageClass, World},
    objects::disk_argument,
    plan::{Action, SlotUse},
};
use populator_api::{Reason, ReasonClass};

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
    /// The temporary claim is not read again when the pod that is seen does not fit it.
    OldTemporary,
    /// A claim keeps its slot until its pod has ended, also when nothing moves.
    SlotKept,
    /// A claim that was seen as one that needs no slot right after it began keeps it.
    SlotLeaked,
    /// A node is given up only when it is gone.
    NodeKept,
    /// A pod that has not started is not replaced when the settings change.
    SettingsIgnored,
    /// Finished pods are kept although a quota is exhausted.
    QuotaIgnored,
    /// A claim that was bound without us is called bound elsewhere.
    RestoredIsOurs,
    /// A class that is built into Kubernetes is refused before it can be known who serves it.
    RefusedEarly,
    /// A permanent failure is forgotten with its pod.
    VerdictForgotten,
    /// A pod that was created too late for its claim stays.
    LatePodKept,
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
        Some(Fault::AnyOwnVolume) if world.is_rebound() => claim_volume(world),
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
        Some(Fault::VerdictForgotten) if world.pod.is_none() => {
            if let Some(failure) = &mut world.claim.attempts.last_failure {
                failure.verdict = None;
            }
        }
        Some(Fault::QuotaIgnored) => world.is_short_of_quota = false,
        Some(Fault::RestoredIsOurs) => {
            if let Some(volume) = &mut world.volume {
                volume.was_chosen = true;
            }
        }
        Some(Fault::RefusedEarly) => {
            let class = world.class.found();
            let is_early =
                class.is_some_and(StorageClass::is_in_tree) && !world.claim.migrated_to_csi;
            if is_early {
                world.claim.class = Some(String::new());
            }
        }
        _ => {}
    }
}

/// Changes what the plan does.
pub(crate) fn after(fault: Option<Fault>, world: &World, plan: &mut Plan) {
    let is_rejection = |action: &Action| matches!(action, Action::RejectNode { .. });
    let deletes_pod = |action: &Action| matches!(action, Action::DeletePod { .. });
    let phase = world.own_pod().map(|pod| pod.phase);
    let is_unended = matches!(phase, Some(PodPhase::Pending | PodPhase::Running));
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
        Some(Fault::SlotKept) => {
            let class = plan.status.reason.class();
            if world.own_temporary().is_some() && class == ReasonClass::Progressing {
                plan.slot = plan.slot.map_or(Some(SlotUse::Held), |slot| match slot {
                    SlotUse::Stalled { .. } => Some(SlotUse::Held),
                    other => Some(other),
                });
            }
        }
        Some(Fault::NodeKept) if plan.actions.iter().any(is_rejection) => plan.actions.clear(),
        Some(Fault::SettingsIgnored) if plan.status.reason == Reason::Clearing && is_unended => {
            plan.actions.retain(|action| !deletes_pod(action));
        }
        Some(Fault::LatePodKept) if world.claim.volume.is_some() && is_unended => {
            plan.actions.retain(|action| !deletes_pod(action));
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
