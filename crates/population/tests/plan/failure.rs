use std::time::Duration;

use contract::{Exit, Retry, Termination};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use population::{
    model::{Attempts, LastFailure, Lookup},
    plan::{Action, FailureClass},
    settings::MoverFlag,
};
use populator_api::{Reason, ReasonClass};

use crate::support::{POD, PlanCase, Row, ago, check, failed, now, provisioned, words};

fn failed_with(exit: Exit) -> PlanCase {
    let message = serde_json::to_string(&Termination::new(exit, "what happened")).unwrap();
    failed(exit.code().into(), &message)
}

fn last_failure(pod: &str, at: Timestamp) -> LastFailure {
    LastFailure {
        pod: pod.into(),
        at: Time(at),
        reason: Reason::Retrying,
        message: "the engine was away".to_owned(),
        disruptions: 0,
        verdict: None,
    }
}

#[test]
fn the_movers_message_decides() {
    for exit in Exit::ALL {
        if exit == Exit::Success {
            continue;
        }
        let case = failed_with(exit);
        let plan = case.plan();
        let verdict = FailureClass::of(case.world.pod.as_ref().unwrap());
        assert!(verdict.message.starts_with("what happened"), "{exit:?}");
        match exit.retry() {
            Retry::Useful => {
                let expected = ["record 1", "delete pod", "release pod"];
                assert_eq!(words(&plan), expected, "{exit:?}");
                assert_eq!(
                    plan.status.reason.class(),
                    ReasonClass::Progressing,
                    "{exit:?}"
                );
            }
            Retry::Pointless => {
                // The pod is kept for its log, and may go with its claim.
                assert_eq!(words(&plan), ["verdict", "release pod"], "{exit:?}");
                assert_eq!(plan.status.reason.class(), ReasonClass::Failed, "{exit:?}");
                assert_eq!(plan.events[0].reason, "PopulatorFailed");
                assert!(plan.events[0].message.starts_with("what happened"));
            }
        }
    }
}

/// A cleaner of finished pods may be quicker than the controller. Its deletion is no request for
/// another attempt.
#[test]
fn a_permanent_failure_is_recorded_although_its_pod_is_being_deleted() {
    let mut case = failed_with(Exit::Credentials);
    case.pod().terminating = Some(now());
    assert_eq!(words(&case.plan()), ["verdict", "release pod"]);
    // One that may pass is not counted against the claim.
    let mut case = failed_with(Exit::SourceUnavailable);
    case.pod().terminating = Some(now());
    assert_eq!(words(&case.plan()), ["release pod"]);
}

#[test]
fn without_a_message_the_exit_code_and_the_node_decide() {
    for (exit_code, why, message, is_transient, contains) in [
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
        let verdict = FailureClass::of(case.world.pod.as_ref().unwrap());
        assert_eq!(
            verdict.is_transient, is_transient,
            "{exit_code} {why}: {verdict:?}"
        );
        assert!(
            verdict.message.contains(contains),
            "{exit_code}: {verdict:?}"
        );
    }
}

#[test]
fn what_the_node_did_is_no_fault_of_the_mover() {
    let mut case = failed_with(Exit::TargetIo);
    case.pod().evicted = Some("Evicted: the node was low on memory".to_owned());
    let verdict = FailureClass::of(case.world.pod.as_ref().unwrap());
    assert!(verdict.is_transient && verdict.is_disruption);
    assert!(verdict.message.contains("low on memory"));

    let mut case = failed_with(Exit::TargetIo);
    case.pod().ended = None;
    assert!(FailureClass::of(case.world.pod.as_ref().unwrap()).is_transient);
}

#[test]
fn attempts_are_counted_once_and_bounded() {
    let rows: &[Row] = &[
        Row {
            name: "the first failure",
            base: || failed_with(Exit::SourceUnavailable),
            change: |_| (),
            reason: Reason::Retrying,
            actions: &["record 1", "delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "counted before, and the pod is still there",
            base: || failed_with(Exit::SourceUnavailable),
            change: |case| {
                case.world.claim.attempts = Attempts {
                    recreations: 1,
                    last_failure: Some(last_failure(POD, ago(5))),
                };
            },
            reason: Reason::Retrying,
            actions: &["delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "another pod's failure was counted before",
            base: || failed_with(Exit::SourceUnavailable),
            change: |case| {
                case.world.claim.attempts = Attempts {
                    recreations: 1,
                    last_failure: Some(last_failure("earlier", ago(500))),
                };
            },
            reason: Reason::Retrying,
            actions: &["record 2", "delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "the last one that is counted is still retried",
            base: || failed_with(Exit::SourceUnavailable),
            change: |case| {
                case.world.claim.attempts = Attempts {
                    recreations: 3,
                    last_failure: Some(last_failure(POD, ago(5))),
                };
            },
            reason: Reason::Retrying,
            actions: &["delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "the fourth pod was the last; it is kept for its log",
            base: || failed_with(Exit::SourceUnavailable),
            change: |case| case.world.claim.attempts.recreations = 3,
            reason: Reason::RetriesExhausted,
            actions: &["verdict", "release pod"],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "the resource is gone: no other attempt",
            base: || failed_with(Exit::SourceUnavailable),
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::ResourceMissing,
            actions: &["release pod"],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "the resource is gone, and a retry would not have helped",
            base: || failed_with(Exit::HashMismatch),
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::HashMismatch,
            actions: &["release pod"],
            events: &["PopulatorFailed"],
        },
    ];
    check(rows);
}

#[test]
fn the_pause_is_that_of_the_failures_that_are_counted() {
    let mut case = failed_with(Exit::SourceUnavailable);
    case.world.claim.attempts = Attempts {
        recreations: 2,
        last_failure: Some(last_failure(POD, ago(0))),
    };
    assert_eq!(case.plan().requeue_after, Some(Duration::from_secs(20)));
    case.world.claim.attempts.last_failure = None;
    assert_eq!(case.plan().requeue_after, Some(Duration::from_secs(40)));
}

#[test]
fn a_failure_is_remembered_with_its_cause() {
    let plan = failed_with(Exit::SourceBusy).plan();
    let Action::RecordFailure { failure, .. } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    assert_eq!(failure.pod.as_str(), POD);
    assert_eq!(failure.at.0, now());
    let event = plan.actions[0].announcement().unwrap();
    assert_eq!(event.reason, "PopulatorRetrying");
    assert_eq!(
        event.message,
        "what happened (exit code 31); attempt 2 follows"
    );
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(10)));
}

/// The pod's failure was the last word, and is recorded.
fn refused() -> PlanCase {
    let mut case = failed_with(Exit::Credentials);
    let plan = case.plan();
    let Action::RecordFailure { failure, .. } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    assert_eq!(plan.actions[0].announcement(), None);
    case.world.claim.attempts.last_failure = Some(failure.clone());
    assert_eq!(words(&case.plan()), ["release pod"], "recorded once");
    case
}

/// Evictions, shutdowns and rejections by the kubelet have a budget of their own.
#[test]
fn what_the_cluster_does_to_a_pod_is_no_attempt() {
    let mut case = failed(137, "");
    case.pod().evicted = Some("Evicted: the node was low on memory".to_owned());
    case.world.claim.attempts.recreations = 3;
    let plan = case.plan();
    assert_eq!(words(&plan), ["record 3", "delete pod", "release pod"]);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(40)));
    let Action::RecordFailure { failure, .. } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    assert_eq!((failure.disruptions, &failure.verdict), (1, &None));

    // The next one waits longer, also across a restart.
    let mut next = provisioned();
    next.world.claim.attempts.last_failure = Some(LastFailure {
        disruptions: 4,
        ..last_failure("earlier", ago(10))
    });
    assert_eq!(next.plan().requeue_after, Some(Duration::from_secs(70)));

    case.world.claim.attempts.last_failure = Some(LastFailure {
        disruptions: case.settings.retry.most_disruptions,
        ..last_failure("earlier", ago(500))
    });
    let plan = case.plan();
    assert_eq!(plan.status.reason, Reason::RetriesExhausted);
    assert_eq!(words(&plan), ["verdict", "release pod"]);
}

#[test]
fn a_new_try_can_be_asked_for() {
    let again: &[&str] = &["forget", "delete pod", "release pod"];
    let rows: &[Row] = &[
        Row {
            name: "by correcting the resource",
            base: || failed_with(Exit::Credentials),
            change: |case| {
                case.populator().location = population::model::DiskLocation::Ovirt {
                    engine_url: "https://other.example.org".to_owned(),
                    secret: "engine".to_owned(),
                    disk: "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d".to_owned(),
                };
            },
            reason: Reason::Retrying,
            actions: again,
            events: &[],
        },
        Row {
            name: "by another network",
            base: || failed_with(Exit::SourceUnavailable),
            change: |case| {
                case.world.claim.attempts.recreations = 3;
                case.populator().network = Some(population::model::Network {
                    namespace: "nets".to_owned(),
                    name: "fast".to_owned(),
                });
            },
            reason: Reason::Retrying,
            actions: again,
            events: &[],
        },
        Row {
            name: "by another setting of the claim's mover",
            base: || failed_with(Exit::SourceBusy),
            change: |case| {
                case.world.claim.attempts.recreations = 3;
                case.claims(MoverFlag::LockedWait, "1h");
            },
            reason: Reason::Retrying,
            actions: again,
            events: &[],
        },
        Row {
            name: "not by one of the installation's",
            base: || failed_with(Exit::Credentials),
            change: |case| {
                let mover = &mut case.settings.mover;
                mover.set(MoverFlag::Verify, "full").unwrap();
            },
            reason: Reason::CredentialsRefused,
            actions: &["verdict", "release pod"],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "after its pod is gone, by another setting of the claim's mover",
            base: || {
                let mut case = refused();
                case.world.pod = None;
                case
            },
            change: |case| case.claims(MoverFlag::LockedWait, "1h"),
            reason: Reason::Retrying,
            actions: &["forget"],
            events: &[],
        },
        Row {
            name: "by the annotation",
            base: || failed_with(Exit::Credentials),
            change: |case| case.world.claim.retry = Some("2".to_owned()),
            reason: Reason::Retrying,
            actions: again,
            events: &[],
        },
        Row {
            name: "once for each value of the annotation",
            base: || failed_with(Exit::Credentials),
            change: |case| {
                case.world.claim.retry = Some("2".to_owned());
                case.pod().retry = Some("2".to_owned());
            },
            reason: Reason::CredentialsRefused,
            actions: &["verdict", "release pod"],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "not by taking the annotation away",
            base: || failed_with(Exit::Credentials),
            change: |case| case.pod().retry = Some("2".to_owned()),
            reason: Reason::CredentialsRefused,
            actions: &["verdict", "release pod"],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "not by deleting the pod, which a cleaner does as well",
            base: refused,
            change: |case| case.world.pod = None,
            reason: Reason::CredentialsRefused,
            actions: &[],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "nor by deleting the temporary claim with it",
            base: refused,
            change: |case| {
                case.world.pod = None;
                case.world.temporary = None;
            },
            reason: Reason::CredentialsRefused,
            actions: &[],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "by the annotation, when the pod is gone",
            base: refused,
            change: |case| {
                case.world.pod = None;
                case.world.claim.retry = Some("2".to_owned());
            },
            reason: Reason::Retrying,
            actions: &["forget"],
            events: &[],
        },
        Row {
            name: "by correcting the resource, when the pod is gone",
            base: refused,
            change: |case| {
                case.world.pod = None;
                case.populator().location = population::model::DiskLocation::Ovirt {
                    engine_url: "https://engine.example.org".to_owned(),
                    secret: "the-right-one".to_owned(),
                    disk: "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d".to_owned(),
                };
            },
            reason: Reason::Retrying,
            actions: &["forget"],
            events: &[],
        },
        Row {
            name: "by converting the image otherwise",
            base: || {
                let mut case = failed_with(Exit::SourceUnusable);
                case.pod().arguments.push("--verbatim=false".to_owned());
                case
            },
            change: |case| {
                case.world.claim.verbatim = true;
                let network = case.populator().network.take();
                let image = population::model::DiskLocation::Openstack {
                    identity_url: "https://keystone.example.org".to_owned(),
                    secret: "cloud".to_owned(),
                    disk: population::model::OpenstackDisk::Image(
                        "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d".to_owned(),
                    ),
                };
                case.populator().location = image;
                case.populator().network = network;
                case.world.claim.reference.kind = "OpenstackVolumePopulator".to_owned();
                case.pod().arguments.extend(
                    [
                        "--secret-name=cloud",
                        "--image-id=9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d",
                        "--endpoint=https://keystone.example.org",
                    ]
                    .map(str::to_owned),
                );
                case.pod().arguments.retain(|argument| {
                    !argument.starts_with("--disk-id") && argument != "--secret-name=engine"
                });
            },
            reason: Reason::Retrying,
            actions: again,
            events: &[],
        },
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
            plan.requeue_after,
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
