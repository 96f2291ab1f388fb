use contract::{Exit, Termination};
use population::{
    model::{ClaimPhase, ClaimReference, DiskLocation, Lookup, VolumePhase},
    plan::Action,
};
use populator_api::Reason;

use crate::support::{
    DISK, PlanCase, Row, check, nothing, now, rebound, replaced, running, succeeded, words,
};

#[test]
fn only_a_volume_that_is_surely_ours_is_given_away() {
    let foreign: fn(&mut PlanCase) = |case| {
        case.volume().claim = Some(ClaimReference {
            namespace: "other".to_owned(),
            name: "thief".to_owned(),
            uid: "thief".into(),
        });
    };
    let wait: &[&str] = &[];
    let release: &[&str] = &["release pod"];
    let failed: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        Row {
            name: "all is well",
            base: succeeded,
            change: nothing,
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "never before the pod is done",
            base: running,
            change: nothing,
            reason: Reason::Copying,
            actions: wait,
            events: &[],
        },
        Row {
            name: "the resource is gone: finished all the same",
            base: succeeded,
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "the pod that is done is being deleted: what it wrote stays",
            base: succeeded,
            change: |case| case.pod().terminating = Some(now()),
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "the volume is not seen yet",
            base: succeeded,
            change: |case| case.world.volume = None,
            reason: Reason::Rebinding,
            actions: wait,
            events: &[],
        },
        Row {
            name: "the volume is not bound yet",
            base: succeeded,
            change: |case| case.volume().phase = VolumePhase::Other,
            reason: Reason::Rebinding,
            actions: wait,
            events: &[],
        },
        Row {
            name: "the temporary claim is not seen as bound yet",
            base: succeeded,
            change: |case| case.temporary().phase = ClaimPhase::Pending,
            reason: Reason::Rebinding,
            actions: wait,
            events: &[],
        },
        Row {
            name: "the volume belongs to another claim",
            base: succeeded,
            change: foreign,
            reason: Reason::BoundElsewhere,
            actions: release,
            events: failed,
        },
        Row {
            name: "the volume belongs to no claim",
            base: succeeded,
            change: |case| case.volume().claim = None,
            reason: Reason::BoundElsewhere,
            actions: release,
            events: failed,
        },
        Row {
            name: "a claim of the same name, but of another life",
            base: succeeded,
            change: |case| case.volume().claim.as_mut().unwrap().uid = "earlier".into(),
            reason: Reason::BoundElsewhere,
            actions: release,
            events: failed,
        },
        Row {
            name: "the resource names another disk",
            base: succeeded,
            change: replaced,
            reason: Reason::Clearing,
            actions: &["delete pod", "release pod"],
            events: &["PopulatorSourceChanged"],
        },
        Row {
            name: "the resource names another disk, and the pod is being deleted",
            base: succeeded,
            change: |case| {
                replaced(case);
                case.pod().terminating = Some(now());
            },
            reason: Reason::Clearing,
            actions: &["release pod"],
            events: &[],
        },
        Row {
            name: "the resource that names another disk terminates",
            base: succeeded,
            change: |case| {
                replaced(case);
                case.populator().terminating = true;
            },
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "the resource writes the disk's name in capitals",
            base: succeeded,
            change: |case| {
                let DiskLocation::Ovirt { disk, .. } = &mut case.populator().location else {
                    panic!("an oVirt disk");
                };
                disk.make_ascii_uppercase();
            },
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "everything but the disk of the resource has changed",
            base: succeeded,
            change: |case| {
                let populator = case.populator();
                populator.uid = "another".into();
                populator.location = DiskLocation::Ovirt {
                    engine_url: "https://other.example.org".to_owned(),
                    secret: "other".to_owned(),
                    disk: DISK.to_owned(),
                };
            },
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "the pod does not name the disk that it copied",
            base: succeeded,
            change: |case| case.pod().arguments.clear(),
            reason: Reason::Clearing,
            actions: &["delete pod", "release pod"],
            events: &["PopulatorSourceChanged"],
        },
        Row {
            name: "the volume is being deleted",
            base: succeeded,
            change: |case| case.volume().terminating = true,
            reason: Reason::VolumeLost,
            actions: release,
            events: failed,
        },
        Row {
            name: "the claim is being deleted",
            base: succeeded,
            change: |case| case.world.claim.terminating = true,
            reason: Reason::Terminating,
            actions: &["delete temporary claim", "release pod"],
            events: &[],
        },
        Row {
            name: "rebound: Kubernetes does the rest",
            base: rebound,
            change: nothing,
            reason: Reason::Rebinding,
            actions: release,
            events: &[],
        },
        Row {
            name: "rebound, and the temporary claim is not lost yet",
            base: rebound,
            change: |case| case.temporary().phase = ClaimPhase::Bound,
            reason: Reason::Rebinding,
            actions: release,
            events: &[],
        },
        Row {
            name: "rebound, and Forklift's clean-up takes the temporary claim",
            base: rebound,
            change: |case| case.temporary().terminating = Some(case.now),
            reason: Reason::Rebinding,
            actions: release,
            events: &[],
        },
        Row {
            name: "rebound, and Forklift's clean-up took the temporary claim",
            base: rebound,
            change: |case| case.world.temporary = None,
            reason: Reason::Rebinding,
            actions: release,
            events: &[],
        },
        Row {
            name: "rebound, and the resource is gone",
            base: rebound,
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::Rebinding,
            actions: release,
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn the_patch_names_what_it_was_decided_on() {
    let case = succeeded();
    let plan = case.plan();
    let Action::RebindVolume { volume, from, disk } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    let patch =
        population::objects::patch::rebind(volume, from, &case.world.claim, disk.as_deref());
    let expected = include_str!("../golden/rebind.json");
    assert_eq!(
        patch,
        serde_json::from_str::<serde_json::Value>(expected).unwrap(),
        "{patch:#}"
    );
}

#[test]
fn a_volume_without_annotations_gets_a_map_for_them() {
    let mut case = succeeded();
    case.volume().is_annotated = false;
    let patch = population::objects::patch::rebind(
        case.world.volume.as_ref().unwrap(),
        &"from".into(),
        &case.world.claim,
        None,
    );
    assert_eq!(patch[3]["path"], "/metadata/annotations");
    assert_eq!(patch[4]["value"], "vms/disk");
}

#[test]
fn only_the_movers_word_makes_an_end_with_0_a_success() {
    let report = |change: fn(&mut Termination)| {
        let mut report = Termination::new(Exit::Success, "copied");
        report.source_bytes = Some(4096);
        report.copied_bytes = 4096;
        change(&mut report);
        serde_json::to_string(&report).unwrap()
    };
    let retried: &[&str] = &["record 1", "delete pod", "release pod"];
    let rebound: &[&str] = &["rebind pv-1@7"];
    for (message, expected) in [
        (report(|_| ()), rebound),
        (String::new(), retried),
        ("hello world".to_owned(), retried),
        (report(|report| report.version = 99), retried),
        (report(|report| report.exit = Exit::TargetIo), retried),
        (report(|report| report.copied_bytes = 4095), retried),
        (report(|report| report.source_bytes = None), retried),
        // The report of `--check`, and of an image without data.
        (
            report(|report| (report.copied_bytes, report.source_bytes) = (0, Some(0))),
            retried,
        ),
    ] {
        let mut case = succeeded();
        case.pod().ended.as_mut().unwrap().message = message.clone();
        let plan = case.plan();
        assert_eq!(words(&plan), expected, "{message}");
        if expected == retried {
            let event = plan.actions[0].announcement().unwrap();
            assert!(event.message.contains("did not report"), "{event:?}");
        }
    }

    // Forklift's populators report nothing.
    let mut case = succeeded();
    let pod = case.pod();
    pod.temporary_claim = None;
    pod.ended.as_mut().unwrap().message.clear();
    assert_eq!(words(&case.plan()), rebound);
}

/// Who may write claims must not learn the names of other tenants' claims by naming their volumes.
#[test]
fn a_claim_of_another_namespace_is_not_named() {
    let told = |namespace: &str| {
        let mut case = succeeded();
        case.volume().claim = Some(ClaimReference {
            namespace: namespace.to_owned(),
            name: "payroll".to_owned(),
            uid: "another".into(),
        });
        let plan = case.plan();
        let events = plan.events.into_iter().map(|event| event.message);
        format!("{} {}", plan.status.message, events.collect::<String>())
    };
    let (own, foreign) = (told("vms"), told("tenants"));
    assert!(own.contains("the claim payroll"), "{own}");
    assert!(
        foreign.contains("a claim of another namespace"),
        "{foreign}"
    );
    assert!(
        !foreign.contains("payroll") && !foreign.contains("tenants"),
        "{foreign}"
    );
}
