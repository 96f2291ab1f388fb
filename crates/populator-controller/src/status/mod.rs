//! The second reconciler: the status of populator resources, from the state of their claims.
//!
//! The reconcile of a claim does not write status: one resource may feed many claims, its numbers
//! change every second, and a slow write must not delay a rebind. One task writes what is due, one
//! write for each resource at a time.

mod claims;
mod endpoint;
mod write;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use population::{
    model::{Claim, Kind, Uid},
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
    telemetry::{Standing, Telemetry},
};

/// How often the due resources are written.
const TICK: Duration = Duration::from_secs(1);
/// How often all resources are looked at for a status that is not what it should be although no claim
/// has changed.
const SWEEP: Duration = Duration::from_secs(5);
/// Concurrency of writes.
const WRITERS: usize = 8;

/// Writes the status of populator resources.
pub struct StatusWriter {
    client: Client,
    telemetry: Telemetry,
    endpoints: Endpoints,
    /// Kinds whose writes fail; each is logged once until a write succeeds.
    failing: Mutex<HashSet<Kind>>,
    claims: ClaimStates,
}

impl StatusWriter {
    /// A writer that knows no claim yet.
    #[must_use]
    pub fn new(client: Client, telemetry: Telemetry) -> Self {
        Self {
            client,
            telemetry,
            endpoints: Endpoints::default(),
            failing: Mutex::default(),
            claims: ClaimStates::default(),
        }
    }

    /// Sets the status of a claim; returns whether it has just failed. One that is not granted its
    /// reference counts in metrics, and writes nothing into the resource.
    pub fn set(
        &self,
        populator: PopulatorRef,
        claim: Arc<Claim>,
        status: Status,
        is_granted: bool,
    ) -> bool {
        self.claims
            .set(populator, claim, status, is_granted, &self.telemetry)
    }

    /// Sets the progress of a claim's pod; returns the kind of its source.
    pub fn measure(&self, claim_uid: &Uid, measured: Option<Measured>) -> Option<Kind> {
        self.claims.measure(claim_uid, measured)
    }

    /// Removes a claim that is gone.
    pub fn remove(&self, claim_uid: &Uid) {
        self.claims.remove(claim_uid);
    }

    /// How many claims have each reason, and for how long.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<Reason, Standing> {
        self.claims.standings()
    }

    /// Writes what is due, and reports milestones to owners of claims, until the future is dropped.
    pub async fn run(&self, observer: &Observer, recorder: &Recorder) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            ticks.tick().await;
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.notice_definitions().await;
                self.claims.sweep(&observer.cache(), Timestamp::now());
                for (claim, event) in self.claims.late() {
                    recorder.report(&claim, &event, Timestamp::now());
                }
            }
            let due = self.claims.take_due().into_iter();
            let writes = due.map(|populator| self.write(observer, recorder, populator));
            stream::iter(writes)
                .for_each_concurrent(WRITERS, |write| write)
                .await;
        }
    }

    /// Our definition keeps fields that Forklift's drops: when one replaces the other, everything
    /// is written again.
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
        if let Ok(Sent::Taken { endpoint, version }) = sent {
            self.failing().remove(&name.kind);
            let written = |status| Written {
                status: Arc::new(status),
                uid: resource.uid,
                version,
                endpoint,
            };
            for (claim, event) in self.claims.wrote(&name, change, written) {
                // Progress is no step of routine, and is not held.
                let _ = recorder.emit(&claim, &event, Timestamp::now());
            }
            return;
        }
        // Perhaps the definition was replaced; a resource that is gone is not written again.
        self.endpoints.forget();
        self.claims.failed(&name);
        let Err(error) = sent else {
            return;
        };
        let (kind, resource, namespace) = (name.kind.name(), &name.name, &name.namespace);
        if self.failing().insert(name.kind) {
            tracing::warn!(
                resource,
                namespace,
                "the status of a {kind} cannot be written, and is retried; other writes of this kind may \
                 fail in silence until one succeeds: {error}"
            );
        } else {
            tracing::debug!(
                resource,
                namespace,
                "the status of a {kind} cannot be written: {error}"
            );
        }
    }

    fn failing(&self) -> MutexGuard<'_, HashSet<Kind>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
