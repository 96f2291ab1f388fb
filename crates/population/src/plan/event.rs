//! Events: what the owner of a claim learns from `kubectl describe`.

use populator_api::names::event as name;

use crate::text;

/// The API server rejects events with a longer message, in bytes.
const MOST_BYTES: usize = 1024;

/// An event on the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whether the owner has to do something.
    pub event_type: EventType,
    /// One word, from [`populator_api::names::event`].
    pub reason: &'static str,
    /// A sentence of at most 1024 bytes in one line, free of secrets.
    pub message: String,
}

/// Type of an event, as Kubernetes writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Information only.
    Normal,
    /// The owner or an administrator should act.
    Warning,
}

impl Event {
    /// An event for information only. A message that is too long is cut.
    #[must_use]
    pub fn normal(reason: &'static str, message: &str) -> Self {
        Self::new(EventType::Normal, reason, message)
    }

    /// An event that the owner or an administrator should act on. A message that is too long is
    /// cut.
    #[must_use]
    pub fn warning(reason: &'static str, message: &str) -> Self {
        Self::new(EventType::Warning, reason, message)
    }

    /// Whether the event says no more than that a step of routine was taken. It need not be written when the
    /// claim's next event follows soon, and is no warning: that one implies it.
    #[must_use]
    pub fn is_routine(&self) -> bool {
        self.reason == name::CREATED
    }

    fn new(event_type: EventType, reason: &'static str, message: &str) -> Self {
        Self {
            event_type,
            reason,
            message: text::plain(message, MOST_BYTES),
        }
    }
}
