//! From the temporary claim to the end of the pod.

use std::time::Duration;

use jiff::Timestamp;
use populator_api::{Reason, names::event as name};

use super::{
    Action, DeleteReason, Event, Plan, Situation, SlotUse, begin, failure, finish, hold, outdated,
    proof, rebind,
};
use crate::{
    model::{ClaimPhase, Pod, PodPhase, TemporaryClaim},
    objects,
};

/// How often a pod is looked at that does not start, or does not go.
const RECHECK: Duration = Duration::from_mins(1);

/// The next step while there is a temporary claim and the volume is still its own.
pub(super) fn next(situation: &Situation<'_>, temporary: &TemporaryClaim) -> Plan {
    let world = situation.world;
    let pod = world.own_pod();
    let adopt_claim = (!temporary.is_labelled).then(|| Action::AdoptTemporaryClaim {
        name: temporary.name.clone(),
        uid: temporary.uid.clone(),
    });
    let unlabelled = pod.filter(|pod| !pod.is_labelled);
    let adopt_pod = unlabelled.map(|pod| Action::AdoptPod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    });

    let own = pod.filter(|pod| !temporary.terminating && !is_of_another(temporary, pod));
    let record = own.and_then(|pod| hold::record(situation, temporary, pod));

    let mut plan = if temporary.terminating {
        cleared(world.own_pod())
    } else if temporary.phase == ClaimPhase::Lost {
        lost(situation, temporary)
    } else if let Some(plan) = contested(temporary, pod) {
        plan
    } else {
        match pod {
            None => unstarted(situation, temporary),
            Some(pod) => watched(situation, temporary, pod),
        }
    };
    let first = adopt_claim.into_iter().chain(adopt_pod).chain(record);
    plan.actions.splice(0..0, first);
    plan
}

/// A pod that was lost with its node may still write to the volume, so that no other one may. Once it has disappeared
/// the next attempt gets a volume of its own.
fn contested(temporary: &TemporaryClaim, pod: Option<&Pod>) -> Option<Plan> {
    let lost = temporary.lost_pod.as_ref()?;
    if pod.is_some_and(|pod| pod.uid == lost.pod) {
        return None;
    }
    let message = format!(
        "a pod disappeared while its node {} did not answer, and may still write; its volume is dropped, and the \
         next attempt gets a new one",
        lost.node
    );
    let mut plan = Plan::warn(name::RETRYING, Reason::Retrying, message);
    let standing = pod.filter(|pod| pod.terminating.is_none());
    plan.actions = standing.map(finish::delete_pod).into_iter().collect();
    plan.actions
        .push(finish::delete(temporary, DeleteReason::Abandoned));
    Some(plan)
}

/// Somebody deleted the temporary claim. It stays until its pod is gone; then all begins anew.
fn cleared(pod: Option<&Pod>) -> Plan {
    let standing = pod.filter(|pod| pod.terminating.is_none());
    let message =
        "the temporary claim is being deleted; its pod goes too, and the work begins anew";
    Plan::act(
        Reason::Clearing,
        message,
        Vec::from_iter(standing.map(finish::delete_pod)),
    )
}

/// The temporary claim's volume is gone, or belongs to another claim than ours.
fn lost(situation: &Situation<'_>, temporary: &TemporaryClaim) -> Plan {
    let world = situation.world;
    let still_its_own = world
        .volume
        .as_ref()
        .and_then(|volume| volume.claim.as_ref());
    if still_its_own.is_some_and(|owner| owner.uid == temporary.uid) {
        // Seen before and after the rebind: the volume's change is on its way to us.
        return Plan::wait(Reason::Rebinding, "waiting to see the volume's new owner");
    }
    let asked_again = world.own_pod().is_none_or(|pod| {
        world
            .populator
            .found()
            .is_some_and(|populator| outdated::is_outdated(&world.claim, populator, pod))
    });
    if asked_again {
        let pod = world.own_pod().filter(|pod| pod.terminating.is_none());
        let pod = pod.map(finish::delete_pod);
        let claim = finish::delete(temporary, DeleteReason::Abandoned);
        let actions: Vec<Action> = pod.into_iter().chain([claim]).collect();
        return Plan::act(
            Reason::Clearing,
            "the volume is gone; the work begins anew",
            actions,
        );
    }
    let volume = temporary.volume.as_deref().unwrap_or_default();
    let message = format!(
        "the volume {volume} was taken away while it was filled; delete the pod to begin anew"
    );
    Plan::warn(name::FAILED, Reason::VolumeLost, message)
}

/// There is no pod: make it, unless a pause or a limit is in the way.
fn unstarted(situation: &Situation<'_>, temporary: &TemporaryClaim) -> Plan {
    let Situation {
        world,
        settings,
        now,
        ..
    } = *situation;
    let claim = &world.claim;
    let populator = match begin::usable_populator(situation) {
        Ok(populator) => populator,
        Err(plan) => return *plan,
    };
    if let Some(plan) = stranded(situation, temporary, None) {
        return plan;
    }
    if let Some(volume) = world.volume.as_ref().filter(|volume| volume.terminating) {
        let message = format!(
            "the volume {} is being deleted; the temporary claim goes too, and the work begins anew",
            volume.name
        );
        let claim = finish::delete(temporary, DeleteReason::Abandoned);
        return Plan::act(Reason::Clearing, message, [claim]);
    }
    if let Some(failure) = &claim.attempts.last_failure {
        let pause = settings.retry.pause(claim.attempts.recreations);
        let left = remaining(failure.at.0, pause, now);
        if !left.is_zero() {
            return Plan::wait(Reason::Retrying, &failure.message).requeue_after(left);
        }
    }
    let node = temporary.selected_node.as_deref();
    let pin = node.filter(|node| !world.nodes.lacks(node));
    match objects::pod(claim, populator, temporary, pin, settings) {
        Some(pod) => Plan::act(
            Reason::PodPending,
            "making the pod",
            [Action::CreatePod(Box::new(pod))],
        )
        .with_slot(SlotUse::Resume),
        None => Plan::wait(
            Reason::KindUnsupported,
            "the controller has no image for the resource's kind",
        ),
    }
}

fn watched(situation: &Situation<'_>, temporary: &TemporaryClaim, pod: &Pod) -> Plan {
    let world = situation.world;
    if is_of_another(temporary, pod) {
        let message =
            "the pod was made for an earlier temporary claim; it goes, and another one comes";
        let standing = pod.terminating.is_none().then(|| finish::delete_pod(pod));
        return Plan::act(Reason::Clearing, message, Vec::from_iter(standing));
    }
    let is_other = proof::disk_beside_pods(world, pod);
    if pod.phase == PodPhase::Succeeded && is_other.is_none() && proof::says_complete(pod) {
        return rebind::next(world, temporary, pod);
    }
    if let Some(lost) = node_lost(situation, pod) {
        return lost;
    }
    if pod.terminating.is_some() {
        return leaving(pod).requeue_after(RECHECK);
    }
    match (pod.phase, is_other) {
        (PodPhase::Pending, _) => pending(situation, temporary, pod),
        (PodPhase::Running | PodPhase::Succeeded, Some(wanted)) => source_changed(pod, wanted),
        (PodPhase::Running, None) => Plan::wait(Reason::Copying, "copying"),
        (PodPhase::Failed, _) | (PodPhase::Succeeded, None) => {
            stranded(situation, temporary, Some(pod))
                .unwrap_or_else(|| failure::next(situation, pod))
        }
    }
}

/// The resource was replaced while its disk was copied. What was copied is of no use, and never given to the claim.
fn source_changed(pod: &Pod, wanted: &str) -> Plan {
    let message = format!(
        "the resource now names the disk {wanted}, and the pod copied {}; the pod is deleted, and the copy starts over",
        objects::disk_argument(pod).unwrap_or("another one")
    );
    let mut plan = Plan::warn(name::SOURCE_CHANGED, Reason::Clearing, message);
    plan.actions.push(finish::delete_pod(pod));
    plan
}

/// Whether the pod was made for an earlier temporary claim. Forklift's pods do not say; one that had ended before the
/// temporary claim was made has filled another volume.
pub(super) fn is_of_another(temporary: &TemporaryClaim, pod: &Pod) -> bool {
    match (&pod.temporary_claim, &pod.ended) {
        (Some(uid), _) => *uid != temporary.uid,
        (None, Some(ended)) => ended.at.is_some_and(|at| at < temporary.created),
        (None, None) => false,
    }
}

/// The pod is on its way out, by somebody's hand or because the cluster needs its place: preempted, evicted,
/// drained. None of that is a failed attempt.
fn leaving(pod: &Pod) -> Plan {
    match &pod.evicted {
        Some(why) => {
            let message = format!("the pod has to go, and another one follows: {why}");
            Plan::warn(name::RETRYING, Reason::Retrying, message)
        }
        None => Plan::wait(
            Reason::Clearing,
            "the pod is being deleted; another one follows",
        ),
    }
}

/// The pod may still be writing on a node that nobody hears from. Nothing is forced: a second writer would
/// be worse than a wait.
fn node_lost(situation: &Situation<'_>, pod: &Pod) -> Option<Plan> {
    if !hold::is_out_of_sight(situation, pod) {
        return None;
    }
    let node = pod.node.as_deref().unwrap_or_default();
    let name = &pod.name;
    if hold::is_given_up(situation, pod) {
        let message = format!(
            "the pod {name} is given up with its node {node}, which does not answer; its volume is dropped too, since \
             the pod may still write to it"
        );
        let mut plan = Plan::warn(name::RETRYING, Reason::Retrying, message);
        let standing = pod.terminating.is_none().then(|| finish::delete_pod(pod));
        plan.actions.extend(standing);
        return Some(plan);
    }
    let message = format!(
        "the node {node} of the pod {name} does not answer; the pod may still be writing, so that no other one \
         replaces it. If the node is off for good, delete the node, or the pod with --force"
    );
    Some(Plan::warn(name::NODE_LOST, Reason::NodeLost, message))
}

/// The volume, or the node that it is to be made for, cannot be reached any more.
fn stranded(
    situation: &Situation<'_>,
    temporary: &TemporaryClaim,
    pod: Option<&Pod>,
) -> Option<Plan> {
    let world = situation.world;
    if temporary.volume.is_some() {
        let volume = world.volume.as_ref()?;
        return world.nodes.none_will_meet(&volume.node_terms).then(|| {
            let message = format!(
                "the volume {} can be reached from a node only that does not exist any more; \
                 bring the node back, or delete the claim and make it anew",
                volume.name
            );
            Plan::warn(name::FAILED, Reason::NodeGone, message)
        });
    }
    let node = temporary
        .selected_node
        .as_deref()
        .filter(|node| world.nodes.lacks(node))?;
    let pod = pod
        .filter(|pod| pod.terminating.is_none())
        .map(finish::delete_pod);
    let claim = finish::delete(temporary, DeleteReason::Abandoned);
    let chosen = world.claim.selected_node.as_deref() == Some(node);
    let clear = chosen.then(|| Action::ClearSelectedNode {
        node: node.to_owned(),
    });
    let message = format!(
        "the node {node} is gone before it had the volume; the scheduler chooses another one"
    );
    // Taking the choice back says so by itself.
    let event = (clear.is_none()).then(|| Event::warning(name::NODE_GONE, &message));
    let actions: Vec<Action> = pod.into_iter().chain([claim]).chain(clear).collect();
    let mut plan = Plan::act(Reason::WaitingForConsumer, message, actions);
    plan.events.extend(event);
    Some(plan)
}

fn pending(situation: &Situation<'_>, temporary: &TemporaryClaim, pod: &Pod) -> Plan {
    let world = situation.world;
    if let Some(plan) = stranded(situation, temporary, Some(pod)) {
        return plan;
    }
    let populator = world
        .populator
        .found()
        .filter(|populator| !populator.terminating);
    let outdated =
        populator.is_some_and(|populator| outdated::is_outdated(&world.claim, populator, pod));
    let homeless = pod.node.is_none()
        && pod
            .pinned_to
            .as_deref()
            .is_some_and(|node| world.nodes.lacks(node));
    if outdated || homeless {
        let message = if outdated {
            "the resource was changed before the pod started; another pod is made"
        } else {
            "the node that the pod waits for is gone; another pod is made"
        };
        // A provisioner that cannot serve the node takes its name off the temporary claim, and leaves it on the claim.
        let gone = pod.pinned_to.clone().filter(|_| homeless);
        let chosen = gone.filter(|node| world.claim.selected_node.as_ref() == Some(node));
        let clear = chosen.map(|node| Action::ClearSelectedNode { node });
        let actions: Vec<Action> = [finish::delete_pod(pod)].into_iter().chain(clear).collect();
        return Plan::act(Reason::Clearing, message, actions);
    }

    let reason = match temporary.volume {
        None => Reason::Provisioning,
        Some(_) => Reason::PodPending,
    };
    let left = remaining(pod.created, situation.settings.stuck_after, situation.now);
    let why = why_pending(situation, temporary, pod);
    if !left.is_zero() {
        return Plan::wait(reason, why).requeue_after(left);
    }
    let message = format!("the pod {} does not start: {why}", pod.name);
    Plan::warn(name::STUCK, Reason::PodStuck, message).requeue_after(RECHECK)
}

/// The best explanation at hand.
fn why_pending(situation: &Situation<'_>, temporary: &TemporaryClaim, pod: &Pod) -> String {
    // The kubelet's words while it works, which explain nothing.
    let ordinary =
        |why: &&String| !["ContainerCreating", "PodInitializing"].contains(&why.as_str());
    let told = pod
        .unschedulable
        .as_ref()
        .or(pod.waiting.as_ref().filter(ordinary))
        .or(situation.world.pod_warning.as_ref());
    match (told, &temporary.volume) {
        (Some(told), _) => told.clone(),
        (None, None) => "the temporary claim has no volume yet".to_owned(),
        (None, Some(_)) => "its node is preparing it".to_owned(),
    }
}

/// What is left of `pause` after `since`. A time that is far ahead comes from a wrong clock, and must not
/// hold a claim up.
fn remaining(since: Timestamp, pause: Duration, now: Timestamp) -> Duration {
    let passed = now.duration_since(since);
    match Duration::try_from(passed) {
        Ok(passed) => pause.saturating_sub(passed),
        Err(_) if passed.unsigned_abs() > pause => Duration::ZERO,
        Err(_) => pause,
    }
}
