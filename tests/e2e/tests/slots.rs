//! Slots are for bytes: claims that cannot move any keep no other waiting, finished pods make room, and two controllers that
//! both act do no harm. Each test changes the one Deployment, so they run one at a time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Alone, Claim, Kind, Source, TestNamespace,
    cluster::cluster,
    mib,
    resource::{PODS, QUOTAS},
    trace::Trace,
};
use populator_api::names::event;
use serde_json::json;
use testkit::Disk;

/// As seen in migrations: the secret of one plan is missing, and another plan reads from the same server.
#[test]
fn claims_that_cannot_start_keep_no_good_one_waiting() {
    let alone = Alone::new();
    alone.set(&[("MAX_POPULATOR_INFLIGHT_PER_SOURCE", "2")]);
    let case = TestNamespace::new();
    let disk = Disk::random(60, mib(4));
    let broken: Vec<Source> = (0..2)
        .map(|_| {
            let source = case.prepare(Kind::Openstack, &disk);
            case.apply_resource(&source);
            source
        })
        .collect();
    let stuck: Vec<Claim<'_>> = broken
        .iter()
        .map(|source| case.claim(source).create())
        .collect();
    for claim in &stuck {
        claim.wait_for_pod("Pending");
    }
    let good = case.source(Kind::Openstack, &disk);
    case.claim(&good).create().assert_populated(&good, &disk);
    assert!(stuck.iter().all(|claim| !claim.is_bound()));
    // What was missing comes, and they go on.
    for (source, claim) in broken.iter().zip(&stuck) {
        case.apply_secret(source);
        claim.assert_populated(source, &disk);
    }
    case.finish();
}

/// A bound claim's finished pod holds its temporary claim, and so half of what the quota allows.
#[test]
fn a_quota_that_finished_pods_use_up_makes_them_go() {
    let case = TestNamespace::new();
    let hard = json!({ "requests.storage": "26Mi" });
    case.create(
        QUOTAS,
        json!({ "metadata": { "name": "storage" }, "spec": { "hard": hard } }),
    );
    let disk = Disk::random(61, mib(4));
    let sources: Vec<Source> = (0..2)
        .map(|_| case.source(Kind::Openstack, &disk))
        .collect();
    let first = case.claim(&sources[0]).size("8Mi").create();
    first.wait_until_bound();
    first.wait_until_settled();
    assert!(first.pod().is_some(), "it is kept for its log");
    let second = case.claim(&sources[1]).size("8Mi").create();
    second.assert_populated(&sources[1], &disk);
    case.wait_until_gone(PODS, &first.pod_name());
    case.assert_content(&first, &disk);
    case.finish();
}

/// Without the permission for leases no controller is elected.
#[test]
fn two_controllers_that_both_act_do_no_harm() {
    let alone = Alone::new();
    alone.scale_without_leases(2);
    let case = TestNamespace::new();
    let disk = Disk::random(62, mib(4));
    let sources: Vec<Source> = (0..10).map(|_| case.source(Kind::Ovirt, &disk)).collect();
    let trace = Trace::start(&case);
    let claims: Vec<Claim<'_>> = sources
        .iter()
        .map(|source| case.claim(source).create())
        .collect();
    for (source, claim) in sources.iter().zip(&claims) {
        claim.wait_until_bound();
        case.assert_content(claim, &disk);
        claim.wait_until_settled();
        assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
        let ready = case.wait_for_condition(source, "Ready", "True");
        assert_eq!(ready["reason"], "Populated", "{ready}");
        case.cluster.wait_for("both agree on the progress", || {
            (case.status(source)["progress"] == "100").then_some(())
        });
        assert!(claim.events_with(event::FAILED).is_empty());
    }
    assert_eq!(trace.end().made.len(), 10, "one pod each");
    assert_eq!(cluster().controllers().len(), 2);
    assert!(cluster().leader().is_none(), "they were elected after all");
    case.finish();
}
