//! What must outlive a pod: its result, and the danger that it still writes.
//!
//! Our finalizer keeps a deleted pod until the controller has seen its end and acted on it, so that
//! neither a cleaner of finished pods nor an outage of this controller loses a copy. A pod whose
//! node does not answer is recorded on the temporary claim: whatever becomes of the pod, no other
//! one may write to that volume.

use jiff::SignedDuration;

use super::{action::Action, proof, rebind, types::Situation};
use crate::model::{LostPod, Pod, PodPhase, TemporaryClaim};

/// A kubelet that answers has removed a pod well before this time after its grace period.
const LATE: SignedDuration = SignedDuration::from_mins(1);

/// Whether the pod may be writing, on a node that does not answer.
pub(super) fn is_out_of_sight(situation: &Situation<'_>, pod: &Pod) -> bool {
    let Some(node) = &pod.node else {
        return false;
    };
    let is_lost = situation.world.nodes.is_lost(node);
    // A container that is reported as ended writes no more, whatever becomes of its node.
    pod.ended.is_none()
        && match pod.phase {
            PodPhase::Pending | PodPhase::Running => is_lost || is_late(situation, pod),
            // The pod garbage collector and the taint manager declare a pod failed without knowing.
            PodPhase::Failed => is_lost || pod.collected,
            // Only the kubelet reports a success.
            PodPhase::Succeeded => false,
        }
}

/// Whether the pod's end will never be reported: it was deleted by force, or the pod garbage
/// collector declared it failed.
pub(super) fn is_given_up(situation: &Situation<'_>, pod: &Pod) -> bool {
    is_out_of_sight(situation, pod) && (pod.forced || pod.phase == PodPhase::Failed)
}

/// Whether a pod that terminates should be gone by now. Its node may answer to others and hang all
/// the same.
fn is_late(situation: &Situation<'_>, pod: &Pod) -> bool {
    pod.terminating
        .is_some_and(|until| situation.now.duration_since(until) > LATE)
}

/// Keeps the record on the temporary claim in step with what is seen of the pod.
pub(super) fn record(
    situation: &Situation<'_>,
    temporary: &TemporaryClaim,
    pod: &Pod,
) -> Option<Action> {
    let recorded = temporary.lost_pod.as_ref();
    let is_recorded = recorded.is_some_and(|lost| lost.pod == pod.uid);
    let is_lost = is_out_of_sight(situation, pod);
    // The record of another pod stays: that pod may still be writing.
    if is_lost == is_recorded || (recorded.is_some() && !is_recorded) {
        return None;
    }
    let lost = is_lost.then(|| LostPod {
        pod: pod.uid.clone(),
        node: pod.node.clone().unwrap_or_default(),
    });
    Some(Action::RecordNodeLost {
        name: temporary.name.clone(),
        uid: temporary.uid.clone(),
        lost,
    })
}

/// Removes our finalizer from a pod whose end no longer matters.
pub(super) fn release(situation: &Situation<'_>) -> Option<Action> {
    let pod = situation.world.own_pod()?;
    let position = pod.finalizer?;
    (!is_awaited(situation, pod)).then(|| Action::ReleasePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        position,
    })
}

/// Whether the pod's end matters: another pod may follow on the same volume, or the volume may be
/// given to the claim.
fn is_awaited(situation: &Situation<'_>, pod: &Pod) -> bool {
    let world = situation.world;
    let claim = &world.claim;
    let temporary = world.own_temporary().filter(|temporary| {
        temporary.terminating.is_none() && !proof::is_of_another(temporary, pod)
    });
    let Some(temporary) = temporary else {
        return false;
    };
    if claim.terminating || claim.volume.is_some() || world.is_rebound() {
        return false;
    }
    match pod.phase {
        // The same plan counts the failure first, or keeps the pod for its log.
        PodPhase::Failed => false,
        // Until the rebind is seen: with the pod gone, nothing would prove that the volume is
        // complete.
        PodPhase::Succeeded => {
            rebind::is_open(world, temporary)
                && proof::says_complete(pod)
                && proof::disk_beside_pods(world, pod).is_none()
        }
        // Without a node it never wrote, and a deletion of it has no end to wait for.
        PodPhase::Pending if pod.node.is_none() => pod.terminating.is_none(),
        PodPhase::Pending | PodPhase::Running => !is_given_up(situation, pod),
    }
}
