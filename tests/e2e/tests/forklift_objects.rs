//! Objects as Forklift's Migration Controller makes, reads and removes them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Kind, Migration, Mode, TestNamespace,
    cluster::uid_of,
    forklift, mib,
    resource::{CLAIMS, PODS},
};
use populator_api::names::{annotation, event, label};
use serde_json::Value;
use suite::curl;
use testkit::Disk;

/// A copy of it takes a quarter of a minute when the source gives 4 MiB a second; small ones of oVirt go through at once, since
/// there the bound is one of the mean.
fn disk() -> Disk {
    Disk::random(7, mib(64))
}
const SLOW: u64 = 4 << 20;

/// The value of the line `<name>{ownerUID="<uid>"} <value>`, read as Forklift's regular expression reads it.
fn progress(metrics: &str, uid: &str) -> Option<f64> {
    let (_, rest) = metrics.split_once(&format!("progress{{ownerUID=\"{uid}\"}} "))?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[test]
fn what_forklift_reads_on_the_way_is_there() {
    for kind in Kind::ALL {
        let case = TestNamespace::new();
        let migration = Migration::new();
        let disk = disk();
        let source = migration.label(case.prepare(kind, &disk).slow(SLOW));
        case.apply(&source);
        let claim = migration
            .claim(&case, &source)
            .class("wait")
            .size("64Mi")
            .create();
        let consumer = case.pvcinit(&[&claim]);

        let pod = claim.wait_for_pod("Running");
        let temporary = claim.temporary().unwrap();
        for (name, value) in migration.labels() {
            assert_eq!(
                pod["metadata"]["labels"][name], **value,
                "{name} of the pod"
            );
            assert_eq!(
                temporary["metadata"]["labels"][name], **value,
                "{name} of the temporary claim"
            );
        }
        assert_eq!(pod["metadata"]["labels"][label::CLAIM_NAME], *claim.name);
        assert!(temporary["metadata"]["annotations"][annotation::DISK_SOURCE].is_null());
        for object in [&pod, &temporary] {
            let owner = &object["metadata"]["ownerReferences"][0];
            assert_eq!(owner["uid"], *claim.uid);
            assert!(owner["blockOwnerDeletion"].is_null(), "{owner}");
        }

        let address = pod["status"]["podIP"].as_str().unwrap();
        let call = curl::call("GET", &format!("https://{address}:8443/metrics")).insecure();
        let percent = case.cluster.wait_for("the pod tells its progress", || {
            let percent = progress(&call.send().text(), &claim.uid)?;
            (percent > 0.0).then_some(percent)
        });
        assert!(percent < 100.0, "{percent}");
        assert!(!claim.is_bound());
        source.hurry();
        let strict = case
            .cluster
            .wait_for("the resource tells its progress", || {
                let status = case.status(&source);
                let progress = status["progress"].as_str()?.parse::<u8>().unwrap();
                (progress > 0).then_some(progress)
            });
        assert!(strict <= 100);
        claim.assert_populated(&source, &disk);

        case.delete(PODS, &consumer);
        migration.clean_up(&case, &source, &claim);
        claim.wait_until_cleared();
        case.wait_until_gone(CLAIMS, &claim.name);
        case.finish();
    }
}

#[test]
fn a_cancel_in_the_middle_leaves_nothing_here_and_there() {
    let case = TestNamespace::new();
    let migration = Migration::new();
    // A minute of it, which the cancellation ends.
    let source = migration.label(case.prepare(Kind::Ovirt, &disk()).slow(1 << 20));
    case.apply(&source);
    let claim = migration
        .claim(&case, &source)
        .mode(Mode::Filesystem)
        .size("96Mi")
        .create();
    source.engine_disk().wait_until_read(1);
    migration.clean_up(&case, &source, &claim);
    source.engine_disk().wait_until_tidy();
    claim.wait_until_cleared();
    case.wait_until_gone(CLAIMS, &claim.name);
    case.cluster.wait_for("its volume is gone", || {
        case.volumes().is_empty().then_some(())
    });
    assert!(case.list(PODS).is_empty());
    case.finish();
}

#[test]
fn what_forklifts_controller_has_begun_is_adopted_and_finished() {
    let case = TestNamespace::new();
    let migration = Migration::new();
    let disk = disk();
    let source = migration.label(case.prepare(Kind::Ovirt, &disk).held());
    case.apply_secret(&source);
    // Without its resource the claim waits, as it does before our controller is there.
    let claim = migration.claim(&case, &source).create();
    claim.wait_for_event(event::WAITING, &source.name);
    let (temporary, pod) = forklift::begun(&source, &claim);
    case.create(CLAIMS, temporary);
    let first = uid_of(&case.create(PODS, pod));
    source.wait_until_held();
    case.apply_resource(&source);

    case.cluster.wait_for("both are adopted", || {
        let labelled =
            |object: Value| !object["metadata"]["labels"][label::POPULATED_CLAIM].is_null();
        (labelled(claim.temporary()?) && labelled(claim.pod()?)).then_some(())
    });
    source.let_go();
    claim.assert_populated(&source, &disk);
    // It was the pod that Forklift's controller had made, and it read the disk once.
    assert_eq!(uid_of(&claim.pod().unwrap()), first);
    assert_eq!(source.engine_disk().posts(), 1);
    case.finish();
}
