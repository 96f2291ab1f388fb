//! oVirt: what goes wrong on the way and is healed.

use contract::Exit;
use serde_json::{Value, json};
use suite::{Engine, assert_exit, folder, ovirt};
use testkit::{Command, Disk};

use crate::{MIB, mib};

/// Slow enough for something to happen on the way.
const PACE: u64 = 24 * MIB;

/// Copies a dense disk with these knobs, and compares; returns the phases of its transfers.
#[track_caller]
fn healed(knobs: &Value, arguments: &[&str]) -> Vec<String> {
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
    let phases = healed(&json!({ "lose_post_answers": 1 }), &[]);
    assert_eq!(phases, ["finished_success"], "no second transfer is made");
}

#[test]
fn tokens_that_expire_during_the_copy() {
    let event = json!([{ "at_bytes": 1, "do": "expire-tokens" }]);
    let phases = healed(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_success"]);
}

#[test]
fn a_transfer_that_the_system_cancels() {
    let event = json!([{ "at_bytes": 1, "do": "cancel" }]);
    let phases = healed(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_failure", "finished_success"]);
}

#[test]
fn a_transfer_that_the_system_pauses() {
    let event = json!([{ "at_bytes": 1, "do": "pause" }]);
    let phases = healed(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_failure", "finished_success"]);
}

#[test]
fn a_ticket_that_is_lost() {
    let event = json!([{ "at_bytes": 1, "do": "lose-ticket" }]);
    let phases = healed(&json!({ "bytes_per_second": PACE, "events": event }), &[]);
    assert_eq!(phases, ["finished_failure", "finished_success"]);
}

#[test]
fn the_content_changed_between_two_transfers() {
    let (engine, folder) = (Engine::default(), folder());
    let (before, after) = (Disk::random(2, mib(32)), Disk::random(3, mib(32)));
    let event = json!([{ "at_bytes": 1, "do": "cancel" }]);
    let source = engine
        .raw_disk(folder.path(), &before)
        .with(&json!({ "bytes_per_second": PACE, "events": event, "fail_start": false }));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target).spawn();
    suite::eventually("the first transfer ended", || {
        source
            .phases()
            .first()
            .is_some_and(|phase| phase == "finished_failure")
    });
    // Unlocked in between, so another client may write. The export of the new transfer reads the
    // new file.
    let other = folder.path().join("other");
    after.write_to(&other);
    let late = source.phases().len() > 1;
    std::fs::rename(&other, &source.path).unwrap();
    assert_exit(&run.wait(), Exit::Success);
    if late {
        // The second export was open already and goes on with the old file: that is its content.
        before.assert_on(&target);
    } else if source.phases().len() > 1 {
        let same = [&before, &after]
            .iter()
            .any(|disk| disk.first_difference(&target).is_none());
        assert!(same, "a mixture of two states of the disk");
    }
}

#[test]
fn a_host_that_cannot_be_reached_has_a_proxy() {
    let nobody = json!({ "transfer_url": "https://localhost:9/images" });
    assert_eq!(healed(&nobody, &[]), ["finished_success"]);
}

#[test]
fn a_transfer_that_the_engine_finalizes_by_itself() {
    // Polls so fast that the engine is first.
    assert_eq!(
        healed(&json!({ "poll_seconds": 0.01 }), &[]),
        ["finished_success"]
    );
}

#[test]
fn a_transfer_that_is_forgotten_at_once() {
    // As engines before 4.4.7.
    let phases = healed(&json!({ "keep_finished_seconds": 0 }), &[]);
    assert_eq!(phases, ["finished_success"]);
}

#[test]
fn a_slow_creation_and_slow_phases() {
    let knobs = json!({ "post_seconds": 3, "finalizing_seconds": 2, "poll_seconds": 1 });
    assert_eq!(healed(&knobs, &[]), ["finished_success"]);
    let knobs = json!({ "initializing_seconds": 2 });
    assert_eq!(healed(&knobs, &[]), ["finished_success"]);
}

#[test]
fn verification_goes_with_a_slow_engine() {
    let knobs = json!({ "poll_seconds": 5 });
    assert_eq!(healed(&knobs, &["--verify=full"]), ["finished_success"]);
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
