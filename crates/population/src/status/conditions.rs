//! The conditions of a populator resource, each with its own reason and message.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use populator_api::{
    ConditionType, PopulatorStatus, Reason, ReasonClass,
    reason::{NONE_FAILED, NONE_PROGRESSING},
};

use super::Served;
use crate::{plan::Status, text};

/// The message of a condition names this many claims, and counts the others.
const MOST_NAMED: usize = 20;
/// Bytes of each claim's sentence in it. `status.claims` has more.
const MOST_OF_SENTENCE: usize = 256;

/// What holds or does not, and why.
struct Finding {
    holds: bool,
    reason: String,
    message: String,
}

/// The conditions for these claims, which are in the order in which they are named; `worst` is the
/// reason that stands for all of them.
///
/// `Stalled` and `Reconciling` follow the conventions of kstatus
/// (<https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>): they are there
/// only while they hold, and the first one that holds decides. So a failure is read as one also while
/// other claims of the resource are on their way.
pub(super) fn of(
    sorted: &[&Served<'_>],
    worst: Reason,
    previous: &PopulatorStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let is = |classes: &'static [ReasonClass]| {
        let picked = sorted.iter().copied();
        picked
            .filter(|served| classes.contains(&served.status.reason.class()))
            .collect::<Vec<_>>()
    };
    let failed = is(&[ReasonClass::Failed]);
    let progressing = is(&[ReasonClass::Progressing]);
    let unfinished = is(&[ReasonClass::Progressing, ReasonClass::Waiting]);
    let findings =
        [
            (ConditionType::Ready, Some(ready(sorted, worst))),
            (
                ConditionType::Progressing,
                Some(some_of(&progressing).unwrap_or_else(|| {
                    Finding::none(NONE_PROGRESSING, "no claim is being populated")
                })),
            ),
            (
                ConditionType::Failed,
                Some(
                    some_of(&failed)
                        .unwrap_or_else(|| Finding::none(NONE_FAILED, "no claim has failed")),
                ),
            ),
            (ConditionType::Stalled, some_of(&failed)),
            (ConditionType::Reconciling, some_of(&unfinished)),
        ];
    let findings = findings.into_iter();
    findings
        .filter_map(|(type_, finding)| Some((type_, finding?)))
        .map(|(type_, finding)| {
            let status = if finding.holds { "True" } else { "False" };
            Condition {
                type_: type_.as_str().to_owned(),
                status: status.to_owned(),
                reason: finding.reason,
                message: finding.message,
                observed_generation: generation,
                last_transition_time: last_transition(previous, type_, status).unwrap_or(Time(now)),
            }
        })
        .collect()
}

impl Finding {
    fn none(reason: &str, message: &str) -> Self {
        Self {
            holds: false,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }
}

fn ready(sorted: &[&Served<'_>], worst: Reason) -> Finding {
    let is_done = |reason: Reason| reason.class() == ReasonClass::Done;
    let missing: Vec<&Served<'_>> = sorted
        .iter()
        .copied()
        .filter(|served| !is_done(served.status.reason))
        .collect();
    let message = match (sorted.len(), missing.is_empty()) {
        (0, _) => "no claim refers to this resource".to_owned(),
        (1, true) => format!("{} is populated and bound", sorted[0].claim.name),
        (all, true) => format!("all {all} claims are populated and bound"),
        (_, false) => sentences(&missing),
    };
    Finding {
        holds: is_done(worst),
        reason: worst.to_string(),
        message,
    }
}

/// That there are some of these claims: the first one gives the reason.
fn some_of(claims: &[&Served<'_>]) -> Option<Finding> {
    let first = claims.first()?;
    Some(Finding {
        holds: true,
        reason: first.status.reason.to_string(),
        message: sentences(claims),
    })
}

/// The state of each claim.
fn sentences(claims: &[&Served<'_>]) -> String {
    let named: Vec<String> = claims
        .iter()
        .take(MOST_NAMED)
        .map(|served| {
            let Status { reason, message } = served.status;
            let name = &served.claim.name;
            if message.is_empty() {
                format!("{name}: {reason}")
            } else {
                format!("{name}: {}", text::cut(message, MOST_OF_SENTENCE))
            }
        })
        .collect();
    let rest = match claims.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        rest => format!("; and {rest} more"),
    };
    format!("{}{rest}", named.join("; "))
}

/// When the condition got this status, if it had it before.
fn last_transition(previous: &PopulatorStatus, type_: ConditionType, status: &str) -> Option<Time> {
    let unchanged = previous
        .conditions
        .iter()
        .find(|old| old.type_ == type_.as_str() && old.status == status)?;
    Some(unchanged.last_transition_time.clone())
}
