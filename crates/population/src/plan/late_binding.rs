//! Storage classes that wait for a consumer: which node the volume is provisioned for, and when
//! that node is given up.
//!
//! The scheduler writes the node of the first consumer on the claim, and the temporary claim is
//! created for that node. No pod of ours uses it before it has a volume, so only we write the
//! node on the temporary claim, and a provisioner that removes it says for good that it cannot
//! provision the volume there. Then the claim loses its node as well, and the scheduler chooses
//! again: `docs/adr/0009-slots-and-nodes.md`.

use std::time::Duration;

use backoff::Backoff;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use populator_api::{Reason, names::event as name};

use super::{
    action::{Action, DeleteReason},
    event::Event,
    steps::{delete_claim, delete_pod, remaining},
    types::{Plan, Situation},
};
use crate::model::{Pod, RejectedNode, TemporaryClaim};

/// Before a rejected node is accepted again: a scheduler that does not know the free capacity of a
/// node may choose it at once.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_mins(5));
/// Rejections are forgotten after this time.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// Rejected nodes that are kept, so that the annotation stays small; the oldest go first.
const MOST_REJECTED: usize = 20;
/// What follows; the last part for pods with several local volumes, as in Kubernetes itself.
const NEXT: &str = "the scheduler chooses a node again, and the same one if another volume of the pod \
                    is there";

/// Why a node cannot get the volume.
struct Fault {
    event: &'static str,
    why: String,
}

/// What is against the node before there is a temporary claim for it.
pub(super) fn before(situation: &Situation<'_>, node: &str) -> Option<Plan> {
    if let Some(fault) = fault_of(situation, node) {
        let message = format!("{}; {NEXT}", fault.why);
        let action = reject(situation, node, fault.event, &message);
        return Some(Plan::act(Reason::WaitingForConsumer, message, [action]));
    }
    let rejected = rejection(situation, node)?;
    let backoff = BACKOFF.bound(rejected.count);
    let left = remaining(rejected.at.0, backoff, situation.now);
    (!left.is_zero()).then(|| {
        let message = format!(
            "the scheduler has chosen the node {node} again, which could not get the volume; it is tried \
             again {} s after the last time",
            backoff.as_secs()
        );
        Plan::wait(Reason::WaitingForConsumer, message).requeue_after(left)
    })
}

/// Gives the node up that the temporary claim was created for, while it has no volume.
pub(super) fn give_up(
    situation: &Situation<'_>,
    temporary: &TemporaryClaim,
    pod: Option<&Pod>,
) -> Option<Plan> {
    let world = situation.world;
    let claim = &world.claim;
    let selected = temporary.selected_node.as_deref();
    let fault = match temporary.chosen_node.as_deref() {
        // Its pod is the first consumer, and the scheduler moves it by itself. It cannot do so when
        // the node is gone.
        None => fault_of(situation, selected?).filter(|fault| fault.event == name::NODE_GONE),
        Some(node) if selected != Some(node) => Some(provisioners(situation, node)),
        Some(node) => fault_of(situation, node).or_else(|| {
            let is_same = claim.selected_node.as_deref() == Some(node);
            (!is_same).then(|| Fault {
                event: name::NODE_UNSUITABLE,
                why: format!("the claim does not name the node {node} any more"),
            })
        }),
    }?;
    let node = temporary.chosen_node.as_deref().or(selected)?;
    let message = format!("{}; {NEXT}", fault.why);
    // Before the deletion: without this record the next temporary claim would be for the same node.
    let is_chosen = claim.selected_node.as_deref() == Some(node);
    let rejection = is_chosen.then(|| reject(situation, node, fault.event, &message));
    let event = (!is_chosen).then(|| Event::warning(fault.event, &message));
    let actions: Vec<Action> = rejection
        .into_iter()
        .chain(pod.and_then(delete_pod))
        .chain([delete_claim(temporary, DeleteReason::Abandoned)])
        .collect();
    let mut plan = Plan::act(Reason::WaitingForConsumer, message, actions);
    plan.events.extend(event);
    Some(plan)
}

fn provisioners(situation: &Situation<'_>, node: &str) -> Fault {
    let words = situation.world.provisioning_warning.as_deref();
    Fault {
        event: name::NODE_UNSUITABLE,
        why: format!(
            "the volume cannot be provisioned for the node {node}: {}",
            words.unwrap_or("its provisioner has given the node up")
        ),
    }
}

/// What the cluster shows against the node.
fn fault_of(situation: &Situation<'_>, node: &str) -> Option<Fault> {
    let nodes = &situation.world.nodes;
    if nodes.lacks(node) {
        return Some(Fault {
            event: name::NODE_GONE,
            why: format!("the node {node} is gone, and had no volume yet"),
        });
    }
    let found = nodes.find(node)?;
    let grace = situation.settings.node_grace;
    let why = if found.unschedulable {
        format!("the node {node} is cordoned, and had no volume yet")
    } else if found
        .unready_since
        .is_some_and(|since| remaining(since, grace, situation.now).is_zero())
    {
        format!("the node {node} has not been ready for some time, and had no volume yet")
    } else {
        return None;
    };
    Some(Fault {
        event: name::NODE_UNSUITABLE,
        why,
    })
}

fn rejection<'a>(situation: &Situation<'a>, node: &str) -> Option<&'a RejectedNode> {
    recent(situation).find(|rejected| rejected.node == node)
}

fn recent<'a>(situation: &Situation<'a>) -> impl Iterator<Item = &'a RejectedNode> {
    let now = situation.now;
    let rejected = situation.world.claim.rejected_nodes.iter();
    rejected.filter(move |rejected| !remaining(rejected.at.0, FORGOTTEN, now).is_zero())
}

fn reject(situation: &Situation<'_>, node: &str, event: &'static str, message: &str) -> Action {
    let before = rejection(situation, node).map_or(0, |rejected| rejected.count);
    let others = recent(situation).filter(|rejected| rejected.node != node);
    let mut rejected: Vec<RejectedNode> = others.cloned().collect();
    rejected.push(RejectedNode {
        node: node.to_owned(),
        at: Time(situation.now),
        count: before.saturating_add(1),
    });
    let excess = rejected.len().saturating_sub(MOST_REJECTED);
    rejected.drain(..excess);
    Action::RejectNode {
        node: node.to_owned(),
        rejected,
        event: Event::warning(event, message),
    }
}
