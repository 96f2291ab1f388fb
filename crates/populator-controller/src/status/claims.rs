//! The state of every claim, by the populator resource that feeds it, and which resources' status
//! is due.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backoff::Backoff;
use population::{
    model::{Claim, Kind, Uid},
    plan::{Event, Status},
    progress::Measured,
    status::{Served, percent, summarise},
};
use populator_api::{PopulatorStatus, Reason, ReasonClass, names::event};
use tokio::time::Instant;

use super::endpoint::Endpoint;
use crate::{
    observe::{Cache, Populator, PopulatorRef},
    telemetry::{Standing, Telemetry},
};

/// Between two writes of one resource when only numbers have changed, and after failed writes. A step of
/// routine is written so long after it, with all that has followed by then: what takes less is written once,
/// when it is done.
const PACE: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(5));
/// A new resource without claims gets its status after this long: usually it is created before its
/// claims, and is then written once.
const NEW: Duration = Duration::from_secs(30);
/// Between two corrections of what another writer has written. Two controllers without an election
/// may see different things for a moment, and must not answer each other by the second.
const CORRECTION: Duration = Duration::from_secs(30);
/// Kubernetes binds a claim to its volume within seconds. Longer than this is reported.
const LONG_BINDING: Duration = Duration::from_mins(5);

/// The state of one claim.
#[derive(Debug, Clone)]
struct ClaimState {
    claim: Arc<Claim>,
    status: Status,
    /// Whether it may refer to the resource, and so write to its status.
    is_granted: bool,
    /// Progress of its pod, if that is known.
    measured: Option<Measured>,
    /// The percentage that was written for it last, whether it is listed or not.
    shown: Option<i32>,
    /// Since when it has this reason.
    since: Instant,
}

/// The states of all claims.
#[derive(Debug, Default)]
pub(super) struct ClaimStates(Mutex<HashMap<PopulatorRef, Box<Entry>>>);

/// One populator resource.
#[derive(Debug, Default)]
struct Entry {
    /// Most have one, and a map keeps room for eleven.
    claims: BTreeMap<Uid, Box<ClaimState>>,
    /// The status that was written last; the watches may show an older one.
    written: Option<Written>,
    /// UID and version of the resource that was compared with what its status should be.
    judged: Option<(Uid, u64)>,
    due: Option<Instant>,
    last: Option<Instant>,
    /// Writes in a row that failed.
    failures: u32,
}

/// A status that was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Shared with the cache once that shows it.
    pub(super) status: Arc<PopulatorStatus>,
    /// UID of the resource that it was written to.
    pub(super) uid: Uid,
    /// Version of the resource that has it; `None` if the API server did not say.
    pub(super) version: Option<u64>,
    /// Where it was written: Forklift's definition keeps less of the status than ours.
    pub(super) endpoint: Option<Endpoint>,
}

/// A status to write, and the one that it replaces.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) status: PopulatorStatus,
    pub(super) previous: PopulatorStatus,
    /// The percentage of each claim.
    percents: Vec<Percent>,
}

/// The percentage of a claim that is shown by a write, and the one before it.
#[derive(Debug)]
struct Percent {
    claim: Arc<Claim>,
    before: Option<i32>,
    now: Option<i32>,
}

impl ClaimStates {
    /// Sets the status of a claim; returns whether it has just failed.
    pub(super) fn set(
        &self,
        populator: PopulatorRef,
        claim: Arc<Claim>,
        status: Status,
        is_granted: bool,
        telemetry: &Telemetry,
    ) -> bool {
        let mut entries = self.lock();
        let entry = entries.entry(populator).or_default();
        let before = entry.claims.get(&claim.uid);
        // Nothing is due: without this every resync would write every status.
        if before.is_some_and(|state| state.status == status && state.is_granted == is_granted) {
            return false;
        }
        let mut has_failed = false;
        let now = Instant::now();
        let mut since = now;
        let is_turn =
            before.is_some_and(|before| is_end(before.status.reason)) || is_end(status.reason);
        let mut measured = None;
        let shown = before.and_then(|before| before.shown);
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
            claim,
            status,
            is_granted,
            measured,
            shown,
            since,
        };
        entry
            .claims
            .insert(state.claim.uid.clone(), Box::new(state));
        entry.is_due_at(if is_turn { now } else { now + PACE.first });
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
            // Numbers change every second, and are paced. They do not hurry a step of routine that waits for
            // what follows it.
            let now = Instant::now();
            let pace = PACE.bound(entry.failures);
            let next = entry.last.map_or(now, |last| last + pace);
            let is_due = entry.due.is_some();
            entry.is_due_at(if is_due {
                next.max(now + PACE.first)
            } else {
                next
            });
        }
        Some(populator.kind)
    }

    /// Removes a claim that is gone.
    pub(super) fn remove(&self, claim_uid: &Uid) {
        for entry in self.lock().values_mut() {
            if entry.claims.remove(claim_uid).is_some() {
                // Usually the resource is deleted next.
                entry.is_due_at(Instant::now() + PACE.first);
            }
        }
    }

    /// How many claims have each reason, and for how long the first of them has had it.
    pub(super) fn standings(&self) -> BTreeMap<Reason, Standing> {
        let mut standings = BTreeMap::<Reason, Standing>::new();
        for state in self.lock().values().flat_map(|entry| entry.claims.values()) {
            let standing = standings.entry(state.status.reason).or_default();
            standing.claims += 1;
            standing.longest = standing.longest.max(state.since.elapsed());
        }
        standings
    }

    /// Events for claims that Kubernetes should have bound by now.
    pub(super) fn late(&self) -> Vec<(Arc<Claim>, Event)> {
        let entries = self.lock();
        let states = entries.values().flat_map(|entry| entry.claims.values());
        let late = states.filter(|state| {
            state.status.reason == Reason::Rebinding && state.since.elapsed() >= LONG_BINDING
        });
        late.map(|state| {
            let message = format!(
                "{}, for more than {} minutes; the events of the volume and the log of \
                 kube-controller-manager may say why",
                state.status.message,
                LONG_BINDING.as_secs() / 60
            );
            let event = Event::warning(event::STUCK, &message);
            (Arc::clone(&state.claim), event)
        })
        .collect()
    }

    /// Marks resources as due whose status is not what it should be although no claim has changed:
    /// it was never written, the spec has a new generation, or another writer has changed it.
    /// Drops resources that are gone.
    pub(super) fn sweep(&self, cache: &Cache, now: jiff::Timestamp) {
        let mut entries = self.lock();
        entries.retain(|name, entry| !entry.claims.is_empty() || cache.resource(name).is_some());
        let referred: HashSet<PopulatorRef> = cache.all_references().collect();
        for resource in cache.all_resources() {
            // Its claims are about to be reconciled, and will mark it.
            let is_expected = || referred.contains(&resource.name);
            let known = entries.get(&resource.name);
            if known.is_none_or(|entry| entry.claims.is_empty()) && is_expected() {
                continue;
            }
            let entry = entries.entry(resource.name.clone()).or_default();
            entry.judge(resource, now);
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
        self.lock().get(&resource.name)?.change(resource, now)
    }

    /// Stores what was written, and returns events for the quarters that claims have passed by it.
    pub(super) fn wrote(
        &self,
        name: &PopulatorRef,
        change: Change,
        written: impl FnOnce(PopulatorStatus) -> Written,
    ) -> Vec<(Arc<Claim>, Event)> {
        let events = change.milestones();
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(name) {
            for percent in change.percents {
                if let Some(state) = entry.claims.get_mut(&percent.claim.uid) {
                    state.shown = percent.now;
                }
            }
            entry.last = Some(Instant::now());
            entry.failures = 0;
            entry.written = Some(written(change.status));
        }
        events
    }

    /// After a write that failed: the resource is due again with backoff.
    pub(super) fn failed(&self, name: &PopulatorRef) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(name) {
            let now = Instant::now();
            entry.last = Some(now);
            entry.failures = entry.failures.saturating_add(1);
            entry.due = Some(now + PACE.bound(entry.failures));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PopulatorRef, Box<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a claim with this reason goes on by itself no more: people and programs wait for that.
const fn is_end(reason: Reason) -> bool {
    matches!(reason.class(), ReasonClass::Failed | ReasonClass::Done)
}

impl Entry {
    /// The status is due at this time, unless it is before.
    fn is_due_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Compares a version of the resource, once, with what its status should be.
    fn judge(&mut self, resource: &Populator, now: jiff::Timestamp) {
        if let Some(written) = &mut self.written
            && written.status == resource.status
        {
            written.status = Arc::clone(&resource.status);
        }
        let written = self.written_to(resource);
        let is_ours = written.is_some_and(|written| !written.is_older_than(resource));
        let seen = Some((resource.uid.clone(), resource.version));
        if is_ours || self.due.is_some() || self.judged == seen {
            return;
        }
        let was_written = written.is_some();
        self.judged = seen;
        let Some(change) = self.change(resource, now) else {
            return;
        };
        let this_moment = Instant::now();
        self.due = Some(if change.is_of_generation() {
            this_moment
        } else if was_written {
            let corrected = self.last.map(|last| last + CORRECTION);
            corrected.map_or(this_moment, |next| next.max(this_moment))
        } else {
            this_moment + NEW
        });
    }

    fn written_to(&self, resource: &Populator) -> Option<&Written> {
        let written = self.written.as_ref();
        written.filter(|written| written.uid == resource.uid)
    }

    fn change(&self, resource: &Populator, now: jiff::Timestamp) -> Option<Change> {
        let previous = match self.written_to(resource) {
            // The watch is behind our own write.
            Some(written) if !written.is_older_than(resource) => (*written.status).clone(),
            Some(written) => written.as_shown(&resource.status),
            None => (*resource.status).clone(),
        };
        // A claim of another namespace without a grant must not write into this resource.
        let all = self.claims.values().map(Box::as_ref);
        let granted = |state: &&ClaimState| state.is_granted;
        // The numbers of a resource of that name that was deleted are not those of this one.
        let is_same = self
            .written
            .as_ref()
            .is_none_or(|written| written.uid == resource.uid);
        let known: Vec<&ClaimState> = all.filter(granted).collect();
        let served: Vec<Served<'_>> = known
            .iter()
            .map(|state| Served {
                claim: &state.claim,
                status: &state.status,
                measured: state.measured,
                shown: state.shown.filter(|_| is_same),
            })
            .collect();
        let status = summarise(&served, &previous, resource.generation, now);
        let percents = known
            .iter()
            .zip(&served)
            .map(|(state, served)| Percent {
                claim: Arc::clone(&state.claim),
                before: state.shown,
                now: percent(served, &previous),
            })
            .collect();
        (status != previous).then_some(Change {
            status,
            previous,
            percents,
        })
    }
}

impl Written {
    /// Whether the watch shows a later version of the resource than the one that was written.
    fn is_older_than(&self, resource: &Populator) -> bool {
        self.version
            .is_some_and(|version| resource.version > version)
    }

    /// The status that the API server holds, as far as the definition keeps it.
    fn as_shown(&self, watched: &PopulatorStatus) -> PopulatorStatus {
        match self.endpoint {
            Some(Endpoint::Status) => watched.clone(),
            // The rest is dropped by the definition, and is no change of another writer's.
            Some(Endpoint::Main) | None => PopulatorStatus {
                progress: watched.progress.clone(),
                ..(*self.status).clone()
            },
        }
    }
}

impl Change {
    /// Whether the spec has changed since the status was written.
    fn is_of_generation(&self) -> bool {
        self.previous.observed_generation.is_some()
            && self.previous.observed_generation != self.status.observed_generation
    }

    /// Events for the quarters that claims have passed.
    fn milestones(&self) -> Vec<(Arc<Claim>, Event)> {
        let rate = self.status.rate.as_ref();
        let rate = rate.filter(|_| self.percents.len() == 1);
        let passed = self.percents.iter().filter_map(|percent| {
            let quarter = milestone(percent.before.unwrap_or_default(), percent.now?)?;
            let message = match rate {
                Some(rate) => format!("{quarter} % is in place, at {rate}"),
                None => format!("{quarter} % is in place"),
            };
            let event = Event::normal(event::PROGRESS, &message);
            Some((Arc::clone(&percent.claim), event))
        });
        passed.collect()
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
