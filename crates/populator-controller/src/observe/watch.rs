//! Watches that never end: they fill the cache and trigger reconciles.

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::BoxStream,
};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use populator_api::names::label;
use runtime::Tasks;
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time,
};

use super::{Observer, api_resource};
use crate::{
    client::WATCH,
    namespaces::{Namespaces, Scope},
    permissions::Permissions,
};
use population::model::{Kind, Uid};

/// Objects in one page of a list. Whoever may create claims can make each of them as large as Kubernetes
/// allows, which is 256 KiB of annotations; and nodes have hundreds of labels.
const PAGE: u32 = 50;
/// Before nodes are listed again for labels that volumes have come to name: the volumes of a list come
/// one after the other.
const RELIST: Duration = Duration::from_secs(1);

/// Sends UIDs of claims to reconcile.
///
/// A watch that finds the channel full waits, so that a burst of changes takes no memory. Until the
/// first lists are complete nothing is sent: then every claim is reconciled.
#[derive(Debug, Clone)]
pub struct Triggers {
    sender: mpsc::Sender<Uid>,
    open: Arc<AtomicBool>,
}

impl Triggers {
    /// Triggers that are sent into `sender`, from [`Self::open`] on.
    #[must_use]
    pub fn new(sender: mpsc::Sender<Uid>) -> Self {
        Self {
            sender,
            open: Arc::default(),
        }
    }

    /// Sends the UIDs that `all` returns, and all changes from now on. `all` is called when changes
    /// are sent already, so that no new claim falls between the two. Returns the number of UIDs.
    pub async fn open(&self, all: impl FnOnce() -> Vec<Uid>) -> usize {
        self.open.store(true, Ordering::Release);
        let all = all();
        let number = all.len();
        for claim in all {
            self.send(claim).await;
        }
        number
    }

    /// Sends one UID, and waits for room in the channel; without a receiver the process is ending.
    pub async fn send(&self, claim_uid: Uid) {
        if self.open.load(Ordering::Acquire) {
            let _ = self.sender.send(claim_uid).await;
        }
    }
}

/// Starts a watch, as a task of `tasks`, for each kind of object in a world. The returned future
/// ends when every first list is complete, or its objects are known to be unavailable. Nodes are
/// watched while `permissions` allow it.
#[must_use]
pub fn watch_all(
    tasks: &mut Tasks,
    client: &Client,
    namespaces: &Namespaces,
    observer: &Arc<Observer>,
    triggers: &Triggers,
    permissions: watch::Receiver<Permissions>,
) -> BoxFuture<'static, ()> {
    let mut starts = Watches {
        tasks,
        observer,
        triggers,
        complete: Vec::new(),
    };
    let all = || watcher::Config::default().timeout(WATCH).page_size(PAGE);
    starts.start::<PersistentVolume>(
        "volumes",
        Api::all(client.clone()),
        all(),
        |observer, event| observer.cache().volumes(event),
    );
    starts.start::<StorageClass>(
        "storage classes",
        Api::all(client.clone()),
        all(),
        |observer, event| observer.cache().classes(event),
    );
    starts.start_nodes(Api::all(client.clone()), all(), permissions);
    for scope in namespaces.scopes() {
        starts.start_scope(client, &scope, &all());
    }
    let complete = std::mem::take(&mut starts.complete);
    join_all(complete).map(drop).boxed()
}

struct Watches<'a> {
    tasks: &'a mut Tasks,
    observer: &'a Arc<Observer>,
    triggers: &'a Triggers,
    complete: Vec<oneshot::Receiver<()>>,
}

impl Watches<'_> {
    /// Starts the watches of what is in namespaces, for one scope.
    fn start_scope(&mut self, client: &Client, scope: &Scope, config: &watcher::Config) {
        let in_scope = |what: &'static str| match scope.namespace() {
            None => what,
            // Once for each kind and namespace, at the start.
            Some(namespace) => format!("{what} of the namespace {namespace}").leak(),
        };
        let of = scope.clone();
        self.start::<PersistentVolumeClaim>(
            in_scope("claims"),
            scope.api(client),
            config.clone(),
            move |observer, event| observer.cache().claims(&of, event),
        );
        // The only kind that is numerous and labelled by us: the API server filters the pods of others.
        let of = scope.clone();
        self.start::<Pod>(
            in_scope("pods"),
            scope.api(client),
            config.clone().labels(label::POPULATED_CLAIM),
            move |observer, event| observer.cache().pods(&of, event),
        );
        for kind in Kind::ALL {
            let of = scope.clone();
            self.start(
                in_scope(kind.plural()),
                scope.dynamic_api(client, &api_resource(kind)),
                config.clone(),
                move |observer, event| observer.cache().resources(kind, &of, event),
            );
        }
    }

    fn start<K>(
        &mut self,
        what: &'static str,
        api: Api<K>,
        config: watcher::Config,
        take: impl Fn(&Observer, Event<K>) -> HashSet<Uid> + Send + Sync + 'static,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut feed = self.feed(what);
        self.tasks.spawn(what, async move {
            let mut watch = follow(what, api, config, Arc::clone(&feed.observer));
            while let Some(followed) = watch.next().await {
                feed.pass(followed, &take, |_| {}).await;
            }
        });
    }

    /// Starts the watch of nodes, which the controller can do without.
    fn start_nodes(
        &mut self,
        api: Api<Node>,
        config: watcher::Config,
        mut permissions: watch::Receiver<Permissions>,
    ) {
        const WHAT: &str = "nodes";
        let mut feed = self.feed(WHAT);
        let wanted = self.observer.cache().labels_are_wanted();
        self.tasks.spawn(WHAT, async move {
            loop {
                if !permissions.borrow().nodes {
                    feed.is_complete();
                    // Without a sender no permission is learned any more.
                    if permissions.wait_for(|may| may.nodes).await.is_err() {
                        return;
                    }
                }
                let observer = Arc::clone(&feed.observer);
                let mut watch = follow(WHAT, api.clone(), config.clone(), observer);
                loop {
                    tokio::select! {
                        Some(followed) = watch.next() => {
                            let take = |observer: &Observer, event| observer.cache().nodes(event);
                            let miss = |observer: &Observer| observer.cache().forget_nodes();
                            feed.pass(followed, take, miss).await;
                        }
                        // They are listed again, with the labels that a volume has come to name.
                        () = wanted.notified() => break,
                    }
                }
                time::sleep(RELIST).await;
            }
        });
    }

    fn feed(&mut self, what: &'static str) -> Feed {
        let (complete, is_complete) = oneshot::channel();
        self.complete.push(is_complete);
        self.observer.health().add(what);
        Feed {
            observer: Arc::clone(self.observer),
            triggers: self.triggers.clone(),
            complete: Some(complete),
        }
    }
}

/// Where the items of a watch go.
struct Feed {
    observer: Arc<Observer>,
    triggers: Triggers,
    complete: Option<oneshot::Sender<()>>,
}

impl Feed {
    /// Passes an item to `take`, or calls `miss` when the objects cannot be read, and triggers what is
    /// affected.
    async fn pass<K>(
        &mut self,
        followed: Followed<K>,
        take: impl Fn(&Observer, Event<K>) -> HashSet<Uid>,
        miss: impl Fn(&Observer),
    ) {
        let is_last_of_list = matches!(
            followed,
            Followed::Unavailable | Followed::Event(Event::InitDone)
        );
        let affected = match followed {
            Followed::Event(event) => take(&self.observer, event),
            Followed::Unavailable => {
                miss(&self.observer);
                HashSet::new()
            }
        };
        if is_last_of_list {
            self.is_complete();
        }
        for claim in affected {
            self.triggers.send(claim).await;
        }
    }

    /// Reports once that the first list is complete.
    fn is_complete(&mut self) {
        if let Some(complete) = self.complete.take() {
            // The receiver is gone only when the process ends.
            let _ = complete.send(());
        }
    }
}

/// An item of a watch that is retried for ever.
#[derive(Debug)]
enum Followed<K> {
    /// An event of the watch.
    Event(Event<K>),
    /// The cluster has no such objects, or they may not be read; the watch is retried.
    Unavailable,
}

/// Watches objects of one kind. A watch that fails is retried with kube's backoff of up to a minute, which
/// [`super::WatchHealth`] reports.
///
/// A failed watch never ends the task: one kind may be unavailable for hours (a definition that is
/// not installed yet, a permission that is missing) while the others are served.
fn follow<K>(
    what: &'static str,
    api: Api<K>,
    config: watcher::Config,
    observer: Arc<Observer>,
) -> BoxStream<'static, Followed<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher::watcher(api, config)
        .default_backoff()
        .filter_map(move |step| {
            let followed = match step {
                Ok(event) => {
                    // What comes before the end of a list may still precede a failure.
                    if !matches!(event, Event::Init | Event::InitApply(_)) {
                        observer.health().works(what);
                    }
                    Some(Followed::Event(event))
                }
                Err(error) => {
                    let code = code_of(&error);
                    // 410: the resource version has expired, which is routine. The watch restarts
                    // with a list.
                    if code != Some(410) {
                        observer.health().failed(what, &error);
                    }
                    // Only these mean that there is no list to wait for. Any other failure may
                    // pass, and until it does the first reconcile waits: the world would lack
                    // objects that exist.
                    matches!(code, Some(403 | 404)).then_some(Followed::Unavailable)
                }
            };
            std::future::ready(followed)
        })
        .boxed()
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changes_while_all_are_listed_is_sent() {
        let (sender, mut receiver) = mpsc::channel(8);
        let triggers = Triggers::new(sender);
        triggers.send("early".into()).await;
        let number = triggers
            .open(|| {
                let new = triggers.send("new".into()).now_or_never();
                assert!(new.is_some(), "there is room");
                vec!["a".into(), "b".into()]
            })
            .await;
        assert_eq!(number, 2);
        let mut sent = Vec::new();
        receiver.recv_many(&mut sent, 8).await;
        assert_eq!(sent, ["new", "a", "b"].map(Uid::from));
    }
}
