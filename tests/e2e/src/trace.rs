//! What happened to pods over time, seen by a watch and not by looking now and then.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use populator_api::names::label;
use tokio::sync::oneshot;

use crate::test_namespace::TestNamespace;

/// After so long the server is to end a watch; it takes less than five minutes.
const WATCH_SECONDS: u32 = 290;

/// The most populator pods of a namespace that had not ended at the same time, and the order in which they were
/// made.
#[derive(Debug)]
pub struct Trace {
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a trace has seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// UIDs of pods that have not ended.
    active: BTreeSet<String>,
    /// The most of them at a time.
    pub most: usize,
    /// Names of pods in the order in which they were made.
    pub made: Vec<String>,
}

impl Trace {
    /// Watches the namespace's populator pods from now on.
    pub fn start(case: &TestNamespace) -> Self {
        let cluster = case.cluster;
        let api = Api::<Pod>::namespaced(cluster.client(), &case.namespace);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = oneshot::channel();
        let noted = Arc::clone(&seen);
        let thread = std::thread::spawn(move || cluster.block_on(watch(api, &noted, stopped)));
        Self {
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Ends it.
    #[track_caller]
    pub fn end(mut self) -> Seen {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Lists what is there, and watches from there on. The server ends each watch after some minutes; the next one goes on where it
/// ended, so that nothing is missed or seen twice.
async fn watch(api: Api<Pod>, seen: &Mutex<Seen>, mut stopped: oneshot::Receiver<()>) {
    let parameters = ListParams::default().labels(label::POPULATED_CLAIM);
    let list = api.list(&parameters).await.unwrap();
    for pod in &list {
        note(seen, pod, false);
    }
    let mut version = list.metadata.resource_version.unwrap();
    let parameters = WatchParams::default()
        .labels(label::POPULATED_CLAIM)
        .timeout(WATCH_SECONDS);
    loop {
        let events = api.watch(&parameters, &version).await.unwrap();
        pin_mut!(events);
        loop {
            let event = tokio::select! {
                _ = &mut stopped => return,
                event = events.next() => event,
            };
            let Some(event) = event else { break };
            version = match event.unwrap() {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    note(seen, &pod, false);
                    pod.metadata.resource_version.unwrap()
                }
                WatchEvent::Deleted(pod) => {
                    note(seen, &pod, true);
                    pod.metadata.resource_version.unwrap()
                }
                WatchEvent::Bookmark(mark) => mark.metadata.resource_version,
                WatchEvent::Error(error) => panic!("{error:?}"),
            };
        }
    }
}

fn note(seen: &Mutex<Seen>, pod: &Pod, gone: bool) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let uid = pod.metadata.uid.clone().unwrap();
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let ended = gone || matches!(phase, Some("Succeeded" | "Failed"));
    if ended {
        seen.active.remove(&uid);
        return;
    }
    let name = pod.metadata.name.clone().unwrap();
    if seen.active.insert(uid) {
        seen.made.push(name);
    }
    seen.most = seen.most.max(seen.active.len());
}
