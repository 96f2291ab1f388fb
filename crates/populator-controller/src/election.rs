//! One replica at a time: leader election by a Lease
//! (<https://kubernetes.io/docs/concepts/architecture/leases/>).
//!
//! It saves work and noise, and nothing depends on it: every write is bound to what it was decided on, so that
//! two replicas that overlap do no harm (`docs/adr/0006-plan-is-pure.md`). Where leases may not be written,
//! as under Forklift's role, the process serves without.

use std::{fmt::Debug, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{self, Instant};

/// Name of the lease.
pub const NAME: &str = "populator-controller";
/// A lease that nobody renews for so long is free.
const VALID_FOR: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops, well before another one may begin.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Between two looks at the lease.
const PACE: Duration = Duration::from_secs(4);

/// What became of the attempt to lead.
#[derive(Debug)]
pub enum Candidacy {
    /// This process leads, until [`Leadership::lost`].
    Leading(Box<Leadership>),
    /// Leases may not be read or written here.
    Forbidden,
}

/// A candidate.
pub struct Election {
    api: Api<Lease>,
    identity: String,
}

/// This process leads.
#[derive(Debug)]
pub struct Leadership {
    election: Election,
    held: Lease,
    renewed: Instant,
}

/// What a candidate has seen of the lease. Its age is measured by our clock from the moment when it was
/// seen to change, so that a leader whose clock is wrong is not deposed.
struct Seen {
    version: Option<String>,
    at: Instant,
}

impl Debug for Election {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Election({})", self.identity)
    }
}

impl Election {
    /// A candidate of this name for the lease in a namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
        }
    }

    /// Waits until this process leads, or knows that it cannot ask.
    pub async fn win(self) -> Candidacy {
        let mut seen: Option<Seen> = None;
        let mut told = None;
        loop {
            // Before the request: what counts is when others may have seen it at the earliest.
            let asked = Instant::now();
            let Ok(outcome) = time::timeout(GIVE_UP, self.attempt(&mut seen)).await else {
                tracing::warn!("the lease {NAME} cannot be had: the API server does not answer");
                continue;
            };
            match outcome {
                Ok(Attempt::Won(held)) => {
                    tracing::info!("{} leads", self.identity);
                    return Candidacy::Leading(Box::new(Leadership {
                        election: self,
                        held: *held,
                        renewed: asked,
                    }));
                }
                Ok(Attempt::Held(by)) => {
                    if told.as_ref() != Some(&by) {
                        tracing::info!("{by} leads; {} stands by", self.identity);
                        told = Some(by);
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 403 => return Candidacy::Forbidden,
                Err(error) => tracing::warn!("the lease {NAME} cannot be had: {error}"),
            }
            time::sleep(pace()).await;
        }
    }

    fn sync(&self, lease: &Lease) -> bool {
        let spec = lease.spec.as_ref();
        spec.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.identity)
    }

    async fn attempt(&self, seen: &mut Option<Seen>) -> kube::Result<Attempt> {
        // Another one that is quicker makes the version that we saw old: then it holds it.
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
            // Our own name from before a crash: a pod's name is not given twice.
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
    /// Keeps the lease; ends when it is lost, with the reason.
    pub async fn lost(&mut self) -> String {
        loop {
            time::sleep(pace()).await;
            // Others may begin when they have seen no change for long enough, so that an answer that does not
            // come is as bad as a refusal.
            let left = GIVE_UP.saturating_sub(self.renewed.elapsed());
            match time::timeout(left, self.renew()).await {
                Ok(Ok(())) => {}
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                    return format!("the lease {NAME} was taken: {}", status.message);
                }
                Ok(Err(error)) if self.renewed.elapsed() < GIVE_UP => {
                    tracing::warn!(
                        "the lease {NAME} cannot be renewed, and is tried again: {error}"
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
                // Another replica's write, or one of ours whose answer was lost on its way.
                match self.election.api.get(NAME).await? {
                    lease if self.election.sync(&lease) => self.held = lease,
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
        // Before the request: what counts is when others may have seen the change at the earliest.
        let asked = Instant::now();
        self.held = self.election.api.replace(NAME, &parameters, &mine).await?;
        self.renewed = asked;
        Ok(())
    }

    /// Gives the lease up, so that the next leader need not wait until it is out of date.
    pub async fn release(self) {
        let free = lease_of(Some(&self.held), None);
        let parameters = PostParams::default();
        let replace = self.election.api.replace(NAME, &parameters, &free);
        match time::timeout(Duration::from_secs(2), replace).await {
            Ok(Ok(_)) => tracing::info!("{} has given up the lease {NAME}", self.election.identity),
            // It gets old by itself.
            Ok(Err(error)) => tracing::info!("the lease {NAME} was not given up: {error}"),
            Err(_) => tracing::info!("the lease {NAME} was not given up in time"),
        }
    }
}

/// With chance in it, so that candidates do not ask in step.
fn pace() -> Duration {
    PACE.mul_f64(0.75 + 0.5 * fastrand::f64())
}

/// The lease with this holder, in the place of `before`; its version is the precondition.
fn lease_of(before: Option<&Lease>, holder: Option<&str>) -> Lease {
    let now = MicroTime(Timestamp::now());
    let spec = before
        .and_then(|lease| lease.spec.clone())
        .unwrap_or_default();
    let goes_on = spec.holder_identity.as_deref() == holder;
    let turns = spec.lease_transitions.unwrap_or_default();
    Lease {
        metadata: match before {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta {
                name: Some(NAME.to_owned()),
                ..ObjectMeta::default()
            },
        },
        spec: Some(LeaseSpec {
            acquire_time: if goes_on {
                spec.acquire_time
            } else {
                Some(now.clone())
            },
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: i32::try_from(VALID_FOR.as_secs()).ok(),
            lease_transitions: Some(if goes_on {
                turns
            } else {
                turns.saturating_add(1)
            }),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}
