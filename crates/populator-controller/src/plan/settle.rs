//! Claims with nothing left to fill: being deleted, or bound.

use populator_api::{Reason, names::event as name};

use super::{Action, Plan, Removal, rebind};
use crate::model::{ClaimPhase, Pod, PodPhase, TemporaryClaim, World};

/// The claim is being deleted: nothing is made, and what runs for it ends. What has ended goes with its
/// owner.
pub(super) fn terminating(world: &World) -> Plan {
    Plan::act(
        Reason::Terminating,
        "the claim is being deleted",
        abandon(world),
    )
}

/// The claim names a volume: ours, somebody else's, or one that the user asked for.
pub(super) fn bound(world: &World) -> Plan {
    let claim = &world.claim;
    let Some(temporary) = world.own_temporary() else {
        return without_temporary(world);
    };
    // The second half counts when the temporary claim is seen as it was before the volume was bound to it.
    let volume = world.volume.as_ref();
    let is_filled = volume.is_some_and(|volume| {
        claim.volume.as_ref() == Some(&volume.name) && volume.populated_from.is_some()
    });
    if temporary.volume != claim.volume && !is_filled {
        let volume = claim.volume.as_deref().unwrap_or_default();
        let message = format!(
            "the claim got the volume {volume} while another one was being filled for it; that one is dropped"
        );
        let mut plan = Plan::warn(name::FAILED, Reason::BoundElsewhere, message);
        plan.actions = drop_all(world);
        return plan;
    }
    if temporary.volume.is_some() && temporary.volume != claim.volume {
        // Made anew by mistake, when the first one was torn away; the claim has what it wants.
        return Plan::act(Reason::Populated, "populated and bound", drop_all(world));
    }
    match claim.phase {
        ClaimPhase::Pending => rebind::under_way(world),
        ClaimPhase::Lost => lost(world),
        // Once deleted it stays until the pod is gone, which is kept for its log.
        ClaimPhase::Bound if temporary.phase == ClaimPhase::Lost && !temporary.terminating => {
            Plan::act(
                Reason::Populated,
                "populated and bound",
                [delete(temporary, Removal::Populated)],
            )
        }
        // Before it is lost its deletion would release the volume.
        ClaimPhase::Bound => Plan::wait(Reason::Populated, "populated and bound"),
    }
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
    let temporary = temporary.map(|temporary| delete(temporary, Removal::Abandoned));
    pod.map(delete_pod).into_iter().chain(temporary).collect()
}

pub(super) fn delete_pod(pod: &Pod) -> Action {
    Action::DeletePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}

pub(super) fn delete(temporary: &TemporaryClaim, removal: Removal) -> Action {
    Action::DeleteTemporaryClaim {
        name: temporary.name.clone(),
        uid: temporary.uid.clone(),
        removal,
    }
}

/// The work is over, or never began.
fn without_temporary(world: &World) -> Plan {
    let claim = &world.claim;
    let volume = world.volume.as_ref();
    let is_populated = volume.is_some_and(|volume| volume.populated_from.is_some());
    match claim.phase {
        ClaimPhase::Lost => lost(world),
        ClaimPhase::Bound if is_populated => Plan::wait(Reason::Populated, "populated and bound"),
        ClaimPhase::Pending if is_populated && world.is_rebound() => rebind::under_way(world),
        ClaimPhase::Bound if volume.is_none() => {
            Plan::wait(Reason::Populated, "bound; the volume is not known yet")
        }
        ClaimPhase::Bound => {
            let message = format!(
                "the claim is bound to the volume {}, which was not populated",
                claim.volume.as_deref().unwrap_or_default()
            );
            Plan::warn(name::REFUSED, Reason::BoundElsewhere, message)
        }
        ClaimPhase::Pending => Plan::warn(
            name::REFUSED,
            Reason::ClaimUnsupported,
            "spec.volumeName is set; a claim that is to be populated must not ask for a volume by name",
        ),
    }
}

fn lost(world: &World) -> Plan {
    let volume = world.claim.volume.as_deref().unwrap_or_default();
    let message =
        format!("the volume {volume} of the claim is gone, and its data with it; make a new claim");
    Plan::warn(name::FAILED, Reason::VolumeLost, message)
}
