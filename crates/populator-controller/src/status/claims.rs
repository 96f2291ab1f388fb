//! The state of every claim, by the populator resource that feeds it, and which resources' status
//! is due.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backoff::Backoff;
use population::{
    model::{Claim, Kind, Uid},
    plan::{Event, Status},
    progress::Measured,
    status::{Served, summarise},
};
use populator_api::{PopulatorStatus, Reason, ReasonClass, names::event};
use tokio::time::Instant;

use super::endpoint::Endpoint;
use crate::{
    observe::{Cache, Populator, PopulatorRef},
    telemetry::Telemetry,
};

/// Between two writes of one resource when only numbers have changed, and after failed writes.
const PACE: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(5));

/// The state of one claim.
#[derive(Debug, Clone)]
struct ClaimState {
    claim: Arc<Claim>,
    status: Status,
    /// Progress of its pod, if that is known.
    measured: Option<Measured>,
    /// Since when it has this reason.
    since: Instant,
}

/// The states of all claims.
#[derive(Debug, Default)]
pub(super) struct ClaimStates(Mutex<HashMap<PopulatorRef, Entry>>);

/// One populator resource.
#[derive(Debug, Default)]
struct Entry {
    claims: BTreeMap<Uid, ClaimState>,
    /// The status that was written last; the watches may show an older one.
    written: Option<Written>,
    due: Option<Instant>,
    last: Option<Instant>,
    /// Writes in a row that failed.
    failures: u32,
}

/// A status that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) status: PopulatorStatus,
    /// UID of the resource that it was written to.
    pub(super) uid: Uid,
    /// Where it was written: Forklift's definition keeps less of the status than ours.
    pub(super) endpoint: Option<Endpoint>,
}

/// A status to write, and the one that it replaces.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) status: PopulatorStatus,
    pub(super) previous: PopulatorStatus,
}

impl ClaimStates {
    /// Sets the status of a claim; returns whether it has just failed.
    pub(super) fn set(
        &self,
        populator: PopulatorRef,
        claim: Claim,
        status: Status,
        telemetry: &Telemetry,
    ) -> bool {
        let mut entries = self.lock();
        let entry = entries.entry(populator).or_default();
        let before = entry.claims.get(&claim.uid);
        // Nothing is due: without this every resync would write every status.
        if before.is_some_and(|state| state.status == status) {
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
                telemetry.left(old, now - before.since);
                has_failed = status.reason.class() == ReasonClass::Failed
                    && old.class() != ReasonClass::Failed;
            }
            // The progress of a pod counts until there is another pod.
            let keeps = matches!(
                status.reason,
                Reason::Copying | Reason::NodeLost | Reason::Rebinding | Reason::Populated
            );
            measured = before.measured.filter(|_| keeps);
        }
        let state = ClaimState {
            claim: Arc::new(claim),
            status,
            measured,
            since,
        };
        entry.claims.insert(state.claim.uid.clone(), state);
        entry.due = Some(now);
        has_failed
    }

    /// Sets the progress of a claim's pod; returns the kind of its source.
    pub(super) fn measure(&self, claim_uid: &Uid, measured: Option<Measured>) -> Option<Kind> {
        let mut entries = self.lock();
        let (populator, entry) = entries
            .iter_mut()
            .find(|(_, entry)| entry.claims.contains_key(claim_uid))?;
        let state = entry.claims.get_mut(claim_uid)?;
        if state.measured != measured {
            state.measured = measured;
            // Numbers change every second and are paced; a change of state, in `set`, is due at
            // once. The earlier of the two stays.
            let pace = PACE.bound(entry.failures);
            let next = entry.last.map_or_else(Instant::now, |last| last + pace);
            entry.due = Some(entry.due.map_or(next, |due| due.min(next)));
        }
        Some(populator.kind)
    }

    /// Removes a claim that is gone.
    pub(super) fn remove(&self, claim_uid: &Uid) {
        for entry in self.lock().values_mut() {
            if entry.claims.remove(claim_uid).is_some() {
                entry.due = Some(Instant::now());
            }
        }
    }

    /// How many claims have each reason.
    pub(super) fn reasons(&self) -> BTreeMap<Reason, usize> {
        let mut reasons = BTreeMap::new();
        for state in self.lock().values().flat_map(|entry| entry.claims.values()) {
            *reasons.entry(state.status.reason).or_default() += 1;
        }
        reasons
    }

    /// Marks resources without a written status as due (no claim refers to them, or they were
    /// recreated), and drops those that are gone.
    pub(super) fn sweep(&self, cache: &Cache) {
        let mut entries = self.lock();
        entries.retain(|name, entry| !entry.claims.is_empty() || cache.resource(name).is_some());
        for resource in cache.all_resources() {
            let entry = entries.get(&resource.name);
            let written = entry.and_then(|entry| entry.written.as_ref());
            let is_written = written.is_some_and(|written| written.uid == resource.uid);
            if !is_written && resource.status.conditions.is_empty() {
                let entry = entries.entry(resource.name.clone()).or_default();
                entry.due.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Marks every status that was written to another endpoint as due.
    pub(super) fn moved(&self, kind: Kind, endpoint: Option<Endpoint>) {
        let mut entries = self.lock();
        let entries = entries.iter_mut().filter(|(name, _)| name.kind == kind);
        for (_, entry) in entries {
            let is_elsewhere = |written: &mut Written| written.endpoint != endpoint;
            if entry.written.take_if(is_elsewhere).is_some() {
                entry.due = Some(Instant::now());
            }
        }
    }

    /// Takes the resources whose status is due.
    pub(super) fn take_due(&self) -> Vec<PopulatorRef> {
        let now = Instant::now();
        let mut entries = self.lock();
        let due = entries.iter_mut().filter_map(|(name, entry)| {
            let is_due = entry.due.is_some_and(|due| due <= now);
            is_due.then(|| {
                // Before the write and not after it: what changes during the write is due again.
                entry.due = None;
                name.clone()
            })
        });
        due.collect()
    }

    /// The status to write now; `None` when the resource has it already.
    pub(super) fn change(&self, resource: &Populator, now: jiff::Timestamp) -> Option<Change> {
        let entries = self.lock();
        let entry = entries.get(&resource.name)?;
        // Compared with what this process wrote, where it did: the watch may show an older status,
        // and Forklift's definition drops most fields of it.
        let written = entry.written.as_ref();
        let written = written.filter(|written| written.uid == resource.uid);
        let previous = written.map_or(&resource.status, |written| &written.status);
        let previous = previous.clone();
        // A claim of another namespace without a grant must not write into this resource.
        let granted = |state: &&ClaimState| state.status.reason != Reason::ReferenceNotGranted;
        let served: Vec<Served<'_>> = entry
            .claims
            .values()
            .filter(granted)
            .map(|state| Served {
                claim: &state.claim,
                status: &state.status,
                measured: state.measured,
            })
            .collect();
        let status = summarise(&served, &previous, resource.generation, now);
        (status != previous).then_some(Change { status, previous })
    }

    /// Events for the quarters that claims have passed.
    pub(super) fn milestones(
        &self,
        name: &PopulatorRef,
        change: &Change,
    ) -> Vec<(Arc<Claim>, Event)> {
        let Change { status, previous } = change;
        let entries = self.lock();
        let Some(entry) = entries.get(name) else {
            return Vec::new();
        };
        let passed = status.claims.iter().filter_map(|now| {
            let before = previous.claims.iter().find(|before| before.uid == now.uid);
            let before = before.and_then(|before| before.progress);
            let percent = milestone(before.unwrap_or_default(), now.progress?)?;
            let claim = Arc::clone(&entry.claims.get(&Uid::from(now.uid.as_str()))?.claim);
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

    /// Stores what was written; after a failed write (`None`) the resource is due again with
    /// backoff.
    pub(super) fn wrote(&self, name: &PopulatorRef, written: Option<Written>) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(name) else {
            return;
        };
        entry.last = Some(Instant::now());
        if written.is_some() {
            entry.failures = 0;
            entry.written = written;
        } else {
            entry.failures = entry.failures.saturating_add(1);
            entry.due = Some(Instant::now() + PACE.bound(entry.failures));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PopulatorRef, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last quarter that was passed between two percentages.
fn milestone(before: i32, now: i32) -> Option<i32> {
    let quarter = |percent: i32| percent / 25;
    (quarter(now) > quarter(before) && now < 100).then(|| quarter(now) * 25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_are_reported_once_each() {
        for (before, now, reported) in [
            (0, 24, None),
            (0, 25, Some(25)),
            (25, 49, None),
            (20, 80, Some(75)),
            (80, 99, None),
            (80, 100, None),
        ] {
            assert_eq!(milestone(before, now), reported, "{before} {now}");
        }
    }
}
