//! Volumes and snapshots of a real Cinder, through the controller: the bytes arrive, and however a copy ends, nothing that was
//! made for it is left in the cloud.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use e2e::{Claim, Kind, Source, TestNamespace, cluster::uid_of, mib, resource::CLAIMS};
use populator_api::names::event;
use suite::{Cinder, cinder::COPY, mover::openstack_disk};
use testkit::Disk;

/// Cinder states whole GiB, so that each claim is one of 1 GiB.
const SIZE: &str = "1Gi";

/// One test at a time: Glance keeps its images in `SQLite` here, which refuses one of two writers, and Cinder's uploads write without
/// the lock that tests share.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn disk(seed: u64) -> Disk {
    Disk::sparse(seed, mib(6), &[0..70_000, 3 << 20..(4 << 20) + 4096])
}

fn source(case: &TestNamespace, disk: &Disk, field: &str, id: &str) -> Source {
    let source = case.prepare(Kind::Openstack, disk).of_cinder(field, id);
    case.apply(&source);
    source
}

/// Waits until the mover has begun to make something in the cloud for the claim.
#[track_caller]
fn wait_until_something_is_made(cinder: &Cinder, claim: &Claim<'_>) {
    let case = claim.case();
    case.cluster
        .wait_for("the mover makes something in the cloud", || {
            (!cinder.named(&claim.uid).is_empty()).then_some(())
        });
    assert!(!claim.is_bound());
}

#[test]
fn a_volume_in_use_is_populated_and_stays_as_it_was() {
    let _turn = turn();
    let (case, cinder, disk) = (TestNamespace::new(), Cinder::start(), disk(41));
    let volume = cinder.volume(&disk);
    cinder.attach(&volume);
    let source = source(&case, &disk, "volumeId", &volume.id);
    let claim = case.claim(&source).size(SIZE).create();
    claim.assert_populated(&source, &disk);
    assert_eq!(cinder.named(&claim.uid), [""; 0], "{}", claim.log());
    assert_eq!(cinder.record(&volume.path())["status"], "in-use");
    case.finish();
}

#[test]
fn a_snapshot_is_populated_by_the_pod_that_follows_a_killed_one() {
    let _turn = turn();
    let (case, cinder, disk) = (TestNamespace::new(), Cinder::start(), disk(42));
    let snapshot = cinder.snapshot(&cinder.volume(&disk));
    let source = source(&case, &disk, "snapshotId", &snapshot);
    let claim = case.claim(&source).size(SIZE).create();
    wait_until_something_is_made(&cinder, &claim);
    let first = uid_of(&claim.pod().unwrap());
    claim.kill_mover();
    claim.wait_for_event(event::RETRYING, "137");
    // The pause before the next attempt: what the killed one has made is there.
    assert_ne!(cinder.named(&claim.uid), [""; 0]);
    claim.wait_for_other_pod(&first, "Succeeded");
    claim.assert_populated(&source, &disk);
    assert_eq!(cinder.named(&claim.uid), [""; 0], "{}", claim.log());
    let record = cinder.record(&format!("/snapshots/{snapshot}"));
    assert_eq!(record["status"], "available");
    case.finish();
}

/// As the documentation says it: with the claim's UID, and any volume.
#[test]
fn what_a_killed_pod_leaves_of_a_claim_that_is_deleted_is_removed_by_hand() {
    let _turn = turn();
    let (case, cinder, disk) = (TestNamespace::new(), Cinder::start(), disk(44));
    let snapshot = cinder.snapshot(&cinder.volume(&disk));
    let source = source(&case, &disk, "snapshotId", &snapshot);
    let claim = case.claim(&source).size(SIZE).create();
    wait_until_something_is_made(&cinder, &claim);
    claim.kill_mover();
    claim.wait_for_event(event::RETRYING, "137");
    claim.delete();
    claim.wait_until_cleared();
    assert_ne!(cinder.named(&claim.uid), [""; 0]);
    let unused = suite::folder().path().join("unused");
    let run = openstack_disk("volume-id", &suite::uuid(), &unused)
        .arg("--cleanup")
        .flag("owner-uid", &claim.uid)
        .flag("migration-id", &claim.uid)
        .spawn()
        .wait_within(COPY);
    assert_eq!(run.code(), Some(0), "{}", run.output());
    assert_eq!(cinder.named(&claim.uid), [""; 0], "{}", run.output());
    assert!(!unused.exists());
    case.finish();
}

#[test]
fn a_claim_that_is_deleted_in_the_middle_leaves_nothing_in_the_cloud() {
    let _turn = turn();
    let (case, cinder, disk) = (TestNamespace::new(), Cinder::start(), disk(43));
    let volume = cinder.volume(&disk);
    cinder.attach(&volume);
    let source = source(&case, &disk, "volumeId", &volume.id);
    let claim = case.claim(&source).size(SIZE).create();
    wait_until_something_is_made(&cinder, &claim);
    claim.delete();
    claim.wait_until_cleared();
    assert_eq!(cinder.named(&claim.uid), [""; 0]);
    case.wait_until_gone(CLAIMS, &claim.name);
    case.finish();
}
