//! What a plan consists of, and what it is decided from.

use std::time::Duration;

use jiff::Timestamp;
use populator_api::{Reason, names::event as name};

use super::{action::Action, event::Event};
use crate::{Settings, model::World, text};

/// Longest sentence of a status, in bytes.
const MOST_BYTES: usize = 1024;

/// A queued claim is reconciled this often, so that its message names its current position. When a
/// slot is free, the queue triggers it at once.
const QUEUED_RECHECK: Duration = Duration::from_mins(5);

/// The next step of a claim: what to do, what to report, and what state the claim is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In this order; when one fails, those after it are not tried.
    pub actions: Vec<Action>,
    /// What is true now and what the claim's owner should know. The next plan repeats an event that
    /// is still true; the recorder writes it once.
    pub events: Vec<Event>,
    /// The state of the claim, for the status of its populator resource.
    pub status: Status,
    /// Plan again after this long, even if nothing changes by then.
    pub requeue_after: Option<Duration>,
    /// What it needs of the limits on concurrency. Without a slot, [`Plan::deferred`] is done
    /// instead.
    pub slot: Option<SlotUse>,
    /// What makes sure that a stalled claim does not start by itself, when there is no room for it.
    pub parking: Option<Action>,
}

/// The state of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state in one word, as the conditions show it.
    pub reason: Reason,
    /// The state in a sentence of one line; may be empty where the word says it all.
    pub message: String,
}

/// What a claim needs of the limits on concurrency, for its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotUse {
    /// It has a slot: bytes move, or are about to.
    Held,
    /// It moves nothing and gives its slot to others, but its pod may start by itself.
    Stalled {
        /// Its pod has had its time to start. Without room for it, the pod is deleted.
        is_late: bool,
    },
    /// It can create its pod, or delete a failed one, at once. Between two attempts it still holds
    /// its slot. After a permanent failure, or while something it needs was missing, it gave the
    /// slot up and needs another one.
    Resume,
    /// It can create its temporary claim at once, and needs a slot for that.
    Acquire,
}

/// The position of a claim that waits for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// How many claims wait before it.
    pub ahead: usize,
    /// How many claims may have a slot at a time.
    pub limit: usize,
    /// The limit that is reached.
    pub full: Full,
}

/// The limit that a claim waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Full {
    /// The limit of the whole controller.
    Controller,
    /// The limit of the claim's engine or identity service.
    Source,
    /// The limit of the claim's namespace.
    Namespace,
}

/// Everything that a plan is decided from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    pub(super) world: &'a World,
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
}

impl Plan {
    /// Do nothing.
    pub(super) fn wait(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            actions: Vec::new(),
            events: Vec::new(),
            status: Status {
                reason,
                message: text::plain(&message.into(), MOST_BYTES),
            },
            requeue_after: None,
            slot: None,
            parking: None,
        }
    }

    /// Do nothing, and report why to the claim's owner.
    pub(super) fn warn(event: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        let mut plan = Self::wait(reason, message);
        plan.events
            .push(Event::warning(event, &plan.status.message));
        plan
    }

    pub(super) fn act(
        reason: Reason,
        message: impl Into<String>,
        actions: impl Into<Vec<Action>>,
    ) -> Self {
        let mut plan = Self::wait(reason, message);
        plan.actions = actions.into();
        plan
    }

    pub(super) fn requeue_after(mut self, delay: Duration) -> Self {
        self.requeue_after = Some(delay);
        self
    }

    /// The plan needs a slot for its actions.
    pub(super) const fn with_slot(mut self, slot: SlotUse) -> Self {
        self.slot = Some(slot);
        self
    }

    /// What is done instead while there is no slot: nothing that starts work. Adoption, records and
    /// finalizers are still written, since others rely on them meanwhile.
    #[must_use]
    pub fn deferred(mut self, queued: &Queued) -> Self {
        self.actions.retain(Action::needs_no_slot);
        if matches!(self.slot, Some(SlotUse::Stalled { .. })) {
            // Its own message is the one that helps: why it does not start.
            self.actions.extend(self.parking.take());
            return self.requeue_after(QUEUED_RECHECK);
        }
        let who = match queued.full {
            Full::Controller => "the controller serves",
            Full::Source => "the claim's source serves",
            Full::Namespace => "of the claim's namespace the controller serves",
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
