//! Leader election by a Lease, so that one replica serves at a time
//! (<https://kubernetes.io/docs/concepts/architecture/leases/>).
//!
//! It saves work and duplicate events, and nothing depends on it: every write is bound to what it
//! was decided on, so two replicas that overlap do no harm (`docs/adr/0006-plan-is-pure.md`). Where
//! the process may not write leases, as under Forklift's role, it serves without one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{self, Instant};

/// Name of the lease.
pub const NAME: &str = "populator-controller";
/// A lease that is not renewed for this long is free.
const VALID_FOR: Duration = Duration::from_secs(15);
/// A leader that could not renew the lease for this long stops. The rest of [`VALID_FOR`] is for
/// writes under way and for clocks that run at different speeds.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Between two tries of a process that may not write leases, and serves without one.
const FORBIDDEN_PACE: Duration = Duration::from_mins(1);
/// Between two reads of the lease, or two renewals: two may fail before [`GIVE_UP`].
const PACE: Duration = Duration::from_secs(4);

/// Result of a candidacy.
pub enum Candidacy {
    /// This process leads, until [`Leadership::lost`].
    Leading(Box<Leadership>),
    /// The process may not read or write leases here.
    Forbidden,
}

/// A candidate for the lease.
pub struct Election {
    api: Api<Lease>,
    identity: String,
}

/// The lease that this process holds.
pub struct Leadership {
    election: Election,
    held: Lease,
    renewed: Instant,
    /// Another replica has it.
    taken: bool,
}

/// The version of the lease that a candidate has seen, and since when. The age of the lease is
/// measured by our clock from the moment when its version changed, and not by the time in it: a
/// leader whose clock is wrong keeps its lease.
struct Seen {
    version: Option<String>,
    at: Instant,
}

impl Election {
    /// A candidate with this identity for the lease in a namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
        }
    }

    /// Waits until this process leads, or learns that it may not.
    pub async fn win(self) -> Candidacy {
        let mut seen: Option<Seen> = None;
        let mut logged = None;
        loop {
            // Before the request: others may have seen the new lease at any time after this.
            let start = Instant::now();
            let Ok(outcome) = time::timeout(GIVE_UP, self.attempt(&mut seen)).await else {
                tracing::warn!(
                    "the lease {NAME} cannot be acquired: the API server does not answer"
                );
                continue;
            };
            match outcome {
                Ok(Attempt::Won(held)) => {
                    tracing::info!("{} leads", self.identity);
                    return Candidacy::Leading(Box::new(Leadership::new(self, *held, start)));
                }
                Ok(Attempt::Held(by)) => {
                    if logged.as_ref() != Some(&by) {
                        tracing::info!("{by} leads; {} stands by", self.identity);
                        logged = Some(by);
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 403 => return Candidacy::Forbidden,
                Err(error) => tracing::warn!("the lease {NAME} cannot be acquired: {error}"),
            }
            time::sleep(pace(PACE)).await;
        }
    }

    /// For a process that serves without a lease, because it may not write one: waits until it may, and
    /// leads. Until then two of them do each other's work.
    ///
    /// # Errors
    /// Another replica leads, and this one has to stop.
    pub async fn win_late(self) -> Result<Box<Leadership>, String> {
        loop {
            time::sleep(pace(FORBIDDEN_PACE)).await;
            let start = Instant::now();
            match time::timeout(GIVE_UP, self.attempt(&mut None)).await {
                Ok(Ok(Attempt::Won(held))) => {
                    tracing::info!("leases may be written now, and {} leads", self.identity);
                    return Ok(Box::new(Leadership::new(self, *held, start)));
                }
                Ok(Ok(Attempt::Held(by))) => {
                    return Err(format!("leases may be written now, and {by} leads"));
                }
                // Still forbidden, or out of reach.
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    fn is_held(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.identity)
    }

    async fn attempt(&self, seen: &mut Option<Seen>) -> kube::Result<Attempt> {
        // 409: another replica was faster. The version that we saw is the precondition of our
        // write.
        let won = |result: kube::Result<Lease>| match result {
            Ok(lease) => Ok(Attempt::Won(Box::new(lease))),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(Attempt::Held("another replica".to_owned()))
            }
            Err(error) => Err(error),
        };
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let lease = lease_of(None, Some(&self.identity));
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone();
        let age = match seen {
            Some(seen) if seen.version == version => seen.at.elapsed(),
            _ => {
                *seen = Some(Seen {
                    version,
                    at: Instant::now(),
                });
                Duration::ZERO
            }
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let valid_for = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let valid_for = valid_for.map_or(VALID_FOR, Duration::from_secs);
        match holder {
            // A lease with our own identity is from before a crash and is taken at once: no other
            // pod gets the same name at the same time.
            Some(holder) if holder != self.identity && age < valid_for => Ok(Attempt::Held(holder)),
            _ => {
                let mine = lease_of(Some(&lease), Some(&self.identity));
                won(self.api.replace(NAME, &PostParams::default(), &mine).await)
            }
        }
    }
}

enum Attempt {
    Won(Box<Lease>),
    Held(String),
}

impl Leadership {
    const fn new(election: Election, held: Lease, renewed: Instant) -> Self {
        Self {
            election,
            held,
            renewed,
            taken: false,
        }
    }

    /// Waits for work that is under way, for as long as no other replica can lead: what is not done by
    /// then is cut short, and the next leader starts from what the cluster shows. Returns whether it was
    /// done.
    pub async fn finish(&self, work: impl Future<Output = ()>) -> bool {
        let left = if self.taken {
            Duration::ZERO
        } else {
            VALID_FOR.saturating_sub(self.renewed.elapsed())
        };
        time::timeout(left, work).await.is_ok()
    }

    /// Keeps the lease; ends when it is lost, with the reason.
    pub async fn lost(&mut self) -> String {
        loop {
            time::sleep(pace(PACE)).await;
            // Others take the lease when they have seen no change for long enough. So the time for
            // all retries together is limited, and a missing answer counts like a refusal.
            let left = GIVE_UP.saturating_sub(self.renewed.elapsed());
            match time::timeout(left, self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                    self.taken = true;
                    return format!("the lease {NAME} was taken: {}", status.message);
                }
                Ok(Err(error)) if self.renewed.elapsed() < GIVE_UP => {
                    tracing::warn!(
                        "the lease {NAME} cannot be renewed, and the renewal is retried: {error}"
                    );
                }
                Ok(Err(error)) => return format!("the lease {NAME} could not be renewed: {error}"),
                Err(_) => {
                    return format!(
                        "the lease {NAME} could not be renewed: the API server has not answered for {} s",
                        GIVE_UP.as_secs()
                    );
                }
            }
        }
    }

    async fn renew(&mut self) -> kube::Result<()> {
        match self.replace().await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // Either another replica took the lease, or our last write arrived and its answer
                // was lost. The holder tells which; without this check a lost answer would end the
                // leadership.
                match self.election.api.get(NAME).await? {
                    lease if self.election.is_held(&lease) => self.held = lease,
                    _ => return Err(kube::Error::Api(status)),
                }
                self.replace().await
            }
            result => result,
        }
    }

    async fn replace(&mut self) -> kube::Result<()> {
        let mine = lease_of(Some(&self.held), Some(&self.election.identity));
        let parameters = PostParams::default();
        // Before the request: others may have seen the change at any time after this.
        let start = Instant::now();
        self.held = self.election.api.replace(NAME, &parameters, &mine).await?;
        self.renewed = start;
        Ok(())
    }

    /// Releases the lease, so that the next leader need not wait until it expires.
    pub async fn release(self) {
        let free = lease_of(Some(&self.held), None);
        let parameters = PostParams::default();
        let replace = self.election.api.replace(NAME, &parameters, &free);
        match time::timeout(Duration::from_secs(2), replace).await {
            Ok(Ok(_)) => tracing::info!("{} has released the lease {NAME}", self.election.identity),
            // It expires by itself.
            Ok(Err(error)) => tracing::info!("the lease {NAME} was not released: {error}"),
            Err(_) => tracing::info!("the lease {NAME} was not released in time"),
        }
    }
}

/// A pace with jitter, so that candidates do not write at the same time.
fn pace(pace: Duration) -> Duration {
    backoff::jittered(pace, 0.25, &mut fastrand::Rng::new())
}

/// The lease with this holder, to replace `before`, whose resource version is the precondition.
fn lease_of(before: Option<&Lease>, holder: Option<&str>) -> Lease {
    let now = MicroTime(Timestamp::now());
    let spec = before
        .and_then(|lease| lease.spec.clone())
        .unwrap_or_default();
    let is_same = spec.holder_identity.as_deref() == holder;
    let transitions = spec.lease_transitions.unwrap_or_default();
    Lease {
        metadata: match before {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta {
                name: Some(NAME.to_owned()),
                ..ObjectMeta::default()
            },
        },
        spec: Some(LeaseSpec {
            acquire_time: if is_same {
                spec.acquire_time
            } else {
                Some(now.clone())
            },
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: i32::try_from(VALID_FOR.as_secs()).ok(),
            lease_transitions: Some(if is_same {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}
