//! Finished pods of populated claims, and when they go.

use std::time::Duration;

use population::settings::KeepPods;
use populator_api::Reason;

use crate::support::{PlanCase, Row, ago, bound, check, done, nothing, pending};

/// What keeps finished pods keeps the claims that they fill, which count against quotas.
#[test]
fn finished_pods_go_in_time() {
    let finished: fn() -> PlanCase = || {
        let mut case = done();
        case.world.claim.labels.clear();
        let ended = case.pod().ended.as_mut().unwrap();
        ended.at = Some(ago(3599));
        case
    };
    let gone: &[&str] = &["delete pod"];
    let rows: &[Row] = &[
        Row {
            name: "not before an hour",
            base: finished,
            change: nothing,
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "after an hour",
            base: finished,
            change: |case| case.pod().ended.as_mut().unwrap().at = Some(ago(3600)),
            reason: Reason::Populated,
            actions: gone,
            events: &[],
        },
        Row {
            name: "with its temporary claim still there",
            base: bound,
            change: |case| {
                case.world.claim.labels.clear();
                case.temporary().terminating = Some(ago(3600));
                case.pod().ended.as_mut().unwrap().at = Some(ago(3600));
            },
            reason: Reason::Populated,
            actions: gone,
            events: &[],
        },
        Row {
            name: "not Forklift's, which cleans them up",
            base: done,
            change: |case| case.pod().ended.as_mut().unwrap().at = Some(ago(86_400)),
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "at once where the quota rejects claims",
            base: done,
            change: |case| case.world.is_short_of_quota = true,
            reason: Reason::Populated,
            actions: gone,
            events: &[],
        },
        Row {
            name: "but not when they are kept for ever",
            base: finished,
            change: |case| {
                case.settings.keep_pods = KeepPods::Forever;
                case.world.is_short_of_quota = true;
                case.pod().ended.as_mut().unwrap().at = Some(ago(86_400));
            },
            reason: Reason::Populated,
            actions: &[],
            events: &[],
        },
        Row {
            name: "at once when only failed ones are kept",
            base: finished,
            change: |case| case.settings.keep_pods = KeepPods::Failed,
            reason: Reason::Populated,
            actions: gone,
            events: &[],
        },
        Row {
            name: "after the time that the installation sets, Forklift's too",
            base: done,
            change: |case| {
                case.settings.keep_pods = KeepPods::For(Duration::from_mins(1));
                case.pod().ended.as_mut().unwrap().at = Some(ago(60));
            },
            reason: Reason::Populated,
            actions: gone,
            events: &[],
        },
        Row {
            name: "a pod that never started, created when the rebind was not seen",
            base: done,
            change: |case| {
                case.world.pod = pending().world.pod;
                case.pod().finalizer = None;
            },
            reason: Reason::Populated,
            actions: gone,
            events: &[],
        },
    ];
    check(rows);
    assert_eq!(
        finished().plan().requeue_after,
        Some(Duration::from_secs(1))
    );
}
