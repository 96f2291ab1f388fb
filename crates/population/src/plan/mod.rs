//! What to do next about one claim.
//!
//! [`plan`] is a function of its arguments: it decides, and [`Action`]s say what. Nothing is remembered
//! from one call to the next. The phase of a claim follows from what the cluster shows, so that a crash
//! between any two actions heals by planning again, and doing the same twice changes nothing.
//!
//! The way of a claim, top to bottom; each call takes at most one step:
//!
//! | what the cluster shows | step | module |
//! |---|---|---|
//! | no temporary claim, and nothing against one | make it | `begin` |
//! | temporary claim, no pod | make the pod | `attempt` |
//! | pod not ended | wait, and say what for | `attempt` |
//! | pod failed | again, or report why not | `failure` |
//! | pod succeeded, volume bound to the temporary claim | give the volume to the claim | `rebind` |
//! | claim bound, temporary claim lost | delete the temporary claim | `finish` |

mod action;
mod attempt;
mod begin;
mod event;
mod failure;
mod finish;
mod hold;
mod outdated;
mod proof;
mod rebind;

pub use action::{Action, DeleteReason};
pub use event::{Event, EventType};
pub use failure::FailureClass;

use std::time::Duration;

use jiff::Timestamp;
use populator_api::{GROUP, Reason, names::event as name};

use crate::{Settings, model::World};

/// How often a claim that waits is told its place. It is looked at at once when its turn has come.
const QUEUED_RECHECK: Duration = Duration::from_mins(5);

/// What to do, what to say, and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In this order; when one fails, those after it are not tried.
    pub actions: Vec<Action>,
    /// What holds now and the claim's owner should know. It holds again in the next plan; whoever emits
    /// events says it once for as long as it does.
    pub events: Vec<Event>,
    /// How it stands.
    pub status: Status,
    /// Plan again after this long, even if nothing changes by then.
    pub requeue_after: Option<Duration>,
    /// What it needs of the limits on concurrency. Where there is no slot, [`Plan::deferred`] is done instead.
    pub slot: Option<SlotUse>,
}

/// How a claim stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In one word.
    pub reason: Reason,
    /// In a sentence; may be empty where the word says all.
    pub message: String,
}

/// What a claim needs of the limits on concurrency, for its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotUse {
    /// It has a slot: bytes move, or are about to.
    Held,
    /// It could create its pod, or make way for another one, at once: between two attempts it holds its slot; after a
    /// permanent failure, or when what it needs was missing meanwhile, it has given it up and needs another one.
    Resume,
    /// It could begin at once, and needs a slot.
    Acquire,
}

/// A claim that has to wait for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// How many claims wait before it.
    pub ahead: usize,
    /// How many may have a slot at a time.
    pub limit: usize,
    /// Whose limit is reached.
    pub full: Full,
}

/// Which limit a claim waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The controller's.
    Controller,
    /// That of the claim's engine or identity service.
    Source,
}

/// Decides the next step for the claim in `world`; `None` when it is not for us to fill.
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
    let mut plan = if claim.terminating {
        finish::terminating(world)
    } else if claim.volume.is_some() {
        finish::bound(world)
    } else if world.is_rebound() {
        rebind::under_way(world)
    } else if let Some(refused) = begin::refusal(&situation) {
        refused
    } else if let Some(temporary) = world.own_temporary() {
        attempt::next(&situation, temporary)
    } else {
        begin::next(&situation)
    };
    plan.actions.extend(hold::release(&situation));
    if plan.slot.is_none() && world.own_temporary().is_some() && holds_slot(plan.status.reason) {
        plan.slot = Some(SlotUse::Held);
    }
    Some(plan)
}

/// Whether a claim that has its temporary claim, and stands like this, holds its slot.
const fn holds_slot(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Provisioning
            | Reason::PodPending
            | Reason::PodStuck
            | Reason::Copying
            | Reason::Retrying
            | Reason::NodeLost
            | Reason::Clearing
            | Reason::WaitingForConsumer
    )
}

/// Everything that is decided from.
#[derive(Debug, Clone, Copy)]
struct Situation<'a> {
    world: &'a World,
    settings: &'a Settings,
    now: Timestamp,
}

impl Plan {
    /// Do nothing.
    fn wait(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            actions: Vec::new(),
            events: Vec::new(),
            status: Status {
                reason,
                message: message.into(),
            },
            requeue_after: None,
            slot: None,
        }
    }

    /// Do nothing, and tell the claim's owner why.
    fn warn(event: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        let mut plan = Self::wait(reason, message);
        plan.events
            .push(Event::warning(event, &plan.status.message));
        plan
    }

    fn act(reason: Reason, message: impl Into<String>, actions: impl Into<Vec<Action>>) -> Self {
        let mut plan = Self::wait(reason, message);
        plan.actions = actions.into();
        plan
    }

    fn requeue_after(mut self, pause: Duration) -> Self {
        self.requeue_after = Some(pause);
        self
    }

    /// Needs a slot for its actions.
    const fn with_slot(mut self, slot: SlotUse) -> Self {
        self.slot = Some(slot);
        self
    }

    /// What is done instead while there is no slot: nothing that starts work, and what keeps the record true.
    #[must_use]
    pub fn deferred(mut self, queued: &Queued) -> Self {
        self.actions.retain(Action::needs_no_slot);
        let who = match queued.full {
            Full::Controller => "the controller serves",
            Full::Source => "the claim's source serves",
        };
        let Queued { ahead, limit, .. } = queued;
        let message =
            format!("{who} {limit} claims at a time and is full; {ahead} wait before this one");
        self.events = vec![Event::normal(name::THROTTLED, &message)];
        self.status = Status {
            reason: Reason::Throttled,
            message,
        };
        self.requeue_after(QUEUED_RECHECK)
    }
}
