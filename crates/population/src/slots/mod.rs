//! Slots: the limits on how many claims are served at a time: in all, of one source, of one namespace.
//!
//! A slot is for bytes. A claim holds one from the moment its temporary claim is created until its
//! pod has ended for good: while its volume is provisioned, while its pod starts, while bytes move,
//! and through the backoff between attempts. A claim that waits for a consumer or for something that
//! users must create, or that has failed permanently, holds no slot and is not queued; it is queued
//! when it can continue. What a claim needs is part of its plan.
//!
//! A claim that moves nothing gives its slot up. If its pod may still start by itself, it is
//! *stalled*: it blocks no other claim, but the pods of stalled claims and those with a slot together are at
//! most [`ROOM`] times as many as there are slots. Beyond that the pods of stalled claims that have
//! had their time are deleted, and they queue again, behind those that were not tried yet.

mod queue;

pub use queue::{Decision, Slots};

use std::collections::{BTreeMap, BTreeSet};

use contract::args::flag;
use jiff::Timestamp;

use crate::{
    Settings,
    model::{Lookup, Uid, World},
    plan::{Full, Queued, SlotUse},
};

/// What one claim needs of the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// UID of the claim.
    pub uid: Uid,
    /// When the claim was created: older claims are admitted first.
    pub created: Timestamp,
    /// The engine or identity service of its source, as [`server_of`] writes it.
    pub server: String,
    /// Namespace of the claim.
    pub namespace: String,
    /// Whether it has a slot, or needs one.
    pub usage: SlotUse,
}

/// Whether a claim may take its next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The claim has a slot, or needs none.
    Admitted,
    /// The claim must wait for a slot.
    Queued(Queued),
}

impl Request {
    /// The request of the claim in `world`.
    #[must_use]
    pub fn new(world: &World, usage: SlotUse) -> Self {
        let claim = &world.claim;
        let url = match &world.populator {
            Lookup::Found(populator) => Some(populator.location.url()),
            // The pod of a resource that is gone still burdens its source.
            Lookup::Missing | Lookup::Invalid(_) => world.own_pod().and_then(|pod| {
                let engine = pod.argument(flag::ENGINE_URL);
                engine.or_else(|| pod.argument(flag::ENDPOINT))
            }),
        };
        Self {
            uid: claim.uid.clone(),
            created: claim.created,
            server: server_of(url.unwrap_or_default()),
            namespace: claim.namespace.clone(),
            usage,
        }
    }
}

/// How many pods there may be for each slot. A stalled claim whose pod starts by itself has a slot
/// again, at once and beyond the limit: this is by how much, at most.
pub const ROOM: usize = 2;

/// Claims of one source, of one namespace, or of all.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// Those that hold a slot.
    held: usize,
    /// Stalled ones that keep their pods.
    stalled: usize,
}

impl Load {
    /// Whether one more claim may have a slot.
    const fn has_slot(self, limit: usize) -> bool {
        self.held < limit && self.has_room(limit)
    }

    /// Whether there may be one more pod.
    const fn has_room(self, limit: usize) -> bool {
        self.held + self.stalled < ROOM.saturating_mul(limit)
    }
}

/// The load of each source, of each namespace and of the controller.
#[derive(Debug, Default)]
struct Loads<'a> {
    all: Load,
    of_source: BTreeMap<&'a str, Load>,
    of_namespace: BTreeMap<&'a str, Load>,
}

impl<'a> Loads<'a> {
    fn add(&mut self, request: &'a Request, count: fn(&mut Load) -> &mut usize) {
        *count(&mut self.all) += 1;
        *count(self.of_source.entry(&request.server).or_default()) += 1;
        *count(self.of_namespace.entry(&request.namespace).or_default()) += 1;
    }

    /// The load that counts against the limit.
    fn of(&self, full: Full, request: &Request) -> Load {
        let load = match full {
            Full::Controller => return self.all,
            Full::Source => self.of_source.get(request.server.as_str()),
            Full::Namespace => self.of_namespace.get(request.namespace.as_str()),
        };
        load.copied().unwrap_or_default()
    }
}

/// Decides for every claim of `requests` whether it may continue. `admitted` are claims that were
/// admitted before and whose objects may not be seen yet: they hold a slot whatever is seen. `turns`
/// has a number for each claim that has given a slot up: it comes after all without one.
///
/// Claims are admitted by age. A claim whose source or namespace is full is skipped, so that it blocks no
/// claim of another one.
#[must_use]
pub fn admit(
    requests: &[Request],
    admitted: &BTreeSet<Uid>,
    turns: &BTreeMap<Uid, u64>,
    settings: &Settings,
) -> BTreeMap<Uid, Admission> {
    // Holders come first and are never refused: a limit that was lowered, or a count that was too
    // low, stops new work and interrupts none.
    let (holders, mut others): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| request.usage == SlotUse::Held || admitted.contains(&request.uid));
    // The UID makes the order of claims with one age the same in every decision: none of them is
    // admitted in one and queued in the next.
    others.sort_by_key(|request| (turns.get(&request.uid), request.created, &request.uid));
    let is_stalled = |request: &&Request| matches!(request.usage, SlotUse::Stalled { .. });
    let (stalled, waiting): (Vec<_>, Vec<_>) = others.into_iter().partition(is_stalled);
    let (late, early): (Vec<_>, Vec<_>) = stalled
        .into_iter()
        .partition(|request| request.usage == SlotUse::Stalled { is_late: true });

    let mut loads = Loads::default();
    let mut outcome = BTreeMap::new();
    for request in holders {
        loads.add(request, |load| &mut load.held);
        outcome.insert(request.uid.clone(), Admission::Admitted);
    }
    // A pod that has not had its time keeps its place: attaching a volume may take minutes.
    for request in early {
        loads.add(request, |load| &mut load.stalled);
        outcome.insert(request.uid.clone(), Admission::Admitted);
    }
    admit_waiting(&waiting, settings, &mut loads, &mut outcome);
    for request in late {
        let admission = match full(request, &loads, settings, Load::has_room) {
            None => {
                loads.add(request, |load| &mut load.stalled);
                Admission::Admitted
            }
            Some((full, limit)) => Admission::Queued(Queued {
                ahead: 0,
                limit,
                full,
            }),
        };
        outcome.insert(request.uid.clone(), admission);
    }
    outcome
}

fn admit_waiting<'a>(
    waiting: &[&'a Request],
    settings: &Settings,
    loads: &mut Loads<'a>,
    outcome: &mut BTreeMap<Uid, Admission>,
) {
    // Claims of a full source or namespace wait for that one, the others for the controller.
    let mut ahead_of: BTreeMap<(Full, &str), usize> = BTreeMap::new();
    for request in waiting {
        let Some((full, limit)) = full(request, loads, settings, Load::has_slot) else {
            loads.add(request, |load| &mut load.held);
            outcome.insert(request.uid.clone(), Admission::Admitted);
            continue;
        };
        let of = match full {
            Full::Source => &request.server,
            Full::Namespace => &request.namespace,
            Full::Controller => "",
        };
        let ahead = ahead_of.entry((full, of)).or_default();
        let queued = Queued {
            ahead: *ahead,
            limit,
            full,
        };
        *ahead += 1;
        outcome.insert(request.uid.clone(), Admission::Queued(queued));
    }
}

/// The limit that is reached for the claim. The narrow ones are checked first, so that a claim that is
/// blocked there is not counted among those that wait for the controller.
fn full(
    request: &Request,
    loads: &Loads<'_>,
    settings: &Settings,
    fits: fn(Load, usize) -> bool,
) -> Option<(Full, usize)> {
    let limits = [
        (Full::Source, settings.max_in_flight_per_source),
        (Full::Namespace, settings.max_in_flight_per_namespace),
        (Full::Controller, settings.max_in_flight),
    ];
    let mut limits = limits.into_iter();
    limits.find(|(full, limit)| !fits(loads.of(*full, request), *limit))
}

/// Scheme, host and port of a URL, in one form for all URLs of a server.
#[must_use]
pub fn server_of(url: &str) -> String {
    let url = url.to_ascii_lowercase();
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", &url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = if scheme == "http" { ":80" } else { ":443" };
    let host = host.strip_suffix(port).unwrap_or(host);
    format!("{scheme}://{host}")
}
