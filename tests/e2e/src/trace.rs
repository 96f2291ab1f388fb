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
    api::{WatchEvent, WatchParams},
};
use populator_api::names::label;
use tokio::sync::oneshot;

use crate::case::Case;

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
    pub fn start(case: &Case) -> Self {
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

/// A watch from the beginning lists what is there first; it is told again when the server ends it.
async fn watch(api: Api<Pod>, seen: &Mutex<Seen>, mut stopped: oneshot::Receiver<()>) {
    let parameters = WatchParams::default()
        .labels(label::POPULATED_CLAIM)
        .timeout(290);
    let events = api.watch(&parameters, "0").await.unwrap();
    pin_mut!(events);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            event = events.next() => match event.expect("the watch ended early").unwrap() {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => note(seen, &pod, false),
                WatchEvent::Deleted(pod) => note(seen, &pod, true),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(error) => panic!("{error:?}"),
            },
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
