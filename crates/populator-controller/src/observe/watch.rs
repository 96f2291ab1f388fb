//! Watches that go on for ever: they fill the cache and say which claims to look at.

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
use tokio::sync::{mpsc, oneshot};

use super::{Observer, api_resource};
use population::model::Kind;

/// UIDs of claims to look at.
///
/// A watch that finds the channel full waits, so that a burst of changes takes no memory. Until the first
/// lists are complete nothing is sent: all claims are looked at then.
#[derive(Debug, Clone)]
pub struct Triggers {
    sender: mpsc::Sender<String>,
    open: Arc<AtomicBool>,
}

impl Triggers {
    /// Into `sender`, from [`Self::open`] on.
    #[must_use]
    pub fn new(sender: mpsc::Sender<String>) -> Self {
        Self {
            sender,
            open: Arc::default(),
        }
    }

    /// From now on changes are sent; first, `all` of them. It is asked when what changes is sent already, so that no
    /// claim that is new falls between the two. Returns how many they are.
    pub async fn open(&self, all: impl FnOnce() -> Vec<String>) -> usize {
        self.open.store(true, Ordering::Release);
        let all = all();
        let number = all.len();
        for claim in all {
            self.send(claim).await;
        }
        number
    }

    /// Sends one, and waits for room. Without a receiver there is nobody to wait for.
    pub async fn send(&self, claim_uid: String) {
        if self.open.load(Ordering::Acquire) {
            let _ = self.sender.send(claim_uid).await;
        }
    }
}

/// Starts to watch everything that a world is made of, as tasks of `tasks`. What is returned ends when every
/// list has been complete once, or its objects are known not to be there.
#[must_use]
pub fn watch_all(
    tasks: &mut Tasks,
    client: &Client,
    observer: &Arc<Observer>,
    triggers: &Triggers,
    with_nodes: bool,
) -> BoxFuture<'static, ()> {
    let mut starts = Watches {
        tasks,
        observer,
        triggers,
        complete: Vec::new(),
    };
    let all = watcher::Config::default;
    let ours = watcher::Config::default().labels(label::POPULATED_CLAIM);
    starts.start::<PersistentVolumeClaim>(
        "claims",
        Api::all(client.clone()),
        all(),
        |observer, event| observer.cache().claims(event),
    );
    starts.start::<PersistentVolume>(
        "volumes",
        Api::all(client.clone()),
        all(),
        |observer, event| observer.cache().volumes(event),
    );
    starts.start::<Pod>("pods", Api::all(client.clone()), ours, |observer, event| {
        observer.cache().pods(event)
    });
    starts.start::<StorageClass>(
        "storage classes",
        Api::all(client.clone()),
        all(),
        |observer, event| observer.cache().classes(event),
    );
    if with_nodes {
        starts.start_and_miss::<Node>(
            "nodes",
            Api::all(client.clone()),
            all(),
            |observer, event| observer.cache().nodes(event),
            |observer| observer.cache().forget_nodes(),
        );
    }
    for kind in Kind::ALL {
        let api = Api::all_with(client.clone(), &api_resource(kind));
        starts.start(kind.plural(), api, all(), move |observer, event| {
            observer.cache().resources(kind, event)
        });
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
    fn start<K>(
        &mut self,
        what: &'static str,
        api: Api<K>,
        config: watcher::Config,
        take: impl Fn(&Observer, Event<K>) -> HashSet<String> + Send + 'static,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        self.start_and_miss(what, api, config, take, |_| {});
    }

    /// `miss` is called when the objects cannot be read.
    fn start_and_miss<K>(
        &mut self,
        what: &'static str,
        api: Api<K>,
        config: watcher::Config,
        take: impl Fn(&Observer, Event<K>) -> HashSet<String> + Send + 'static,
        miss: impl Fn(&Observer) + Send + 'static,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let (complete, is_complete) = oneshot::channel();
        self.complete.push(is_complete);
        let mut complete = Some(complete);
        let observer = Arc::clone(self.observer);
        let triggers = self.triggers.clone();
        self.tasks.spawn(what, async move {
            let mut watch = follow(what, api, config);
            while let Some(followed) = watch.next().await {
                let is_last_of_list = matches!(
                    followed,
                    Followed::Unavailable | Followed::Event(Event::InitDone)
                );
                let affected = match followed {
                    Followed::Event(event) => take(&observer, event),
                    Followed::Unavailable => {
                        miss(&observer);
                        HashSet::new()
                    }
                };
                if let Some(complete) = complete.take_if(|_| is_last_of_list) {
                    // Nobody waits any more when the process ends.
                    let _ = complete.send(());
                }
                for claim in affected {
                    triggers.send(claim).await;
                }
            }
        });
    }
}

/// One step of a watch.
#[derive(Debug)]
enum Followed<K> {
    /// Something was said.
    Event(Event<K>),
    /// There are no such objects in this cluster, or they may not be read; it is tried again.
    Unavailable,
}

/// What happens to objects of one kind. Failures are logged, once until all is well again, with a pause that
/// grows up to 30 s before the watch begins anew.
fn follow<K>(
    what: &'static str,
    api: Api<K>,
    config: watcher::Config,
) -> BoxStream<'static, Followed<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut complained = false;
    watcher::watcher(api, config)
        .default_backoff()
        .filter_map(move |step| {
            let followed = match step {
                Ok(event) => {
                    if complained && matches!(event, Event::InitDone) {
                        complained = false;
                        tracing::info!("the watch of {what} works again");
                    }
                    Some(Followed::Event(event))
                }
                Err(error) => {
                    let code = code_of(&error);
                    // A watch that has become too old begins anew; that is how they work.
                    if code != Some(410) && !complained {
                        complained = true;
                        tracing::warn!("the watch of {what} fails, and is tried again: {error}");
                    }
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
        triggers.send("early".to_owned()).await;
        let number = triggers
            .open(|| {
                let new = triggers.send("new".to_owned()).now_or_never();
                assert!(new.is_some(), "there is room");
                vec!["a".to_owned(), "b".to_owned()]
            })
            .await;
        assert_eq!(number, 2);
        let mut sent = Vec::new();
        receiver.recv_many(&mut sent, 8).await;
        assert_eq!(sent, ["new", "a", "b"]);
    }
}
