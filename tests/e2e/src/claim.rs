//! Claims, and what is made for them.

use std::collections::BTreeMap;

use populator_api::{
    Reason,
    names::{self, annotation, event},
};
use serde_json::{Value, json};
use testkit::Disk;

use crate::{
    cluster::{name_of, uid_of},
    processes,
    resource::{CLAIMS, EVENTS, PODS, Resource, VOLUMES},
    source::Source,
    test_namespace::TestNamespace,
};

/// How a volume appears in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A device.
    Block,
    /// A file system with the file `disk.img`.
    Filesystem,
}

/// A claim to be made.
#[derive(Debug, Clone)]
pub struct NewClaim<'a> {
    case: &'a TestNamespace,
    metadata: Value,
    spec: Value,
}

/// A claim.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    case: &'a TestNamespace,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// How its volume appears in a pod.
    pub mode: Mode,
}

/// An event, as a user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `Normal` or `Warning`.
    pub kind: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often it was said.
    pub count: i64,
    /// Whether it was said at one time only. Another process, or one that does not know better, says it again without counting.
    pub once: bool,
}

impl<'a> NewClaim<'a> {
    /// A block claim of 64 MiB in the class `immediate`.
    pub fn new(case: &'a TestNamespace, kind: &str, source: &str) -> Self {
        Self {
            case,
            metadata: json!({ "name": case.name("claim"), "labels": {}, "annotations": {} }),
            spec: json!({
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "immediate",
                "volumeMode": "Block",
                "resources": { "requests": { "storage": "64Mi" } },
                "dataSourceRef": { "apiGroup": populator_api::GROUP, "kind": kind, "name": source },
            }),
        }
    }

    /// With this name.
    pub fn named(mut self, name: &str) -> Self {
        self.metadata["name"] = json!(name);
        self
    }

    /// With a name that the API server completes, as Forklift does it.
    pub fn generated(mut self, prefix: &str) -> Self {
        self.metadata["name"] = Value::Null;
        self.metadata["generateName"] = json!(prefix);
        self
    }

    /// Of a storage class.
    pub fn class(self, class: &str) -> Self {
        self.with("storageClassName", json!(class))
    }

    /// Block or filesystem.
    pub fn mode(self, mode: Mode) -> Self {
        self.with("volumeMode", json!(mode.word()))
    }

    /// Of a size, such as `64Mi`.
    pub fn size(self, size: &str) -> Self {
        self.with("resources", json!({ "requests": { "storage": size } }))
    }

    /// With a field of the spec.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// With an annotation.
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.metadata["annotations"][name] = json!(value);
        self
    }

    /// With labels.
    pub fn labels(mut self, labels: &BTreeMap<String, String>) -> Self {
        self.metadata["labels"] = json!(labels);
        self
    }

    /// The claim, made.
    #[track_caller]
    pub fn create(self) -> Claim<'a> {
        let object = json!({ "metadata": self.metadata, "spec": self.spec });
        let made = self.case.create(CLAIMS, object);
        Claim {
            case: self.case,
            name: name_of(&made),
            uid: uid_of(&made),
            mode: if made["spec"]["volumeMode"] == "Block" {
                Mode::Block
            } else {
                Mode::Filesystem
            },
        }
    }
}

impl Claim<'_> {
    /// Where it was made.
    pub fn case(&self) -> &TestNamespace {
        self.case
    }

    /// Name of its temporary claim.
    pub fn temporary_name(&self) -> String {
        names::temporary_claim(&self.uid)
    }

    /// Name of its pod.
    pub fn pod_name(&self) -> String {
        names::pod(&self.uid)
    }

    /// The claim as it is.
    pub fn object(&self) -> Option<Value> {
        self.case.get(CLAIMS, &self.name)
    }

    /// Its temporary claim.
    pub fn temporary(&self) -> Option<Value> {
        self.case.get(CLAIMS, &self.temporary_name())
    }

    /// Its pod.
    pub fn pod(&self) -> Option<Value> {
        self.case.get(PODS, &self.pod_name())
    }

    /// Its pod's log.
    pub fn log(&self) -> String {
        self.case
            .cluster
            .log(&self.case.namespace, &self.pod_name())
    }

    /// Kills its mover, as a node without memory does. The tests share the process namespace of the node.
    #[track_caller]
    pub fn kill_mover(&self) {
        let argument = format!("--owner-uid={}", self.uid);
        let mover = processes::find(|line| line.contains(&argument));
        processes::kill(mover.expect("no process of the mover"));
    }

    /// An annotation of the claim.
    pub fn annotation(&self, name: &str) -> Option<String> {
        let object = self.object()?;
        object["metadata"]["annotations"][name]
            .as_str()
            .map(str::to_owned)
    }

    /// Sets an annotation of the claim.
    pub fn annotate(&self, name: &str, value: &str) {
        let patch = json!({ "metadata": { "annotations": { name: value } } });
        self.case.patch(CLAIMS, &self.name, &patch);
    }

    /// Deletes it.
    pub fn delete(&self) -> bool {
        self.case.delete(CLAIMS, &self.name)
    }

    /// What was said about it, oldest first.
    pub fn events(&self) -> Vec<Told> {
        self.case.events_of(&self.uid)
    }

    /// Its events with this reason.
    pub fn events_with(&self, reason: &str) -> Vec<Told> {
        let mut events = self.events();
        events.retain(|event| event.reason == reason);
        events
    }

    /// Waits for an event with this reason whose message holds the words.
    #[track_caller]
    pub fn wait_for_event(&self, reason: &str, words: &str) -> Told {
        self.case
            .cluster
            .wait_for(&format!("{}: {reason}: {words}", self.name), || {
                let mut events = self.events_with(reason).into_iter();
                events.find(|event| event.message.contains(words))
            })
    }

    /// Waits until it is bound, and gives its volume.
    #[track_caller]
    pub fn wait_until_bound(&self) -> Value {
        let volume = self
            .case
            .cluster
            .wait_for(&format!("{} is bound", self.name), || {
                let object = self.object()?;
                let bound = object["status"]["phase"] == "Bound";
                bound.then(|| object["spec"]["volumeName"].as_str().unwrap().to_owned())
            });
        self.case.cluster.get(VOLUMES, "", &volume).unwrap()
    }

    /// Whether it is bound.
    pub fn is_bound(&self) -> bool {
        self.object()
            .is_some_and(|object| object["status"]["phase"] == "Bound")
    }

    /// Waits until its pod is in this phase, and gives it.
    #[track_caller]
    pub fn wait_for_pod(&self, phase: &str) -> Value {
        self.case
            .cluster
            .wait_for(&format!("the pod of {} is {phase}", self.name), || {
                self.pod().filter(|pod| pod["status"]["phase"] == phase)
            })
    }

    /// Waits for another pod than the given one, in this phase.
    #[track_caller]
    pub fn wait_for_other_pod(&self, uid: &str, phase: &str) -> Value {
        self.case
            .cluster
            .wait_for(&format!("another pod of {} is {phase}", self.name), || {
                self.pod()
                    .filter(|pod| pod["status"]["phase"] == phase && uid_of(pod) != uid)
            })
    }

    /// Waits until an object with this name is gone, or on its way out with nothing but a finished pod in the way.
    #[track_caller]
    pub fn wait_until_settled(&self) {
        self.case.cluster.wait_for(
            &format!("the temporary claim of {} goes", self.name),
            || {
                let left = self.temporary();
                let going = |claim: &Value| !claim["metadata"]["deletionTimestamp"].is_null();
                left.as_ref().is_none_or(going).then_some(())
            },
        );
    }

    /// Waits until temporary claim and pod are gone.
    #[track_caller]
    pub fn wait_until_cleared(&self) {
        self.case.wait_until_gone(PODS, &self.pod_name());
        self.case.wait_until_gone(CLAIMS, &self.temporary_name());
    }

    /// Waits until it is bound, and fails unless everything is as a populated claim should be: the bytes, the volume's
    /// annotation, the temporary claim, the resource's status, the event.
    #[track_caller]
    pub fn assert_populated(&self, source: &Source, disk: &Disk) {
        let volume = self.wait_until_bound();
        let from = format!("{}/{}", self.case.namespace, source.name);
        assert_eq!(
            volume["metadata"]["annotations"][annotation::POPULATED_FROM],
            from
        );
        assert_eq!(
            volume["metadata"]["annotations"][annotation::POPULATED_FOR],
            self.uid
        );
        assert_eq!(volume["spec"]["claimRef"]["uid"], self.uid, "{volume}");
        self.case.assert_content(self, disk);
        self.wait_until_settled();
        let ready = self.case.wait_for_condition(source, "Ready", "True");
        assert_eq!(ready["reason"], Reason::Populated.to_string(), "{ready}");
        let status = self.case.status(source);
        assert_eq!(status["progress"], "100", "{status}");
        for condition in ["Progressing", "Failed"] {
            self.case.wait_for_condition(source, condition, "False");
        }
        self.wait_for_event(event::FINISHED, "");
        // In other words it would be another event.
        let finished = self.events_with(event::FINISHED);
        let [said] = &finished[..] else {
            panic!("said in several ways: {finished:?}");
        };
        assert_eq!((said.kind.as_str(), said.count), ("Normal", 1), "{said:?}");
        assert!(said.once, "said again: {said:?}");
    }

    /// `kubectl describe pvc`.
    pub fn describe(&self) -> String {
        self.case.kubectl(&["describe", "pvc", &self.name])
    }
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Block, Self::Filesystem];

    /// The word in the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Block => "Block",
            Self::Filesystem => "Filesystem",
        }
    }
}

impl TestNamespace {
    /// What was said about the object with this UID, oldest first.
    pub fn events_of(&self, uid: &str) -> Vec<Told> {
        let selector = format!("fieldSelector=involvedObject.uid%3D{uid}");
        let mut events = self.cluster.list(EVENTS, &self.namespace, &selector);
        events.sort_by_key(|event| event["firstTimestamp"].to_string());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = events.iter().map(|event| Told {
            kind: text(&event["type"]),
            reason: text(&event["reason"]),
            message: text(&event["message"]),
            count: event["count"].as_i64().unwrap_or(1),
            once: event["firstTimestamp"] == event["lastTimestamp"],
        });
        told.collect()
    }

    /// Waits until there is no such object.
    #[track_caller]
    pub fn wait_until_gone(&self, resource: Resource, name: &str) {
        let what = format!("{} {name} is gone", resource.kind);
        self.cluster
            .wait_for(&what, || self.get(resource, name).is_none().then_some(()));
    }
}
