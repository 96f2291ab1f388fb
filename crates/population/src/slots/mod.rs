//! Slots: the limits on how many claims are served at a time, in all and of one source.
//!
//! A claim holds a slot from the moment its temporary claim is created until its pod has ended for
//! good: while its volume is provisioned, while its pod starts (also one that cannot, since it may
//! at any moment), while bytes move, and through the backoff between attempts. A claim that waits
//! for a consumer or for something that users must create, or that has failed permanently, holds no
//! slot and is not queued; it is queued when it can continue. What a claim needs is part of its
//! plan.

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
            usage,
        }
    }
}

/// Decides for every claim of `requests` whether it may continue. `admitted` are claims that were
/// admitted before and whose objects may not be seen yet: they hold a slot whatever is seen.
///
/// Claims are admitted by age. A claim whose source is full is skipped, so that it blocks no claim
/// of another source.
#[must_use]
pub fn admit(
    requests: &[Request],
    admitted: &BTreeSet<Uid>,
    settings: &Settings,
) -> BTreeMap<Uid, Admission> {
    // Holders come first and are never refused: a limit that was lowered, or a count that was too
    // low, stops new work and interrupts none.
    let (holders, mut waiting): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| request.usage == SlotUse::Held || admitted.contains(&request.uid));
    // The UID makes the order of claims with one age the same in every decision: none of them is
    // admitted in one and queued in the next.
    waiting.sort_by_key(|request| (request.created, &request.uid));

    let mut served = holders.len();
    let mut served_of: BTreeMap<&str, usize> = BTreeMap::new();
    for holder in &holders {
        *served_of.entry(&holder.server).or_default() += 1;
    }
    // Two queues: claims of a full source wait for that source, the others for the controller.
    let mut ahead = 0;
    let mut ahead_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outcome: BTreeMap<Uid, Admission> = holders
        .iter()
        .map(|holder| (holder.uid.clone(), Admission::Admitted))
        .collect();
    for request in waiting {
        let of_source = served_of.entry(&request.server).or_default();
        // The source's limit is checked first, so that a claim that is blocked there is not counted
        // among those that wait for the controller.
        let (ahead, limit, full) = if *of_source >= settings.max_in_flight_per_source {
            let ahead = ahead_of.entry(&request.server).or_default();
            (ahead, settings.max_in_flight_per_source, Full::Source)
        } else if served >= settings.max_in_flight {
            (&mut ahead, settings.max_in_flight, Full::Controller)
        } else {
            *of_source += 1;
            served += 1;
            outcome.insert(request.uid.clone(), Admission::Admitted);
            continue;
        };
        let queued = Queued {
            ahead: *ahead,
            limit,
            full,
        };
        *ahead += 1;
        outcome.insert(request.uid.clone(), Admission::Queued(queued));
    }
    outcome
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
