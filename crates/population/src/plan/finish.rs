//! Claims with nothing left to fill: being deleted, or bound.

use std::time::Duration;

use populator_api::{Reason, names::event};

use super::{Action, DeleteReason, Plan, proof, rebind};
use crate::model::{ClaimPhase, Pod, PodPhase, TemporaryClaim, Volume, World};

/// How often a volume is looked at that is not seen to belong to its claim.
const RECHECK: Duration = Duration::from_mins(1);

/// The claim is being deleted: nothing is made, and what runs for it ends. What has ended goes with its
/// owner.
pub(super) fn terminating(world: &World) -> Plan {
    Plan::act(
        Reason::Terminating,
        "the claim is being deleted",
        abandon(world),
    )
}

/// The claim names a volume: ours, another one, or one that the user asked for.
pub(super) fn bound(world: &World) -> Plan {
    let claim = &world.claim;
    let name = claim.volume.as_deref().unwrap_or_default();
    match claim.phase {
        ClaimPhase::Lost => return lost(name),
        ClaimPhase::Pending
            if claim.bind_completed
                || world.own_temporary().is_some()
                || proof::populated_volume(world).is_some() =>
        {
            return rebind::under_way(world);
        }
        ClaimPhase::Pending => {
            return Plan::warn(
                event::REFUSED,
                Reason::ClaimUnsupported,
                "spec.volumeName is set; a claim that is to be populated must not ask for a volume by name",
            );
        }
        ClaimPhase::Bound => {}
    }
    // Claims and volumes are seen by watches of their own: what the volume holds is known when it is seen to belong to the
    // claim, and not before.
    if !world.is_rebound() {
        let message = format!("bound; waiting to see that the volume {name} belongs to the claim");
        return Plan::wait(Reason::Rebinding, message).requeue_after(RECHECK);
    }
    match proof::populated_volume(world) {
        Some(volume) => populated(world, volume),
        None => elsewhere(world, name),
    }
}

/// The claim has its disk. What is left of the work goes.
fn populated(world: &World, volume: &Volume) -> Plan {
    let mut plan = Plan::wait(Reason::Populated, "populated and bound");
    let held = volume.populated_disk.as_deref();
    let other = held.and_then(|held| proof::other_disk(&world.populator, Some(held)));
    if let (Some(held), Some(wanted)) = (held, other) {
        let message = format!(
            "the claim holds the disk {held}, which the resource named before; it now names {wanted}, which needs a new claim"
        );
        plan = match world.own_temporary() {
            Some(_) => Plan::warn(event::SOURCE_CHANGED, Reason::SourceChanged, message),
            None => Plan::wait(Reason::SourceChanged, message),
        };
    }
    let Some(temporary) = world.own_temporary() else {
        return plan;
    };
    if temporary.volume.is_some() && temporary.volume != world.claim.volume {
        // Created by mistake, when the first one was torn away; the claim has what it wants.
        plan.actions = drop_all(world);
    } else if temporary.phase == ClaimPhase::Lost && !temporary.terminating {
        // Not before it is lost: until then its deletion would release the volume. Once deleted it stays until the pod
        // is gone, which is kept for its log.
        plan.actions = vec![delete(temporary, DeleteReason::Populated)];
    }
    plan
}

/// The claim has a volume, and nothing proves that it holds the disk.
fn elsewhere(world: &World, name: &str) -> Plan {
    let Some(temporary) = world.own_temporary() else {
        let message = format!(
            "the claim is bound to the volume {name}, which was not filled for it; to have the disk, delete the claim and \
             create it again"
        );
        return Plan::warn(event::REFUSED, Reason::BoundElsewhere, message);
    };
    let message = if temporary.volume == world.claim.volume {
        format!(
            "the volume {name} was given to the claim by another hand before it was filled, and does not hold the disk; \
             delete the claim and create it again"
        )
    } else {
        format!(
            "the claim got the volume {name} while another one was being filled for it; that one is dropped"
        )
    };
    // The volume belongs to the claim, so that the temporary claim's deletion does not release it.
    let mut plan = Plan::warn(event::FAILED, Reason::BoundElsewhere, message);
    plan.actions = drop_all(world);
    plan
}

/// Deletes what runs for the claim, and the temporary claim. A pod that has ended stays for its log.
pub(super) fn abandon(world: &World) -> Vec<Action> {
    drop_with(world, |pod| {
        matches!(pod.phase, PodPhase::Pending | PodPhase::Running)
    })
}

/// The same with a pod that has ended, which would keep the temporary claim and its volume for as long as the claim.
fn drop_all(world: &World) -> Vec<Action> {
    drop_with(world, |_| true)
}

fn drop_with(world: &World, goes: impl Fn(&Pod) -> bool) -> Vec<Action> {
    let pod = world.own_pod();
    let pod = pod.filter(|pod| pod.terminating.is_none() && goes(pod));
    let temporary = world.own_temporary();
    let temporary = temporary.filter(|temporary| !temporary.terminating);
    let temporary = temporary.map(|temporary| delete(temporary, DeleteReason::Abandoned));
    pod.map(delete_pod).into_iter().chain(temporary).collect()
}

pub(super) fn delete_pod(pod: &Pod) -> Action {
    Action::DeletePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}

pub(super) fn delete(temporary: &TemporaryClaim, reason: DeleteReason) -> Action {
    Action::DeleteTemporaryClaim {
        name: temporary.name.clone(),
        uid: temporary.uid.clone(),
        reason,
    }
}

fn lost(volume: &str) -> Plan {
    let message = format!(
        "the volume {volume} of the claim is gone, and its data with it; create a new claim"
    );
    Plan::warn(event::FAILED, Reason::VolumeLost, message)
}
