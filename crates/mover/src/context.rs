//! What a job gets, and what it can ask for.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use contract::{Exit, args::secret};
use net::{Cancel, Clock};
use runtime::Redactor;
use tokio::{sync::watch, time::Instant};
use transfer::{
    Controls, Options, Progress, Report, RetryReason, Sink, Source, Verification, sink,
};
use url::Url;

use crate::{
    Arguments, CaBundle, Check, Environment, Failure, Secrets, Switch, Target, Verify, report,
    retry,
};

/// Controls of a job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// How to reach servers: trust from the secrets, proxies from the environment, time limits and
    /// user agent.
    pub settings: net::Settings,
    /// Keys of the secret.
    pub secrets: Arc<Secrets>,
    /// Masks secrets in logs and in the termination message. It knows those of the secret and of the proxies;
    /// tokens and tickets are added as servers give them.
    pub redactor: Redactor,
    /// Clock of retries and of the copy engine.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the run is asked to stop. Blocking calls take it; see [`Context::stop`] for
    /// what an asynchronous job waits on.
    pub cancel: Cancel,
    /// Whether, and since when, the run is asked to stop.
    pub stop: Stop,
    /// Counters that the log and the metrics show.
    pub progress: Arc<Progress>,
    /// Whether this is a preflight, and how far it goes.
    pub check: Option<Check>,
    /// What to compare with the source.
    pub verify: Verify,
    /// The user's limit of connections.
    pub connections: NonZeroUsize,
    /// Longest time without a byte from the source.
    pub no_progress_timeout: Duration,
    /// A controller started the process (`--cr-name` was given).
    pub started_by_controller: bool,
    /// UID of the claim; empty when there is none.
    pub owner_uid: String,
    /// Seed of the jitter. Not the process id, which is 1 in every container.
    seed: u64,
    target: PathBuf,
    overwrite: sink::Overwrite,
    detect_zeroes: bool,
    allow: net::Allow,
    /// Why the authorities that the installation wants trusted are not: for whoever reads that a server is not.
    pub(crate) missing_bundle: Option<String>,
}

/// What the user gave beside arguments.
#[derive(Debug)]
pub struct Given<'a> {
    /// The environment, for proxies.
    pub environment: &'a Environment,
    /// The keys of the secret.
    pub secrets: Secrets,
}

impl Context {
    /// A context from arguments and what was given with them; for tests, since [`crate::run`] makes the real
    /// one.
    ///
    /// # Errors
    /// [`Exit::Configuration`] when secrets cannot be used.
    pub fn new(
        user_agent: impl Into<String>,
        given: Given<'_>,
        arguments: &Arguments,
        clock: Arc<dyn Clock>,
        stop: Stop,
        progress: Arc<Progress>,
        redactor: Redactor,
    ) -> Result<Self, Failure> {
        let Given {
            environment,
            secrets,
        } = given;
        environment.redact(&redactor);
        let folder = arguments.credentials.secret_dir.as_deref();
        // A pod has no other users, whatever the modes are.
        if !arguments.started_by_controller()
            && let Some(file) = folder.and_then(Secrets::open_to_others)
        {
            tracing::warn!(
                "other users may read the secret key {}; take that right away (chmod o-r)",
                file.display()
            );
        }
        secrets.redact(&redactor);
        let bundle = arguments.credentials.ca_bundle.as_ref();
        let bundle = bundle.map(CaBundle::new);
        let trust = secrets.trust(bundle.as_ref())?;
        let missing_bundle = bundle
            .filter(|_| matches!(trust, net::Trust::System))
            .and_then(|bundle| bundle.missing());
        if matches!(trust, net::Trust::Insecure) {
            tracing::warn!(
                "{} is set, so no certificate is checked: whoever stands between here and the source can \
                 read the credentials and change the disk",
                secret::INSECURE_SKIP_VERIFY
            );
        }
        let settings = net::Settings {
            trust,
            proxies: environment.proxies(&secrets),
            egress: net::Egress::anywhere(),
            timeouts: net::Timeouts {
                stall: arguments.transfer.stall_timeout,
                least_rate: arguments.transfer.min_rate,
                ..net::Timeouts::default()
            },
            user_agent: user_agent.into(),
        };
        Ok(Self {
            settings,
            secrets: Arc::new(secrets),
            redactor,
            clock,
            cancel: stop.cancel.clone(),
            stop,
            progress,
            check: arguments.run.check,
            verify: arguments.transfer.verify,
            connections: arguments.transfer.connections(),
            no_progress_timeout: arguments.transfer.no_progress_timeout,
            started_by_controller: arguments.started_by_controller(),
            owner_uid: arguments.owner_uid().to_owned(),
            seed: RandomState::new().hash_one(arguments.owner_uid()),
            target: arguments.target.volume_path.clone(),
            overwrite: if arguments.may_overwrite() {
                sink::Overwrite::Allow
            } else {
                sink::Overwrite::Refuse
            },
            detect_zeroes: arguments.transfer.detect_zeroes == Switch::On,
            allow: net::Allow {
                plain_http: arguments.egress.allow_plain_http,
                local_targets: arguments.egress.allow_local_targets,
            },
            missing_bundle,
        })
    }

    /// States the server that the user named: where it may lead follows from it ([`net::Egress`]). A job
    /// does so before it makes a client.
    ///
    /// # Errors
    /// [`Exit::Configuration`] when the URL cannot be used.
    pub fn set_source(&mut self, url: &Url) -> Result<(), Failure> {
        self.settings.egress = net::Egress::from_source(url, self.allow)?;
        Ok(())
    }

    /// A client for control calls.
    ///
    /// # Errors
    /// [`Exit::Configuration`].
    pub fn rest(&self) -> Result<net::Rest, Failure> {
        Ok(net::Rest::new(&self.settings)?)
    }

    /// Makes connections for data.
    ///
    /// # Errors
    /// [`Exit::Configuration`].
    pub fn connector(&self) -> Result<net::Connector, Failure> {
        Ok(net::Connector::new(
            &self.settings,
            Arc::clone(&self.clock),
            self.cancel.clone(),
        )?)
    }

    /// Opens the target. Nothing is written before the copy.
    pub async fn open_target(&self) -> Result<Target, Failure> {
        let (path, overwrite) = (self.target.clone(), self.overwrite);
        self.blocking(move || Target::open(&path, overwrite))
            .await?
    }

    /// Whether the target's file system takes the data of `source`, as far as both are known.
    ///
    /// # Errors
    /// [`Exit::TargetFull`].
    pub fn check_room(&self, source: &dyn Source, target: &Target) -> Result<(), Failure> {
        Ok(transfer::check_room(
            source,
            target.sink(),
            self.detect_zeroes,
        )?)
    }

    /// Copies all of `source` to the target and syncs it, on a thread of its own.
    ///
    /// # Errors
    /// Those of [`transfer::copy`]; after [`transfer::Kind::Lost`] the caller may start over with a
    /// new source, every other kind is final.
    pub async fn copy(
        &self,
        source: Arc<dyn Source>,
        verification: Verification,
        target: &Target,
    ) -> Result<Report, transfer::Error> {
        let (options, controls) = (self.options(verification), self.controls());
        let sink = target.share();
        self.blocking(move || {
            let result =
                transfer::copy(source.as_ref(), sink.as_ref().as_ref(), &options, &controls);
            // Before the result is seen, so that the target can be closed at once.
            drop(sink);
            result
        })
        .await
        .map_err(|failure| transfer::Error::new(transfer::Kind::Internal, failure.message()))?
    }

    /// Copies all of `source`, by one connection and from its first byte to its last, to the sink that `into` makes of
    /// the target's and of whether zeroes are to be left out; on a thread of its own.
    ///
    /// # Errors
    /// As for [`Self::copy`].
    pub async fn copy_in_order<S: Sink>(
        &self,
        source: Arc<dyn Source>,
        verification: Verification,
        target: &Target,
        into: impl FnOnce(Arc<Box<dyn Sink>>, bool) -> S + Send + 'static,
    ) -> Result<Report, transfer::Error> {
        let detect_zeroes = self.detect_zeroes;
        let options = Options {
            connections: NonZeroUsize::MIN,
            // What passes is not what the target gets.
            detect_zeroes: false,
            ..self.options(verification)
        };
        let (controls, sink) = (self.controls(), target.share());
        self.blocking(move || {
            let sink = into(sink, detect_zeroes);
            let result = transfer::copy(source.as_ref(), &sink, &options, &controls);
            // Before the result is seen, so that the target can be closed at once.
            drop(sink);
            result
        })
        .await
        .map_err(|failure| transfer::Error::new(transfer::Kind::Internal, failure.message()))?
    }

    /// Copies all of `source` to a sink that is not the target, and logs how far it is, in lines that begin with
    /// `doing`. Its bytes are none of the run's progress, which is the target's; its retries count. Zeroes become
    /// holes there, whatever the user wants of the target's.
    ///
    /// # Errors
    /// Those of [`transfer::copy`].
    pub async fn stage(
        &self,
        doing: &'static str,
        source: Arc<dyn Source>,
        sink: Arc<dyn Sink>,
        verification: Verification,
    ) -> Result<Report, transfer::Error> {
        let progress = Arc::new(Progress::new());
        let options = Options {
            detect_zeroes: true,
            ..self.options(verification)
        };
        let controls = Controls {
            progress: Arc::clone(&progress),
            ..self.controls()
        };
        let work = self
            .blocking(move || transfer::copy(source.as_ref(), sink.as_ref(), &options, &controls));
        let line = || {
            let snapshot = progress.snapshot();
            let (done, total) = (snapshot.done(), snapshot.total);
            format!(
                "{doing}: {} of {}",
                report::bytes(done),
                report::bytes(total)
            )
        };
        let result = report::narrated(line, work).await;
        let retries = progress.snapshot().retries;
        for reason in RetryReason::ALL {
            for _ in 0..retries.of(reason) {
                self.progress.retried(reason);
            }
        }
        result
            .map_err(|failure| transfer::Error::new(transfer::Kind::Internal, failure.message()))?
    }

    /// Runs blocking code on a thread of its own, and logs meanwhile how many bytes it has counted, in lines that
    /// begin with `doing`.
    ///
    /// # Errors
    /// [`Exit::Internal`] when it panics.
    pub async fn counted<T, F>(&self, doing: &'static str, code: F) -> Result<T, Failure>
    where
        F: FnOnce(&AtomicU64) -> T + Send + 'static,
        T: Send + 'static,
    {
        let count = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&count);
        let line = || {
            let bytes = report::bytes(count.load(Ordering::Relaxed));
            format!("{doing}: {bytes}")
        };
        let work = self.blocking(move || code(&shared));
        report::narrated(line, work).await
    }

    /// Syncs and closes the target; the last chance to hear of an error.
    pub async fn close(&self, target: Target) -> Result<(), Failure> {
        self.blocking(move || target.close_now()).await?
    }

    /// Runs blocking code on a thread of its own.
    ///
    /// # Errors
    /// [`Exit::Internal`] when it panics.
    pub async fn blocking<T, F>(&self, code: F) -> Result<T, Failure>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        tokio::task::spawn_blocking(code)
            .await
            .map_err(|error| Failure::new(Exit::Internal, format!("a worker failed: {error}")))
    }

    /// Runs blocking code on a thread of its own, and retries it after transient errors, with
    /// backoff, until the retry budget of the run is used up. `doing` completes the sentence
    /// "cannot ...".
    ///
    /// # Errors
    /// The first error that is not transient, [`transfer::Kind::Exhausted`] with the last error as
    /// its cause, or [`transfer::Kind::Cancelled`].
    pub async fn retry<T, F>(&self, doing: &'static str, code: F) -> Result<T, transfer::Error>
    where
        F: FnMut() -> Result<T, transfer::Error> + Send + 'static,
        T: Send + 'static,
    {
        let (policy, controls) = (self.options(Verification::None).retry, self.controls());
        self.blocking(move || retry::retry(doing, &policy, &controls, code))
            .await
            .map_err(|failure| transfer::Error::new(transfer::Kind::Internal, failure.message()))?
    }

    /// The engine's settings, with what is to be verified.
    #[must_use]
    pub fn options(&self, verification: Verification) -> Options {
        Options {
            connections: self.connections,
            verification,
            detect_zeroes: self.detect_zeroes,
            retry: transfer::RetryPolicy {
                no_progress_timeout: self.no_progress_timeout,
                least_rate: self.settings.timeouts.least_rate,
                ..transfer::RetryPolicy::default()
            },
            ..Options::default()
        }
    }

    /// What the engine needs besides its settings.
    #[must_use]
    pub fn controls(&self) -> Controls {
        Controls {
            clock: Arc::clone(&self.clock),
            cancel: self.cancel.clone(),
            seed: self.seed,
            progress: Arc::clone(&self.progress),
        }
    }
}

/// The end that comes from outside, seen by every clone.
#[derive(Debug, Clone)]
pub struct Stop {
    cancel: Cancel,
    asked: watch::Receiver<Option<Instant>>,
}

/// Asks for the end of the run, which every clone of its [`Stop`] sees.
#[derive(Debug)]
pub struct StopHandle {
    cancel: Cancel,
    asked: watch::Sender<Option<Instant>>,
}

impl Stop {
    /// How long a job may take to leave everything tidy after a signal. Kubernetes kills 30 s after
    /// it, and the source's disk must be unlocked by then.
    pub const CLEAN_UP: Duration = Duration::from_secs(20);

    /// A stop, and what pulls it.
    #[must_use]
    pub fn new() -> (StopHandle, Self) {
        let (sender, receiver) = watch::channel(None);
        let cancel = Cancel::new();
        let handle = StopHandle {
            cancel: cancel.clone(),
            asked: sender,
        };
        let stop = Self {
            cancel,
            asked: receiver,
        };
        (handle, stop)
    }

    /// Whether the run is to end early.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.borrow().is_some()
    }

    /// Ends when the run is to end early; never otherwise.
    pub async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(Option::is_some).await.is_err() {
            // The handle is gone, so a stop can no longer be asked for.
            std::future::pending::<()>().await;
        }
    }

    /// How much of the time for tidying up is left: [`Stop::CLEAN_UP`] unless the clock runs.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        match *self.asked.borrow() {
            Some(since) => Self::CLEAN_UP.saturating_sub(since.elapsed()),
            None => Self::CLEAN_UP,
        }
    }
}

impl StopHandle {
    /// Asks for the end, and starts the clock of [`Stop::CLEAN_UP`]. Asking twice is asking once.
    pub fn pull(&self) {
        self.asked.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert_with(Instant::now);
            first
        });
        self.cancel.cancel();
    }
}
