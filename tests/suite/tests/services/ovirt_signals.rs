//! oVirt: an early end leaves the engine tidy.

use contract::Exit;
use serde_json::json;
use suite::{Engine, EngineDisk, assert_exit, eventually, folder, ovirt};
use testkit::{Disk, process::Signal};

use crate::{MIB, mib};

fn slow(engine: &Engine, folder: &std::path::Path, disk: &Disk) -> EngineDisk {
    let knobs = json!({ "bytes_per_second": 4 * MIB });
    engine.raw_disk(folder, disk).with(&knobs)
}

#[test]
fn a_signal_during_the_copy() {
    for (signal, exit) in [
        (Signal::TERM, Exit::Terminated),
        (Signal::INT, Exit::Interrupted),
    ] {
        let (engine, folder) = (Engine::default(), folder());
        let source = slow(&engine, folder.path(), &Disk::random(1, mib(64)));
        let (target, user) = (folder.path().join("target"), engine.user());
        let run = ovirt(&source, &user, &target).spawn();
        source.wait_until_read(1);
        run.signal(signal);
        assert_exit(&run.wait(), exit);
        // The end has been accepted; the engine carries it out in its own time.
        assert_ne!(source.phases(), ["transferring"]);
        source.wait_until_tidy();
        assert_eq!(source.phases().len(), 1);
        assert_eq!(user.state()["tokens"], 0, "logged out");
    }
}

#[test]
fn a_signal_while_the_disk_is_locked() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine
        .raw_disk(folder.path(), &Disk::random(1, mib(1)))
        .with(&json!({ "status": "locked" }));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target).spawn();
    eventually("a transfer was refused", || source.posts() > 0);
    run.signal(Signal::TERM);
    assert_exit(&run.wait(), Exit::Terminated);
    assert_eq!(source.phases().len(), 0);
}

#[test]
fn a_signal_while_the_transfer_is_made() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine
        .raw_disk(folder.path(), &Disk::random(1, mib(1)))
        .with(&json!({ "post_seconds": 2 }));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target).spawn();
    eventually("a transfer was asked for", || source.posts() > 0);
    run.signal(Signal::TERM);
    assert_exit(&run.wait(), Exit::Terminated);
    source.wait_until_tidy();
}

#[test]
fn what_a_killed_run_leaves_is_waited_out() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::random(2, mib(16));
    let source = slow(&engine, folder.path(), &disk);
    let (target, user) = (folder.path().join("target"), engine.user());
    let run = ovirt(&source, &user, &target).spawn();
    source.wait_until_read(1);
    run.signal(Signal::KILL);
    assert_eq!(run.wait().signal(), Some(9));
    assert_eq!(source.phases(), ["transferring"]);

    let next = ovirt(&source, &user, &target).arg("--force").spawn();
    eventually("the next run was refused", || source.posts() > 1);
    // Idle since the kill; the engine looks at it as if the timeout had passed.
    source.set(&json!({ "inactivity_timeout": 0.5, "bytes_per_second": null }));
    eventually("the engine gave up the old transfer", || {
        source.phases()[0] != "transferring"
    });
    source.set(&json!({ "inactivity_timeout": 60 }));
    let next = next.wait();
    assert_exit(&next, Exit::Success);
    assert_eq!(source.phases(), ["finished_failure", "finished_success"]);
    disk.assert_on(&target);
}

#[test]
fn a_transfer_of_another_client_is_left_alone() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::random(3, mib(1)));
    let backup = engine.user();
    let url = format!("{}/ovirt-engine/api/imagetransfers", engine.url);
    suite::curl::call("POST", &url)
        .header("Authorization", &format!("Bearer {}", backup.token()))
        .json(&json!({ "disk": { "id": source.id }, "direction": "download", "format": "raw" }))
        .send()
        .expect(201);
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target)
        .arg("--locked-wait=2s")
        .run();
    assert_exit(&run, Exit::SourceBusy);
    assert_eq!(source.phases(), ["transferring"]);
}
