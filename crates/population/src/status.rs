//! What is written into a populator resource, from how its claims stand.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use populator_api::{ClaimStatus, ConditionType, PopulatorStatus, Reason, ReasonClass};

use crate::{
    model::Claim,
    plan::Status,
    progress::{Bytes, Measured},
};

/// 100 is said of what is populated and bound, and of nothing else.
const ALMOST: i32 = 99;
/// More claims than these are counted and not named in a condition's message.
const MOST_NAMED: usize = 20;

/// A claim that the resource feeds.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// How it stands.
    pub status: &'a Status,
    /// What its pod says; nothing where it is not running, or cannot be asked.
    pub measured: Option<Measured>,
}

/// The status of the resource with this generation, of which `previous` was written before.
///
/// A claim's progress never falls, since a new attempt begins at 0 and the user has not lost anything but
/// time. Nor does it fall when the pod cannot be asked; it just says nothing of bytes and rate then.
#[must_use]
pub fn summarise(
    claims: &[Served<'_>],
    previous: &PopulatorStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> PopulatorStatus {
    let entries: Vec<ClaimStatus> = claims
        .iter()
        .map(|served| entry(served, previous))
        .collect();
    let worst = claims
        .iter()
        .map(|served| served.status.reason)
        .min_by_key(|reason| reason.class());
    let worst = worst.unwrap_or(Reason::NoClaim);
    let has = |standing| {
        claims
            .iter()
            .any(|served| served.status.reason.class() == standing)
    };
    // What was said of a pod that is gone holds when all is well.
    let done = worst.class() == ReasonClass::Done;
    let message = message(claims);
    let condition = |condition: ConditionType, holds: bool| {
        let status = if holds { "True" } else { "False" };
        let mut before = previous.conditions.iter();
        let unchanged = before.find(|old| old.type_ == condition.as_str() && old.status == status);
        Condition {
            type_: condition.as_str().to_owned(),
            status: status.to_owned(),
            reason: worst.to_string(),
            message: message.clone(),
            observed_generation: generation,
            last_transition_time: unchanged
                .map_or(Time(now), |old| old.last_transition_time.clone()),
        }
    };
    let bytes_of = |served: &Served<'_>| served.measured?.bytes;
    let all: Option<Vec<Bytes>> = claims.iter().map(bytes_of).collect();
    let all = all.filter(|list| !list.is_empty());
    let sum = |field: fn(&Bytes) -> u64| {
        let sum = all.as_ref()?.iter().map(field).fold(0, u64::saturating_add);
        i64::try_from(sum).ok()
    };
    let rates = claims
        .iter()
        .filter(|served| served.status.reason == Reason::Copying)
        .filter_map(|served| Some(bytes_of(served)?.rate));
    let rate = rates.reduce(u64::saturating_add);

    PopulatorStatus {
        progress: PopulatorStatus::progress_of(entries.iter().map(|entry| entry.progress)),
        observed_generation: generation,
        conditions: vec![
            condition(ConditionType::Ready, done),
            condition(ConditionType::Progressing, has(ReasonClass::Progressing)),
            condition(ConditionType::Failed, has(ReasonClass::Failed)),
        ],
        transferred_bytes: sum(|bytes| bytes.copied)
            .or(previous.transferred_bytes.filter(|_| done)),
        total_bytes: sum(|bytes| bytes.size).or(previous.total_bytes.filter(|_| done)),
        rate: rate.map(per_second),
        last_error: last_error(claims, previous, worst),
        claims: entries,
    }
}

fn entry(served: &Served<'_>, previous: &PopulatorStatus) -> ClaimStatus {
    let Served {
        claim,
        status,
        measured,
    } = served;
    let mut before = previous.claims.iter();
    let before = before
        .find(|old| old.uid == claim.uid)
        .and_then(|old| Some(old.progress?.min(ALMOST)))
        // Forklift's definition keeps nothing but the sum, of usually one claim; not of one that has not begun to copy.
        .or_else(|| {
            let is_new = status.reason == Reason::Provisioning
                || status.reason.class() == ReasonClass::Waiting;
            let sum = previous.progress.as_deref();
            let sum = sum.filter(|_| previous.claims.is_empty() && !is_new);
            Some(sum?.parse::<i32>().ok()?.clamp(0, ALMOST))
        });
    let progress = match status.reason {
        Reason::Populated => Some(100),
        // What the claim holds is nothing of the disk that the resource names.
        Reason::SourceChanged => Some(0),
        _ => measured
            .map(|measured| i32::from(measured.percent).min(ALMOST))
            .max(before),
    };
    ClaimStatus {
        uid: claim.uid.clone(),
        name: claim.name.clone(),
        progress,
        reason: status.reason,
        message: Some(status.message.clone()).filter(|message| !message.is_empty()),
    }
}

fn message(claims: &[Served<'_>]) -> String {
    let one = |served: &Served<'_>| {
        let Status { reason, message } = served.status;
        let name = &served.claim.name;
        if message.is_empty() {
            format!("{name}: {reason}")
        } else {
            format!("{name}: {message}")
        }
    };
    if claims.is_empty() {
        return "no claim refers to this resource".to_owned();
    }
    let named: Vec<String> = claims.iter().take(MOST_NAMED).map(one).collect();
    let rest = match claims.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        rest => format!("; and {rest} more"),
    };
    format!("{}{rest}", named.join("; "))
}

/// What went wrong last is kept until all is well, so that it can be read while the next attempt runs.
fn last_error(claims: &[Served<'_>], previous: &PopulatorStatus, worst: Reason) -> Option<String> {
    let is_wrong = |served: &&Served<'_>| {
        let reason = served.status.reason;
        reason.class() == ReasonClass::Failed
            || matches!(
                reason,
                Reason::Retrying | Reason::PodStuck | Reason::NodeLost
            )
    };
    let now = claims
        .iter()
        .filter(is_wrong)
        .min_by_key(|served| served.status.reason.class());
    let now = now.map(|served| format!("{}: {}", served.claim.name, served.status.message));
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
