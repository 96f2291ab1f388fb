//! Tasks whose panics are reported.

use std::{collections::HashMap, future::Future, time::Duration};

use tokio::{task::Id, task::JoinSet, time};

/// Tasks that belong together: each has a name, each end is seen, and none outlives the set.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// A set without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task under a name that reports of its panic use.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits for the next panic of a task, and says whose it was and what it said; never ends
    /// without one. Cancel safe.
    pub async fn panicked(&mut self) -> (&'static str, String) {
        loop {
            match self.set.join_next_with_id().await {
                None => std::future::pending().await,
                Some(Ok((id, ()))) => {
                    self.names.remove(&id);
                }
                Some(Err(error)) => {
                    let name = self.names.remove(&error.id()).unwrap_or("task");
                    if error.is_panic() {
                        return (name, error.to_string());
                    }
                }
            }
        }
    }

    /// Waits until the task of this name has ended, at most for `grace`. What is left is aborted
    /// when the set is dropped.
    pub async fn ended(&mut self, name: &'static str, grace: Duration) {
        let end = async {
            while self.names.values().any(|other| *other == name) {
                match self.set.join_next_with_id().await {
                    None => return,
                    Some(Ok((id, ()))) => self.names.remove(&id),
                    Some(Err(error)) => self.names.remove(&error.id()),
                };
            }
        };
        // A task that does not end in time is the one that is aborted.
        let _ = time::timeout(grace, end).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_seen_with_its_name() {
        let mut tasks = Tasks::new();
        tasks.spawn("quiet", async {});
        tasks.spawn("forever", std::future::pending());
        tasks.spawn("loud", async { panic!("no such luck") });
        let (name, text) = tasks.panicked().await;
        assert_eq!(name, "loud");
        assert!(text.contains("no such luck"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_aborted() {
        let mut tasks = Tasks::new();
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("forever", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        tasks.spawn("short", time::sleep(Duration::from_secs(1)));
        let start = time::Instant::now();
        tasks.ended("short", Duration::from_secs(3)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        tasks.ended("forever", Duration::from_secs(3)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(4));
        drop(tasks);
        assert!(dropped.await.is_err());
    }
}
