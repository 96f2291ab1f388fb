//! oVirt: what the engine refuses, and what is waited out.

use contract::{Exit, args::flag};
use serde_json::{Value, json};
use suite::{
    Engine, assert_exit, eventually, folder,
    mover::{assert_discreet, assert_failure},
    ovirt, uuid,
};
use testkit::Disk;

use crate::mib;

/// Runs against a disk with these knobs; it must fail as given, at once, and leave nothing.
#[track_caller]
fn refused(knobs: &Value, exit: Exit, words: &[&str]) {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine
        .raw_disk(folder.path(), &Disk::random(1, mib(1)))
        .with(knobs);
    let (target, user) = (folder.path().join("target"), engine.user());
    let run = ovirt(&source, &user, &target).run();
    assert_failure(&run, exit, words);
    assert_discreet(&run, [user.password.as_str()]);
    let ended = |phase: &String| phase.starts_with("finished_");
    eventually("every transfer ended", || source.phases().iter().all(ended));
    assert!(source.posts() <= 1, "asked {} times", source.posts());
}

#[test]
fn a_disk_of_a_running_machine() {
    refused(
        &json!({ "plugged_to": "vm7,vm8" }),
        Exit::SourceUnusable,
        &["plugged to non-Down VMs: vm7,vm8"],
    );
}

#[test]
fn an_illegal_disk() {
    refused(
        &json!({ "status": "illegal" }),
        Exit::SourceUnusable,
        &["illegal"],
    );
}

#[test]
fn a_disk_without_an_image() {
    refused(
        &json!({ "storage_type": "lun" }),
        Exit::SourceUnusable,
        &["lun"],
    );
}

#[test]
fn a_disk_without_data() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::empty(0));
    let (target, user) = (folder.path().join("target"), engine.user());
    for check in [None, Some("--check"), Some("--check=transfer")] {
        let run = check
            .into_iter()
            .fold(ovirt(&source, &user, &target), testkit::Command::arg)
            .run();
        assert_failure(&run, Exit::SourceUnusable, &["holds no data"]);
        assert!(!target.exists());
    }
    assert_eq!(source.posts(), 0);
}

#[test]
fn a_storage_domain_in_maintenance() {
    refused(
        &json!({ "domain_status": "Maintenance" }),
        Exit::SourceUnusable,
        &["Storage Domain's status is Maintenance"],
    );
}

#[test]
fn no_host() {
    refused(
        &json!({ "host_up": false }),
        Exit::SourceUnusable,
        &["There is no active Host in the Data Center"],
    );
}

#[test]
fn a_host_that_cannot_start_the_transfer() {
    refused(
        &json!({ "fail_start": true }),
        Exit::SourceUnusable,
        &["engine.log"],
    );
}

#[test]
fn a_user_without_the_right() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::random(1, mib(1)));
    let user = engine.user();
    user.set(&json!({ "may_transfer": false }));
    let run = ovirt(&source, &user, &folder.path().join("target")).run();
    assert_failure(
        &run,
        Exit::Permission,
        &["User is not authorized to perform this action."],
    );
}

#[test]
fn a_wrong_password() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::random(1, mib(1)));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target)
        .env("password", "an-other-one")
        .run();
    assert_failure(&run, Exit::Credentials, &["password"]);
    assert_discreet(&run, ["an-other-one"]);
    assert!(!target.exists());
}

#[test]
fn an_unknown_disk() {
    let (engine, folder) = (Engine::default(), folder());
    let mut source = engine.raw_disk(folder.path(), &Disk::empty(mib(1)));
    source.id = uuid();
    let run = ovirt(&source, &engine.user(), &folder.path().join("target")).run();
    assert_failure(&run, Exit::SourceMissing, &[source.id.as_str()]);
}

#[test]
fn a_locked_disk_is_waited_for() {
    for lock in [
        json!({ "status": "locked" }),
        json!({ "engine_lock": "transfer" }),
        json!({ "engine_lock": "other" }),
    ] {
        let (engine, folder) = (Engine::default(), folder());
        let disk = Disk::random(2, mib(2));
        let source = engine.raw_disk(folder.path(), &disk).with(&lock);
        let target = folder.path().join("target");
        let run = ovirt(&source, &engine.user(), &target).spawn();
        eventually("a transfer was refused", || source.posts() > 0);
        assert_eq!(source.phases().len(), 0);
        source.set(&json!({ "status": "ok", "engine_lock": null }));
        let run = run.wait();
        assert_failure(&run, Exit::Success, &["locked"]);
        disk.assert_on(&target);
        source.assert_tidy("finished_success");
    }
}

#[test]
fn a_disk_that_stays_locked_ends_the_wait() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine
        .raw_disk(folder.path(), &Disk::random(2, mib(1)))
        .with(&json!({ "status": "locked" }));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target)
        .arg("--locked-wait=2s")
        .run();
    assert_failure(&run, Exit::SourceBusy, &["locked"]);
}

#[test]
fn a_preflight_tells_of_a_locked_disk() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine
        .raw_disk(folder.path(), &Disk::random(2, mib(1)))
        .with(&json!({ "status": "locked" }));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target).arg("--check").run();
    assert_failure(&run, Exit::SourceBusy, &["locked"]);
    assert_eq!(source.posts(), 0);
}

#[test]
fn an_engine_that_is_not_there() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::random(2, mib(1)));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target)
        .flag(flag::NO_PROGRESS_TIMEOUT, "1s")
        .env("url", "")
        .env("https_proxy", "http://127.0.0.1:9")
        .run();
    // localhost is not exempt from a proxy unless NO_PROXY says so, and no proxy listens there.
    assert_exit(&run, Exit::SourceUnavailable);
    assert_eq!(source.posts(), 0);
}
