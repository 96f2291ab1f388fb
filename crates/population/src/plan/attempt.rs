//! From the temporary claim to the end of the pod.

use std::time::Duration;

use jiff::Timestamp;
use populator_api::{Reason, names::event as name};

use super::{
    action::{Action, DeleteReason},
    event::Event,
    failure, hold, outdated, proof, rebind,
    steps::{delete_claim, delete_pod, usable_populator},
    types::{Plan, Situation, SlotUse},
};
use crate::{
    model::{ClaimPhase, Pod, PodPhase, TemporaryClaim},
    objects,
};

/// Requeue of a pod that does not start, or does not end: no event may come.
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

    let own = pod.filter(|pod| !temporary.terminating && !proof::is_of_another(temporary, pod));
    let record = own.and_then(|pod| hold::record(situation, temporary, pod));

    let mut plan = if temporary.terminating {
        // A claim under deletion ends in no other way, whatever its phase and its pod are.
        recreated(pod)
    } else if temporary.phase == ClaimPhase::Lost {
        lost(situation, temporary)
    } else if let Some(plan) = contested(temporary, pod) {
        // Before anything that would use the volume.
        plan
    } else {
        match pod {
            None => without_pod(situation, temporary),
            Some(pod) => with_pod(situation, temporary, pod),
        }
    };
    // Before the step itself. Adoption, because without the label the watches show nothing of what
    // follows; the record, because a pod must not be deleted before it is noted that it may still
    // write.
    let first = adopt_claim.into_iter().chain(adopt_pod).chain(record);
    plan.actions.splice(0..0, first);
    plan
}

/// A pod that was lost with its node may still write to the volume, so no other pod may. Once the
/// lost pod has disappeared, the next attempt gets a volume of its own.
fn contested(temporary: &TemporaryClaim, pod: Option<&Pod>) -> Option<Plan> {
    let lost = temporary.lost_pod.as_ref()?;
    if pod.is_some_and(|pod| pod.uid == lost.pod) {
        // The lost pod is still there, and `with_pod` decides by what is seen of it.
        return None;
    }
    let message = format!(
        "a pod disappeared while its node {} did not answer, and may still write; its volume is dropped, \
         and the next attempt gets a new one",
        lost.node
    );
    let mut plan = Plan::warn(name::RETRYING, Reason::Retrying, message);
    plan.actions.extend(pod.and_then(delete_pod));
    plan.actions
        .push(delete_claim(temporary, DeleteReason::Abandoned));
    Some(plan)
}

/// The temporary claim is being deleted, by a user or another controller. Kubernetes keeps it until
/// its pod is gone; then the population restarts.
fn recreated(pod: Option<&Pod>) -> Plan {
    let message = "the temporary claim is being deleted; its pod is deleted too, and the population \
                   restarts";
    let deletion = pod.and_then(delete_pod);
    Plan::act(Reason::Clearing, message, Vec::from_iter(deletion))
}

/// The temporary claim's volume is gone, or belongs to a claim other than the target.
fn lost(situation: &Situation<'_>, temporary: &TemporaryClaim) -> Plan {
    let world = situation.world;
    let volume = world.volume.as_ref();
    let owner = volume.and_then(|volume| volume.claim.as_ref());
    if owner.is_some_and(|owner| owner.uid == temporary.uid) {
        // Claims and volumes come from watches of their own. A claim is lost after a rebind, whose
        // change of the volume is then still to be seen; deleting anything now could release the
        // volume.
        return Plan::wait(Reason::Rebinding, "waiting to see the volume's new owner");
    }
    let pod = world.own_pod();
    let populator = world.populator.found();
    let is_outdated = |pod: &Pod| {
        populator.is_some_and(|populator| outdated::is_outdated(&world.claim, populator, pod))
    };
    // A pod is kept for its log until the user deletes it or requests another attempt.
    if pod.is_none_or(is_outdated) {
        let claim = delete_claim(temporary, DeleteReason::Abandoned);
        let actions: Vec<Action> = pod
            .and_then(delete_pod)
            .into_iter()
            .chain([claim])
            .collect();
        let message = "the volume is gone; the population restarts";
        return Plan::act(Reason::Clearing, message, actions);
    }
    let volume = temporary.volume.as_deref().unwrap_or_default();
    let message = format!(
        "the volume {volume} was taken away while it was being filled; delete the pod to restart the \
         population"
    );
    Plan::warn(name::FAILED, Reason::VolumeLost, message)
}

/// There is no pod: create it, unless a backoff or something missing prevents it.
fn without_pod(situation: &Situation<'_>, temporary: &TemporaryClaim) -> Plan {
    let Situation {
        world,
        settings,
        now,
        ..
    } = *situation;
    let claim = &world.claim;
    let populator = match usable_populator(situation) {
        Ok(populator) => populator,
        Err(plan) => return *plan,
    };
    // A pod for a volume that it cannot reach, or that is being deleted, would only fail: these
    // come before the backoff, which would delay nothing but the news.
    if let Some(plan) = stranded(situation, temporary, None) {
        return plan;
    }
    if let Some(volume) = world.volume.as_ref().filter(|volume| volume.terminating) {
        let message = format!(
            "the volume {} is being deleted; the temporary claim is deleted too, and the population \
             restarts",
            volume.name
        );
        let claim = delete_claim(temporary, DeleteReason::Abandoned);
        return Plan::act(Reason::Clearing, message, [claim]);
    }
    if let Some(failure) = &claim.attempts.last_failure {
        let backoff = settings.retry.backoff.bound(claim.attempts.recreations);
        let left = remaining(failure.at.0, backoff, now);
        if !left.is_zero() {
            return Plan::wait(Reason::Retrying, &failure.message).requeue_after(left);
        }
    }
    // The volume is provisioned for the selected node, so the pod is pinned to it. A node that is
    // gone is no pin: `stranded` has found that other nodes reach the volume.
    let node = temporary.selected_node.as_deref();
    let pin = node.filter(|node| !world.nodes.lacks(node));
    match objects::pod(claim, populator, temporary, pin, settings) {
        Some(pod) => Plan::act(
            Reason::PodPending,
            "creating the pod",
            [Action::CreatePod(Box::new(pod))],
        )
        .with_slot(SlotUse::Resume),
        None => Plan::wait(
            Reason::KindUnsupported,
            "the controller has no image for the resource's kind",
        ),
    }
}

fn with_pod(situation: &Situation<'_>, temporary: &TemporaryClaim, pod: &Pod) -> Plan {
    let world = situation.world;
    if proof::is_of_another(temporary, pod) {
        // First: nothing that this pod reports is about the present volume, not even a success.
        let message = "the pod was created for an earlier temporary claim; it is deleted, and a new pod \
                       follows";
        return Plan::act(Reason::Clearing, message, Vec::from_iter(delete_pod(pod)));
    }
    let other_disk = proof::disk_beside_pods(world, pod);
    // Before the node and the deletion: a copy that is complete is used even if its pod is deleted
    // or its node is lost afterwards.
    if pod.phase == PodPhase::Succeeded && other_disk.is_none() && proof::says_complete(pod) {
        return rebind::next(world, temporary, pod);
    }
    // Before the deletion: a pod on a node that does not answer may write for as long as it is not
    // known to have ended, also while it is being deleted.
    if let Some(lost) = node_lost(situation, pod) {
        return lost;
    }
    if pod.terminating.is_some() {
        return leaving(pod).requeue_after(RECHECK);
    }
    match (pod.phase, other_disk) {
        (PodPhase::Pending, _) => pending(situation, temporary, pod),
        (PodPhase::Running | PodPhase::Succeeded, Some(disk)) => source_changed(pod, disk),
        (PodPhase::Running, None) => Plan::wait(Reason::Copying, "copying"),
        // A pod that succeeded gets here when it does not report a complete copy.
        (PodPhase::Failed, _) | (PodPhase::Succeeded, None) => {
            stranded(situation, temporary, Some(pod))
                .unwrap_or_else(|| failure::next(situation, pod))
        }
    }
}

/// The resource was replaced while its disk was copied. The copy is of no use, and is never given
/// to the claim.
fn source_changed(pod: &Pod, disk: &str) -> Plan {
    let message = format!(
        "the resource now names the disk {disk}, and the pod copied {}; the pod is deleted, and the copy \
         starts over",
        objects::disk_argument(pod).unwrap_or("another one")
    );
    let mut plan = Plan::warn(name::SOURCE_CHANGED, Reason::Clearing, message);
    plan.actions.extend(delete_pod(pod));
    plan
}

/// The pod terminates, because a user deleted it or the cluster needs its place: preempted,
/// evicted, drained. None of that is a failed attempt.
fn leaving(pod: &Pod) -> Plan {
    match &pod.evicted {
        Some(why) => {
            let message = format!("the pod is being removed, and a new one follows: {why}");
            Plan::warn(name::RETRYING, Reason::Retrying, message)
        }
        None => Plan::wait(
            Reason::Clearing,
            "the pod is being deleted; a new one follows",
        ),
    }
}

/// The pod may still be writing on a node that does not answer. Nothing is forced: a second writer
/// would be worse than a wait.
fn node_lost(situation: &Situation<'_>, pod: &Pod) -> Option<Plan> {
    if !hold::is_out_of_sight(situation, pod) {
        return None;
    }
    let node = pod.node.as_deref().unwrap_or_default();
    let name = &pod.name;
    if hold::is_given_up(situation, pod) {
        // Only the pod is deleted here. Once it has disappeared, its record on the temporary claim
        // makes
        // `contested` drop the volume.
        let message = format!(
            "the pod {name} is given up with its node {node}, which does not answer; its volume is dropped \
             too, since the pod may still write to it"
        );
        let mut plan = Plan::warn(name::RETRYING, Reason::Retrying, message);
        plan.actions.extend(delete_pod(pod));
        return Some(plan);
    }
    let message = format!(
        "the node {node} of the pod {name} does not answer; the pod may still be writing, so no other pod \
         replaces it. If the node is off for good, delete the node, or the pod with --force"
    );
    Some(Plan::warn(name::NODE_LOST, Reason::NodeLost, message))
}

/// No node reaches the volume any more, or the node is gone that it was to be provisioned for.
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
                "the volume {} can be reached only from a node that no longer exists; \
                 bring the node back, or delete the claim and create it again",
                volume.name
            );
            Plan::warn(name::FAILED, Reason::NodeGone, message)
        });
    }
    let node = temporary
        .selected_node
        .as_deref()
        .filter(|node| world.nodes.lacks(node))?;
    let claim = delete_claim(temporary, DeleteReason::Abandoned);
    let is_chosen = world.claim.selected_node.as_deref() == Some(node);
    let clear = is_chosen.then(|| Action::ClearSelectedNode {
        node: node.to_owned(),
    });
    let message = format!(
        "the node {node} is gone, and had no volume yet; the scheduler chooses another one"
    );
    // The action that clears the choice emits the same event when it has succeeded.
    let event = (clear.is_none()).then(|| Event::warning(name::NODE_GONE, &message));
    let pod = pod.and_then(delete_pod);
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
    // Without its resource the pod is left as it is: Forklift deletes the resource when it needs it
    // no more, and a pod that was created with it can still finish.
    let populator = world
        .populator
        .found()
        .filter(|populator| !populator.terminating);
    let is_outdated =
        populator.is_some_and(|populator| outdated::is_outdated(&world.claim, populator, pod));
    let lost_pin = pod
        .pinned_to
        .as_ref()
        .filter(|node| pod.node.is_none() && world.nodes.lacks(node));
    if is_outdated || lost_pin.is_some() {
        let message = if is_outdated {
            "the resource changed before the pod started; the pod is recreated"
        } else {
            "the node that the pod waits for is gone; the pod is recreated"
        };
        // A provisioner that cannot serve the node takes its name off the temporary claim, where
        // `stranded` looks for it, and leaves it on the claim.
        let chosen = lost_pin.filter(|node| world.claim.selected_node.as_ref() == Some(*node));
        let clear = chosen.map(|node| Action::ClearSelectedNode { node: node.clone() });
        let actions: Vec<Action> = delete_pod(pod).into_iter().chain(clear).collect();
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

/// The best explanation at hand: the scheduler's, the kubelet's, then that of an event.
fn why_pending(situation: &Situation<'_>, temporary: &TemporaryClaim, pod: &Pod) -> String {
    // What the kubelet reports while all is well explains nothing.
    let waiting = pod
        .waiting
        .as_ref()
        .filter(|why| !["ContainerCreating", "PodInitializing"].contains(&why.as_str()));
    let cause = pod
        .unschedulable
        .as_ref()
        .or(waiting)
        .or(situation.world.pod_warning.as_ref());
    match (cause, &temporary.volume) {
        (Some(cause), _) => cause.clone(),
        (None, None) => "the temporary claim has no volume yet".to_owned(),
        (None, Some(_)) => "its node is preparing it".to_owned(),
    }
}

/// What is left of `delay` after `since`. A time far in the future comes from a wrong clock, and
/// must not block a claim.
fn remaining(since: Timestamp, delay: Duration, now: Timestamp) -> Duration {
    let passed = now.duration_since(since);
    match Duration::try_from(passed) {
        Ok(passed) => delay.saturating_sub(passed),
        Err(_) if passed.unsigned_abs() > delay => Duration::ZERO,
        Err(_) => delay,
    }
}
