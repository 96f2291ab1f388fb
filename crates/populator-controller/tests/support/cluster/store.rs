//! The API server's objects, their versions, and a list of what was written.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hyper::body::Bytes;
use jiff::Timestamp;
use populator_api::names::label;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::NAMESPACE;

/// Resource in the plural, namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// A status code of the API server, with its reason.
pub(crate) type Refusal = (u16, &'static str);

/// The object is not there.
pub(crate) const GONE: Refusal = (404, "NotFound");
/// The object is there, or has another UID.
pub(crate) const CONFLICT: Refusal = (409, "Conflict");

/// A write that the program has asked for.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// Verb and resource, as audit logs name them, and the reason that the body gives: of an event, or of a
    /// status.
    pub(crate) what: String,
    /// Name of the object, or of the one that an event is about.
    pub(crate) name: String,
}

/// A change of an object.
#[derive(Debug, Clone)]
struct Change {
    key: Key,
    /// Whether it carries the label that the controller's watch of pods selects.
    is_labelled: bool,
    /// A line of the watch.
    line: Bytes,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    /// The version of an object is the length of this list after its change.
    log: Vec<Change>,
    writes: Vec<Write>,
    uids: u64,
}

/// The objects.
#[derive(Debug, Default)]
pub(crate) struct Store {
    state: Mutex<State>,
    length: watch::Sender<usize>,
}

impl Store {
    /// Creates an object, with what the API server fills in.
    pub(crate) fn create(&self, key: &Key, mut object: Value) -> Result<Value, Refusal> {
        let mut state = self.lock();
        if state.objects.contains_key(key) {
            return Err((409, "AlreadyExists"));
        }
        state.uids += 1;
        let fields = managed(&object);
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(key.name);
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(key.namespace);
        }
        metadata["uid"] = json!(format!(
            "{:08x}-0000-4000-8000-{:012x}",
            state.uids, state.uids
        ));
        metadata["creationTimestamp"] = json!(second());
        metadata["generation"] = json!(1);
        metadata["managedFields"] = fields;
        Ok(self.store(&mut state, key, object, "ADDED"))
    }

    /// Changes an object. One that is being deleted and has no finalizer any more is gone after that.
    pub(crate) fn change(
        &self,
        key: &Key,
        edit: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Value, Refusal> {
        let mut state = self.lock();
        let before = state.objects.get(key).ok_or(GONE)?;
        let mut object = before.clone();
        edit(&mut object)?;
        if object == *before {
            return Ok(object);
        }
        let finalizers = object["metadata"]["finalizers"].as_array();
        let is_kept = finalizers.is_some_and(|finalizers| !finalizers.is_empty());
        let is_deleted = object["metadata"]["deletionTimestamp"].is_string();
        let event = if is_deleted && !is_kept {
            "DELETED"
        } else {
            "MODIFIED"
        };
        Ok(self.store(&mut state, key, object, event))
    }

    /// Deletes an object, or marks one that has a finalizer.
    pub(crate) fn delete(&self, key: &Key, uid: Option<&str>) -> Result<Value, Refusal> {
        self.change(key, |object| {
            if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
                return Err(CONFLICT);
            }
            object["metadata"]["deletionTimestamp"] = json!(second());
            Ok(())
        })
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        self.lock().objects.get(key).cloned()
    }

    /// The objects of one resource, and the version of the list.
    pub(crate) fn list(&self, resource: &str, only_labelled: bool) -> (Vec<Value>, usize) {
        let state = self.lock();
        let all = state.objects.iter();
        let found = all.filter(|(key, object)| {
            key.resource == resource && (!only_labelled || is_labelled(object))
        });
        (
            found.map(|(_, object)| object.clone()).collect(),
            state.log.len(),
        )
    }

    /// How many objects of one resource are as wanted.
    pub(crate) fn count(&self, resource: &str, is_so: impl Fn(&Value) -> bool) -> usize {
        let state = self.lock();
        let all = state
            .objects
            .iter()
            .filter(|(key, _)| key.resource == resource);
        all.filter(|(_, object)| is_so(object)).count()
    }

    /// The lines of a watch from a version on, and the version that they lead to.
    pub(crate) fn lines(
        &self,
        resource: &str,
        only_labelled: bool,
        from: usize,
    ) -> (Vec<Bytes>, usize) {
        let state = self.lock();
        let news = state.log.get(from..).unwrap_or_default().iter();
        let of_watch = news.filter(|change| {
            change.key.resource == resource && (!only_labelled || change.is_labelled)
        });
        (
            of_watch.map(|change| change.line.clone()).collect(),
            state.log.len(),
        )
    }

    /// The objects that have changed from a version on, one for each change.
    pub(crate) fn changes(&self, from: usize) -> Vec<Key> {
        let state = self.lock();
        let news = state.log.get(from..).unwrap_or_default().iter();
        news.map(|change| change.key.clone()).collect()
    }

    /// The version of the last change.
    pub(crate) fn version(&self) -> usize {
        self.lock().log.len()
    }

    /// Waits until there is a later version than this one.
    pub(crate) async fn changed_since(&self, version: usize) {
        let mut length = self.length.subscribe();
        // The sender lives as long as the store.
        let _ = length.wait_for(|length| *length > version).await;
    }

    /// Notes a write.
    pub(crate) fn note(&self, write: Write) {
        self.lock().writes.push(write);
    }

    /// The writes so far for the claim of this name, its objects and its resource.
    pub(crate) fn writes_of(&self, claim: &str) -> Vec<String> {
        let state = self.lock();
        let key = Key::new("persistentvolumeclaims", NAMESPACE, claim);
        let uid = state
            .objects
            .get(&key)
            .and_then(|claim| claim["metadata"]["uid"].as_str());
        let own = state.writes.iter().filter(|write| {
            write.name == claim || uid.is_some_and(|uid| write.name.ends_with(uid))
        });
        own.map(|write| write.what.clone()).collect()
    }

    /// How many writes of each kind there were.
    pub(crate) fn writes(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for write in &self.lock().writes {
            *counts.entry(write.what.clone()).or_default() += 1;
        }
        counts
    }

    fn store(&self, state: &mut State, key: &Key, mut object: Value, event: &str) -> Value {
        let version = state.log.len() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let line = json!({"type": event, "object": object}).to_string() + "\n";
        state.log.push(Change {
            key: key.clone(),
            is_labelled: is_labelled(&object),
            line: line.into(),
        });
        if event == "DELETED" {
            state.objects.remove(key);
        } else {
            state.objects.insert(key.clone(), object.clone());
        }
        self.length.send_replace(version);
        object
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API server's times have no fractions.
fn second() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

fn is_labelled(object: &Value) -> bool {
    object["metadata"]["labels"]
        .get(label::POPULATED_CLAIM)
        .is_some()
}

/// Which of the object's fields its creator owns: a large part of what the API server sends.
fn managed(object: &Value) -> Value {
    fn fields(value: &Value) -> Value {
        let Some(object) = value.as_object() else {
            return json!({});
        };
        let named = object
            .iter()
            .map(|(key, value)| (format!("f:{key}"), fields(value)));
        Value::Object(named.collect())
    }
    json!([{
        "apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "manager", "operation": "Update",
        "time": second(), "fieldsV1": fields(object),
    }])
}
