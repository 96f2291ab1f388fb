//! Events on claims (core/v1, which Forklift's role allows and `kubectl describe` shows).

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event as Object, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PostParams},
};
use serde_json::json;

use super::{FIELD_MANAGER, is_in_ending_namespace, parameters};
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
/// Bytes of the claim's name in the event's name, of 253 in all; a dot and a hash follow.
const MOST_OF_NAME: usize = 230;

/// Emits each event once for as long as it is true.
pub struct Recorder {
    client: Client,
    telemetry: Telemetry,
    /// The events that are true, by UID of the claim.
    emitted: Mutex<HashMap<Uid, Vec<Emitted>>>,
}

/// An event that was emitted and is still true.
#[derive(Debug, Clone)]
struct Emitted {
    event: Event,
    at: Timestamp,
    times: i32,
}

impl Debug for Recorder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Recorder")
    }
}

impl Recorder {
    /// A recorder that has emitted nothing yet.
    #[must_use]
    pub fn new(client: Client, telemetry: Telemetry) -> Self {
        Self {
            client,
            telemetry,
            emitted: Mutex::default(),
        }
    }

    /// Emits the events that are true now, unless they were emitted and have been true since. A
    /// failure is logged and not returned: nothing depends on an event.
    pub async fn sync(&self, claim: &Claim, events: &[Event], now: Timestamp) {
        // The lock is released before the requests.
        let due = {
            let mut emitted = self.lock();
            let before = emitted.remove(&claim.uid).unwrap_or_default();
            let (current, due) = sort(&before, events, now);
            if !current.is_empty() {
                emitted.insert(claim.uid.clone(), current);
            }
            due
        };
        for Emitted { event, times, .. } in due {
            self.write(claim, &event, times, now).await;
        }
    }

    /// Emits an event for something that has happened.
    pub async fn emit(&self, claim: &Claim, event: &Event, now: Timestamp) {
        self.write(claim, event, 1, now).await;
    }

    /// Drops the events of a claim that is gone.
    pub fn forget(&self, claim_uid: &Uid) {
        self.lock().remove(claim_uid);
    }

    async fn write(&self, claim: &Claim, event: &Event, times: i32, now: Timestamp) {
        match event.event_type {
            EventType::Normal => {
                tracing::info!(
                    claim = claim.name,
                    namespace = claim.namespace,
                    reason = event.reason,
                    "{}",
                    event.message
                );
            }
            EventType::Warning => {
                tracing::warn!(
                    claim = claim.name,
                    namespace = claim.namespace,
                    reason = event.reason,
                    "{}",
                    event.message
                );
            }
        }
        let api = Api::<Object>::namespaced(self.client.clone(), &claim.namespace);
        let object = object(claim, event, now);
        let name = object.metadata.name.clone().unwrap_or_default();
        let create = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let exists =
            |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 409);
        self.telemetry.wrote("create", "events");
        let written = match api.create(&create, &object).await {
            // The event exists, perhaps from an earlier process: it is renewed.
            Err(error) if exists(&error) => {
                let mut renewal = json!({"lastTimestamp": Time(now)});
                if times > 1 {
                    renewal["count"] = times.into();
                }
                self.telemetry.wrote("patch", "events");
                api.patch(&name, &parameters(), &Patch::Merge(&renewal))
                    .await
            }
            other => other,
        };
        let (claim, namespace) = (&claim.name, &claim.namespace);
        match written {
            Ok(_) => {}
            Err(error) if is_in_ending_namespace(&error) => {
                tracing::debug!(claim, namespace, "an event cannot be written: {error}");
            }
            Err(error) => tracing::warn!(claim, namespace, "an event cannot be written: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Vec<Emitted>>> {
        self.emitted.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The event as an object. Its name is a hash of its content, so that another process that emits
/// the same event writes the same object.
fn object(claim: &Claim, event: &Event, now: Timestamp) -> Object {
    let mut hasher = DefaultHasher::new();
    (&claim.uid, event.reason, &event.message).hash(&mut hasher);
    let name = &claim.name[..claim.name.floor_char_boundary(MOST_OF_NAME)];
    Object {
        metadata: ObjectMeta {
            namespace: Some(claim.namespace.clone()),
            name: Some(format!("{name}.{:016x}", hasher.finish())),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: Some(claim.namespace.clone()),
            name: Some(claim.name.clone()),
            uid: Some(claim.uid.to_string()),
            ..ObjectReference::default()
        },
        type_: Some(
            match event.event_type {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            }
            .to_owned(),
        ),
        reason: Some(event.reason.to_owned()),
        message: Some(event.message.clone()),
        source: Some(EventSource {
            component: Some(FIELD_MANAGER.to_owned()),
            host: None,
        }),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Object::default()
    }
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
