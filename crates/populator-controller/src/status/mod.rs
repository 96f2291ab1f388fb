//! The second reconciler: the status of populator resources, from the state of their claims.
//!
//! Status is not written by the reconcile of a claim: one resource may feed many claims, its numbers change every second,
//! and a slow write must not delay a rebind. One task writes what is due, one write for each resource at a time.

mod claims;
mod endpoint;
mod write;

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Debug,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use population::{
    model::{Claim, Kind},
    plan::Status,
    progress::Measured,
};
use populator_api::Reason;
use tokio::time::{self, Instant, MissedTickBehavior};

use self::{
    claims::{ClaimStates, Written},
    endpoint::Endpoints,
    write::Sent,
};
use crate::{
    apply::Recorder,
    observe::{Observer, PopulatorRef},
    telemetry::Telemetry,
};

/// How often there may be something to write.
const TICK: Duration = Duration::from_secs(1);
/// A resource that no claim refers to says so after a while: usually it is created before its claims.
const SWEEP: Duration = Duration::from_secs(30);
/// Concurrency of writes.
const WRITERS: usize = 8;

/// Writes the status of populator resources.
pub struct StatusWriter {
    client: Client,
    telemetry: Telemetry,
    endpoints: Endpoints,
    /// Kinds whose writes fail, which is logged once until one succeeds.
    complained: Mutex<HashSet<Kind>>,
    claims: ClaimStates,
}

impl Debug for StatusWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("StatusWriter")
    }
}

impl StatusWriter {
    /// Knows no claim yet.
    #[must_use]
    pub fn new(client: Client, telemetry: Telemetry) -> Self {
        Self {
            client,
            telemetry,
            endpoints: Endpoints::default(),
            complained: Mutex::default(),
            claims: ClaimStates::default(),
        }
    }

    /// Takes over a claim's status; returns whether it has just failed.
    pub fn set(&self, populator: PopulatorRef, claim: Claim, status: Status) -> bool {
        self.claims.set(populator, claim, status, &self.telemetry)
    }

    /// Takes over how far a claim's pod is; returns the kind of its source.
    pub fn measure(&self, claim_uid: &str, measured: Option<Measured>) -> Option<Kind> {
        self.claims.measure(claim_uid, measured)
    }

    /// The claim is gone.
    pub fn remove(&self, claim_uid: &str) {
        self.claims.remove(claim_uid);
    }

    /// How many claims have each reason.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<Reason, usize> {
        self.claims.reasons()
    }

    /// Writes what is due, and reports milestones to owners of claims, until it is dropped.
    pub async fn run(&self, observer: &Observer, recorder: &Recorder) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            ticks.tick().await;
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.claims.sweep(&observer.cache());
                self.notice_definitions().await;
            }
            let due = self.claims.take_due().into_iter();
            let writes = due.map(|populator| self.write(observer, recorder, populator));
            stream::iter(writes)
                .for_each_concurrent(WRITERS, |write| write)
                .await;
        }
    }

    /// What Forklift's definition did not keep, ours does: when one replaces the other, everything is written again.
    async fn notice_definitions(&self) {
        for kind in Kind::ALL {
            // The next write that meets the error reports it.
            if let Ok(endpoint) = self.endpoints.of(kind, &self.client).await {
                self.claims.moved(kind, endpoint);
            }
        }
    }

    async fn write(&self, observer: &Observer, recorder: &Recorder, name: PopulatorRef) {
        let Some(resource) = observer.cache().resource(&name).cloned() else {
            return;
        };
        let Some(change) = self.claims.change(&resource, Timestamp::now()) else {
            return;
        };
        let (client, endpoints) = (&self.client, &self.endpoints);
        let sent = write::send(client, endpoints, &self.telemetry, &resource, &change).await;
        if let Ok(Sent::Taken(endpoint)) = sent {
            for (claim, event) in self.claims.milestones(&name, &change) {
                recorder.emit(&claim, &event, Timestamp::now()).await;
            }
            self.complaints().remove(&name.kind);
            let written = Written {
                status: change.status,
                uid: resource.uid,
                endpoint,
            };
            self.claims.wrote(&name, Some(written));
            return;
        }
        // Perhaps the definition was replaced; a resource that is gone is not written again.
        self.endpoints.forget();
        self.claims.wrote(&name, None);
        let Err(error) = sent else {
            return;
        };
        let (kind, resource, namespace) = (name.kind.name(), &name.name, &name.namespace);
        if self.complaints().insert(name.kind) {
            tracing::warn!(
                resource,
                namespace,
                "the status of a {kind} cannot be written, and is retried; other writes of this kind may fail in silence until \
                 one succeeds: {error}"
            );
        } else {
            tracing::debug!(
                resource,
                namespace,
                "the status of a {kind} cannot be written: {error}"
            );
        }
    }

    fn complaints(&self) -> MutexGuard<'_, HashSet<Kind>> {
        self.complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
