//! What to do next about one claim.
//!
//! [`plan()`] is a function of its arguments: it decides, and [`Action`]s say what is to be done.
//! Nothing is kept from one call to the next. The phase of a claim follows from what the cluster
//! shows, so that planning again repairs a crash between any two actions, and every action is
//! idempotent.
//!
//! The life of a claim, top to bottom; each call takes at most one step:
//!
//! | what the cluster shows | step | module |
//! |---|---|---|
//! | no temporary claim, and nothing against one | create it | `begin` |
//! | temporary claim, no pod | create the pod | `attempt` |
//! | pod has not ended | wait, and report what for | `attempt` |
//! | pod failed | another attempt, or report why not | `failure` |
//! | pod succeeded, volume bound to the temporary claim | give the volume to the claim | `rebind` |
//! | claim bound, temporary claim lost | delete the temporary claim | `finish` |
//!
//! Beside them: `late_binding` chooses and gives up nodes, `usage` says who holds a slot, `proof` and `outdated` answer questions about what is there, `hold` keeps what must
//! outlive a pod, and `steps` has what several modules do.

mod action;
mod attempt;
mod begin;
mod deadline;
mod event;
mod failure;
mod finish;
mod hold;
mod late_binding;
mod outdated;
mod proof;
mod rebind;
mod steps;
mod types;
mod usage;

pub use action::{Action, DeleteReason};
pub use event::{Event, EventType};
pub use failure::FailureClass;
pub use types::{Full, Plan, Queued, SlotUse, Status};

use jiff::Timestamp;
use populator_api::{GROUP, names::event as event_name};

use self::types::Situation;
use crate::{Settings, model::World};

/// Decides the next step for the claim in `world`; `None` when it is none of ours: its data source
/// is of another API group, or it was bound without us, by a backup tool for instance.
#[must_use]
pub fn plan(world: &World, settings: &Settings, now: Timestamp) -> Option<Plan> {
    let claim = &world.claim;
    if claim.reference.group != GROUP {
        return None;
    }
    let situation = Situation {
        world,
        settings,
        now,
    };
    // From what cannot be changed any more to what can: a later branch may create and delete
    // objects only because all earlier ones have ruled out that the claim is deleted, bound or
    // about to be.
    let mut plan = if claim.terminating {
        finish::terminating(world)
    } else if claim.volume.is_some() {
        // Before the refusals: a claim that was bound is cleaned up whatever its settings say now.
        finish::bound(&situation)?
    } else if world.is_rebound() {
        // Only Kubernetes has something left to do. Nothing is deleted before the claim is bound,
        // since what is seen of the volume and of the claims may differ in age.
        rebind::under_way(world)
    } else if let Some(refused) = begin::refusal(&situation) {
        // Also when there is a temporary claim: the work stops where it is, and nothing is lost if
        // the cause of the refusal goes away.
        refused
    } else if let Some(temporary) = world.own_temporary() {
        attempt::next(&situation, temporary)
    } else {
        begin::next(&situation)
    };
    // Last, since an action that fails stops those after it: the pod is released only after its
    // failure was counted or its volume dropped.
    plan.actions.extend(hold::release(&situation));
    let leftovers = proof::leftovers(world);
    plan.events
        .extend(leftovers.map(|warning| Event::warning(event_name::LEFTOVERS, &warning)));
    // A branch that starts work has said which slot it needs. Any other one keeps the slot that the
    // claim got with its temporary claim.
    if plan.slot.is_none()
        && let Some(temporary) = world.own_temporary()
    {
        plan.slot = usage::of(&situation, temporary, plan.status.reason);
    }
    Some(plan)
}
