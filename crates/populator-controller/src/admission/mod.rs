//! Which claims may begin: how many are served at a time, in all and of one source.
//!
//! A claim holds a place from the moment its temporary claim is made until its pod has ended for good: while
//! its volume is provisioned, while its pod starts (also one that cannot, since it may at any moment),
//! while bytes move, and through the pauses between attempts. A claim that waits for a consumer, or for
//! something that others must make, or that has failed for good, holds none and does not stand in the queue; it does when
//! it can go on.

mod turns;

pub use turns::{Turn, Turns};

use std::collections::{BTreeMap, BTreeSet};

use contract::args::flag;
use jiff::Timestamp;
use populator_api::Reason;

use crate::{
    Settings,
    model::{Lookup, World},
    plan::{Action, Admission, Full, Verdict, plan},
};

/// A claim that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// UID of the claim.
    pub uid: String,
    /// When the claim was made: who came first is served first.
    pub created: Timestamp,
    /// The server that its bytes come from, as [`server_of`] writes it.
    pub server: String,
    /// Whether it holds a place or waits for one.
    pub stand: Stand,
}

/// Where a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// It holds a place.
    Holds,
    /// It could make its pod, or make way for another one, at once: between two attempts it holds its place, and after a failure for good, or when
    /// what it needs was missing meanwhile, it has given it up and needs another one.
    Resumes,
    /// It could begin at once.
    Waits,
}

impl Candidate {
    /// The claim's part in the queue; `None` when it has none.
    #[must_use]
    pub fn of(world: &World, settings: &Settings, now: Timestamp) -> Option<Self> {
        let plan = plan(world, settings, &Admission::Granted, now)?;
        let does = |wanted: fn(&Action) -> bool| plan.actions.iter().any(wanted);
        // A failure for good has given the place up, when somebody asks for another try.
        let failed_for_good = world
            .own_pod()
            .is_some_and(|pod| !Verdict::of(pod).may_heal);
        let begins_anew = does(|action| matches!(action, Action::ForgetFailures));
        let stand = if does(|action| matches!(action, Action::CreateTemporaryClaim(_)))
            || (begins_anew && failed_for_good)
        {
            Stand::Waits
        } else if begins_anew || does(|action| matches!(action, Action::CreatePod(_))) {
            Stand::Resumes
        } else if world.own_temporary().is_some() && loads(plan.status.reason) {
            Stand::Holds
        } else {
            return None;
        };
        let claim = &world.claim;
        let of_pod = |flag: &str| world.own_pod()?.argument(flag);
        let url = match &world.source {
            Lookup::Found(source) => source.origin.url(),
            Lookup::Missing | Lookup::Invalid(_) => of_pod(flag::ENGINE_URL)
                .or_else(|| of_pod(flag::ENDPOINT))
                .unwrap_or_default(),
        };
        Some(Self {
            uid: claim.uid.clone(),
            created: claim.created,
            server: server_of(url),
            stand,
        })
    }
}

/// Decides for every claim of `candidates` whether it may go on. `granted` are claims that were let in and
/// may not be seen to have begun yet: they hold a place whatever is seen.
///
/// Claims of one source are let in by age. One whose source is full is passed over, so that it keeps
/// nobody else waiting.
#[must_use]
pub fn admit(
    candidates: &[Candidate],
    granted: &BTreeSet<String>,
    settings: &Settings,
) -> BTreeMap<String, Admission> {
    let holds = |candidate: &&Candidate| {
        candidate.stand == Stand::Holds || granted.contains(&candidate.uid)
    };
    let (holders, mut waiting): (Vec<_>, Vec<_>) = candidates.iter().partition(holds);
    waiting.sort_by_key(|candidate| (candidate.created, &candidate.uid));

    let mut served = holders.len();
    let mut served_of: BTreeMap<&str, usize> = BTreeMap::new();
    for holder in &holders {
        *served_of.entry(&holder.server).or_default() += 1;
    }
    let mut ahead = 0;
    let mut ahead_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outcome: BTreeMap<String, Admission> = holders
        .iter()
        .map(|holder| (holder.uid.clone(), Admission::Granted))
        .collect();
    for candidate in waiting {
        let of_source = served_of.entry(&candidate.server).or_default();
        let admission = if *of_source >= settings.max_in_flight_per_source {
            let ahead = ahead_of.entry(&candidate.server).or_default();
            *ahead += 1;
            Admission::Waiting {
                ahead: *ahead - 1,
                limit: settings.max_in_flight_per_source,
                full: Full::Source,
            }
        } else if served >= settings.max_in_flight {
            ahead += 1;
            Admission::Waiting {
                ahead: ahead - 1,
                limit: settings.max_in_flight,
                full: Full::Controller,
            }
        } else {
            *of_source += 1;
            served += 1;
            Admission::Granted
        };
        outcome.insert(candidate.uid.clone(), admission);
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

/// Whether a claim that has begun and stands like this holds its place.
const fn loads(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Provisioning
            | Reason::PodPending
            | Reason::PodStuck
            | Reason::Copying
            | Reason::Retrying
            | Reason::NodeLost
            | Reason::Clearing
            | Reason::WaitingForConsumer
    )
}
