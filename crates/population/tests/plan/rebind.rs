use contract::{Exit, Termination};
use population::{
    model::{ClaimPhase, ClaimReference, Lookup, Origin, VolumePhase},
    plan::Action,
};
use populator_api::Reason;

use crate::support::{
    Case, DISK, Row, check, nothing, now, rebound, replaced, running, succeeded, words,
};

#[test]
fn only_a_volume_that_is_surely_ours_is_given_away() {
    let foreign: fn(&mut Case) = |case| {
        case.volume().claim = Some(ClaimReference {
            namespace: "other".to_owned(),
            name: "thief".to_owned(),
            uid: "thief".to_owned(),
        });
    };
    let wait: &[&str] = &[];
    let release: &[&str] = &["release pod 90d0"];
    let failed: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        (
            "all is well",
            succeeded,
            nothing,
            Reason::Rebinding,
            &["rebind pv-1@7 from 7e30"],
            &[],
        ),
        (
            "never before the pod is done",
            running,
            nothing,
            Reason::Copying,
            wait,
            &[],
        ),
        (
            "the resource is gone: finished all the same",
            succeeded,
            |case| case.world.source = Lookup::Missing,
            Reason::Rebinding,
            &["rebind pv-1@7 from 7e30"],
            &[],
        ),
        (
            "the pod that is done is being deleted: what it wrote stays",
            succeeded,
            |case| case.pod().terminating = Some(now()),
            Reason::Rebinding,
            &["rebind pv-1@7 from 7e30"],
            &[],
        ),
        (
            "the volume is not seen yet",
            succeeded,
            |case| case.world.volume = None,
            Reason::Rebinding,
            wait,
            &[],
        ),
        (
            "the volume is not bound yet",
            succeeded,
            |case| case.volume().phase = VolumePhase::Other,
            Reason::Rebinding,
            wait,
            &[],
        ),
        (
            "the temporary claim is not seen as bound yet",
            succeeded,
            |case| case.temporary().phase = ClaimPhase::Pending,
            Reason::Rebinding,
            wait,
            &[],
        ),
        (
            "the volume belongs to somebody else",
            succeeded,
            foreign,
            Reason::BoundElsewhere,
            release,
            failed,
        ),
        (
            "the volume belongs to nobody",
            succeeded,
            |case| case.volume().claim = None,
            Reason::BoundElsewhere,
            release,
            failed,
        ),
        (
            "a claim of the same name, but of another life",
            succeeded,
            |case| case.volume().claim.as_mut().unwrap().uid = "earlier".to_owned(),
            Reason::BoundElsewhere,
            release,
            failed,
        ),
        (
            "the resource names another disk",
            succeeded,
            replaced,
            Reason::Clearing,
            &["delete pod 90d0", "release pod 90d0"],
            &["PopulatorSourceChanged"],
        ),
        (
            "the resource names another disk, and the pod is being deleted",
            succeeded,
            |case| {
                replaced(case);
                case.pod().terminating = Some(now());
            },
            Reason::Clearing,
            &["release pod 90d0"],
            &[],
        ),
        (
            "the resource that names another disk is on its way out",
            succeeded,
            |case| {
                replaced(case);
                case.source().terminating = true;
            },
            Reason::Rebinding,
            &["rebind pv-1@7 from 7e30"],
            &[],
        ),
        (
            "the resource writes the disk's name in capitals",
            succeeded,
            |case| {
                let Origin::Ovirt { disk, .. } = &mut case.source().origin else {
                    panic!("an oVirt disk");
                };
                disk.make_ascii_uppercase();
            },
            Reason::Rebinding,
            &["rebind pv-1@7 from 7e30"],
            &[],
        ),
        (
            "everything but the disk of the resource has changed",
            succeeded,
            |case| {
                let source = case.source();
                source.uid = "another".to_owned();
                source.origin = Origin::Ovirt {
                    engine_url: "https://other.example.org".to_owned(),
                    secret: "other".to_owned(),
                    disk: DISK.to_owned(),
                };
            },
            Reason::Rebinding,
            &["rebind pv-1@7 from 7e30"],
            &[],
        ),
        (
            "the pod does not say which disk it copied",
            succeeded,
            |case| case.pod().arguments.clear(),
            Reason::Clearing,
            &["delete pod 90d0", "release pod 90d0"],
            &["PopulatorSourceChanged"],
        ),
        (
            "the volume is being deleted",
            succeeded,
            |case| case.volume().terminating = true,
            Reason::VolumeLost,
            release,
            failed,
        ),
        (
            "the claim is being deleted",
            succeeded,
            |case| case.world.claim.terminating = true,
            Reason::Terminating,
            &["delete claim 7e30", "release pod 90d0"],
            &[],
        ),
        (
            "rebound: Kubernetes does the rest",
            rebound,
            nothing,
            Reason::Rebinding,
            release,
            &[],
        ),
        (
            "rebound, and the temporary claim is not lost yet",
            rebound,
            |case| case.temporary().phase = ClaimPhase::Bound,
            Reason::Rebinding,
            release,
            &[],
        ),
        (
            "rebound, and Forklift's clean-up takes the temporary claim",
            rebound,
            |case| case.temporary().terminating = true,
            Reason::Rebinding,
            release,
            &[],
        ),
        (
            "rebound, and Forklift's clean-up took the temporary claim",
            rebound,
            |case| case.world.temporary = None,
            Reason::Rebinding,
            release,
            &[],
        ),
        (
            "rebound, and the resource is gone",
            rebound,
            |case| case.world.source = Lookup::Missing,
            Reason::Rebinding,
            release,
            &[],
        ),
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
fn a_volume_without_annotations_gets_a_place_for_one() {
    let mut case = succeeded();
    case.volume().is_annotated = false;
    let patch = population::objects::patch::rebind(
        case.world.volume.as_ref().unwrap(),
        "from",
        &case.world.claim,
        None,
    );
    assert_eq!(patch[3]["path"], "/metadata/annotations");
    assert_eq!(patch[4]["value"], "vms/disk");
}

#[test]
fn only_the_movers_word_makes_an_end_with_0_a_success() {
    let told = |change: fn(&mut Termination)| {
        let mut told = Termination::new(Exit::Success, "copied");
        told.source_bytes = Some(4096);
        told.copied_bytes = 4096;
        change(&mut told);
        serde_json::to_string(&told).unwrap()
    };
    let retried: &[&str] = &["record 1", "delete pod 90d0", "release pod 90d0"];
    let rebound: &[&str] = &["rebind pv-1@7 from 7e30"];
    for (message, expected) in [
        (told(|_| ()), rebound),
        (String::new(), retried),
        ("hello world".to_owned(), retried),
        (told(|told| told.version = 99), retried),
        (told(|told| told.exit = Exit::TargetIo), retried),
        (told(|told| told.copied_bytes = 4095), retried),
        (told(|told| told.source_bytes = None), retried),
        // What `--check` says, and an image without data.
        (
            told(|told| (told.copied_bytes, told.source_bytes) = (0, Some(0))),
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

    // Forklift's populators say nothing.
    let mut case = succeeded();
    let pod = case.pod();
    pod.temporary_claim = None;
    pod.ended.as_mut().unwrap().message.clear();
    assert_eq!(words(&case.plan()), rebound);
}
