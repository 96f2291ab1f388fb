//! oVirt: faults during a copy that the populator recovers from.

use contract::Exit;
use serde_json::{Value, json};
use suite::{Engine, assert_exit, folder, ovirt};
use testkit::{Command, Disk};

use crate::{MIB, mib};

/// Slow enough for something to happen on the way.
const PACE: u64 = 24 * MIB;

/// Copies a dense disk with these knobs, and compares; returns the phases of its transfers.
#[track_caller]
fn recovered(knobs: &Value, arguments: &[&str]) -> Vec<String> {
    let (engine, folder) = (Engine::default(), folder());
    // Larger than what is in flight at any time.
    let size = if knobs["events"].is_null() { 32 } else { 96 };
    let disk = Disk::random(1, mib(size));
    let source = engine.raw_disk(folder.path(), &disk).with(knobs);
    let (target, user) = (folder.path().join("target"), engine.user());
    let command = ovirt(&source, &user, &target);
    let run = arguments.iter().fold(command, Command::arg).run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    source.wait_until_tidy();
    if let Some(events) = source.state()["events"].as_array() {
        assert!(events.is_empty(), "did not happen: {events:?}");
    }
    source.phases()
}

#[test]
fn an_answer_to_the_creation_that_is_lost() {
    let phases = recovered(&json!({ "lose_post_answers": 1 }), &[]);
    assert_eq!(phases, ["finished_success"], "no second transfer is made");
}

#[test]
fn tokens_that_expire_during_the_copy() {
    let event = json!([{ "at_bytes": 1, "do": "expire-tokens" }]);
    let phases = recovered(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_success"]);
}

#[test]
fn a_transfer_that_the_system_cancels() {
    let event = json!([{ "at_bytes": 1, "do": "cancel" }]);
    let phases = recovered(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_failure", "finished_success"]);
}

#[test]
fn a_transfer_that_the_system_pauses() {
    let event = json!([{ "at_bytes": 1, "do": "pause" }]);
    let phases = recovered(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_failure", "finished_success"]);
}

#[test]
fn a_ticket_that_is_lost() {
    let event = json!([{ "at_bytes": 1, "do": "lose-ticket" }]);
    let phases = recovered(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_failure", "finished_success"]);
}

#[test]
fn the_content_changed_between_two_transfers() {
    let (engine, folder) = (Engine::default(), folder());
    let (before, after) = (Disk::random(2, mib(96)), Disk::random(3, mib(96)));
    let source = engine
        .raw_disk(folder.path(), &before)
        .with(&json!({ "bytes_per_second": PACE }));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target).spawn();
    source.wait_until_read(MIB);
    // No second transfer begins before the content is another one.
    source.set(&json!({ "engine_lock": "transfer" }));
    let transfer = source.state()["transfers"][0]["id"].clone();
    engine.set_phase(transfer.as_str().unwrap(), "cancelled_system");
    suite::eventually(
        "the first transfer ended, and the second is refused",
        || source.phases() == ["finished_failure"] && source.posts() > 1,
    );
    let other = folder.path().join("other");
    after.write_to(&other);
    std::fs::rename(&other, &source.path).unwrap();
    source.set(&json!({ "engine_lock": null, "bytes_per_second": null }));
    assert_exit(&run.wait(), Exit::Success);
    assert_eq!(source.phases(), ["finished_failure", "finished_success"]);
    // The first transfer's bytes are of no use any more.
    after.assert_on(&target);
}

#[test]
fn a_host_that_cannot_be_reached_has_a_proxy() {
    let nobody = json!({ "transfer_url": "https://localhost:9/images" });
    assert_eq!(recovered(&nobody, &[]), ["finished_success"]);
}

#[test]
fn a_transfer_that_the_engine_finalizes_by_itself() {
    // Our request to finalize it is looked at only after that.
    let knobs = json!({ "poll_seconds": 0.01, "late_finalize": true });
    assert_eq!(recovered(&knobs, &[]), ["finished_success"]);
}

#[test]
fn a_transfer_that_is_forgotten_at_once() {
    // As engines before 4.4.7.
    let phases = recovered(&json!({ "keep_finished_seconds": 0 }), &[]);
    assert_eq!(phases, ["finished_success"]);
}

#[test]
fn a_slow_creation_and_slow_phases() {
    let knobs = json!({ "post_seconds": 3, "finalizing_seconds": 2, "poll_seconds": 1 });
    assert_eq!(recovered(&knobs, &[]), ["finished_success"]);
    let knobs = json!({ "initializing_seconds": 2 });
    assert_eq!(recovered(&knobs, &[]), ["finished_success"]);
}

#[test]
fn verification_goes_with_a_slow_engine() {
    let knobs = json!({ "poll_seconds": 5 });
    assert_eq!(recovered(&knobs, &["--verify=full"]), ["finished_success"]);
}

/// With its checksum the daemon counts the disk as read. The engine must not take the ticket away between two
/// requests for data.
#[test]
fn a_checksum_before_the_last_byte_does_not_end_the_transfer() {
    let (engine, folder) = (Engine::default(), folder());
    // A request for each piece takes longer than the checksum of what lies around it.
    let every = 320 << 10;
    let pieces: Vec<_> = (0..800)
        .map(|piece| piece * every..piece * every + (64 << 10))
        .collect();
    let disk = Disk::sparse(9, mib(250), &pieces);
    let source = engine
        .raw_disk(folder.path(), &disk)
        .with(&json!({ "poll_seconds": 0.05 }));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target)
        .arg("--verify=full")
        .arg("--connections=1")
        .run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    source.wait_until_tidy();
    assert_eq!(source.phases(), ["finished_success"]);
}

#[test]
fn an_engine_that_restarts() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::random(4, mib(2));
    let source = engine.raw_disk(folder.path(), &disk);
    let (target, user) = (folder.path().join("target"), engine.user());
    user.set(&json!({ "fail_next": [503, 502, 503] }));
    let run = ovirt(&source, &user, &target).run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    source.assert_tidy("finished_success");
}
