//! The process, from its start to its end: what runs, in which order it starts, and what ends it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use prometheus_client::registry::Registry;
use runtime::{Endpoint, HealthEndpoint, Signals, Tasks, Transport};
use tokio::{
    sync::{mpsc, watch},
    time,
};

use crate::{
    apply::{Recorder, Writer},
    cli::Options,
    client::{self, Clients},
    election::{Candidacy, Election, Leadership},
    observe::{Cache, Observer, Triggers, watch_all},
    permissions::Permissions,
    progress::{self, LogReader, Poller, Scraper},
    reconcile::Controller,
    status::StatusWriter,
    telemetry::Telemetry,
};
use population::{model::Uid, slots::Slots};

/// Triggers that are buffered for the loop. Beyond that the watches wait.
const TRIGGERS: usize = 1024;
/// At the end, for events that are queued.
const FLUSH: Duration = Duration::from_secs(2);
/// Pace of the gauges that no reconcile updates.
const MEASURE: Duration = Duration::from_secs(10);

/// Serves claims until a signal comes, the lease is lost or a task fails.
///
/// # Errors
/// The process cannot start, or must not continue; the message says why.
pub async fn run(options: Options) -> anyhow::Result<()> {
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::install().context("signals cannot be handled")?;
    let (telemetry, registry) = Telemetry::new(env!("CARGO_PKG_VERSION"));
    let (ready, is_ready) = watch::channel(false);
    let mut tasks = Tasks::new();
    listen(&mut tasks, &options, registry, &is_ready)?;

    let config = client::config(&options).await?;
    let namespace = options.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let clients =
        Clients::new(&config).context("the client of the API server cannot be created")?;
    let election = || {
        let identity = options.identity.clone();
        Election::new(clients.calls.clone(), &namespace, identity)
    };
    let served = async {
        let permissions = Permissions::wait_for(&clients.calls, &options.namespaces).await;
        for warning in permissions.warnings() {
            tracing::warn!("{warning}");
        }
        // A replica that stands by is ready to take over.
        ready.send_replace(true);
        let leadership = match election().win().await {
            Candidacy::Leading(leadership) => Some(leadership),
            Candidacy::Forbidden => {
                tracing::warn!(
                    "leases may not be written in the namespace {namespace}: there is no election. Replicas \
                     that overlap repeat each other's work, and do no harm"
                );
                None
            }
        };
        (permissions, leadership)
    };
    let (permissions, mut leadership) = tokio::select! {
        served = served => served,
        signal = signals.next() => {
            tracing::info!("ended by {} while standing by", signal.name());
            return Ok(());
        }
        (name, panic) = tasks.panicked() => anyhow::bail!("the task {name} failed: {panic}"),
    };

    telemetry.leads(true);
    let controller = start(
        &mut tasks,
        &clients,
        &options,
        permissions,
        telemetry,
        ready,
    )?;
    let recorder = Arc::clone(&controller.controller.recorder);
    let (stop, is_stopped) = watch::channel(());
    let until_stopped = async move {
        let mut is_stopped = is_stopped;
        // An error means that the sender is gone, which is a stop as well.
        let _ = is_stopped.changed().await;
    };
    let mut work = std::pin::pin!(controller.serve(until_stopped));
    let end = tokio::select! {
        () = &mut work => anyhow::bail!("the reconcile loop has ended by itself"),
        signal = signals.next() => Ok(signal),
        why = lost(&mut leadership, election()) => Err(why),
        (name, panic) = tasks.panicked() => Err(format!("the task {name} failed: {panic}")),
    };
    drop(stop);
    finish(&mut work, leadership.as_deref()).await;
    match end {
        Ok(signal) => {
            // Nothing depends on an event.
            let _ = time::timeout(FLUSH, recorder.flush()).await;
            if let Some(leadership) = leadership {
                leadership.release().await;
            }
            tracing::info!("ended by {}", signal.name());
            Ok(())
        }
        Err(why) => anyhow::bail!(why),
    }
}

/// Waits for reconciles under way, so that the next leader starts from their result. A lease that was
/// taken or has expired leaves them no time.
async fn finish(work: impl Future<Output = ()>, leadership: Option<&Leadership>) {
    let Some(leadership) = leadership else {
        return work.await;
    };
    if !leadership.finish(work).await {
        tracing::warn!("work under way is cut short: the lease leaves it no time");
    }
}

/// Why this process may not lead any more. Without a lease it leads until it may write leases.
async fn lost(leadership: &mut Option<Box<Leadership>>, election: Election) -> String {
    let held = match leadership {
        Some(held) => held,
        None => match election.win_late().await {
            Ok(won) => leadership.insert(won),
            Err(why) => return why,
        },
    };
    held.lost().await
}

/// Serves metrics and health.
fn listen(
    tasks: &mut Tasks,
    options: &Options,
    registry: Registry,
    is_ready: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    if let Some(address) = options.health_address {
        let endpoint = HealthEndpoint::bind(address, is_ready.clone())
            .with_context(|| format!("--health-address={address}"))?;
        let address = endpoint.local_addr().unwrap_or(address);
        tracing::info!("health: http://{address}/healthz");
        tasks.spawn("health", endpoint.serve(std::future::pending()));
    }
    let registry = Arc::new(registry);
    for address in &options.metrics_addresses {
        let path = &options.metrics_path;
        let endpoint = Endpoint::bind(*address, Transport::Plain, Arc::clone(&registry))
            .with_context(|| format!("--metrics-address={address}"))?
            .with_metrics_path(path)
            .with_readiness(is_ready.clone());
        let address = endpoint.local_addr().unwrap_or(*address);
        tracing::info!("metrics: http://{address}{path}");
        tasks.spawn("metrics", endpoint.serve(std::future::pending()));
    }
    Ok(())
}

/// The work queue's loop, and what triggers it.
struct Serving {
    controller: Arc<Controller>,
    triggers: mpsc::Receiver<Uid>,
    workers: usize,
}

impl Serving {
    async fn serve(mut self, stop: impl Future<Output = ()>) {
        let triggers = futures::stream::poll_fn(|context| self.triggers.poll_recv(context));
        Arc::clone(&self.controller)
            .run(triggers, self.workers, stop)
            .await;
    }
}

/// Starts everything that runs beside the loop.
fn start(
    tasks: &mut Tasks,
    clients: &Clients,
    options: &Options,
    permissions: Permissions,
    telemetry: Telemetry,
    ready: watch::Sender<bool>,
) -> anyhow::Result<Serving> {
    let client = &clients.calls;
    let (known, permissions) = watch::channel(permissions);
    tasks.spawn(
        "permissions",
        Permissions::keep_learning(client.clone(), options.namespaces.clone(), known),
    );
    let observer = Arc::new(Observer::new(client.clone(), Cache::default()));
    let (recorder, events) = Recorder::with_writer(client.clone(), telemetry.clone());
    let recorder = Arc::new(recorder);
    tasks.spawn("events", events.run());
    let status = Arc::new(StatusWriter::new(client.clone(), telemetry.clone()));
    let (sender, receiver) = mpsc::channel(TRIGGERS);
    let triggers = Triggers::new(sender);
    let complete = watch_all(
        tasks,
        &clients.watches,
        &options.namespaces,
        &observer,
        &triggers,
        permissions.clone(),
    );
    let controller = Arc::new(Controller {
        observer: Arc::clone(&observer),
        writer: Writer::new(client.clone(), telemetry.clone()),
        recorder: Arc::clone(&recorder),
        status: Arc::clone(&status),
        slots: Mutex::new(Slots::default()),
        pace: Mutex::default(),
        settings: options.settings.clone(),
        telemetry: telemetry.clone(),
    });

    let first = Arc::clone(&controller);
    tasks.spawn("first reconcile", async move {
        complete.await;
        // Before the first claim is reconciled, so that no more are admitted than there are slots.
        first.count_slots();
        let all = || {
            let cache = first.observer.cache();
            let mut all = cache.all_claims();
            all.extend(cache.gone_claims());
            all
        };
        let number = triggers.open(all).await;
        tracing::info!(
            claims = number,
            "the first lists are complete; all claims are reconciled"
        );
    });

    let log = LogReader::new(client.clone(), permissions);
    let scraper = Scraper::new().context("the client for pods' metrics cannot be created")?;
    let poller = Poller::new(scraper, Some(log));
    let (pods, writer) = (Arc::clone(&observer), Arc::clone(&status));
    tasks.spawn(
        "progress",
        progress::run(poller, pods, writer, telemetry.clone()),
    );

    tasks.spawn(
        "gauges",
        measure(telemetry, Arc::clone(&status), Arc::clone(&observer), ready),
    );

    tasks.spawn(
        "status",
        async move { status.run(&observer, &recorder).await },
    );
    Ok(Serving {
        controller,
        triggers: receiver,
        workers: options.workers,
    })
}

/// Sets the gauges that no reconcile updates, and the readiness, until the future is dropped.
async fn measure(
    telemetry: Telemetry,
    status: Arc<StatusWriter>,
    observer: Arc<Observer>,
    ready: watch::Sender<bool>,
) {
    let mut ticks = time::interval(MEASURE);
    loop {
        ticks.tick().await;
        telemetry.measure_memory();
        let standings = status.standings();
        telemetry.claims(|reason| standings.get(&reason).copied().unwrap_or_default());
        let (failing, all) = observer.health().failing();
        telemetry.watches(failing);
        // A process that leads and sees nothing of what happens is not ready.
        let is_ready = failing < all;
        ready.send_if_modified(|ready| std::mem::replace(ready, is_ready) != is_ready);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::namespaces::Namespaces;
    use crate::observe::Cache;

    /// A client of an API server that refuses everything, or has no objects.
    fn client(works: &Arc<AtomicBool>) -> kube::Client {
        let works = Arc::clone(works);
        let service = tower::service_fn(move |request: Request<Body>| {
            let works = works.load(Ordering::Relaxed);
            let is_watch = request.uri().query().unwrap_or_default().contains("watch=");
            async move {
                let body = match (works, is_watch) {
                    (true, true) => {
                        time::sleep(Duration::from_mins(1)).await;
                        ""
                    }
                    (true, false) => {
                        r#"{"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}"#
                    }
                    (false, _) => {
                        r#"{"kind": "Status", "code": 503, "reason": "ServiceUnavailable"}"#
                    }
                };
                let status = if works { 200 } else { 503 };
                let body = Body::from(body.as_bytes().to_vec());
                Ok::<_, kube::Error>(Response::builder().status(status).body(body).unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_again_when_a_watch_works_again() {
        let works = Arc::new(AtomicBool::new(false));
        let client = client(&works);
        let (telemetry, _) = Telemetry::new("1.2.3");
        let observer = Arc::new(Observer::new(client.clone(), Cache::default()));
        let status = Arc::new(StatusWriter::new(client.clone(), telemetry.clone()));
        let (sender, _triggers) = mpsc::channel(TRIGGERS);
        let (_known, permissions) = watch::channel(Permissions {
            nodes: true,
            logs: true,
            grants: true,
        });
        let mut tasks = Tasks::new();
        let triggers = Triggers::new(sender);
        drop(watch_all(
            &mut tasks,
            &client,
            &Namespaces::default(),
            &observer,
            &triggers,
            permissions,
        ));
        let (ready, mut is_ready) = watch::channel(true);
        tasks.spawn("gauges", measure(telemetry, status, observer, ready));
        let mut becomes = async |wanted: bool| {
            let becomes = is_ready.wait_for(|ready| *ready == wanted);
            let becomes = time::timeout(Duration::from_hours(1), becomes).await;
            assert!(becomes.is_ok(), "ready: {wanted}");
        };
        becomes(false).await;
        works.store(true, Ordering::Relaxed);
        becomes(true).await;
        works.store(false, Ordering::Relaxed);
        becomes(false).await;
    }
}
