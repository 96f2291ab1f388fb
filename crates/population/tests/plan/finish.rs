use population::model::{ClaimPhase, ClaimReference, Lookup, Volume};
use populator_api::{Reason, names};

use crate::support::{
    CLAIM, PlanCase, Row, ago, begun, bound, check, done, failed, fresh, nothing, now, provisioned,
    rebound, replaced, running, succeeded,
};

#[test]
fn a_claim_that_is_being_deleted_takes_everything_with_it() {
    let terminating: fn(&mut PlanCase) = |case| case.world.claim.terminating = true;
    let rows: &[Row] = &[
        Row {
            name: "fresh: nothing is created",
            base: fresh,
            change: terminating,
            reason: Reason::Terminating,
            actions: &[],
            events: &[],
        },
        Row {
            name: "begun",
            base: begun,
            change: terminating,
            reason: Reason::Terminating,
            actions: &["delete temporary claim"],
            events: &[],
        },
        Row {
            name: "provisioned: no pod is created",
            base: provisioned,
            change: terminating,
            reason: Reason::Terminating,
            actions: &["delete temporary claim"],
            events: &[],
        },
        Row {
            name: "mid-copy",
            base: running,
            change: terminating,
            reason: Reason::Terminating,
            actions: &["delete pod", "delete temporary claim", "release pod"],
            events: &[],
        },
        Row {
            name: "mid-copy, and the resource is gone",
            base: running,
            change: |case| {
                case.world.claim.terminating = true;
                case.world.populator = Lookup::Missing;
            },
            reason: Reason::Terminating,
            actions: &["delete pod", "delete temporary claim", "release pod"],
            events: &[],
        },
        Row {
            name: "what terminates is left alone",
            base: running,
            change: |case| {
                case.world.claim.terminating = true;
                case.temporary().terminating = Some(now());
                case.pod().terminating = Some(now());
            },
            reason: Reason::Terminating,
            actions: &["release pod"],
            events: &[],
        },
        Row {
            name: "objects of another owner are left alone",
            base: running,
            change: |case| {
                case.world.claim.terminating = true;
                case.temporary().owners.clear();
                case.pod().owners.clear();
            },
            reason: Reason::Terminating,
            actions: &[],
            events: &[],
        },
        Row {
            name: "a failed pod is not recreated",
            base: || failed(30, ""),
            change: terminating,
            reason: Reason::Terminating,
            actions: &["delete temporary claim", "release pod"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn the_temporary_claim_is_deleted_when_the_target_is_bound_and_it_is_lost() {
    let rows: &[Row] = &[
        Row {
            name: "both",
            base: bound,
            change: nothing,
            reason: Reason::Populated,
            actions: &["finish temporary claim"],
            events: &[],
        },
        Row {
            name: "not lost yet: its deletion would release the volume",
            base: bound,
            change: |case| case.temporary().phase = ClaimPhase::Bound,
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "named, not bound yet",
            base: bound,
            change: |case| case.world.claim.phase = ClaimPhase::Pending,
            reason: Reason::Rebinding,
            actions: &[],
            events: &[],
        },
        Row {
            name: "it stays as long as its pod",
            base: bound,
            change: |case| case.temporary().terminating = Some(now()),
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "seen as it was before it had the volume",
            base: bound,
            change: |case| {
                case.temporary().phase = ClaimPhase::Pending;
                case.temporary().volume = None;
            },
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the resource is gone: cleaned up all the same",
            base: bound,
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::Populated,
            actions: &["finish temporary claim"],
            events: &[],
        },
        Row {
            name: "no image for the kind any more: cleaned up all the same",
            base: bound,
            change: |case| case.settings.images.clear(),
            reason: Reason::Populated,
            actions: &["finish temporary claim"],
            events: &[],
        },
        Row {
            name: "all done; the pod is kept for its log",
            base: done,
            change: nothing,
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "done, and everything else is gone",
            base: done,
            change: |case| {
                case.world.pod = None;
                case.world.populator = Lookup::Missing;
                case.world.class = Lookup::Missing;
            },
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "done, and the volume was taken away later",
            base: done,
            change: |case| {
                case.world.claim.phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            reason: Reason::VolumeLost,
            actions: &[],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "rebound, and Forklift's clean-up took the temporary claim",
            base: rebound,
            change: |case| {
                case.world.temporary = None;
                case.world.claim.volume = Some("pv-1".to_owned());
            },
            reason: Reason::Rebinding,
            actions: &["release pod"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn a_second_volume_for_a_claim_that_has_its_own_is_dropped() {
    let rows: &[Row] = &[Row {
        name: "the temporary claim was torn away after the rebind, and created again",
        base: bound,
        change: |case| case.temporary().volume = Some("another".to_owned()),
        reason: Reason::Populated,
        actions: &["delete pod", "delete temporary claim"],
        events: &[],
    }];
    check(rows);
}

/// The claim got another volume than the one that is filled for it.
fn got_another(case: &mut PlanCase) {
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
        uid: CLAIM.into(),
    });
}

#[test]
fn a_target_that_another_controller_bound() {
    let failed: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        Row {
            name: "while it was filled",
            base: running,
            change: got_another,
            reason: Reason::BoundElsewhere,
            actions: &["delete pod", "delete temporary claim", "release pod"],
            events: failed,
        },
        Row {
            name: "after it was filled",
            base: succeeded,
            change: got_another,
            reason: Reason::BoundElsewhere,
            actions: &["delete pod", "delete temporary claim", "release pod"],
            events: failed,
        },
        Row {
            name: "before it had a volume",
            base: || {
                let mut case = begun();
                case.world.volume = provisioned().world.volume;
                case
            },
            change: got_another,
            reason: Reason::BoundElsewhere,
            actions: &["delete temporary claim"],
            events: failed,
        },
        Row {
            name: "before the pod was created",
            base: running,
            change: |case| {
                case.world.temporary = None;
                got_another(case);
            },
            reason: Reason::BoundElsewhere,
            actions: &["delete pod", "release pod"],
            events: &["PopulatorRefused"],
        },
        Row {
            name: "before anything was created",
            base: || {
                let mut case = provisioned();
                case.world.temporary = None;
                case.volume().was_chosen = true;
                case
            },
            change: got_another,
            reason: Reason::BoundElsewhere,
            actions: &[],
            events: &["PopulatorRefused"],
        },
    ];
    check(rows);
}

/// By a backup tool, or a migration of the storage: the new volume has no trace of ours.
#[test]
fn a_claim_that_was_bound_without_us_is_not_ours() {
    let restored: fn() -> PlanCase = || {
        let mut case = provisioned();
        case.world.temporary = None;
        got_another(&mut case);
        case
    };
    assert_eq!(restored().try_plan(), None);
    let traces: [fn(&mut PlanCase); 5] = [
        |case| case.volume().was_chosen = true,
        |case| case.volume().populated_for = Some("an-earlier-claim".into()),
        |case| case.volume().populated_from = Some("vms/another".to_owned()),
        |case| case.world.claim.attempts.recreations = 1,
        |case| case.world.pod = succeeded().world.pod,
    ];
    for (index, trace) in traces.into_iter().enumerate() {
        let mut case = restored();
        trace(&mut case);
        let plan = case.try_plan().unwrap();
        assert_eq!(plan.status.reason, Reason::BoundElsewhere, "{index}");
    }
}

/// The claim names its volume before it is bound: by its user, or by
/// Kubernetes, which sets the phase next.
#[test]
fn a_volume_that_the_user_asks_for_is_told_from_one_that_kubernetes_has_found() {
    let named: fn(&mut PlanCase) = |case| {
        got_another(case);
        case.world.claim.phase = ClaimPhase::Pending;
    };
    let found: fn(&mut PlanCase) = |case| {
        got_another(case);
        case.world.claim.phase = ClaimPhase::Pending;
        case.world.claim.bind_completed = true;
    };
    let none: fn() -> PlanCase = || {
        let mut case = provisioned();
        case.world.temporary = None;
        case
    };
    let rows: &[Row] = &[
        Row {
            name: "the user",
            base: none,
            change: named,
            reason: Reason::ClaimUnsupported,
            actions: &[],
            events: &["PopulatorRefused"],
        },
        Row {
            name: "Kubernetes",
            base: none,
            change: found,
            reason: Reason::Rebinding,
            actions: &[],
            events: &[],
        },
    ];
    check(rows);
}

/// Whose disk a volume holds is proven by what was written with the rebind, and by nothing less.
#[test]
fn a_volume_that_was_filled_for_another_claim_is_not_this_ones() {
    let refused: &[&str] = &["PopulatorRefused"];
    let rows: &[Row] = &[
        Row {
            name: "a volume of Retain, recycled by its administrator",
            base: done,
            change: |case| case.volume().populated_for = Some("an-earlier-claim".into()),
            reason: Reason::BoundElsewhere,
            actions: &[],
            events: refused,
        },
        Row {
            name: "one that Forklift's controller filled from another resource",
            base: done,
            change: |case| {
                case.volume().populated_for = None;
                case.volume().populated_from = Some("vms/another".to_owned());
            },
            reason: Reason::BoundElsewhere,
            actions: &[],
            events: refused,
        },
        Row {
            name: "one that Forklift's controller filled from this resource, for an earlier claim",
            base: done,
            change: |case| {
                case.volume().populated_for = None;
                case.volume().created = ago(61);
            },
            reason: Reason::BoundElsewhere,
            actions: &[],
            events: refused,
        },
        Row {
            name: "the same, younger than this claim, which Kubernetes chose for it",
            base: done,
            change: |case| {
                case.volume().populated_for = None;
                case.volume().was_chosen = true;
            },
            reason: Reason::BoundElsewhere,
            actions: &[],
            events: refused,
        },
        Row {
            name: "the same, provisioned for a claim by itself",
            base: done,
            change: |case| {
                case.volume().populated_for = None;
                case.volume().provisioned_for = Some("root".to_owned());
            },
            reason: Reason::BoundElsewhere,
            actions: &[],
            events: refused,
        },
        Row {
            name: "one that Forklift's controller filled for this claim",
            base: done,
            change: |case| {
                case.volume().populated_for = None;
                case.volume().provisioned_for = Some(names::temporary_claim(CLAIM));
            },
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "one that belongs to another claim, whatever it holds",
            base: done,
            change: |case| case.volume().claim.as_mut().unwrap().uid = "thief".into(),
            reason: Reason::Rebinding,
            actions: &[],
            events: &[],
        },
        Row {
            name: "one that is not seen",
            base: done,
            change: |case| case.world.volume = None,
            reason: Reason::Rebinding,
            actions: &[],
            events: &[],
        },
    ];
    check(rows);
}

/// Another controller, or an administrator, gives the claim its volume while the pod still writes.
#[test]
fn a_volume_that_is_moved_before_it_is_filled_is_no_success() {
    let moved: fn(&mut PlanCase) = |case| {
        case.world.claim.phase = ClaimPhase::Bound;
        case.world.claim.volume = Some("pv-1".to_owned());
        case.temporary().phase = ClaimPhase::Lost;
        belongs_to_the_claim(case.volume());
    };
    let drop: &[&str] = &["delete pod", "delete temporary claim", "release pod"];
    let failed: &[&str] = &["PopulatorFailed"];
    let rows: &[Row] = &[
        Row {
            name: "the pod runs",
            base: running,
            change: moved,
            reason: Reason::BoundElsewhere,
            actions: drop,
            events: failed,
        },
        Row {
            name: "in Forklift's way",
            base: running,
            change: |case| {
                case.world.claim.phase = ClaimPhase::Bound;
                case.world.claim.volume = Some("pv-1".to_owned());
                belongs_to_the_claim(case.volume());
                case.volume().populated_from = Some("vms/disk".to_owned());
            },
            reason: Reason::BoundElsewhere,
            actions: drop,
            events: failed,
        },
        Row {
            name: "the pod succeeded, but who moved the volume cannot have known",
            base: succeeded,
            change: moved,
            reason: Reason::BoundElsewhere,
            actions: drop,
            events: failed,
        },
        Row {
            name: "in Forklift's way, after the pod succeeded: that is Forklift's controller",
            base: bound,
            change: |case| case.volume().populated_for = None,
            reason: Reason::Populated,
            actions: &["finish temporary claim"],
            events: &[],
        },
        Row {
            name: "the volume is seen as it was before: what it holds is not known yet",
            base: running,
            change: |case| {
                case.world.claim.phase = ClaimPhase::Bound;
                case.world.claim.volume = Some("pv-1".to_owned());
            },
            reason: Reason::Rebinding,
            actions: &["release pod"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn a_resource_that_names_another_disk_is_not_what_the_claim_holds() {
    let rows: &[Row] = &[
        Row {
            name: "after all is done: nothing happens to the claim",
            base: done,
            change: replaced,
            reason: Reason::SourceChanged,
            actions: &[],
            events: &[],
        },
        Row {
            name: "before the work is cleared up",
            base: bound,
            change: replaced,
            reason: Reason::SourceChanged,
            actions: &["finish temporary claim"],
            events: &["PopulatorSourceChanged"],
        },
        Row {
            name: "it terminates",
            base: done,
            change: |case| {
                replaced(case);
                case.populator().terminating = true;
            },
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "a volume that does not name its disk",
            base: done,
            change: |case| {
                replaced(case);
                case.volume().populated_disk = None;
            },
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
    ];
    check(rows);
}
