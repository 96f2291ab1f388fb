//! The process around a job.

use std::{
    future::Future,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use contract::Exit;
use net::SystemClock;
use runtime::{
    Endpoint, Linger, Redactor, Signal, Signals, Tasks, Transport,
    logging::{self, Format, Status},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{self, Instant},
};
use tracing::Level;

use crate::{
    Arguments, Context, Done, Environment, Failure, Given, Secrets, Stop, StopHandle,
    end::{End, write_termination},
    metrics::{self, Shown},
    report,
};

/// After a signal, the process ends although the job has not: Kubernetes kills it 30 s after
/// SIGTERM, and a process that is killed leaves no termination message.
const LAST_MOMENT: Duration = Duration::from_secs(25);
/// For answers under way at the very end; the endpoint itself takes 2 s.
const GRACE: Duration = Duration::from_secs(3);
/// The task that is waited for at the end.
const METRICS_TASK: &str = "metrics";
/// Crates that are logged at the level asked for.
const OWN_CRATES: [&str; 4] = ["mover", "net", "runtime", "transfer"];

/// Which mover this is.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Name of the binary, such as `ovirt-populator`; with underscores, of its crate.
    pub name: &'static str,
    /// Version of the binary.
    pub version: &'static str,
    /// Name of its progress metric.
    pub progress_metric: &'static str,
}

/// Runs a job as a process: logging, metrics, signals, termination message, exit code.
///
/// A signal pulls the job's [`crate::Stop`]; the job then has 20 s to release the source. The log
/// reports what it returns, and the exit code is the signal's unless the job still succeeds. After
/// 25 s the process ends anyway. `secrets` finds the keys of the secret, and may ask for one on a terminal.
pub fn run<S, J, F>(
    program: &Program,
    environment: &Environment,
    arguments: &Arguments,
    secrets: S,
    job: J,
) -> ExitCode
where
    S: FnOnce(&Arguments, &Environment) -> Result<Secrets, Failure>,
    J: FnOnce(Context) -> F + Send + 'static,
    F: Future<Output = Result<Done, Failure>> + Send + 'static,
{
    let protected = runtime::protect_memory();
    let redactor = Redactor::new();
    let status = status(arguments, environment);
    start_logging(program, arguments, &redactor, &status);
    if let Err(error) = protected {
        tracing::warn!("the process's memory cannot be kept from others: {error}");
    }
    runtime::crypto::install();
    let run = Run {
        program,
        arguments,
        redactor,
        status,
        start: Instant::now(),
        shown: Arc::default(),
    };
    let exit = match runtime::executor::build() {
        Ok(executor) => {
            let exit = executor.block_on(run.live(environment, secrets, job));
            // Dropping would wait for a blocked thread.
            executor.shutdown_timeout(Duration::from_millis(100));
            exit
        }
        Err(error) => run.report(Err(Failure::from_error(Exit::Internal, &error))),
    };
    exit.into()
}

/// One run of the process.
struct Run<'a> {
    program: &'a Program,
    arguments: &'a Arguments,
    redactor: Redactor,
    status: Status,
    start: Instant,
    shown: Arc<Shown>,
}

impl Run<'_> {
    async fn live<S, J, F>(&self, environment: &Environment, secrets: S, job: J) -> Exit
    where
        S: FnOnce(&Arguments, &Environment) -> Result<Secrets, Failure>,
        J: FnOnce(Context) -> F + Send + 'static,
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        let mut tasks = Tasks::new();
        let mut controls = match self.controls(&mut tasks) {
            Ok(controls) => controls,
            Err(failure) => return self.report(Err(failure)),
        };
        let (handle, stop) = Stop::new();
        let given = secrets(self.arguments, environment).map(|secrets| Given {
            environment,
            secrets,
        });
        let result = match given.and_then(|given| self.context(given, stop)) {
            Ok(context) => {
                let missing_bundle = context.missing_bundle.clone();
                let mut jobs = JoinSet::new();
                jobs.spawn(async move { job(context).await });
                let result = conduct(jobs, &mut controls.signals, &handle, &mut tasks).await;
                result.map_err(|failure| match missing_bundle {
                    Some(missing) if failure.exit() == Exit::Tls => {
                        failure.with_note(&format!("{missing}; create it"))
                    }
                    _ => failure,
                })
            }
            Err(failure) => Err(failure),
        };
        let copied = matches!(result, Ok(Done::Copied { .. } | Done::Untidy { .. }));
        self.shown.succeeded.store(copied, Ordering::Release);
        if let Some(linger) = &controls.linger {
            linger.begin();
        }
        // Before the metrics linger, so that the result is known without that wait.
        let exit = self.report(result);
        if let Some(linger) = controls.linger.filter(|_| copied) {
            tokio::select! {
                _ = linger.wait(self.arguments.run.metrics_linger) => {}
                Some(_) = controls.signals.recv() => {}
            }
        }
        // The endpoint finishes its answers; everything else is aborted with the executor.
        drop(controls.stop_endpoint);
        tasks.ended(METRICS_TASK, GRACE).await;
        exit
    }

    /// Starts what runs beside the job.
    fn controls(&self, tasks: &mut Tasks) -> Result<Beside, Failure> {
        let (sender, signals) = mpsc::channel(4);
        let mut source = Signals::install()
            .map_err(|error| Failure::from_error(Exit::Internal, &error).context("signals"))?;
        tasks.spawn("signals", async move {
            while sender.send(source.next().await).await.is_ok() {}
        });
        tasks.spawn(
            "report",
            report::run(
                Arc::clone(&self.shown),
                self.arguments.log_format(),
                self.status.clone(),
            ),
        );
        let mut beside = Beside {
            signals,
            linger: None,
            stop_endpoint: None,
        };
        let Some(endpoint) = self.endpoint()? else {
            return Ok(beside);
        };
        beside.linger = Some(endpoint.linger());
        let (stop, stopped) = oneshot::channel::<()>();
        tasks.spawn(
            METRICS_TASK,
            endpoint.serve(async {
                // The sender is dropped to stop the endpoint.
                let _ = stopped.await;
            }),
        );
        beside.stop_endpoint = Some(stop);
        Ok(beside)
    }

    /// The metrics endpoint. One that was asked for must be there; a controller's disk is copied
    /// without it too.
    fn endpoint(&self) -> Result<Option<Endpoint>, Failure> {
        let Some(address) = self.arguments.metrics_address() else {
            return Ok(None);
        };
        let registry = metrics::registry(
            self.program.progress_metric,
            self.arguments.owner_uid(),
            Arc::clone(&self.shown),
        );
        let transport = Transport::Tls {
            name: self.program.name,
        };
        match Endpoint::bind(address, transport, Arc::new(registry)) {
            Ok(endpoint) => {
                let address = endpoint.local_addr().unwrap_or(address);
                tracing::info!("metrics: https://{address}/metrics");
                Ok(Some(endpoint))
            }
            Err(error) => {
                let failure = Failure::from_error(Exit::Configuration, &error).context("metrics");
                if self.arguments.metrics_are_asked_for() {
                    return Err(failure);
                }
                tracing::warn!("{failure}; going on without metrics");
                Ok(None)
            }
        }
    }

    fn context(&self, given: Given<'_>, stop: Stop) -> Result<Context, Failure> {
        Context::new(
            format!("{}/{}", self.program.name, self.program.version),
            given,
            self.arguments,
            Arc::new(SystemClock::default()),
            stop,
            Arc::clone(&self.shown.progress),
            self.redactor.clone(),
        )
    }

    /// Reports how it ended, in the log and in the termination message.
    fn report(&self, result: Result<Done, Failure>) -> Exit {
        self.status.end();
        let end = End {
            format: self.arguments.log_format(),
            elapsed: self.start.elapsed(),
            snapshot: self.shown.progress.snapshot(),
        };
        let termination = end.told(result);
        let exit = termination.exit;
        if let Some(path) = self.arguments.termination_log() {
            write_termination(&path, &self.redactor, termination);
        }
        exit
    }
}

/// What runs beside the job.
struct Beside {
    signals: mpsc::Receiver<Signal>,
    linger: Option<Linger>,
    stop_endpoint: Option<oneshot::Sender<()>>,
}

/// Waits for the job's end, passing signals on to it.
///
/// The first signal asks the job to stop; later ones are only logged. A job that fails after a
/// signal failed because of it, so the exit code is the signal's; one that still succeeds is a
/// success, since its data is durable.
async fn conduct(
    mut job: JoinSet<Result<Done, Failure>>,
    signals: &mut mpsc::Receiver<Signal>,
    stop: &StopHandle,
    tasks: &mut Tasks,
) -> Result<Done, Failure> {
    let mut asked: Option<(Signal, Instant)> = None;
    let result = loop {
        // Counts from the first signal in every round, so that later signals do not extend it.
        let last_moment = async {
            match asked {
                Some((_, since)) => time::sleep_until(since + LAST_MOMENT).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = job.join_next() => break ended.unwrap_or_else(|error| {
                Err(Failure::new(Exit::Internal, format!("the job failed: {error}")))
            }),
            Some(signal) = signals.recv() => {
                if asked.is_some() {
                    tracing::info!("{}: already stopping", signal.name());
                    continue;
                }
                tracing::info!(
                    "{}: stopping; the source is left tidy within {} s",
                    signal.name(),
                    Stop::CLEAN_UP.as_secs()
                );
                asked = Some((signal, Instant::now()));
                stop.pull();
            }
            // The job is left behind: blocking code that hangs in a system call cannot be aborted.
            () = last_moment => break Err(Failure::new(
                Exit::Internal,
                format!(
                    "tidying up took longer than {} s; what is left open at the source ends by its own timeout",
                    LAST_MOMENT.as_secs()
                ),
            )),
            // Metrics and progress only observe; a disk is copied without them too.
            (name, panic) = tasks.panicked() => {
                tracing::error!("the task {name} has failed; going on without it: {panic}");
            }
        }
    };
    result.map_err(|failure| match asked {
        Some((signal, _)) => failure
            .context(format!("ended by {}", signal.name()))
            .with_exit(exit_of(signal)),
        None if matches!(failure.exit(), Exit::Terminated | Exit::Interrupted) => failure
            .context("cancelled without a signal")
            .with_exit(Exit::Internal),
        None => failure,
    })
}

const fn exit_of(signal: Signal) -> Exit {
    match signal {
        Signal::Terminate => Exit::Terminated,
        Signal::Interrupt => Exit::Interrupted,
    }
}

/// Where progress is shown in place: on a terminal, where a person reads what it would be logged as.
fn status(arguments: &Arguments, environment: &Environment) -> Status {
    let is_for_people = arguments.log_format() == Format::Text
        && arguments.log_level() >= Level::INFO
        && !arguments.started_by_controller()
        && environment.get("TERM") != Some("dumb");
    if is_for_people {
        Status::on_terminal()
    } else {
        Status::default()
    }
}

fn start_logging(program: &Program, arguments: &Arguments, redactor: &Redactor, status: &Status) {
    let program_crate = program.name.replace('-', "_");
    let mut own = OWN_CRATES.to_vec();
    own.push(&program_crate);
    let settings = logging::Settings {
        format: arguments.log_format(),
        level: arguments.log_level(),
        own: &own,
    };
    logging::init_redacted(&settings, redactor, status);
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPIED: Done = Done::Copied { verified: None };

    struct Scene {
        signals: mpsc::Sender<Signal>,
        conducted: JoinSet<Result<Done, Failure>>,
    }

    /// Conducts a job that gets a [`Stop`].
    fn conduct_job<F>(job: impl FnOnce(Stop) -> F) -> Scene
    where
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        let (handle, stop) = Stop::new();
        let mut jobs = JoinSet::new();
        jobs.spawn(job(stop));
        let (signals, mut receiver) = mpsc::channel(4);
        let mut conducted = JoinSet::new();
        conducted
            .spawn(async move { conduct(jobs, &mut receiver, &handle, &mut Tasks::new()).await });
        Scene { signals, conducted }
    }

    async fn end(mut scene: Scene) -> Result<Done, Failure> {
        scene.conducted.join_next().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_jobs_own_end_is_passed_on() {
        let scene = conduct_job(|_| async { Ok(COPIED) });
        assert_eq!(end(scene).await, Ok(COPIED));
        let failure = Failure::new(Exit::TargetFull, "full");
        let expected = failure.clone();
        let scene = conduct_job(|_| async { Err(failure) });
        assert_eq!(end(scene).await, Err(expected));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_failure() {
        let scene = conduct_job(|_| async { panic!("no such luck") });
        let failure = end(scene).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Internal);
        assert!(failure.message().contains("no such luck"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_gives_the_job_time_and_decides_the_exit_code() {
        for (signal, exit) in [
            (Signal::Terminate, Exit::Terminated),
            (Signal::Interrupt, Exit::Interrupted),
        ] {
            let scene = conduct_job(|stop| async move {
                stop.asked().await;
                assert_eq!(stop.time_left(), Stop::CLEAN_UP);
                time::sleep(Duration::from_secs(19)).await;
                assert_eq!(stop.time_left(), Duration::from_secs(1));
                Err(Failure::new(Exit::SourceUnavailable, "cut off"))
            });
            scene.signals.send(signal).await.unwrap();
            let failure = end(scene).await.unwrap_err();
            assert_eq!(failure.exit(), exit);
            assert!(failure.message().ends_with(": cut off"), "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_succeeds_after_a_signal_has_succeeded() {
        let scene = conduct_job(|stop| async move {
            stop.asked().await;
            Ok(COPIED)
        });
        scene.signals.send(Signal::Terminate).await.unwrap();
        assert_eq!(end(scene).await, Ok(COPIED));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_does_not_end_is_left_behind_after_25_s() {
        let start = Instant::now();
        let scene = conduct_job(|_| std::future::pending());
        scene.signals.send(Signal::Terminate).await.unwrap();
        time::sleep(Duration::from_secs(10)).await;
        // A second signal changes nothing.
        scene.signals.send(Signal::Interrupt).await.unwrap();
        let failure = end(scene).await.unwrap_err();
        assert_eq!(start.elapsed(), LAST_MOMENT);
        assert_eq!(failure.exit(), Exit::Terminated);
        assert!(failure.message().contains("longer than 25 s"), "{failure}");
    }

    #[tokio::test]
    async fn a_cancellation_that_nobody_asked_for_is_a_fault() {
        let error = transfer::Error::new(transfer::Kind::Cancelled, "cancelled");
        let scene = conduct_job(|_| async { Err(error.into()) });
        assert_eq!(end(scene).await.unwrap_err().exit(), Exit::Internal);
    }

    #[test]
    fn the_table_of_timers_is_right() {
        use testkit::timers::stated;
        assert_eq!(stated("tidying up"), [Stop::CLEAN_UP]);
        assert_eq!(stated("last moment"), [LAST_MOMENT]);
    }
}
