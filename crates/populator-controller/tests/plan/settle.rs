use populator_api::{Reason, names};
use populator_controller::model::{ClaimPhase, ClaimReference, Lookup, Volume};

use crate::support::{
    CLAIM, Case, Row, ago, begun, bound, check, done, failed, fresh, nothing, now, provisioned,
    rebound, replaced, running, succeeded,
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
            &["delete pod 90d0", "delete claim 7e30", "release pod 90d0"],
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
            &["delete pod 90d0", "delete claim 7e30", "release pod 90d0"],
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
            &["release pod 90d0"],
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
            &["delete claim 7e30", "release pod 90d0"],
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
            &["release pod 90d0"],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn a_second_volume_for_a_claim_that_has_its_own_is_dropped() {
    let rows: &[Row] = &[(
        "the temporary claim was torn away after the rebind, and created again",
        bound,
        |case| case.temporary().volume = Some("another".to_owned()),
        Reason::Populated,
        &["delete pod 90d0", "delete claim 7e30"],
        &[],
    )];
    check(rows);
}

/// The claim got another volume than the one that is filled for it.
fn got_another(case: &mut Case) {
    case.world.claim.phase = ClaimPhase::Bound;
    case.world.claim.volume = Some("other".to_owned());
    let volume = case.volume();
    "other".clone_into(&mut volume.name);
    belongs_to_the_claim(volume);
}

fn belongs_to_the_claim(volume: &mut Volume) {
    volume.claim = Some(ClaimReference {
        namespace: "vms".to_owned(),
        name: "root".to_owned(),
        uid: CLAIM.to_owned(),
    });
}

#[test]
fn a_target_that_was_bound_by_another_hand() {
    let failed: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        (
            "while it was filled",
            running,
            got_another,
            Reason::BoundElsewhere,
            &["delete pod 90d0", "delete claim 7e30", "release pod 90d0"],
            failed,
        ),
        (
            "after it was filled",
            succeeded,
            got_another,
            Reason::BoundElsewhere,
            &["delete pod 90d0", "delete claim 7e30", "release pod 90d0"],
            failed,
        ),
        (
            "before it had a volume",
            || {
                let mut case = begun();
                case.world.volume = provisioned().world.volume;
                case
            },
            got_another,
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
            got_another,
            Reason::BoundElsewhere,
            &[],
            &["PopulatorRefused"],
        ),
    ];
    check(rows);
}

/// The claim names its volume before it is bound: by its user's hand, or by that of Kubernetes, which sets the phase next.
#[test]
fn a_volume_that_the_user_asks_for_is_told_from_one_that_kubernetes_has_found() {
    let named: fn(&mut Case) = |case| {
        got_another(case);
        case.world.claim.phase = ClaimPhase::Pending;
    };
    let found: fn(&mut Case) = |case| {
        got_another(case);
        case.world.claim.phase = ClaimPhase::Pending;
        case.world.claim.bind_completed = true;
    };
    let none: fn() -> Case = || {
        let mut case = provisioned();
        case.world.temporary = None;
        case
    };
    let rows: &[Row] = &[
        (
            "the user",
            none,
            named,
            Reason::ClaimUnsupported,
            &[],
            &["PopulatorRefused"],
        ),
        ("Kubernetes", none, found, Reason::Rebinding, &[], &[]),
    ];
    check(rows);
}

/// Whose disk a volume holds is proven by what was written with the rebind, and by nothing less.
#[test]
fn a_volume_that_was_filled_for_another_claim_is_not_this_ones() {
    let refused: &[&str] = &["PopulatorRefused"];
    let rows: &[Row] = &[
        (
            "a volume of Retain, recycled by its administrator",
            done,
            |case| case.volume().populated_for = Some("an-earlier-claim".to_owned()),
            Reason::BoundElsewhere,
            &[],
            refused,
        ),
        (
            "one that Forklift's controller filled from another resource",
            done,
            |case| {
                case.volume().populated_for = None;
                case.volume().populated_from = Some("vms/another".to_owned());
            },
            Reason::BoundElsewhere,
            &[],
            refused,
        ),
        (
            "one that Forklift's controller filled from this resource, for an earlier claim",
            done,
            |case| {
                case.volume().populated_for = None;
                case.volume().created = ago(61);
            },
            Reason::BoundElsewhere,
            &[],
            refused,
        ),
        (
            "the same, younger than this claim, which Kubernetes chose for it",
            done,
            |case| {
                case.volume().populated_for = None;
                case.volume().was_chosen = true;
            },
            Reason::BoundElsewhere,
            &[],
            refused,
        ),
        (
            "the same, provisioned for a claim by itself",
            done,
            |case| {
                case.volume().populated_for = None;
                case.volume().provisioned_for = Some("root".to_owned());
            },
            Reason::BoundElsewhere,
            &[],
            refused,
        ),
        (
            "one that Forklift's controller filled for this claim",
            done,
            |case| {
                case.volume().populated_for = None;
                case.volume().provisioned_for = Some(names::temporary_claim(CLAIM));
            },
            Reason::Populated,
            &[],
            &[],
        ),
        (
            "one that belongs to another claim, whatever it holds",
            done,
            |case| case.volume().claim.as_mut().unwrap().uid = "thief".to_owned(),
            Reason::Rebinding,
            &[],
            &[],
        ),
        (
            "one that is not seen",
            done,
            |case| case.world.volume = None,
            Reason::Rebinding,
            &[],
            &[],
        ),
    ];
    check(rows);
}

/// Another controller, or an administrator, gives the claim its volume while the pod still writes.
#[test]
fn a_volume_that_is_moved_before_it_is_filled_is_no_success() {
    let moved: fn(&mut Case) = |case| {
        case.world.claim.phase = ClaimPhase::Bound;
        case.world.claim.volume = Some("pv-1".to_owned());
        case.temporary().phase = ClaimPhase::Lost;
        belongs_to_the_claim(case.volume());
    };
    let drop: &[&str] = &["delete pod 90d0", "delete claim 7e30", "release pod 90d0"];
    let failed: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        (
            "the pod runs",
            running,
            moved,
            Reason::BoundElsewhere,
            drop,
            failed,
        ),
        (
            "in Forklift's way",
            running,
            |case| {
                case.world.claim.phase = ClaimPhase::Bound;
                case.world.claim.volume = Some("pv-1".to_owned());
                belongs_to_the_claim(case.volume());
                case.volume().populated_from = Some("vms/disk".to_owned());
            },
            Reason::BoundElsewhere,
            drop,
            failed,
        ),
        (
            "the pod succeeded, but whoever moved the volume cannot have known",
            succeeded,
            moved,
            Reason::BoundElsewhere,
            drop,
            failed,
        ),
        (
            "in Forklift's way, after the pod succeeded: that is Forklift's controller",
            bound,
            |case| case.volume().populated_for = None,
            Reason::Populated,
            &["finish claim 7e30"],
            &[],
        ),
        (
            "the volume is seen as it was before: what it holds is not known yet",
            running,
            |case| {
                case.world.claim.phase = ClaimPhase::Bound;
                case.world.claim.volume = Some("pv-1".to_owned());
            },
            Reason::Rebinding,
            &["release pod 90d0"],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn a_resource_that_names_another_disk_is_not_what_the_claim_holds() {
    let rows: &[Row] = &[
        (
            "after all is done: nothing happens to the claim",
            done,
            replaced,
            Reason::SourceChanged,
            &[],
            &[],
        ),
        (
            "before the work is cleared up",
            bound,
            replaced,
            Reason::SourceChanged,
            &["finish claim 7e30"],
            &["PopulatorSourceChanged"],
        ),
        (
            "it is on its way out",
            done,
            |case| {
                replaced(case);
                case.source().terminating = true;
            },
            Reason::Populated,
            &[],
            &[],
        ),
        (
            "a volume that does not say which disk it holds",
            done,
            |case| {
                replaced(case);
                case.volume().populated_disk = None;
            },
            Reason::Populated,
            &[],
            &[],
        ),
    ];
    check(rows);
}
