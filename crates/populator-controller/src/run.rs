//! The process, from its start to its end: what runs, in which order it starts, and what ends it.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use prometheus_client::registry::Registry;
use runtime::{Endpoint, Signals, Tasks, Transport};
use tokio::{
    sync::{mpsc, watch},
    time,
};

use crate::{
    apply::{Recorder, Writer},
    cli::Options,
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
/// For an answer, or the next part of it. kube ends each watch after 290 s and restarts it.
const READ_TIMEOUT: Duration = Duration::from_secs(295);
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
    serve_metrics(&mut tasks, &options, registry, &is_ready)?;

    let config = config(&options).await?;
    let namespace = options.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client =
        Client::try_from(config).context("the client of the API server cannot be created")?;
    let served = async {
        let permissions = Permissions::learn(&client)
            .await
            .context("the API server does not answer")?;
        for warning in permissions.warnings() {
            tracing::warn!("{warning}");
        }
        // A replica that stands by is ready to take over.
        ready.send_replace(true);
        let election = Election::new(client.clone(), &namespace, options.identity.clone());
        let leadership = match election.win().await {
            Candidacy::Leading(leadership) => Some(leadership),
            Candidacy::Forbidden => {
                tracing::warn!(
                    "leases may not be written in the namespace {namespace}: there is no election. Replicas \
                     that overlap repeat each other's work, and do no harm"
                );
                None
            }
        };
        anyhow::Ok((permissions, leadership))
    };
    let (permissions, mut leadership) = tokio::select! {
        served = served => served?,
        signal = signals.next() => {
            tracing::info!("ended by {} while standing by", signal.name());
            return Ok(());
        }
        (name, panic) = tasks.panicked() => anyhow::bail!("the task {name} failed: {panic}"),
    };

    telemetry.leads(true);
    let controller = start(&mut tasks, &client, &options, permissions, telemetry)?;
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
        why = lost(leadership.as_deref_mut()) => Err(why),
        (name, panic) = tasks.panicked() => Err(format!("the task {name} failed: {panic}")),
    };
    // Reconciles under way end while the lease is still held, so that the next leader starts from
    // their result.
    drop(stop);
    work.await;
    match end {
        Ok(signal) => {
            if let Some(leadership) = leadership {
                leadership.release().await;
            }
            tracing::info!("ended by {}", signal.name());
            Ok(())
        }
        Err(why) => anyhow::bail!(why),
    }
}

/// Why this process lost the lease; never ends without an election.
async fn lost(leadership: Option<&mut Leadership>) -> String {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// Address and credentials for the API server: from the flags, from the pod's service account, or
/// from a user's kubeconfig.
async fn config(options: &Options) -> anyhow::Result<Config> {
    let mut config = match &options.kubeconfig {
        Some(path) => from_file(path)
            .await
            .with_context(|| format!("--kubeconfig={} cannot be used", path.display()))?,
        // In the order of client-go, and so of Forklift; `infer` alone prefers a kubeconfig.
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_) => Config::infer().await.context(
                "there is neither a pod's service account nor a kubeconfig; name one by --kubeconfig",
            )?,
        },
    };
    if let Some(master) = &options.master {
        config.cluster_url = master.clone();
    }
    // Longer than a watch lasts, so that only a silent server times out.
    config.read_timeout = Some(READ_TIMEOUT);
    Ok(config)
}

async fn from_file(path: &Path) -> anyhow::Result<Config> {
    let file = Kubeconfig::read_from(path)?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

fn serve_metrics(
    tasks: &mut Tasks,
    options: &Options,
    registry: Registry,
    is_ready: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let registry = Arc::new(registry);
    for address in &options.metrics_addresses {
        let endpoint = Endpoint::bind(*address, Transport::Plain, Arc::clone(&registry))
            .with_context(|| format!("--metrics-address={address}"))?
            .with_metrics_path(&options.metrics_path)
            .with_readiness(is_ready.clone());
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
    client: &Client,
    options: &Options,
    permissions: Permissions,
    telemetry: Telemetry,
) -> anyhow::Result<Serving> {
    let observer = Arc::new(Observer::new(client.clone(), Cache::default()));
    let (recorder, events) = Recorder::with_writer(client.clone(), telemetry.clone());
    let recorder = Arc::new(recorder);
    tasks.spawn("events", events.run());
    let status = Arc::new(StatusWriter::new(client.clone(), telemetry.clone()));
    let (sender, receiver) = mpsc::channel(TRIGGERS);
    let triggers = Triggers::new(sender);
    let complete = watch_all(tasks, client, &observer, &triggers, permissions.nodes);
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

    let log = permissions.logs.then(|| LogReader::new(client.clone()));
    let scraper = Scraper::new().context("the client for pods' metrics cannot be created")?;
    let poller = Poller::new(scraper, log);
    let (pods, writer) = (Arc::clone(&observer), Arc::clone(&status));
    tasks.spawn(
        "progress",
        progress::run(poller, pods, writer, telemetry.clone()),
    );

    let measured = Arc::clone(&status);
    tasks.spawn("gauges", async move {
        let mut ticks = time::interval(MEASURE);
        loop {
            ticks.tick().await;
            telemetry.measure_memory();
            let standings = measured.standings();
            telemetry.claims(|reason| standings.get(&reason).copied().unwrap_or_default());
        }
    });

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
