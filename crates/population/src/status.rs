//! The status of a populator resource, summarised from the states of its claims.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use populator_api::{ClaimStatus, ConditionType, PopulatorStatus, Reason, ReasonClass};

use crate::{
    model::Claim,
    plan::Status,
    progress::{Bytes, Measured},
};

/// Upper limit of a progress in percent: only a claim that is populated and bound has 100.
const ALMOST: i32 = 99;
/// The message of a condition names this many claims, and counts the others.
const MOST_NAMED: usize = 20;

/// A claim that is populated from the resource.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The claim, for its name and UID.
    pub claim: &'a Claim,
    /// State of the claim, from its last plan.
    pub status: &'a Status,
    /// Progress of its pod; `None` if the pod does not run, or does not answer.
    pub measured: Option<Measured>,
}

/// The status of the resource with this generation. `previous` is the status that was written
/// before.
///
/// The progress of a claim never falls: a new attempt starts at 0, but a user who sees less than
/// before looks for an error. Nor does it fall while the pod does not answer; then only bytes and
/// rate are missing.
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
    // One reason stands for all claims: the classes are in order of urgency, failed first and done
    // last.
    let reasons = || claims.iter().map(|served| served.status.reason);
    let worst = reasons()
        .min_by_key(|reason| reason.class())
        .unwrap_or(Reason::NoClaim);
    let has = |class| reasons().any(|reason| reason.class() == class);
    let done = worst.class() == ReasonClass::Done;
    let conditions = [
        (ConditionType::Ready, done),
        (ConditionType::Progressing, has(ReasonClass::Progressing)),
        (ConditionType::Failed, has(ReasonClass::Failed)),
    ]
    .map(|(type_, holds)| {
        let status = if holds { "True" } else { "False" };
        Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: worst.to_string(),
            message: message(claims),
            observed_generation: generation,
            last_transition_time: last_transition(previous, type_, status).unwrap_or(Time(now)),
        }
    });
    let bytes = total_bytes(claims).or_else(|| {
        // The pods of populated claims are gone, and what was written of them is final.
        let known = (previous.transferred_bytes, previous.total_bytes);
        done.then_some(known)
    });
    let (transferred_bytes, total_bytes) = bytes.unwrap_or_default();

    PopulatorStatus {
        progress: PopulatorStatus::progress_of(entries.iter().map(|entry| entry.progress)),
        observed_generation: generation,
        conditions: conditions.into(),
        transferred_bytes,
        total_bytes,
        rate: total_rate(claims).map(per_second),
        last_error: last_error(claims, previous, worst),
        claims: entries,
    }
}

/// When the condition got this status, if it had it before.
fn last_transition(previous: &PopulatorStatus, type_: ConditionType, status: &str) -> Option<Time> {
    let unchanged = previous
        .conditions
        .iter()
        .find(|old| old.type_ == type_.as_str() && old.status == status)?;
    Some(unchanged.last_transition_time.clone())
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
    let Served {
        claim,
        status,
        measured,
    } = served;
    let known = previous
        .claims
        .iter()
        .find(|old| old.uid == claim.uid.as_str());
    let before = known
        .and_then(|old| Some(old.progress?.min(ALMOST)))
        .or_else(|| forklifts_progress(status.reason, previous));
    let progress = match status.reason {
        Reason::Populated => Some(100),
        // The claim holds another disk, and nothing of the one that the resource names.
        Reason::SourceChanged => Some(0),
        _ => measured
            .map(|measured| i32::from(measured.percent).min(ALMOST))
            .max(before),
    };
    ClaimStatus {
        uid: claim.uid.to_string(),
        name: claim.name.clone(),
        progress,
        reason: status.reason,
        message: Some(status.message.clone()).filter(|message| !message.is_empty()),
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

/// One message for all conditions: the state of each claim.
fn message(claims: &[Served<'_>]) -> String {
    if claims.is_empty() {
        return "no claim refers to this resource".to_owned();
    }
    let named: Vec<String> = claims
        .iter()
        .take(MOST_NAMED)
        .map(|served| {
            let Status { reason, message } = served.status;
            let name = &served.claim.name;
            if message.is_empty() {
                format!("{name}: {reason}")
            } else {
                format!("{name}: {message}")
            }
        })
        .collect();
    let rest = match claims.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        rest => format!("; and {rest} more"),
    };
    format!("{}{rest}", named.join("; "))
}

/// The last error is kept until every claim is populated, so that it can be read while the next
/// attempt runs.
fn last_error(claims: &[Served<'_>], previous: &PopulatorStatus, worst: Reason) -> Option<String> {
    let now = claims
        .iter()
        .filter(|served| {
            let reason = served.status.reason;
            reason.class() == ReasonClass::Failed
                || matches!(
                    reason,
                    Reason::Retrying | Reason::PodStuck | Reason::NodeLost
                )
        })
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
