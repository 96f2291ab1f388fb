//! What installation and claim say about how the mover copies.

use population::{
    model::Kind,
    settings::{MoverFlag, MoverSettings},
};
use populator_api::Reason;

use crate::support::{
    PlanCase, Row, begun, check, fresh, pending, running, succeeded, unprovisioned,
};

#[test]
fn what_has_not_started_follows_the_settings() {
    let rows: &[Row] = &[
        Row {
            name: "the installation's settings of the mover changed meanwhile",
            base: pending,
            change: |case| case.settings.mover.set(MoverFlag::Verify, "full").unwrap(),
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "the claim's settings of the mover changed meanwhile",
            base: unprovisioned,
            change: |case| case.claims(MoverFlag::Verify, "full"),
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "what has started is copied as it was begun",
            base: running,
            change: |case| case.claims(MoverFlag::Verify, "full"),
            reason: Reason::Copying,
            actions: &[],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn a_setting_that_is_none_is_refused_until_a_copy_has_started() {
    let wrong = |case: &mut PlanCase| {
        let name = "forklift.konveyor.io/mover-verify".to_owned();
        let annotation = [(&name, &"ful".to_owned())];
        case.world.claim.mover = MoverSettings::of_claim(annotation, Some(Kind::Ovirt));
    };
    for base in [fresh, begun, pending] {
        let mut case = base();
        wrong(&mut case);
        let plan = case.plan();
        assert_eq!(plan.status.reason, Reason::ClaimUnsupported);
        let events: Vec<_> = plan.events.iter().map(|event| event.reason).collect();
        assert_eq!(events, ["PopulatorRefused"]);
        for word in ["mover-verify", "\"ful\"", "auto, full, off"] {
            assert!(plan.status.message.contains(word), "{plan:?}");
        }
    }
    for (base, reason) in [
        (running as fn() -> PlanCase, Reason::Copying),
        (succeeded, Reason::Rebinding),
    ] {
        let mut case = base();
        wrong(&mut case);
        assert_eq!(case.plan().status.reason, reason);
    }
}
