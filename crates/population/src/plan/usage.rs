//! Whether a claim that has its temporary claim holds a slot: a slot is for bytes.

use jiff::Timestamp;
use populator_api::Reason;

use super::{
    steps::remaining,
    types::{Situation, SlotUse},
};
use crate::model::{Pod, PodPhase, TemporaryClaim};

/// The use of a slot for a claim in the state that `reason` names; `None` if it needs none.
///
/// A claim that moves nothing gives its slot up: at once if it cannot move before someone acts, and
/// after some time if it may move at any moment.
pub(super) fn of(
    situation: &Situation<'_>,
    temporary: &TemporaryClaim,
    reason: Reason,
) -> Option<SlotUse> {
    let pod = situation.world.own_pod();
    let unstarted = pod.filter(|pod| pod.phase == PodPhase::Pending && pod.terminating.is_none());
    match reason {
        // Bytes move, or move again after a pause that is bounded.
        Reason::Copying | Reason::Retrying => Some(SlotUse::Held),
        Reason::Provisioning | Reason::PodPending | Reason::PodStuck => {
            let Some(pod) = unstarted else {
                // It cannot start by itself: its pod needs a slot to be created.
                return is_in_time(situation, temporary.created).then_some(SlotUse::Held);
            };
            let is_late = !is_in_time(situation, pod.created);
            let is_blocked = reason == Reason::PodStuck && is_blocked(situation, pod);
            Some(if is_late || is_blocked {
                SlotUse::Stalled { is_late }
            } else {
                SlotUse::Held
            })
        }
        // What is being deleted ends soon, or hangs.
        Reason::Clearing => {
            let since = pod.and_then(|pod| pod.terminating);
            let since = since.or(temporary.terminating);
            since
                .is_none_or(|since| is_in_time(situation, since))
                .then_some(SlotUse::Held)
        }
        // It failed for good, waits for its resource or another node, or is rebinding. The pod on a
        // lost node may still be writing, but nothing can be done about it, and it rarely is.
        _ => None,
    }
}

fn is_in_time(situation: &Situation<'_>, since: Timestamp) -> bool {
    !remaining(since, situation.settings.slot_timeout, situation.now).is_zero()
}

/// Whether the pod has a node and something is known to prevent its start: an image that cannot be
/// pulled, a secret that is missing. Without a node it waits for room, and so would the next one.
fn is_blocked(situation: &Situation<'_>, pod: &Pod) -> bool {
    pod.node.is_some() && (pod.is_refused() || situation.world.pod_warning.is_some())
}
