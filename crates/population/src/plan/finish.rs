//! The last step: claims that are bound, or being deleted, and what is left to clean up.

use std::time::Duration;

use populator_api::{Reason, names::event};

use super::{
    action::DeleteReason,
    proof, rebind,
    steps::{delete_claim, delete_pod, drop_all, drop_running, remaining},
    types::{Plan, Situation},
};
use crate::model::{Attempts, ClaimPhase, PodPhase, Volume, World};

/// Requeue of a claim whose volume is not seen to belong to it: that volume may not be watched.
const RECHECK: Duration = Duration::from_mins(1);

/// The claim is being deleted: nothing is created, and a running pod is deleted. The garbage
/// collector deletes the rest with the claim that owns it.
pub(super) fn terminating(world: &World) -> Plan {
    Plan::act(
        Reason::Terminating,
        "the claim is being deleted",
        drop_running(world),
    )
}

/// The claim names a volume: the populated one, another one, or one that the user asked for. `None`
/// for a claim that was bound without us.
pub(super) fn bound(situation: &Situation<'_>) -> Option<Plan> {
    let world = situation.world;
    let claim = &world.claim;
    let name = claim.volume.as_deref().unwrap_or_default();
    match claim.phase {
        ClaimPhase::Lost => return Some(lost(name)),
        // Kubernetes writes the volume's name before the phase. Any of these shows that the name
        // comes from a binding and not from the user.
        ClaimPhase::Pending
            if claim.bind_completed
                || world.own_temporary().is_some()
                || proof::populated_volume(world).is_some() =>
        {
            return Some(rebind::under_way(world));
        }
        ClaimPhase::Pending => {
            return Some(Plan::warn(
                event::REFUSED,
                Reason::ClaimUnsupported,
                "spec.volumeName is set; a claim that is to be populated must not ask for a volume by name",
            ));
        }
        ClaimPhase::Bound => {}
    }
    // Claims and volumes come from watches of their own: what the volume holds is known once it is
    // seen to belong to the claim, and not before.
    if !world.is_rebound() {
        let message = format!("bound; waiting to see that the volume {name} belongs to the claim");
        return Some(Plan::wait(Reason::Rebinding, message).requeue_after(RECHECK));
    }
    match proof::populated_volume(world) {
        Some(volume) => Some(populated(situation, volume)),
        None if is_foreign(world) => None,
        None => Some(elsewhere(world, name)),
    }
}

/// Whether nothing of ours is about the claim and its volume: a backup tool or a migration of the
/// storage has created both. A volume that Kubernetes chose for the claim among those at hand is
/// another matter: its owner still expects the disk.
fn is_foreign(world: &World) -> bool {
    let is_plain = |volume: &Volume| {
        !volume.was_chosen && volume.populated_from.is_none() && volume.populated_for.is_none()
    };
    world.own_temporary().is_none()
        && world.own_pod().is_none()
        && world.claim.attempts == Attempts::default()
        && world.volume.as_ref().is_some_and(is_plain)
}

/// The claim has its disk. What is left of the work is deleted.
fn populated(situation: &Situation<'_>, volume: &Volume) -> Plan {
    let world = situation.world;
    let mut plan = Plan::wait(Reason::Populated, "populated and bound");
    let held = volume.populated_disk.as_deref();
    let other = held.and_then(|held| proof::other_disk(&world.populator, Some(held)));
    if let (Some(held), Some(wanted)) = (held, other) {
        let message = format!(
            "the claim holds the disk {held}, which the resource named before; it now names {wanted}, which \
             needs a new claim"
        );
        // A warning only while the work is being cleaned up. Afterwards the claim belongs to its
        // user, and an event every half hour would be noise.
        plan = match world.own_temporary() {
            Some(_) => Plan::warn(event::SOURCE_CHANGED, Reason::SourceChanged, message),
            None => Plan::wait(Reason::SourceChanged, message),
        };
    }
    let Some(temporary) = world.own_temporary() else {
        return without_pod(situation, plan);
    };
    if temporary.volume.is_some() && temporary.volume != world.claim.volume {
        // A second one, created after the first was deleted by force. Its volume belongs to no
        // target, so all of it can be dropped.
        plan.actions = drop_all(world);
    } else if temporary.terminating.is_some() {
        plan = without_pod(situation, plan);
    } else if temporary.phase == ClaimPhase::Lost {
        // Not before it is lost: until then its deletion would release the volume. Kubernetes keeps
        // the deleted claim until its pod is gone, and the pod stays for its log.
        plan.actions = vec![delete_claim(temporary, DeleteReason::Populated)];
    }
    plan
}

/// Deletes the pod when its time has come; until then the deleted temporary claim stays as well, and
/// counts against quotas.
fn without_pod(situation: &Situation<'_>, mut plan: Plan) -> Plan {
    let Some(pod) = situation.world.own_pod() else {
        return plan;
    };
    // One that has not ended was created when the rebind was not seen yet, and fills nothing.
    let has_ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    let kept = if has_ended {
        situation.settings.keeps_pod_for(situation.world, pod.phase)
    } else {
        Some(Duration::ZERO)
    };
    if let Some(kept) = kept {
        let ended = pod.ended.as_ref().and_then(|ended| ended.at);
        let left = remaining(ended.unwrap_or(pod.created), kept, situation.now);
        if left.is_zero() {
            plan.actions.extend(delete_pod(pod));
        } else {
            plan = plan.requeue_after(left);
        }
    }
    plan
}

/// The claim has a volume, and nothing proves that it holds the disk.
fn elsewhere(world: &World, name: &str) -> Plan {
    let Some(temporary) = world.own_temporary() else {
        let message = format!(
            "the claim is bound to the volume {name}, which was not filled for it; to have the disk, delete \
             the claim and create it again"
        );
        let mut plan = Plan::warn(event::REFUSED, Reason::BoundElsewhere, message);
        // One that was created when the binding was not seen yet: it has nothing to fill.
        plan.actions = drop_running(world);
        return plan;
    };
    let message = if temporary.volume == world.claim.volume {
        format!(
            "another controller or an administrator gave the volume {name} to the claim before it was \
             filled, and it does not hold the disk; delete the claim and create it again"
        )
    } else {
        format!(
            "the claim got the volume {name} while another one was being filled for it; the other one is \
             dropped"
        )
    };
    // The volume belongs to the claim, so deleting the temporary claim does not release it.
    let mut plan = Plan::warn(event::FAILED, Reason::BoundElsewhere, message);
    plan.actions = drop_all(world);
    plan
}

fn lost(volume: &str) -> Plan {
    let message = format!(
        "the volume {volume} of the claim is gone, and its data with it; create a new claim"
    );
    Plan::warn(event::FAILED, Reason::VolumeLost, message)
}
