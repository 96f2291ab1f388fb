//! Volumes that cannot be reached or mounted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Kind, Migration, Mode, TestNamespace,
    cluster::uid_of,
    forklift, mib,
    resource::{CLAIMS, VOLUMES},
};
use populator_api::names::{annotation, event};
use serde_json::json;
use testkit::Disk;

fn disk() -> Disk {
    Disk::random(31, mib(4))
}

#[test]
fn a_volume_that_only_a_vanished_node_reaches_is_an_end() {
    let case = TestNamespace::new();
    let migration = Migration::new();
    let source = migration.label(case.prepare(Kind::Ovirt, &disk()));
    case.apply_secret(&source);
    let claim = migration.claim(&case, &source).create();
    let affinity = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [
        { "key": "kubernetes.io/hostname", "operator": "In", "values": ["gone.example.org"] }] }] } });
    let name = case.volume_for(&claim.temporary_name(), json!({ "nodeAffinity": affinity }));
    let (mut temporary, _) = forklift::begun(&source, &claim);
    temporary["spec"]["volumeName"] = json!(name);
    case.create(CLAIMS, temporary);
    case.cluster.wait_for("the temporary claim is bound", || {
        (claim.temporary()?["status"]["phase"] == "Bound").then_some(())
    });
    case.apply_resource(&source);
    claim.wait_for_event(event::FAILED, "node");
    let condition = case.wait_for_condition(&source, "Failed", "True");
    assert_eq!(condition["reason"], "NodeGone", "{condition}");
    assert!(claim.pod().is_none());
    case.delete(CLAIMS, &claim.temporary_name());
    claim.delete();
    case.cluster.delete(VOLUMES, "", &name, None);
    case.finish();
}

/// A storage system that takes its time is asked once.
#[test]
fn a_volume_that_is_long_in_coming_is_waited_for() {
    let case = TestNamespace::new();
    let source = case.source(Kind::Ovirt, &disk());
    let claim = case.claim(&source).class("slow-provisioning").create();
    case.cluster.wait_for("the resource says so", || {
        let status = case.status(&source);
        (status["conditions"][0]["reason"] == "Provisioning").then_some(())
    });
    // That is said as soon as the temporary claim is asked for; the pod waits for the volume beside it.
    claim.wait_for_pod("Pending");
    let first = uid_of(&claim.temporary().unwrap());
    let volume = claim.wait_until_bound();
    let filled = &volume["metadata"]["name"];
    let expected = format!("pvc-{first}");
    assert_eq!(*filled, expected, "another temporary claim was made");
    claim.assert_populated(&source, &disk());
    assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
    case.finish();
}

/// A node that takes long to stage a volume is no failure, and no event says so.
#[test]
fn a_volume_that_is_long_in_staging_is_waited_for() {
    for mode in Mode::ALL {
        let case = TestNamespace::new();
        let source = case.source(Kind::Ovirt, &disk());
        let claim = case
            .claim(&source)
            .class("slow")
            .mode(mode)
            .size("96Mi")
            .create();
        claim.assert_populated(&source, &disk());
        assert_eq!(claim.events_with(event::STUCK), []);
        assert_eq!(claim.annotation(annotation::RECREATIONS), None);
        assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
        case.finish();
    }
}

#[test]
fn a_volume_that_no_node_can_stage_is_reported() {
    let case = TestNamespace::new();
    let source = case.source(Kind::Openstack, &disk());
    let claim = case.claim(&source).class("unstageable").create();
    claim.wait_for_event(event::STUCK, "staging refused");
    case.cluster.wait_for("the resource says so", || {
        let status = case.status(&source);
        (status["conditions"][0]["reason"] == "PodStuck").then_some(())
    });
    let described = claim.describe();
    assert!(described.contains("staging refused"), "{described}");
    claim.delete();
    claim.wait_until_cleared();
    case.finish();
}
