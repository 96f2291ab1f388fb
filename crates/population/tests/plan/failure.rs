use std::time::Duration;

use contract::{Exit, Retry, Termination};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use population::{
    model::{Attempts, LastFailure, Lookup},
    plan::{Action, Verdict},
};
use populator_api::{Reason, Standing};

use crate::support::{Case, POD, Row, ago, check, failed, now, provisioned, words};

fn told(exit: Exit) -> Case {
    let message = serde_json::to_string(&Termination::new(exit, "what happened")).unwrap();
    failed(exit.code().into(), &message)
}

fn last_failure(pod: &str, at: Timestamp) -> LastFailure {
    LastFailure {
        pod: pod.to_owned(),
        at: Time(at),
        reason: Reason::Retrying,
        message: "the engine was away".to_owned(),
    }
}

#[test]
fn the_movers_word_decides() {
    for exit in Exit::ALL {
        if exit == Exit::Success {
            continue;
        }
        let case = told(exit);
        let plan = case.plan();
        let verdict = Verdict::of(case.world.pod.as_ref().unwrap());
        assert!(verdict.message.starts_with("what happened"), "{exit:?}");
        match exit.retry() {
            Retry::Useful => {
                let expected = ["record 1", "delete pod 90d0", "release pod 90d0"];
                assert_eq!(words(&plan), expected, "{exit:?}");
                assert_eq!(
                    plan.status.reason.standing(),
                    Standing::Progressing,
                    "{exit:?}"
                );
            }
            Retry::Pointless => {
                // The pod is kept for its log, and may go with its claim.
                assert_eq!(words(&plan), ["release pod 90d0"], "{exit:?}");
                assert_eq!(plan.status.reason.standing(), Standing::Failed, "{exit:?}");
                assert_eq!(plan.events[0].reason, "PopulatorFailed");
                assert!(plan.events[0].message.starts_with("what happened"));
            }
        }
    }
}

#[test]
fn without_a_word_the_exit_code_and_the_node_decide() {
    for (exit_code, why, message, may_heal, contains) in [
        (20, "Error", "", false, "without a message"),
        (30, "Error", "", true, "without a message"),
        (
            11,
            "Error",
            "{\"version\":99,\"exit\":\"internal\"}",
            false,
            "without a message",
        ),
        (
            1,
            "Error",
            "thread 'main' panicked\nat the disco\n",
            true,
            "at the disco",
        ),
        (2, "Error", "", true, "exit code 2"),
        (255, "Error", "", true, "exit code 255"),
        (139, "Error", "", true, "exit code 139"),
        (137, "OOMKilled", "", true, "OOMKilled"),
        (137, "Error", "", true, "exit code 137"),
        (
            128,
            "StartError",
            "no such file",
            true,
            "StartError (exit code 128): no such file",
        ),
        (143, "Error", "", true, "exit code 143"),
    ] {
        let mut case = failed(exit_code, message);
        case.pod().ended.as_mut().unwrap().reason = why.to_owned();
        let verdict = Verdict::of(case.world.pod.as_ref().unwrap());
        assert_eq!(verdict.may_heal, may_heal, "{exit_code} {why}: {verdict:?}");
        assert!(
            verdict.message.contains(contains),
            "{exit_code}: {verdict:?}"
        );
    }
}

#[test]
fn what_the_node_did_is_no_fault_of_the_mover() {
    let mut case = told(Exit::TargetIo);
    case.pod().evicted = Some("Evicted: the node was low on memory".to_owned());
    let verdict = Verdict::of(case.world.pod.as_ref().unwrap());
    assert!(verdict.may_heal);
    assert!(verdict.message.contains("low on memory"));

    let mut case = told(Exit::TargetIo);
    case.pod().ended = None;
    assert!(Verdict::of(case.world.pod.as_ref().unwrap()).may_heal);
}

#[test]
fn attempts_are_counted_once_and_bounded() {
    let rows: &[Row] = &[
        (
            "the first failure",
            || told(Exit::SourceUnavailable),
            |_| (),
            Reason::Retrying,
            &["record 1", "delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "counted before, and the pod is still there",
            || told(Exit::SourceUnavailable),
            |case| {
                case.world.claim.attempts = Attempts {
                    recreations: 1,
                    last_failure: Some(last_failure(POD, ago(5))),
                };
            },
            Reason::Retrying,
            &["delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "another pod's failure was counted before",
            || told(Exit::SourceUnavailable),
            |case| {
                case.world.claim.attempts = Attempts {
                    recreations: 1,
                    last_failure: Some(last_failure("earlier", ago(500))),
                };
            },
            Reason::Retrying,
            &["record 2", "delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "the last one that is counted is still made good",
            || told(Exit::SourceUnavailable),
            |case| {
                case.world.claim.attempts = Attempts {
                    recreations: 3,
                    last_failure: Some(last_failure(POD, ago(5))),
                };
            },
            Reason::Retrying,
            &["delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "the fourth pod was the last; it is kept for its log",
            || told(Exit::SourceUnavailable),
            |case| case.world.claim.attempts.recreations = 3,
            Reason::RetriesExhausted,
            &["release pod 90d0"],
            &["PopulatorFailed"],
        ),
        (
            "the resource is gone: no other attempt",
            || told(Exit::SourceUnavailable),
            |case| case.world.source = Lookup::Missing,
            Reason::ResourceMissing,
            &["release pod 90d0"],
            &["PopulatorFailed"],
        ),
        (
            "the resource is gone, and it would not have healed",
            || told(Exit::HashMismatch),
            |case| case.world.source = Lookup::Missing,
            Reason::HashMismatch,
            &["release pod 90d0"],
            &["PopulatorFailed"],
        ),
    ];
    check(rows);
}

#[test]
fn the_pause_is_that_of_the_failures_that_are_counted() {
    let mut case = told(Exit::SourceUnavailable);
    case.world.claim.attempts = Attempts {
        recreations: 2,
        last_failure: Some(last_failure(POD, ago(0))),
    };
    assert_eq!(case.plan().again, Some(Duration::from_secs(20)));
    case.world.claim.attempts.last_failure = None;
    assert_eq!(case.plan().again, Some(Duration::from_secs(40)));
}

#[test]
fn a_failure_is_remembered_with_its_cause() {
    let plan = told(Exit::SourceBusy).plan();
    let Action::RecordFailure { failure, .. } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    assert_eq!(failure.pod, POD);
    assert_eq!(failure.at.0, now());
    let event = plan.actions[0].announcement().unwrap();
    assert_eq!(event.reason, "PopulatorRetrying");
    assert_eq!(
        event.message,
        "what happened (exit code 31); attempt 2 follows"
    );
    assert_eq!(plan.again, Some(Duration::from_secs(10)));
}

#[test]
fn a_new_try_can_be_asked_for() {
    let again: &[&str] = &["forget", "delete pod 90d0", "release pod 90d0"];
    let rows: &[Row] = &[
        (
            "by correcting the resource",
            || told(Exit::Credentials),
            |case| {
                case.source().origin = population::model::Origin::Ovirt {
                    engine_url: "https://other.example.org".to_owned(),
                    secret: "engine".to_owned(),
                    disk: "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d".to_owned(),
                };
            },
            Reason::Retrying,
            again,
            &[],
        ),
        (
            "by another network",
            || told(Exit::SourceUnavailable),
            |case| {
                case.world.claim.attempts.recreations = 3;
                case.source().network = Some(population::model::Network {
                    namespace: "nets".to_owned(),
                    name: "fast".to_owned(),
                });
            },
            Reason::Retrying,
            again,
            &[],
        ),
        (
            "by the annotation",
            || told(Exit::Credentials),
            |case| case.world.claim.retry = Some("2".to_owned()),
            Reason::Retrying,
            again,
            &[],
        ),
        (
            "once for each value of the annotation",
            || told(Exit::Credentials),
            |case| {
                case.world.claim.retry = Some("2".to_owned());
                case.pod().retry = Some("2".to_owned());
            },
            Reason::CredentialsRefused,
            &["release pod 90d0"],
            &["PopulatorFailed"],
        ),
        (
            "not by taking the annotation away",
            || told(Exit::Credentials),
            |case| case.pod().retry = Some("2".to_owned()),
            Reason::CredentialsRefused,
            &["release pod 90d0"],
            &["PopulatorFailed"],
        ),
        (
            "by deleting the pod",
            || told(Exit::Credentials),
            |case| case.world.pod = None,
            Reason::PodPending,
            &["create pod"],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn the_next_attempt_waits_and_the_wait_survives_a_restart() {
    // Recreations, seconds since the failure, and what is left of the pause.
    for (recreations, passed, left) in [
        (1, 0, Some(10)),
        (1, 9, Some(1)),
        (1, 10, None),
        (2, 15, Some(5)),
        (3, 39, Some(1)),
        (3, 40, None),
    ] {
        let mut case = provisioned();
        case.world.claim.attempts = Attempts {
            recreations,
            last_failure: Some(last_failure("earlier", ago(passed))),
        };
        let plan = case.plan();
        assert_eq!(
            plan.again,
            left.map(Duration::from_secs),
            "{recreations} {passed}"
        );
        let expected: &[&str] = if left.is_some() { &[] } else { &["create pod"] };
        assert_eq!(words(&plan), expected, "{recreations} {passed}");
        if left.is_some() {
            assert_eq!(plan.status.message, "the engine was away");
        }
    }
}

#[test]
fn a_wrong_clock_holds_nothing_up() {
    let mut case = provisioned();
    case.world.claim.attempts = Attempts {
        recreations: 1,
        last_failure: Some(last_failure("earlier", now() + Duration::from_hours(5))),
    };
    assert_eq!(words(&case.plan()), ["create pod"]);
}

#[test]
fn forklifts_count_without_our_memory_means_no_pause() {
    let mut case = provisioned();
    case.world.claim.attempts.recreations = 2;
    assert_eq!(words(&case.plan()), ["create pod"]);
}
