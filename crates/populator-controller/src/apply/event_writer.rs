//! Writes events on claims (core/v1, which Forklift's role allows and `kubectl describe` shows).

use std::hash::{DefaultHasher, Hash, Hasher};

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
use tokio::sync::{mpsc, oneshot};

use super::{FIELD_MANAGER, is_in_ending_namespace, parameters};
use crate::telemetry::Telemetry;
use population::{
    model::Claim,
    plan::{Event, EventType},
};

/// Bytes of the claim's name in the event's name, of 253 in all; a dot and a hash follow.
const MOST_OF_NAME: usize = 230;

/// Writes the events that a [`super::Recorder`] queues, one after the other.
pub struct EventWriter {
    client: Client,
    telemetry: Telemetry,
    items: mpsc::Receiver<Item>,
}

/// What is in the queue.
pub(super) enum Item {
    /// An event.
    Write(Box<Write>),
    /// Tells that all before it is written.
    Flush(oneshot::Sender<()>),
}

/// An event to write.
#[derive(Debug)]
pub(super) struct Write {
    object: Object,
    times: i32,
}

impl Write {
    pub(super) fn new(claim: &Claim, event: &Event, times: i32, now: Timestamp) -> Self {
        Self {
            object: object(claim, event, now),
            times,
        }
    }
}

impl EventWriter {
    pub(super) const fn new(
        client: Client,
        telemetry: Telemetry,
        items: mpsc::Receiver<Item>,
    ) -> Self {
        Self {
            client,
            telemetry,
            items,
        }
    }

    /// Writes what is queued, until the recorder is gone. A failure is logged and not retried:
    /// nothing depends on an event, and one that stays true comes again.
    pub async fn run(mut self) {
        // The first failure in a row is a warning: the others say the same.
        let mut has_failed = false;
        while let Some(item) = self.items.recv().await {
            let write = match item {
                Item::Write(write) => write,
                Item::Flush(done) => {
                    // Whoever waited has given up.
                    let _ = done.send(());
                    continue;
                }
            };
            let (claim, namespace) = (
                &write.object.involved_object.name,
                &write.object.metadata.namespace,
            );
            match self.write(&write).await {
                Ok(_) => has_failed = false,
                Err(error) if has_failed || is_in_ending_namespace(&error) => {
                    tracing::debug!(claim, namespace, "an event cannot be written: {error}");
                }
                Err(error) => {
                    has_failed = true;
                    tracing::warn!(
                        claim,
                        namespace,
                        "an event cannot be written; others may fail in silence until one is: {error}"
                    );
                }
            }
        }
    }

    async fn write(&self, write: &Write) -> kube::Result<Object> {
        let Write { object, times } = write;
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let api = Api::<Object>::namespaced(self.client.clone(), namespace);
        let create = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.telemetry.wrote("create", "events");
        match api.create(&create, object).await {
            // The event exists, perhaps from an earlier process: it is renewed.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let mut renewal = json!({"lastTimestamp": object.last_timestamp});
                if *times > 1 {
                    renewal["count"] = (*times).into();
                }
                self.telemetry.wrote("patch", "events");
                api.patch(name, &parameters(), &Patch::Merge(&renewal))
                    .await
            }
            other => other,
        }
    }
}

/// The event as an object. Its name is a hash of its content, so that another process that emits
/// the same event writes the same object.
fn object(claim: &Claim, event: &Event, now: Timestamp) -> Object {
    let mut hasher = DefaultHasher::new();
    (&claim.uid, event.reason, &event.message).hash(&mut hasher);
    let name = &claim.name[..claim.name.floor_char_boundary(MOST_OF_NAME)];
    // Each part of a name between dots ends in a letter or a digit.
    let name = name.trim_end_matches(['-', '.']);
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
