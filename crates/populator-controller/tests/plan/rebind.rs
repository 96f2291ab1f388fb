use populator_api::Reason;
use populator_controller::{
    model::{ClaimPhase, ClaimReference, Lookup, VolumePhase},
    plan::Action,
};

use crate::support::{Case, Row, check, nothing, now, rebound, running, succeeded};

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
            wait,
            failed,
        ),
        (
            "the volume belongs to nobody",
            succeeded,
            |case| case.volume().claim = None,
            Reason::BoundElsewhere,
            wait,
            failed,
        ),
        (
            "a claim of the same name, but of another life",
            succeeded,
            |case| case.volume().claim.as_mut().unwrap().uid = "earlier".to_owned(),
            Reason::BoundElsewhere,
            wait,
            failed,
        ),
        (
            "the volume is being deleted",
            succeeded,
            |case| case.volume().terminating = true,
            Reason::VolumeLost,
            wait,
            failed,
        ),
        (
            "the claim is being deleted",
            succeeded,
            |case| case.world.claim.terminating = true,
            Reason::Terminating,
            &["delete claim 7e30"],
            &[],
        ),
        (
            "rebound: Kubernetes does the rest",
            rebound,
            nothing,
            Reason::Rebinding,
            wait,
            &[],
        ),
        (
            "rebound, and the temporary claim is not lost yet",
            rebound,
            |case| case.temporary().phase = ClaimPhase::Bound,
            Reason::Rebinding,
            wait,
            &[],
        ),
        (
            "rebound, and Forklift's clean-up takes the temporary claim",
            rebound,
            |case| case.temporary().terminating = true,
            Reason::Rebinding,
            wait,
            &[],
        ),
        (
            "rebound, and Forklift's clean-up took the temporary claim",
            rebound,
            |case| case.world.temporary = None,
            Reason::Rebinding,
            wait,
            &[],
        ),
        (
            "rebound, and the resource is gone",
            rebound,
            |case| case.world.source = Lookup::Missing,
            Reason::Rebinding,
            wait,
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn the_patch_names_what_it_was_decided_on() {
    let case = succeeded();
    let plan = case.plan();
    let Action::RebindVolume { volume, from } = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    let patch = populator_controller::objects::patch::rebind(volume, from, &case.world.claim);
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
    let patch = populator_controller::objects::patch::rebind(
        case.world.volume.as_ref().unwrap(),
        "from",
        &case.world.claim,
    );
    assert_eq!(patch[3]["path"], "/metadata/annotations");
    assert_eq!(patch[4]["value"], "vms/disk");
}
