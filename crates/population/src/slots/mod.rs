//! Slots: the limits on how many claims are served at a time, in all and of one source.
//!
//! A claim holds a slot from the moment its temporary claim is created until its pod has ended for good: while its volume is
//! provisioned, while its pod starts (also one that cannot, since it may at any moment), while bytes move, and through the
//! backoff between attempts. A claim that waits for a consumer, or for something that others must create, or that has failed
//! permanently, holds none and is not queued; it is when it can go on. What a claim needs is part of its plan.

mod queue;

pub use queue::{Decision, Slots};

use std::collections::{BTreeMap, BTreeSet};

use contract::args::flag;
use jiff::Timestamp;

use crate::{
    Settings,
    model::{Lookup, World},
    plan::{Full, Queued, SlotUse},
};

/// What one claim needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// UID of the claim.
    pub uid: String,
    /// When the claim was created: who came first is served first.
    pub created: Timestamp,
    /// The server that its bytes come from, as [`server_of`] writes it.
    pub server: String,
    /// Whether it has a slot, or needs one.
    pub usage: SlotUse,
}

/// Whether a claim may do its next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// It must wait.
    Queued(Queued),
}

impl Request {
    /// The request of the claim in `world`.
    #[must_use]
    pub fn new(world: &World, usage: SlotUse) -> Self {
        let claim = &world.claim;
        let of_pod = |flag: &str| world.own_pod()?.argument(flag);
        let url = match &world.populator {
            Lookup::Found(populator) => populator.location.url(),
            Lookup::Missing | Lookup::Invalid(_) => of_pod(flag::ENGINE_URL)
                .or_else(|| of_pod(flag::ENDPOINT))
                .unwrap_or_default(),
        };
        Self {
            uid: claim.uid.clone(),
            created: claim.created,
            server: server_of(url),
            usage,
        }
    }
}

/// Decides for every claim of `requests` whether it may go on. `admitted` are claims that were admitted and
/// may not be seen to have begun yet: they hold a slot whatever is seen.
///
/// Claims of one source are admitted by age. One whose source is full is passed over, so that it keeps
/// no other one waiting.
#[must_use]
pub fn admit(
    requests: &[Request],
    admitted: &BTreeSet<String>,
    settings: &Settings,
) -> BTreeMap<String, Admission> {
    let holds =
        |request: &&Request| request.usage == SlotUse::Held || admitted.contains(&request.uid);
    let (holders, mut waiting): (Vec<_>, Vec<_>) = requests.iter().partition(holds);
    waiting.sort_by_key(|request| (request.created, &request.uid));

    let mut served = holders.len();
    let mut served_of: BTreeMap<&str, usize> = BTreeMap::new();
    for holder in &holders {
        *served_of.entry(&holder.server).or_default() += 1;
    }
    let mut ahead = 0;
    let mut ahead_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outcome: BTreeMap<String, Admission> = holders
        .iter()
        .map(|holder| (holder.uid.clone(), Admission::Admitted))
        .collect();
    for request in waiting {
        let of_source = served_of.entry(&request.server).or_default();
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

/// What two URLs of one server have in common: scheme, host and port.
#[must_use]
pub fn server_of(url: &str) -> String {
    let url = url.to_ascii_lowercase();
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", &url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = if scheme == "http" { ":80" } else { ":443" };
    let host = host.strip_suffix(port).unwrap_or(host);
    format!("{scheme}://{host}")
}
