//! Which events on claims are due: each is emitted once for as long as it is true, and what happens
//! again and again is emitted at a pace. A step of routine is held for a moment, in which the next event takes
//! its place.
//!
//! They are written by a task of their own, [`EventWriter`], from a queue that has a bound: an API
//! server that is slow to take events delays no reconcile, and a storm of them takes no memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::event_writer::{EventWriter, Item, Write};
use crate::telemetry::Telemetry;
use population::{
    model::{Claim, Uid},
    plan::{Event, EventType},
};

/// The API server deletes events after an hour. An event that is still true is renewed before that.
const RENEW: Duration = Duration::from_mins(30);
/// Shortest time between two events of one reason, where only the message changes (a queue
/// position).
const REWORD: Duration = Duration::from_mins(1);
/// An event of routine waits so long for the next one. A short copy ends within it.
const HOLD: Duration = Duration::from_secs(10);
/// Events that wait to be written. At two requests of 10 ms each, a full queue is written within half
/// a minute.
const QUEUE: usize = 1000;

/// Decides which events are due, and queues them.
pub struct Recorder {
    queue: mpsc::Sender<Item>,
    telemetry: Telemetry,
    emitted: Mutex<HashMap<Uid, OfClaim>>,
}

/// The events of one claim.
#[derive(Debug, Default)]
struct OfClaim {
    /// Those that are true.
    current: Vec<Emitted>,
    /// Those that were reported, one for each reason.
    reported: Vec<Emitted>,
    /// The one of routine that waits for the next one.
    held: Option<Held>,
}

/// An event of routine.
#[derive(Debug)]
struct Held {
    write: Box<Write>,
    at: Timestamp,
}

impl Held {
    fn left(&self, now: Timestamp) -> Duration {
        HOLD.saturating_sub(now.duration_since(self.at).unsigned_abs())
    }
}

/// An event that was emitted.
#[derive(Debug, Clone)]
struct Emitted {
    event: Event,
    at: Timestamp,
    times: i32,
}

impl OfClaim {
    const fn is_empty(&self) -> bool {
        self.current.is_empty() && self.reported.is_empty() && self.held.is_none()
    }
}

impl Emitted {
    fn warns(&self) -> bool {
        self.event.event_type == EventType::Warning
    }
}

impl Recorder {
    /// A recorder that has emitted nothing yet, and the writer of its queue.
    #[must_use]
    pub fn with_writer(client: Client, telemetry: Telemetry) -> (Self, EventWriter) {
        let (queue, items) = mpsc::channel(QUEUE);
        let recorder = Self {
            queue,
            telemetry: telemetry.clone(),
            emitted: Mutex::default(),
        };
        (recorder, EventWriter::new(client, telemetry, items))
    }

    /// Emits the events that are true now, unless they were emitted and have been true since. Returns
    /// after what time an event is due that is held, or whose words have changed too soon.
    pub fn sync(&self, claim: &Claim, events: &[Event], now: Timestamp) -> Option<Duration> {
        let mut emitted = self.lock();
        let of_claim = emitted.entry(claim.uid.clone()).or_default();
        let (current, due) = sort(&of_claim.current, events, now);
        let is_held = |held: &Held| !held.left(now).is_zero() && !due.iter().any(Emitted::warns);
        self.let_go(&mut of_claim.held, is_held);
        let before = std::mem::replace(&mut of_claim.current, current);
        self.queue_all(claim, due, &mut of_claim.current, &before);
        let postponed = events.iter().filter_map(|event| {
            let mut current = of_claim.current.iter();
            let shown = current.find(|shown| shown.event.reason == event.reason)?;
            let since = now.duration_since(shown.at).unsigned_abs();
            (shown.event != *event).then(|| REWORD.saturating_sub(since))
        });
        let held = of_claim.held.as_ref().map(|held| held.left(now));
        let next = postponed.chain(held).min();
        if of_claim.is_empty() {
            emitted.remove(&claim.uid);
        }
        next
    }

    /// Emits an event for something that has happened. One of routine is held: returns after what time
    /// [`Self::sync`] emits it, if no other one that is no warning has taken its place.
    pub fn emit(&self, claim: &Claim, event: &Event, now: Timestamp) -> Option<Duration> {
        let mut emitted = self.lock();
        let of_claim = emitted.entry(claim.uid.clone()).or_default();
        if event.event_type == EventType::Warning {
            self.let_go(&mut of_claim.held, |_| false);
        }
        of_claim.held = None;
        if event.is_routine() {
            log(claim, event);
            let write = Box::new(Write::new(claim, event, 1, now));
            of_claim.held = Some(Held { write, at: now });
            return Some(HOLD);
        }
        if of_claim.is_empty() {
            emitted.remove(&claim.uid);
        }
        self.queue(claim, event, 1, now);
        None
    }

    /// Emits an event for something that happens again and again, such as a refusal that is retried:
    /// at a pace, and not each time.
    pub fn report(&self, claim: &Claim, event: &Event, now: Timestamp) {
        let mut emitted = self.lock();
        let OfClaim { reported, held, .. } = emitted.entry(claim.uid.clone()).or_default();
        let (current, due) = sort(reported, std::slice::from_ref(event), now);
        self.let_go(held, |_| !due.iter().any(Emitted::warns));
        let before = std::mem::take(reported);
        let others = before.iter().filter(|earlier| {
            let age = now.duration_since(earlier.at).unsigned_abs();
            earlier.event.reason != event.reason && age < RENEW
        });
        *reported = others.cloned().chain(current).collect();
        self.queue_all(claim, due, reported, &before);
    }

    /// Drops the events of a claim that is gone.
    pub fn forget(&self, claim_uid: &Uid) {
        self.lock().remove(claim_uid);
    }

    /// Queues what is held, and waits until what was queued so far is written. It never ends without an
    /// [`EventWriter`] that runs.
    pub async fn flush(&self) {
        for of_claim in self.lock().values_mut() {
            self.let_go(&mut of_claim.held, |_| false);
        }
        let (done, is_done) = oneshot::channel();
        // Without a writer there is nothing to wait for.
        if self.queue.send(Item::Flush(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Queues what is held, unless it still is.
    fn let_go(&self, held: &mut Option<Held>, is_held: impl Fn(&Held) -> bool) {
        if let Some(held) = held.take_if(|held| !is_held(held)) {
            self.send(held.write);
        }
    }

    /// Queues what is due. What finds no room counts as not emitted, and is due again the next time.
    fn queue_all(
        &self,
        claim: &Claim,
        due: Vec<Emitted>,
        current: &mut Vec<Emitted>,
        before: &[Emitted],
    ) {
        for Emitted { event, at, times } in due {
            if self.queue(claim, &event, times, at) {
                continue;
            }
            let same = |emitted: &Emitted| emitted.event.reason == event.reason;
            current.retain(|emitted| !same(emitted));
            current.extend(before.iter().find(|emitted| same(emitted)).cloned());
        }
    }

    /// Queues and logs an event; returns whether there was room. Nothing depends on an event.
    fn queue(&self, claim: &Claim, event: &Event, times: i32, now: Timestamp) -> bool {
        let is_queued = self.send(Box::new(Write::new(claim, event, times, now)));
        if is_queued {
            log(claim, event);
        }
        is_queued
    }

    /// Returns whether there was room.
    fn send(&self, write: Box<Write>) -> bool {
        match self.queue.try_send(Item::Write(write)) {
            // Without a writer the process is ending.
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => {
                self.telemetry.dropped_event();
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, OfClaim>> {
        self.emitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(claim: &Claim, event: &Event) {
    let Claim {
        name, namespace, ..
    } = claim;
    let Event {
        reason, message, ..
    } = event;
    match event.event_type {
        EventType::Normal => tracing::info!(claim = name, namespace, reason, "{message}"),
        EventType::Warning => tracing::warn!(claim = name, namespace, reason, "{message}"),
    }
}

/// The events that are true, and those of them that are due to be written now.
fn sort(before: &[Emitted], events: &[Event], now: Timestamp) -> (Vec<Emitted>, Vec<Emitted>) {
    let mut current = Vec::new();
    let mut due = Vec::new();
    for event in events {
        let earlier = before
            .iter()
            .find(|earlier| earlier.event.reason == event.reason);
        let since = earlier.map(|earlier| now.duration_since(earlier.at).unsigned_abs());
        let pause = match earlier {
            Some(emitted) if emitted.event == *event => RENEW,
            _ => REWORD,
        };
        match earlier.zip(since) {
            // Kept as it was written, so that a changed message is compared with what its reader
            // saw.
            Some((earlier, since)) if since < pause => current.push(earlier.clone()),
            _ => {
                let same = earlier.filter(|earlier| earlier.event == *event);
                let emitted = Emitted {
                    event: event.clone(),
                    at: now,
                    times: same.map_or(1, |earlier| earlier.times.saturating_add(1)),
                };
                current.push(emitted.clone());
                due.push(emitted);
            }
        }
    }
    (current, due)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn emitted(
        events: &[(&'static str, &str)],
        before: &[Emitted],
        second: i64,
    ) -> (Vec<Emitted>, Vec<String>) {
        let events: Vec<Event> = events
            .iter()
            .map(|(reason, message)| Event::warning(reason, message))
            .collect();
        let (held, due) = sort(before, &events, at(second));
        let words = |emitted: Emitted| {
            format!(
                "{} {} {}",
                emitted.event.reason, emitted.event.message, emitted.times
            )
        };
        (held, due.into_iter().map(words).collect())
    }

    #[test]
    fn what_is_true_is_emitted_once_and_renewed_before_it_is_deleted() {
        let (held, due) = emitted(&[("Failed", "why")], &[], 0);
        assert_eq!(due, ["Failed why 1"]);
        let (held, due) = emitted(&[("Failed", "why")], &held, 1799);
        assert!(due.is_empty());
        let (_, due) = emitted(&[("Failed", "why")], &held, 1800);
        assert_eq!(due, ["Failed why 2"]);
    }

    #[test]
    fn what_has_ended_is_emitted_again_when_it_comes_back() {
        let (held, _) = emitted(&[("Failed", "why")], &[], 0);
        let (held, _) = emitted(&[], &held, 1);
        let (_, due) = emitted(&[("Failed", "why")], &held, 2);
        assert_eq!(due, ["Failed why 1"]);
    }

    #[test]
    fn details_are_not_emitted_by_the_second() {
        let (held, _) = emitted(&[("Throttled", "3 wait")], &[], 0);
        let (held, due) = emitted(&[("Throttled", "2 wait")], &held, 59);
        assert!(due.is_empty());
        let (_, due) = emitted(&[("Throttled", "1 waits")], &held, 60);
        assert_eq!(due, ["Throttled 1 waits 1"]);
    }
}
