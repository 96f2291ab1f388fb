//! How every claim stands, and the status of every populator resource from it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch},
};
use populator_api::{PopulatorStatus, Reason, Standing, names::event};
use serde_json::{Map, Value, json};
use tokio::time::{self, Instant, MissedTickBehavior};

use super::{Endpoint, Endpoints, Failure, Recorder, parameters};
use crate::{
    observe::{Observer, Resource, SourceName, api_resource},
    telemetry::Telemetry,
};
use population::{
    model::{Claim, Kind},
    plan::{Event, Status},
    progress::Measured,
    status::{Served, summarise},
};

/// How often there may be something to write.
const TICK: Duration = Duration::from_secs(1);
/// Between two writes of one resource when only numbers have changed, or the last write failed; after more failures
/// the pause doubles with each.
const PACE: Duration = Duration::from_secs(5);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Resources that nobody refers to are told so after a while, since they are usually made before their claims.
const LONELY: Duration = Duration::from_secs(30);
/// Writes at a time.
const WRITERS: usize = 8;

/// How one claim stands.
#[derive(Debug, Clone)]
struct Stand {
    /// The claim.
    claim: Arc<Claim>,
    /// How it stands.
    status: Status,
    /// How far its pod is, if that is known.
    measured: Option<Measured>,
    /// Since when it stands so, for the same reason.
    since: Instant,
}

/// How every claim stands.
pub struct Board {
    client: Client,
    telemetry: Telemetry,
    endpoints: Endpoints,
    /// Kinds whose writes fail, which is told once until one succeeds.
    complained: Mutex<HashSet<Kind>>,
    entries: Mutex<HashMap<SourceName, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    claims: BTreeMap<String, Stand>,
    /// What was written last; what the watches show may be older.
    written: Option<Written>,
    due: Option<Instant>,
    last: Option<Instant>,
    /// Writes in a row that were in vain.
    failures: u32,
}

#[derive(Debug)]
struct Written {
    status: PopulatorStatus,
    /// UID of the resource that it was written to.
    resource: String,
    /// Where on it: Forklift's definition keeps less of it than ours.
    endpoint: Option<Endpoint>,
}

/// What became of a write.
enum Sent {
    /// The resource says so now, as far as the definition with this endpoint lets it.
    Taken(Option<Endpoint>),
    /// The API server answered, and the resource is as before.
    Ignored,
}

impl Debug for Board {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Board")
    }
}

impl Board {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(client: Client, telemetry: Telemetry) -> Self {
        Self {
            client,
            telemetry,
            endpoints: Endpoints::default(),
            complained: Mutex::default(),
            entries: Mutex::default(),
        }
    }

    /// Notes how a claim stands; returns whether it has come to stand failed.
    pub fn set(&self, source: SourceName, claim: Claim, status: Status) -> bool {
        let mut entries = self.lock();
        let entry = entries.entry(source).or_default();
        let before = entry.claims.get(&claim.uid);
        if before.is_some_and(|standing| standing.status == status) {
            return false;
        }
        let mut has_failed = false;
        let now = Instant::now();
        let mut since = now;
        let mut measured = None;
        if let Some(before) = before {
            let old = before.status.reason;
            if old == status.reason {
                since = before.since;
            } else {
                self.telemetry.stood(old, now - before.since);
                has_failed = status.reason.standing() == Standing::Failed
                    && old.standing() != Standing::Failed;
            }
            // What a pod said holds until there is another one; then it is history.
            let keeps = matches!(
                status.reason,
                Reason::Copying | Reason::NodeLost | Reason::Rebinding | Reason::Populated
            );
            measured = before.measured.filter(|_| keeps);
        }
        let stand = Stand {
            claim: Arc::new(claim),
            status,
            measured,
            since,
        };
        entry.claims.insert(stand.claim.uid.clone(), stand);
        entry.due = Some(now);
        has_failed
    }

    /// Notes how far a claim's pod is; returns the kind of its source.
    pub fn measure(&self, claim_uid: &str, measured: Option<Measured>) -> Option<Kind> {
        let mut entries = self.lock();
        let (source, entry) = entries
            .iter_mut()
            .find(|(_, entry)| entry.claims.contains_key(claim_uid))?;
        let standing = entry.claims.get_mut(claim_uid)?;
        if standing.measured != measured {
            standing.measured = measured;
            let pace = entry.pace();
            let next = entry.last.map_or_else(Instant::now, |last| last + pace);
            entry.due = Some(entry.due.map_or(next, |due| due.min(next)));
        }
        Some(source.kind)
    }

    /// The claim is gone.
    pub fn remove(&self, claim_uid: &str) {
        for entry in self.lock().values_mut() {
            if entry.claims.remove(claim_uid).is_some() {
                entry.due = Some(Instant::now());
            }
        }
    }

    /// How many claims stand where.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<Reason, usize> {
        let mut reasons = BTreeMap::new();
        for standing in self.lock().values().flat_map(|entry| entry.claims.values()) {
            *reasons.entry(standing.status.reason).or_default() += 1;
        }
        reasons
    }

    /// Writes what has changed, and tells the owners of claims how far they are, for ever.
    pub async fn run(&self, observer: &Observer, recorder: &Recorder) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            ticks.tick().await;
            if swept.elapsed() >= LONELY {
                swept = Instant::now();
                self.sweep(observer);
                self.notice_definitions().await;
            }
            let writes = self
                .take_due()
                .into_iter()
                .map(|source| self.write(observer, recorder, source));
            stream::iter(writes)
                .for_each_concurrent(WRITERS, |write| write)
                .await;
        }
    }

    /// Finds resources that nobody refers to, or that were made anew, and drops those that are gone.
    fn sweep(&self, observer: &Observer) {
        let cache = observer.cache();
        let mut entries = self.lock();
        entries.retain(|name, entry| !entry.claims.is_empty() || cache.resource(name).is_some());
        for resource in cache.all_resources() {
            let entry = entries.get(&resource.name);
            let written = entry.and_then(|entry| entry.written.as_ref());
            let is_told = written.is_some_and(|written| written.resource == resource.uid);
            if !is_told && resource.status.conditions.is_empty() {
                let entry = entries.entry(resource.name.clone()).or_default();
                entry.due.get_or_insert_with(Instant::now);
            }
        }
    }

    /// What Forklift's definition did not keep, ours does: when one takes the place of the other, all is written again.
    async fn notice_definitions(&self) {
        for kind in Kind::ALL {
            // An error is told by the next write that meets it.
            let Ok(endpoint) = self.endpoints.of(kind, &self.client).await else {
                continue;
            };
            let mut entries = self.lock();
            let entries = entries.iter_mut().filter(|(name, _)| name.kind == kind);
            for (_, entry) in entries {
                let is_elsewhere = |written: &mut Written| written.endpoint != endpoint;
                if entry.written.take_if(is_elsewhere).is_some() {
                    entry.due = Some(Instant::now());
                }
            }
        }
    }

    fn take_due(&self) -> Vec<SourceName> {
        let now = Instant::now();
        let mut entries = self.lock();
        let due = entries.iter_mut().filter_map(|(name, entry)| {
            let is_due = entry.due.is_some_and(|due| due <= now);
            is_due.then(|| {
                entry.due = None;
                name.clone()
            })
        });
        due.collect()
    }

    async fn write(&self, observer: &Observer, recorder: &Recorder, name: SourceName) {
        let Some(resource) = observer.cache().resource(&name).cloned() else {
            return;
        };
        let Some((status, previous)) = self.compose(&name, &resource, Timestamp::now()) else {
            return;
        };
        let outcome = self.send(&resource, &status, &previous).await;
        if matches!(outcome, Ok(Sent::Taken(_))) {
            for (claim, event) in self.milestones(&name, &status, &previous) {
                recorder.happened(&claim, &event, Timestamp::now()).await;
            }
        }
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&name) else {
            return;
        };
        entry.last = Some(Instant::now());
        match outcome {
            Ok(Sent::Taken(endpoint)) => {
                entry.failures = 0;
                self.complaints().remove(&name.kind);
                entry.written = Some(Written {
                    status,
                    resource: resource.uid,
                    endpoint,
                });
            }
            // A definition with a subresource took the place of Forklift's.
            Ok(Sent::Ignored) => self.failed(entry),
            Err(error) => {
                // Perhaps the definition was replaced; a resource that is gone is not written again.
                self.failed(entry);
                let (kind, resource, namespace) = (name.kind.name(), &name.name, &name.namespace);
                if self.complaints().insert(name.kind) {
                    tracing::warn!(
                        resource,
                        namespace,
                        "the status of a {kind} cannot be written, and is tried again; others of its kind may fail \
                         in silence until one succeeds: {error}"
                    );
                } else {
                    tracing::debug!(
                        resource,
                        namespace,
                        "the status of a {kind} cannot be written: {error}"
                    );
                }
            }
        }
    }

    /// A write was in vain.
    fn failed(&self, entry: &mut Entry) {
        self.endpoints.forget();
        entry.due = Some(Instant::now() + entry.pace());
        entry.failures = entry.failures.saturating_add(1);
    }

    /// The status to write, and the one that it replaces; `None` when they are the same.
    fn compose(
        &self,
        name: &SourceName,
        resource: &Resource,
        now: Timestamp,
    ) -> Option<(PopulatorStatus, PopulatorStatus)> {
        let entries = self.lock();
        let entry = entries.get(name)?;
        let written = entry.written.as_ref();
        let written = written.filter(|written| written.resource == resource.uid);
        let previous = written.map_or(&resource.status, |written| &written.status);
        let previous = previous.clone();
        // What a claim of another namespace says to whom has not let it in is not the resource's.
        let granted = |standing: &&Stand| standing.status.reason != Reason::ReferenceNotGranted;
        let served: Vec<Served<'_>> = entry
            .claims
            .values()
            .filter(granted)
            .map(|standing| Served {
                claim: &standing.claim,
                status: &standing.status,
                measured: standing.measured,
            })
            .collect();
        let status = summarise(&served, &previous, resource.generation, now);
        (status != previous).then_some((status, previous))
    }

    /// What to tell of the quarters that claims have passed.
    fn milestones(
        &self,
        name: &SourceName,
        status: &PopulatorStatus,
        previous: &PopulatorStatus,
    ) -> Vec<(Arc<Claim>, Event)> {
        let entries = self.lock();
        let Some(entry) = entries.get(name) else {
            return Vec::new();
        };
        let passed = status.claims.iter().filter_map(|now| {
            let before = previous.claims.iter().find(|before| before.uid == now.uid);
            let before = before.and_then(|before| before.progress);
            let percent = milestone(before.unwrap_or_default(), now.progress?)?;
            let claim = Arc::clone(&entry.claims.get(&now.uid)?.claim);
            let message = match &status.rate {
                Some(rate) if status.claims.len() == 1 => {
                    format!("{percent} % is in place, at {rate}")
                }
                _ => format!("{percent} % is in place"),
            };
            Some((claim, Event::normal(event::PROGRESS, &message)))
        });
        passed.collect()
    }

    async fn send(
        &self,
        resource: &Resource,
        status: &PopulatorStatus,
        previous: &PopulatorStatus,
    ) -> Result<Sent, Failure> {
        let unavailable = |error| Failure::of(error, &[404, 409]);
        let kind = resource.name.kind;
        let endpoint = self.endpoints.of(kind, &self.client).await;
        let endpoint = endpoint.map_err(unavailable)?;
        let api = Api::<DynamicObject>::namespaced_with(
            self.client.clone(),
            &resource.name.namespace,
            &api_resource(kind),
        );
        let of_this_one = json!({"uid": resource.uid});
        match endpoint {
            None => Ok(Sent::Taken(None)),
            Some(Endpoint::Status) => {
                self.telemetry.wrote("patch", kind.plural());
                let status = full(status).map_err(Failure::Patch)?;
                let patch = json!({"metadata": of_this_one, "status": status});
                let (parameters, patch) = (parameters(), Patch::Merge(patch));
                let sent = api.patch_status(&resource.name.name, &parameters, &patch);
                sent.await.map_err(unavailable)?;
                Ok(Sent::Taken(endpoint))
            }
            Some(Endpoint::Main) => {
                let progress = status.progress.as_deref().unwrap_or("0");
                if previous.progress.as_deref() == Some(progress) {
                    return Ok(Sent::Taken(endpoint));
                }
                self.telemetry.wrote("patch", kind.plural());
                let patch = json!({"metadata": of_this_one, "status": {"progress": progress}});
                let (parameters, patch) = (parameters(), Patch::Merge(patch));
                let sent = api.patch(&resource.name.name, &parameters, &patch);
                let sent = sent.await.map_err(unavailable)?;
                Ok(if sent.data["status"]["progress"] == progress {
                    Sent::Taken(endpoint)
                } else {
                    Sent::Ignored
                })
            }
        }
    }

    fn complaints(&self) -> MutexGuard<'_, HashSet<Kind>> {
        self.complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourceName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Between two writes, as far as nothing but numbers has changed.
    fn pace(&self) -> Duration {
        let doublings = self.failures.min(16);
        PACE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
    }
}

/// The quarter that was passed last on the way from one percentage to another.
fn milestone(before: i32, now: i32) -> Option<i32> {
    let quarter = |percent: i32| percent / 25;
    (quarter(now) > quarter(before) && now < 100).then(|| quarter(now) * 25)
}

/// The status as a merge patch: a field that is not set is removed.
fn full(status: &PopulatorStatus) -> serde_json::Result<Value> {
    const FIELDS: [&str; 8] = [
        "progress",
        "observedGeneration",
        "conditions",
        "claims",
        "transferredBytes",
        "totalBytes",
        "rate",
        "lastError",
    ];
    let set = serde_json::to_value(status)?;
    let field = |name: &str| (name.to_owned(), set[name].clone());
    Ok(Value::Object(Map::from_iter(FIELDS.map(field))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_are_told_once_each() {
        for (before, now, told) in [
            (0, 24, None),
            (0, 25, Some(25)),
            (25, 49, None),
            (20, 80, Some(75)),
            (80, 99, None),
            (80, 100, None),
        ] {
            assert_eq!(milestone(before, now), told, "{before} {now}");
        }
    }

    #[test]
    fn a_patch_names_every_field() {
        let empty = PopulatorStatus::default();
        let all = full(&empty).unwrap();
        assert!(all.as_object().unwrap().values().all(Value::is_null));
        // With all fields set there are no more of them than are named.
        let everything: PopulatorStatus = serde_json::from_value(json!({
            "progress": "1", "observedGeneration": 1, "transferredBytes": 1, "totalBytes": 1, "rate": "r",
            "lastError": "e",
            "conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "claims": [{"uid": "u", "name": "n", "reason": "Copying"}],
        }))
        .unwrap();
        let set = serde_json::to_value(&everything).unwrap();
        assert_eq!(full(&everything).unwrap(), set);
        assert_eq!(set.as_object().unwrap().len(), 8);
    }
}
