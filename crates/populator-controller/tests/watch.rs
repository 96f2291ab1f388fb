//! What is watched, how little of it, and what becomes of a watch that fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use populator_controller::{
    namespaces::Namespaces,
    observe::{Cache, Observer, Triggers, watch_all},
    permissions::Permissions,
};
use runtime::Tasks;
use serde_json::{Value, json};
use tokio::{sync::watch, time};

use api::{Api, Asked, DEAD, IDLE, refusal};

const PODS: &str = "GET /api/v1/pods";
const NODES: &str = "GET /api/v1/nodes";
const VOLUMES: &str = "GET /api/v1/persistentvolumes";
/// Kinds that are watched: claims, volumes, pods, storage classes, nodes, and two of resources.
const ALL: usize = 7;

fn is_watch(asked: &Asked) -> bool {
    asked.query.contains("watch=true")
}

/// Empty lists, and watches in which nothing happens.
fn quiet(asked: &Asked) -> (u16, Value) {
    if is_watch(asked) {
        return (IDLE, Value::Null);
    }
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
    (200, list)
}

/// One item of a watch, after which the connection ends.
fn item(type_: &str, object: &Value) -> (u16, Value) {
    (200, json!({"type": type_, "object": object}))
}

fn permissions(nodes: bool) -> Permissions {
    Permissions {
        nodes,
        logs: true,
        grants: true,
    }
}

/// All watches of an API server.
struct Fixture {
    api: Api,
    observer: Arc<Observer>,
    permissions: watch::Sender<Permissions>,
    complete: futures::future::BoxFuture<'static, ()>,
    _tasks: Tasks,
    _triggers: tokio::sync::mpsc::Receiver<population::model::Uid>,
}

impl Fixture {
    fn new(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self::allowed(permissions(true), answer)
    }

    fn allowed(
        allowed: Permissions,
        answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        Self::serving(&Namespaces::default(), allowed, answer)
    }

    fn serving(
        namespaces: &Namespaces,
        allowed: Permissions,
        answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let api = Api::default();
        let client = api.client(answer);
        let observer = Arc::new(Observer::new(client.clone(), Cache::default()));
        let (sender, triggers) = tokio::sync::mpsc::channel(8);
        let (permissions, known) = watch::channel(allowed);
        let mut tasks = Tasks::new();
        let triggers_of = Triggers::new(sender);
        let complete = watch_all(
            &mut tasks,
            &client,
            namespaces,
            &observer,
            &triggers_of,
            known,
        );
        Self {
            api,
            observer,
            permissions,
            complete,
            _tasks: tasks,
            _triggers: triggers,
        }
    }

    async fn complete(&mut self) {
        let complete = time::timeout(Duration::from_mins(1), &mut self.complete);
        complete.await.unwrap();
    }

    /// Time passes; returns the requests for one kind meanwhile.
    async fn asked(&self, seconds: u64, line: &str) -> Vec<Asked> {
        time::sleep(Duration::from_secs(seconds)).await;
        let mut asked = self.api.take();
        asked.retain(|asked| asked.line == line);
        asked
    }
}

#[tokio::test(start_paused = true)]
async fn some_namespaces_are_watched_one_by_one_and_never_all() {
    let of = |line: &str| line.split("/namespaces/").nth(1).map(str::to_owned);
    let namespaces: Namespaces = "a,b".parse().unwrap();
    // Roles in the namespaces allow nothing beyond them.
    let mut fixture = Fixture::serving(&namespaces, permissions(true), move |asked| {
        let is_outside = [PODS, "persistentvolumeclaims", "volumepopulators"]
            .iter()
            .any(|kind| {
                asked
                    .line
                    .ends_with(kind.trim_start_matches("GET /api/v1/"))
            });
        if is_outside && of(&asked.line).is_none() {
            return refusal(403, "Forbidden", "only in a and b");
        }
        quiet(asked)
    });
    fixture.complete().await;
    let asked = fixture.api.take().into_iter();
    let lists: BTreeSet<String> = asked
        .filter(|asked| !is_watch(asked))
        .map(|asked| asked.line)
        .collect();
    let in_namespaces = ["a", "b"].into_iter().flat_map(|name| {
        [
            ("api/v1", "persistentvolumeclaims"),
            ("api/v1", "pods"),
            (
                "apis/forklift.konveyor.io/v1beta1",
                "openstackvolumepopulators",
            ),
            ("apis/forklift.konveyor.io/v1beta1", "ovirtvolumepopulators"),
        ]
        .map(|(group, kind)| format!("GET /{group}/namespaces/{name}/{kind}"))
    });
    let outside = [NODES, VOLUMES, "GET /apis/storage.k8s.io/v1/storageclasses"].map(str::to_owned);
    let wanted: BTreeSet<String> = in_namespaces.chain(outside).collect();
    assert_eq!(lists, wanted);
    assert_eq!(fixture.observer.health().failing(), (0, 11));
}

#[tokio::test(start_paused = true)]
async fn pods_are_filtered_by_the_server_and_all_lists_are_waited_for() {
    let mut fixture = Fixture::new(|asked| match asked.line.as_str() {
        NODES => refusal(403, "Forbidden", "no nodes"),
        _ => quiet(asked),
    });
    fixture.complete().await;
    let asked = fixture.api.take();
    let of_pods: Vec<&Asked> = asked.iter().filter(|asked| asked.line == PODS).collect();
    assert!(!of_pods.is_empty());
    for asked in of_pods {
        let ours = "labelSelector=forklift.konveyor.io%2Fpopulated-claim";
        assert!(asked.query.contains(ours), "{asked:?}");
    }
    for list in [
        "GET /api/v1/persistentvolumeclaims",
        VOLUMES,
        "GET /apis/storage.k8s.io/v1/storageclasses",
        "GET /apis/forklift.konveyor.io/v1beta1/ovirtvolumepopulators",
        "GET /apis/forklift.konveyor.io/v1beta1/openstackvolumepopulators",
        PODS,
        NODES,
    ] {
        assert!(asked.iter().any(|asked| asked.line == list), "{list}");
    }
    // A connection that is dead is noticed soon after the watch should have ended.
    for asked in asked.iter().filter(|asked| is_watch(asked)) {
        assert!(asked.query.contains("timeoutSeconds=60"), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_watched_from_when_it_is_allowed_and_in_small_pages() {
    let mut fixture = Fixture::allowed(permissions(false), quiet);
    fixture.complete().await;
    assert_eq!(fixture.asked(600, NODES).await, []);
    fixture.permissions.send_replace(permissions(true));
    let asked = fixture.asked(1, NODES).await;
    let mut parameters = asked[0].query.split('&');
    assert!(parameters.any(|one| one == "limit=50"), "{asked:?}");
    assert!(is_watch(&asked[1]), "{asked:?}");
}

/// As when the API server's machine is gone, or a firewall has forgotten the connection.
#[tokio::test(start_paused = true)]
async fn a_watch_whose_connection_is_dead_is_resumed() {
    let mut fixture = Fixture::new(|asked| {
        if asked.line == VOLUMES && is_watch(asked) {
            return (DEAD, Value::Null);
        }
        quiet(asked)
    });
    fixture.complete().await;
    let asked = fixture.asked(200, VOLUMES).await;
    let watches: Vec<&Asked> = asked.iter().filter(|asked| is_watch(asked)).collect();
    assert!(watches.len() > 2, "{watches:?}");
    // Where it ended, without another list.
    assert_eq!(asked.len(), watches.len() + 1, "{asked:?}");
}

/// That a version has expired is routine: the watch restarts with a list.
#[tokio::test(start_paused = true)]
async fn a_version_that_has_expired_is_listed_again() {
    let expired = AtomicUsize::new(0);
    let mut fixture = Fixture::new(move |asked| {
        let is_first = || expired.fetch_add(1, Ordering::Relaxed) == 0;
        if asked.line == VOLUMES && is_watch(asked) && is_first() {
            let status = refusal(410, "Expired", "too old resource version").1;
            return item("ERROR", &status);
        }
        quiet(asked)
    });
    fixture.complete().await;
    let asked = fixture.asked(30, VOLUMES).await;
    let is_watch: Vec<bool> = asked.iter().map(is_watch).collect();
    assert_eq!(is_watch, [false, true, false, true]);
    assert_eq!(fixture.observer.health().failing(), (0, ALL));
}

/// A right that is taken away, or a definition that is removed, while the process runs.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_watched_any_more_is_tried_again_with_backoff_until_it_can() {
    for (code, reason) in [
        (403, "Forbidden"),
        (404, "NotFound"),
        (500, "InternalError"),
    ] {
        let state = Arc::new(Mutex::new(None));
        let now = Arc::clone(&state);
        // There is one event, in the watch that is resumed.
        let was_refused = AtomicBool::new(false);
        let mut fixture = Fixture::new(move |asked| {
            let refused: Option<(u16, &str)> = *now.lock().unwrap();
            match refused {
                Some((code, reason)) if asked.line == VOLUMES => {
                    was_refused.store(true, Ordering::Relaxed);
                    refusal(code, reason, "no")
                }
                None if asked.line == VOLUMES
                    && is_watch(asked)
                    && was_refused.swap(false, Ordering::Relaxed) =>
                {
                    let volume =
                        json!({"metadata": {"name": "v", "uid": "v", "resourceVersion": "2"}});
                    item("MODIFIED", &volume)
                }
                _ => quiet(asked),
            }
        });
        fixture.complete().await;
        assert_eq!(fixture.observer.health().failing(), (0, ALL));
        *state.lock().unwrap() = Some((code, reason));
        // The watch under way ends, and is not resumed.
        fixture.asked(61, VOLUMES).await;
        let tries = fixture.asked(3600, VOLUMES).await.len();
        // After 30 to 60 s each, in the end.
        assert!((60..=130).contains(&tries), "{tries} tries in an hour");
        assert_eq!(fixture.observer.health().failing(), (1, ALL), "{code}");
        *state.lock().unwrap() = None;
        fixture.asked(90, VOLUMES).await;
        assert_eq!(fixture.observer.health().failing(), (0, ALL), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_nothing_can_be_watched_all_watches_fail() {
    let fixture = Fixture::new(|_| refusal(503, "ServiceUnavailable", "away"));
    time::sleep(Duration::from_mins(10)).await;
    assert_eq!(fixture.observer.health().failing(), (ALL, ALL));
}
