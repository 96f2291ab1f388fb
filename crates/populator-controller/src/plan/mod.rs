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
//! | claim bound, temporary claim lost | delete the temporary claim | `settle` |

mod action;
mod attempt;
mod begin;
mod event;
mod failure;
mod hold;
mod outdated;
mod proof;
mod rebind;
mod settle;

pub use action::{Action, Removal};
pub use event::{Event, EventType};
pub use failure::Verdict;

use std::time::Duration;

use jiff::Timestamp;
use populator_api::{GROUP, Reason, names::event as name};

use crate::{Settings, model::World};

/// How often a claim that waits is told its place. It is looked at at once when its turn has come.
const TELL_PLACE: Duration = Duration::from_mins(5);

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
    pub again: Option<Duration>,
}

/// How a claim stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In one word.
    pub reason: Reason,
    /// In a sentence; may be empty where the word says all.
    pub message: String,
}

/// Whether something new may be started for the claim now. It is decided elsewhere, since it depends on
/// all claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Granted,
    /// It must wait.
    Waiting {
        /// How many claims wait before it.
        ahead: usize,
        /// How many may be served at a time.
        limit: usize,
        /// Who is full.
        full: Full,
    },
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
pub fn plan(
    world: &World,
    settings: &Settings,
    admission: &Admission,
    now: Timestamp,
) -> Option<Plan> {
    let claim = &world.claim;
    if claim.reference.group != GROUP {
        return None;
    }
    let situation = Situation {
        world,
        settings,
        admission,
        now,
    };
    let mut plan = if claim.terminating {
        settle::terminating(world)
    } else if claim.volume.is_some() {
        settle::bound(world)
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
    Some(plan)
}

/// Everything that is decided from.
#[derive(Debug, Clone, Copy)]
struct Situation<'a> {
    world: &'a World,
    settings: &'a Settings,
    admission: &'a Admission,
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
            again: None,
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

    fn again_after(mut self, pause: Duration) -> Self {
        self.again = Some(pause);
        self
    }
}

impl Situation<'_> {
    /// `None` when something new may be started, else what to do meanwhile.
    fn throttled(&self) -> Option<Plan> {
        let Admission::Waiting { ahead, limit, full } = self.admission else {
            return None;
        };
        let who = match full {
            Full::Controller => "the controller serves",
            Full::Source => "the claim's source serves",
        };
        let message =
            format!("{who} {limit} claims at a time and is full; {ahead} wait before this one");
        let mut plan = Plan::wait(Reason::Throttled, message);
        plan.events
            .push(Event::normal(name::THROTTLED, &plan.status.message));
        Some(plan.again_after(TELL_PLACE))
    }
}
