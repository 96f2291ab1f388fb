//! The deadline for the start of a copy.

use std::time::Duration;

use population::plan::Action;
use populator_api::{Reason, names};

use crate::support::{
    PlanCase, Row, ago, check, chosen, failed, pending, running, succeeded, words,
};

fn limited(case: &mut PlanCase) {
    case.settings.start_deadline = Some(Duration::from_mins(10));
}

/// The deadline has passed.
fn overdue(case: &mut PlanCase) {
    limited(case);
    case.temporary().created = ago(600);
}

#[test]
fn a_claim_that_cannot_start_in_time_has_failed() {
    let failed_event: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        Row {
            name: "without a deadline it waits for ever",
            base: pending,
            change: |case| {
                case.temporary().created = ago(86_400);
                case.pod().created = ago(86_400);
            },
            reason: Reason::PodStuck,
            actions: &[],
            events: &["PopulatorStuck"],
        },
        Row {
            name: "its pod is declared failed, so that Forklift sees it",
            base: pending,
            change: overdue,
            reason: Reason::StartDeadlineExceeded,
            actions: &["fail pod", "verdict"],
            events: failed_event,
        },
        Row {
            name: "its volume does not come",
            base: chosen,
            change: overdue,
            reason: Reason::StartDeadlineExceeded,
            actions: &["verdict"],
            events: failed_event,
        },
        Row {
            name: "bytes move",
            base: running,
            change: overdue,
            reason: Reason::Copying,
            actions: &[],
            events: &[],
        },
        Row {
            name: "all bytes are there",
            base: succeeded,
            change: overdue,
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "its pod was declared failed",
            base: || {
                let mut case = failed(0, "");
                case.pod().ended = None;
                case
            },
            change: |case| {
                overdue(case);
                case.pod().evicted = Some(format!("{}: why", names::START_DEADLINE));
                case.pod().is_overdue = true;
            },
            reason: Reason::StartDeadlineExceeded,
            actions: &["verdict", "release pod"],
            events: failed_event,
        },
        Row {
            name: "the same, and another attempt is requested: the time starts over",
            base: || {
                let mut case = failed(0, "");
                case.pod().ended = None;
                case
            },
            change: |case| {
                overdue(case);
                case.pod().evicted = Some(format!("{}: why", names::START_DEADLINE));
                case.pod().is_overdue = true;
                case.world.claim.retry = Some("2".to_owned());
            },
            reason: Reason::Retrying,
            actions: &[
                "forget",
                "delete pod",
                "delete temporary claim",
                "release pod",
            ],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn the_deadline_is_requeued_for_and_its_verdict_stands() {
    let mut case = pending();
    limited(&mut case);
    case.temporary().created = ago(599);
    let plan = case.plan();
    assert_eq!(plan.status.reason, Reason::PodPending);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(1)));

    // Once, also where the permission to declare the pod failed is missing.
    overdue(&mut case);
    let plan = case.plan();
    assert!(plan.actions[0].is_optional() && !plan.actions[1].is_optional());
    let Action::RecordFailure { failure, .. } = &plan.actions[1] else {
        panic!("{plan:?}");
    };
    case.world.claim.attempts.last_failure = Some(failure.clone());
    let plan = case.plan();
    assert_eq!(plan.status.reason, Reason::StartDeadlineExceeded);
    assert!(plan.actions.is_empty());

    // Without the pod it stands as well, until another attempt is requested.
    case.world.pod = None;
    assert_eq!(case.plan().status.reason, Reason::StartDeadlineExceeded);
    case.world.claim.retry = Some("2".to_owned());
    assert_eq!(words(&case.plan()), ["forget", "delete temporary claim"]);
}
