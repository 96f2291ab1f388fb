use populator_api::Reason;
use populator_controller::model::{ClaimPhase, Lookup, VolumePhase};

use crate::support::{
    Case, Row, begun, bound, check, done, failed, fresh, nothing, now, provisioned, rebound,
    running, succeeded,
};

#[test]
fn a_claim_that_is_being_deleted_takes_everything_with_it() {
    let terminating: fn(&mut Case) = |case| case.world.claim.terminating = true;
    let rows: &[Row] = &[
        (
            "fresh: nothing is made",
            fresh,
            terminating,
            Reason::Terminating,
            &[],
            &[],
        ),
        (
            "begun",
            begun,
            terminating,
            Reason::Terminating,
            &["delete claim 7e30"],
            &[],
        ),
        (
            "provisioned: no pod is made",
            provisioned,
            terminating,
            Reason::Terminating,
            &["delete claim 7e30"],
            &[],
        ),
        (
            "mid-copy",
            running,
            terminating,
            Reason::Terminating,
            &["delete pod 90d0", "delete claim 7e30"],
            &[],
        ),
        (
            "mid-copy, and the resource is gone",
            running,
            |case| {
                case.world.claim.terminating = true;
                case.world.source = Lookup::Missing;
            },
            Reason::Terminating,
            &["delete pod 90d0", "delete claim 7e30"],
            &[],
        ),
        (
            "what is on its way out is left alone",
            running,
            |case| {
                case.world.claim.terminating = true;
                case.temporary().terminating = true;
                case.pod().terminating = Some(now());
            },
            Reason::Terminating,
            &[],
            &[],
        ),
        (
            "objects of somebody else are left alone",
            running,
            |case| {
                case.world.claim.terminating = true;
                case.temporary().owners.clear();
                case.pod().owners.clear();
            },
            Reason::Terminating,
            &[],
            &[],
        ),
        (
            "a failed pod is not made anew",
            || failed(30, ""),
            terminating,
            Reason::Terminating,
            &["delete claim 7e30"],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn the_temporary_claim_goes_when_the_target_is_bound_and_it_is_lost() {
    let rows: &[Row] = &[
        (
            "both",
            bound,
            nothing,
            Reason::Populated,
            &["finish claim 7e30"],
            &[],
        ),
        (
            "not lost yet: its deletion would release the volume",
            bound,
            |case| case.temporary().phase = ClaimPhase::Bound,
            Reason::Populated,
            &[],
            &[],
        ),
        (
            "named, not bound yet",
            bound,
            |case| case.world.claim.phase = ClaimPhase::Pending,
            Reason::Rebinding,
            &[],
            &[],
        ),
        (
            "it stays as long as its pod",
            bound,
            |case| case.temporary().terminating = true,
            Reason::Populated,
            &[],
            &[],
        ),
        (
            "seen as it was before it had the volume",
            bound,
            |case| {
                case.temporary().phase = ClaimPhase::Pending;
                case.temporary().volume = None;
            },
            Reason::Populated,
            &[],
            &[],
        ),
        (
            "the resource is gone: cleaned up all the same",
            bound,
            |case| case.world.source = Lookup::Missing,
            Reason::Populated,
            &["finish claim 7e30"],
            &[],
        ),
        (
            "no image for the kind any more: cleaned up all the same",
            bound,
            |case| case.settings.images.clear(),
            Reason::Populated,
            &["finish claim 7e30"],
            &[],
        ),
        (
            "all done; the pod is kept for its log",
            done,
            nothing,
            Reason::Populated,
            &[],
            &[],
        ),
        (
            "done, and everything else is gone",
            done,
            |case| {
                case.world.pod = None;
                case.world.source = Lookup::Missing;
                case.world.class = Lookup::Missing;
            },
            Reason::Populated,
            &[],
            &[],
        ),
        (
            "done, and the volume was taken away later",
            done,
            |case| {
                case.world.claim.phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            Reason::VolumeLost,
            &[],
            &["PopulatorFailed"],
        ),
        (
            "rebound, and Forklift's clean-up took the temporary claim",
            rebound,
            |case| {
                case.world.temporary = None;
                case.world.claim.volume = Some("pv-1".to_owned());
            },
            Reason::Rebinding,
            &[],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn a_second_volume_for_a_claim_that_has_its_own_is_dropped() {
    let rows: &[Row] = &[(
        "the temporary claim was torn away after the rebind, and made anew",
        bound,
        |case| case.temporary().volume = Some("another".to_owned()),
        Reason::Populated,
        &["delete pod 90d0", "delete claim 7e30"],
        &[],
    )];
    check(rows);
}

#[test]
fn a_target_that_was_bound_by_somebody_else() {
    let elsewhere: fn(&mut Case) = |case| {
        case.world.claim.phase = ClaimPhase::Bound;
        case.world.claim.volume = Some("other".to_owned());
    };
    let failed: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        (
            "while it was filled",
            running,
            elsewhere,
            Reason::BoundElsewhere,
            &["delete pod 90d0", "delete claim 7e30"],
            failed,
        ),
        (
            "after it was filled",
            succeeded,
            elsewhere,
            Reason::BoundElsewhere,
            &["delete pod 90d0", "delete claim 7e30"],
            failed,
        ),
        (
            "before it had a volume",
            begun,
            elsewhere,
            Reason::BoundElsewhere,
            &["delete claim 7e30"],
            failed,
        ),
        (
            "before anything was made",
            || {
                let mut case = provisioned();
                case.world.temporary = None;
                case
            },
            |case| {
                case.world.claim.phase = ClaimPhase::Bound;
                case.world.claim.volume = Some("pv-1".to_owned());
                case.volume().phase = VolumePhase::Bound;
            },
            Reason::BoundElsewhere,
            &[],
            &["PopulatorRefused"],
        ),
    ];
    check(rows);
}
