//! What happened at a server, in order, to be waited for.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Instant,
};

use super::Request;
use crate::{DEADLINE, lock};

/// Something that happened at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection was accepted.
    Connected {
        /// Its number.
        connection: usize,
    },
    /// The TLS handshake did not succeed.
    HandshakeFailed {
        /// The connection.
        connection: usize,
        /// Why.
        error: String,
    },
    /// A request was read.
    Requested(Request),
    /// A fault began that waits for a gate.
    Held {
        /// The request, or for a handshake the connection.
        seq: usize,
    },
    /// The answer was sent, or ended early.
    Answered {
        /// The request.
        seq: usize,
        /// Status that was sent; 0 when none was.
        status: u16,
        /// Bytes of the body that were sent.
        sent: u64,
        /// Whether the peer took all that the script wanted to send.
        delivered: bool,
    },
    /// The connection ended, from either side.
    Closed {
        /// The connection.
        connection: usize,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
}

impl Log {
    pub(crate) fn push(&self, event: Event) {
        lock(&self.events).push(event);
        self.changed.notify_all();
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    pub(crate) fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[Event]) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut events = lock(&self.events);
        loop {
            if let Some(found) = find(&events) {
                return found;
            }
            let left = DEADLINE.saturating_sub(begun.elapsed());
            assert!(!left.is_zero(), "never happened: {what}; log: {events:#?}");
            events = self
                .changed
                .wait_timeout(events, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
