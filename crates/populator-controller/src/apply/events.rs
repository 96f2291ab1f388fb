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
    model::Claim,
    plan::{Event, EventType},
};

/// The API server forgets events after an hour. What still holds is said again before.
const SAY_AGAIN: Duration = Duration::from_mins(30);
/// What changes in its details only (a place in a queue) is said this often at most.
const REWORD: Duration = Duration::from_mins(1);
/// The longest name of an object is 253 bytes; a dot and a hash follow.
const MOST_OF_NAME: usize = 230;

/// Says things once for as long as they hold.
pub struct Recorder {
    client: Client,
    telemetry: Telemetry,
    said: Mutex<HashMap<String, Vec<Emitted>>>,
}

/// What a claim's owner was told and still holds.
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
    /// Nothing was said yet.
    #[must_use]
    pub fn new(client: Client, telemetry: Telemetry) -> Self {
        Self {
            client,
            telemetry,
            said: Mutex::default(),
        }
    }

    /// Says what holds now, unless it was said and has held since. A failure is logged: nothing depends on
    /// an event.
    pub async fn sync(&self, claim: &Claim, events: &[Event], now: Timestamp) {
        let due = {
            let mut said = self.lock();
            let before = said.remove(&claim.uid).unwrap_or_default();
            let (held, due) = sort(&before, events, now);
            if !held.is_empty() {
                said.insert(claim.uid.clone(), held);
            }
            due
        };
        for said in due {
            self.write(claim, &said.event, said.times, now).await;
        }
    }

    /// Says what has happened.
    pub async fn emit(&self, claim: &Claim, event: &Event, now: Timestamp) {
        self.write(claim, event, 1, now).await;
    }

    /// The claim is gone.
    pub fn forget(&self, claim_uid: &str) {
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
            // The same was said before, perhaps by an earlier process.
            Err(error) if exists(&error) => {
                let mut again = json!({"lastTimestamp": Time(now)});
                if times > 1 {
                    again["count"] = times.into();
                }
                self.telemetry.wrote("patch", "events");
                api.patch(&name, &parameters(), &Patch::Merge(&again)).await
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Emitted>>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What holds, and what of it is to be said now.
fn sort(before: &[Emitted], events: &[Event], now: Timestamp) -> (Vec<Emitted>, Vec<Emitted>) {
    let mut held = Vec::new();
    let mut due = Vec::new();
    for event in events {
        let earlier = before.iter().find(|said| said.event.reason == event.reason);
        let since = earlier.map(|said| now.duration_since(said.at).unsigned_abs());
        let pause = match earlier {
            Some(said) if said.event == *event => SAY_AGAIN,
            _ => REWORD,
        };
        match earlier.zip(since) {
            Some((said, since)) if since < pause => held.push(said.clone()),
            _ => {
                let same = earlier.filter(|said| said.event == *event);
                let said = Emitted {
                    event: event.clone(),
                    at: now,
                    times: same.map_or(1, |said| said.times.saturating_add(1)),
                };
                held.push(said.clone());
                due.push(said);
            }
        }
    }
    (held, due)
}

/// The event as an object. Its name follows from what it says, so that the same, said by another process,
/// is the same object.
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
            uid: Some(claim.uid.clone()),
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

    fn said(
        events: &[(&'static str, &str)],
        before: &[Emitted],
        second: i64,
    ) -> (Vec<Emitted>, Vec<String>) {
        let events: Vec<Event> = events
            .iter()
            .map(|(reason, message)| Event::warning(reason, message))
            .collect();
        let (held, due) = sort(before, &events, at(second));
        let words = |said: Emitted| {
            format!(
                "{} {} {}",
                said.event.reason, said.event.message, said.times
            )
        };
        (held, due.into_iter().map(words).collect())
    }

    #[test]
    fn what_holds_is_said_once_and_again_before_it_is_forgotten() {
        let (held, due) = said(&[("Failed", "why")], &[], 0);
        assert_eq!(due, ["Failed why 1"]);
        let (held, due) = said(&[("Failed", "why")], &held, 1799);
        assert!(due.is_empty());
        let (_, due) = said(&[("Failed", "why")], &held, 1800);
        assert_eq!(due, ["Failed why 2"]);
    }

    #[test]
    fn what_has_ended_is_said_again_when_it_comes_back() {
        let (held, _) = said(&[("Failed", "why")], &[], 0);
        let (held, _) = said(&[], &held, 1);
        let (_, due) = said(&[("Failed", "why")], &held, 2);
        assert_eq!(due, ["Failed why 1"]);
    }

    #[test]
    fn details_are_not_told_by_the_second() {
        let (held, _) = said(&[("Throttled", "3 wait")], &[], 0);
        let (held, due) = said(&[("Throttled", "2 wait")], &held, 59);
        assert!(due.is_empty());
        let (_, due) = said(&[("Throttled", "1 waits")], &held, 60);
        assert_eq!(due, ["Throttled 1 waits 1"]);
    }
}
