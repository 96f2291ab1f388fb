//! What must outlive a pod: its result, and the danger that it still writes.
//!
//! Our finalizer keeps a pod that somebody deletes until its end was seen and taken account of, so that neither a cleaner
//! of finished pods nor an outage of this controller loses a copy. A pod whose node does not answer is recorded on the
//! temporary claim: whatever becomes of the pod, no other one may write to that volume.

use jiff::SignedDuration;

use super::{Action, Situation, attempt, proof, rebind};
use crate::model::{LostPod, Pod, PodPhase, TemporaryClaim};

/// A pod on a node that answers is gone this long after its grace has ended.
const LATE: SignedDuration = SignedDuration::from_mins(1);

/// Whether the pod may be writing, on a node that does not answer.
pub(super) fn is_out_of_sight(situation: &Situation<'_>, pod: &Pod) -> bool {
    let Some(node) = &pod.node else {
        return false;
    };
    let is_lost = situation.world.nodes.is_lost(node);
    pod.ended.is_none()
        && match pod.phase {
            PodPhase::Pending | PodPhase::Running => is_lost || is_late(situation, pod),
            PodPhase::Failed => is_lost || pod.collected,
            PodPhase::Succeeded => false,
        }
}

/// Whether the pod has gone without an end that its node reported: deleted by force, or declared failed by the pod
/// garbage collector. No more will be heard of it.
pub(super) fn is_given_up(situation: &Situation<'_>, pod: &Pod) -> bool {
    is_out_of_sight(situation, pod) && (pod.forced || pod.phase == PodPhase::Failed)
}

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
    // Another pod's record stays: that one may still be writing.
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

/// Takes our finalizer from a pod that nothing is expected of any more.
pub(super) fn release(situation: &Situation<'_>) -> Option<Action> {
    let pod = situation.world.own_pod()?;
    let position = pod.finalizer?;
    (!is_awaited(situation, pod)).then(|| Action::ReleasePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        position,
    })
}

/// Whether the pod's end matters: another pod may follow on the same volume, or the volume be given away.
fn is_awaited(situation: &Situation<'_>, pod: &Pod) -> bool {
    let world = situation.world;
    let claim = &world.claim;
    let temporary = world
        .own_temporary()
        .filter(|temporary| !temporary.terminating && !attempt::is_of_another(temporary, pod));
    let Some(temporary) = temporary else {
        return false;
    };
    if claim.terminating || claim.volume.is_some() || world.is_rebound() {
        return false;
    }
    match pod.phase {
        PodPhase::Failed => false,
        PodPhase::Succeeded => {
            rebind::is_open(world, temporary)
                && proof::says_complete(pod)
                && proof::disk_beside_pods(world, pod).is_none()
        }
        PodPhase::Pending if pod.node.is_none() => pod.terminating.is_none(),
        PodPhase::Pending | PodPhase::Running => !is_given_up(situation, pod),
    }
}
