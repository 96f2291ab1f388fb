//! The status of a populator resource, summarised from the states of its claims.
//!
//! Its size has a bound, whatever the number of claims: the counts are of all claims, and the list is
//! of those that need attention first.

mod conditions;

use std::collections::BTreeMap;

use jiff::Timestamp;
use populator_api::{
    ClaimCount, ClaimStatus, PopulatorStatus, Reason, ReasonClass,
    status::{MOST_CLAIMS, MOST_TEXT},
};

use crate::{
    model::Claim,
    plan::Status,
    progress::{Bytes, Measured},
    text,
};

/// Upper limit of a progress in percent: only a claim that is populated and bound has 100.
const ALMOST: i32 = 99;

/// A claim that is populated from the resource.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The claim, for its name and UID.
    pub claim: &'a Claim,
    /// State of the claim, from its last plan.
    pub status: &'a Status,
    /// Progress of its pod; `None` if the pod does not run, or does not answer.
    pub measured: Option<Measured>,
    /// The percentage that was shown for it last; `None` if none was, or it is not known.
    pub shown: Option<i32>,
}

/// The status of the resource with this generation. `previous` is the status that it has.
#[must_use]
pub fn summarise(
    claims: &[Served<'_>],
    previous: &PopulatorStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> PopulatorStatus {
    let mut sorted: Vec<&Served<'_>> = claims.iter().collect();
    sorted.sort_by_key(|served| (urgency(served.status.reason), &served.claim.name));
    // One reason stands for all claims.
    let reasons = || claims.iter().map(|served| served.status.reason);
    let worst = reasons()
        .min_by_key(|reason| reason.class())
        .unwrap_or(Reason::NoClaim);
    let bytes = total_bytes(claims).or_else(|| {
        // The pods of populated claims are gone, and what was written of them is final.
        let known = (previous.transferred_bytes, previous.total_bytes);
        (worst.class() == ReasonClass::Done).then_some(known)
    });
    let (transferred_bytes, total_bytes) = bytes.unwrap_or_default();
    let percents = claims.iter().map(|served| percent(served, previous));

    PopulatorStatus {
        progress: PopulatorStatus::progress_of(percents),
        observed_generation: generation,
        conditions: conditions::of(&sorted, worst, previous, generation, now),
        claim_count: i32::try_from(claims.len()).ok(),
        counts: counts(reasons()),
        claims: sorted
            .iter()
            .take(MOST_CLAIMS)
            .map(|served| entry(served, previous))
            .collect(),
        transferred_bytes,
        total_bytes,
        rate: total_rate(claims).map(per_second),
        last_error: last_error(&sorted, previous, worst),
    }
}

/// The percentage to show for a claim; `None` while it is unknown.
///
/// It does not fall while the copy is retried: a new attempt starts at 0, but a user who sees less
/// than before looks for an error. Nor does it fall while the pod does not answer. It falls when what
/// it counted is not the claim's any more.
#[must_use]
pub fn percent(served: &Served<'_>, previous: &PopulatorStatus) -> Option<i32> {
    let Served {
        claim,
        status,
        measured,
        shown,
    } = served;
    let listed = || {
        let known = previous
            .claims
            .iter()
            .find(|old| old.uid == claim.uid.as_str());
        known.and_then(|old| old.progress)
    };
    let before = shown
        .or_else(listed)
        .map(|percent| percent.min(ALMOST))
        .or_else(|| forklifts_progress(status.reason, previous));
    match status.reason {
        Reason::Populated => Some(100),
        // The claim holds another disk, and nothing of the one that the resource names.
        Reason::SourceChanged => Some(0),
        _ => measured
            .map(|measured| i32::from(measured.percent).min(ALMOST))
            .max(before),
    }
}

/// The order in which claims are listed and named: who has to act comes first, and what moves comes
/// before what waits, since thousands may wait.
const fn urgency(reason: Reason) -> u8 {
    match reason.class() {
        ReasonClass::Failed => 0,
        ReasonClass::Progressing => match reason {
            Reason::PodStuck | Reason::NodeLost | Reason::Retrying => 1,
            Reason::Copying => 2,
            _ => 3,
        },
        ReasonClass::Waiting => 4,
        ReasonClass::Done => 5,
    }
}

/// How many claims have each reason.
fn counts(reasons: impl Iterator<Item = Reason>) -> Vec<ClaimCount> {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        let count: &mut i32 = counts.entry(reason).or_default();
        *count = count.saturating_add(1);
    }
    counts
        .into_iter()
        .map(|(reason, claims)| ClaimCount { reason, claims })
        .collect()
}

/// Copied and total bytes of all claims. A sum over some of them would fall and rise with the pods
/// that answer, so one claim without bytes leaves both unknown.
fn total_bytes(claims: &[Served<'_>]) -> Option<(Option<i64>, Option<i64>)> {
    let all: Option<Vec<Bytes>> = claims.iter().map(|served| served.measured?.bytes).collect();
    let all = all.filter(|list| !list.is_empty())?;
    let sum = |field: fn(&Bytes) -> u64| {
        let sum = all.iter().map(field).fold(0, u64::saturating_add);
        i64::try_from(sum).ok()
    };
    Some((sum(|bytes| bytes.copied), sum(|bytes| bytes.size)))
}

/// Bytes per second of the claims that copy; `None` if none of them reports a rate.
fn total_rate(claims: &[Served<'_>]) -> Option<u64> {
    claims
        .iter()
        .filter(|served| served.status.reason == Reason::Copying)
        .filter_map(|served| Some(served.measured?.bytes?.rate))
        .reduce(u64::saturating_add)
}

fn entry(served: &Served<'_>, previous: &PopulatorStatus) -> ClaimStatus {
    let Status { reason, message } = served.status;
    ClaimStatus {
        uid: served.claim.uid.to_string(),
        name: served.claim.name.clone(),
        progress: percent(served, previous),
        reason: *reason,
        message: (!message.is_empty()).then(|| text::cut(message, MOST_TEXT)),
    }
}

/// The progress before, if Forklift's definition has kept nothing but the one of the resource. It
/// is taken for that of the claim, since a resource usually has one, but not if the claim has not
/// started to copy.
fn forklifts_progress(reason: Reason, previous: &PopulatorStatus) -> Option<i32> {
    let is_new = reason == Reason::Provisioning || reason.class() == ReasonClass::Waiting;
    let progress = previous.progress.as_deref()?;
    (previous.claims.is_empty() && !is_new)
        .then(|| progress.parse::<i32>().ok())
        .flatten()
        .map(|progress| progress.clamp(0, ALMOST))
}

/// The last error is kept until every claim is populated, so that it can be read while the next
/// attempt runs.
fn last_error(sorted: &[&Served<'_>], previous: &PopulatorStatus, worst: Reason) -> Option<String> {
    let now = sorted.iter().find(|served| {
        let reason = served.status.reason;
        reason.class() == ReasonClass::Failed
            || matches!(
                reason,
                Reason::Retrying | Reason::PodStuck | Reason::NodeLost
            )
    });
    let now = now.map(|served| {
        let sentence = format!("{}: {}", served.claim.name, served.status.message);
        text::cut(&sentence, MOST_TEXT)
    });
    now.or_else(|| previous.last_error.clone())
        .filter(|_| worst.class() != ReasonClass::Done)
}

/// A rate for people, in the largest unit that leaves a whole number.
fn per_second(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B/s", "KiB/s", "MiB/s", "GiB/s"];
    // Whole GiB are too coarse for anything below 10 of them.
    let power = match bytes {
        0..=0x27ff => 0,
        0x2800..=0x9f_ffff => 1,
        0xa0_0000..=0x2_7fff_ffff => 2,
        _ => 3,
    };
    format!("{} {}", bytes >> (10 * power), UNITS[power])
}
