//! From the temporary claim to the end of the pod.

use std::time::Duration;

use populator_api::{Reason, names::event as name};

use super::{
    action::{Action, DeleteReason},
    deadline, failure, hold, late_binding, outdated, proof, rebind,
    steps::{delete_claim, delete_pod, remaining, usable_populator},
    types::{Plan, Situation, SlotUse},
};
use crate::{
    model::{ClaimPhase, Pod, PodPhase, TemporaryClaim},
    objects,
};

/// Requeue of a pod that does not start, or does not end: no event may come.
const RECHECK: Duration = Duration::from_mins(1);
const NO_VOLUME: &str = "the temporary claim has no volume yet";

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

    let own =
        pod.filter(|pod| temporary.terminating.is_none() && !proof::is_of_another(temporary, pod));
    let record = own.and_then(|pod| hold::record(situation, temporary, pod));

    let mut plan = if temporary.terminating.is_some() {
        // A claim under deletion ends in no other way, whatever its phase and its pod are.
        recreated(pod)
    } else if temporary.phase == ClaimPhase::Lost {
        lost(situation, temporary)
    } else if let Some(plan) = contested(temporary, pod) {
        // Before anything that would use the volume.
        plan
    } else {
        let plan = match pod {
            None => without_pod(situation, temporary),
            Some(pod) => with_pod(situation, temporary, pod),
        };
        deadline::enforce(situation, temporary, pod, plan)
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
    Plan::act(Reason::Clearing, message, Vec::from_iter(deletion)).requeue_after(RECHECK)
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
    if let Some(plan) = failure::standing(situation, populator, Some(temporary)) {
        return plan;
    }
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
    if temporary.volume.is_none() && temporary.chosen_node.is_some() {
        return provisioning(situation, temporary);
    }
    if let Some(failure) = &claim.attempts.last_failure {
        let backoff = settings.retry.pause(&claim.attempts);
        let left = remaining(failure.at.0, backoff, now);
        if !left.is_zero() {
            return Plan::wait(Reason::Retrying, &failure.message).requeue_after(left);
        }
    }
    match objects::pod(claim, populator, temporary, settings) {
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

/// The provisioner is at work for the node of the consumer. A pod could do nothing but wait, and
/// would keep the scheduler's choice alive after the provisioner has given that node up.
fn provisioning(situation: &Situation<'_>, temporary: &TemporaryClaim) -> Plan {
    let left = remaining(
        temporary.created,
        situation.settings.stuck_after,
        situation.now,
    );
    if !left.is_zero() {
        return Plan::wait(Reason::Provisioning, NO_VOLUME).requeue_after(left);
    }
    let plan = match &situation.world.provisioning_warning {
        Some(why) => {
            let message = format!("{NO_VOLUME}: {why}");
            Plan::warn(name::STUCK, Reason::Provisioning, message)
        }
        None => Plan::wait(Reason::Provisioning, NO_VOLUME),
    };
    plan.requeue_after(RECHECK)
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
    // A permanent failure must outlive its pod, also one that a cleaner deletes before it was seen.
    if pod.terminating.is_some() && !is_last_word(situation, pod) {
        return leaving(pod).requeue_after(RECHECK);
    }
    match (pod.phase, other_disk) {
        // Also of a pending one: the kubelet may report late that it runs.
        (PodPhase::Pending | PodPhase::Running | PodPhase::Succeeded, Some(disk)) => {
            source_changed(pod, disk)
        }
        (PodPhase::Pending, None) => pending(situation, temporary, pod),
        (PodPhase::Running, None) => Plan::wait(Reason::Copying, "copying"),
        // A pod that succeeded gets here when it does not report a complete copy.
        (PodPhase::Failed, _) | (PodPhase::Succeeded, None) => {
            stranded(situation, temporary, Some(pod))
                .unwrap_or_else(|| failure::next(situation, pod))
        }
    }
}

/// Whether the pod has failed permanently, and no other attempt was requested since.
fn is_last_word(situation: &Situation<'_>, pod: &Pod) -> bool {
    pod.phase == PodPhase::Failed
        && !failure::FailureClass::of(pod).is_transient
        && usable_populator(situation)
            .is_ok_and(|populator| !outdated::is_outdated(&situation.world.claim, populator, pod))
}

/// The resource was replaced after the pod was created. Its copy is of no use, and is never given
/// to the claim.
fn source_changed(pod: &Pod, disk: &str) -> Plan {
    let message = format!(
        "the resource now names the disk {disk}, and the pod was created for {}; the pod is deleted, \
         and the copy starts over",
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

/// No node reaches the volume any more, or the node is given up that it was to be provisioned for.
fn stranded(
    situation: &Situation<'_>,
    temporary: &TemporaryClaim,
    pod: Option<&Pod>,
) -> Option<Plan> {
    let world = situation.world;
    if temporary.volume.is_none() {
        return late_binding::give_up(situation, temporary, pod);
    }
    let volume = world.volume.as_ref()?;
    let is_stranded = world
        .nodes
        .none_will_meet(&volume.node_terms, situation.now);
    is_stranded.then(|| {
        let message = format!(
            "the volume {} can be reached only from a node that no longer exists; \
             bring the node back, or delete the claim and create it again",
            volume.name
        );
        Plan::warn(name::FAILED, Reason::NodeGone, message)
    })
}

fn pending(situation: &Situation<'_>, temporary: &TemporaryClaim, pod: &Pod) -> Plan {
    if let Some(plan) = stranded(situation, temporary, Some(pod)) {
        return plan;
    }
    let populator = match usable_populator(situation) {
        Ok(populator) => populator,
        // Nothing is copied yet, so nothing is lost. Forklift deletes the secret before the
        // resource, so the pod could only stay Pending; and if the resource comes back, it may name
        // another disk. Not at once: the watch of resources may be behind those of claims and pods.
        Err(mut plan) => {
            let left = remaining(pod.created, situation.settings.stuck_after, situation.now);
            if !left.is_zero() {
                return plan.requeue_after(left);
            }
            plan.actions.extend(delete_pod(pod));
            return *plan;
        }
    };
    if outdated::is_superseded(situation, populator, temporary, pod) {
        let message = "the resource, the claim or the controller's settings changed before the pod started; \
                       the pod is recreated";
        return Plan::act(Reason::Clearing, message, Vec::from_iter(delete_pod(pod)));
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
    let mut plan = Plan::warn(name::STUCK, Reason::PodStuck, message).requeue_after(RECHECK);
    // Without its slot it must not start by itself later.
    plan.parking = delete_pod(pod);
    plan
}

/// The best explanation at hand: the scheduler's, the kubelet's, then that of an event.
fn why_pending(situation: &Situation<'_>, temporary: &TemporaryClaim, pod: &Pod) -> String {
    // What the kubelet reports while all is well explains nothing.
    let waiting = pod.waiting.as_ref().filter(|_| pod.is_refused());
    // First that there is no volume: without one the scheduler finds no node, and says only that.
    let unprovisioned = situation.world.provisioning_warning.as_ref();
    let cause = unprovisioned
        .filter(|_| temporary.volume.is_none())
        .or(pod.unschedulable.as_ref())
        .or(waiting)
        .or(situation.world.pod_warning.as_ref());
    match (cause, &temporary.volume) {
        (Some(cause), _) => cause.clone(),
        (None, None) => NO_VOLUME.to_owned(),
        (None, Some(_)) => "its node is preparing it".to_owned(),
    }
}
