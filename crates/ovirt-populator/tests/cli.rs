//! The built binary: its arguments, its exit codes, and what it must never say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use contract::Exit;
use testkit::{
    Command, Disk, Fault, Gate, When,
    fake::{
        Engine,
        engine::{DISK, PASSWORD, TICKET_PREFIX, TOKEN_PREFIX},
    },
    process::Signal,
};

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ovirt-populator"))
}

fn against(engine: &Engine, target: &std::path::Path) -> Command {
    engine
        .secret()
        .into_iter()
        .fold(command(), |command, (key, value)| command.env(key, value))
        .flag("engine-url", engine.url())
        .flag("disk-id", DISK)
        .flag("volume-path", target)
        .arg("-vv")
}

fn assert_silent(output: &str) {
    for secret in [PASSWORD, TOKEN_PREFIX, TICKET_PREFIX] {
        assert!(!output.contains(secret), "{secret} in {output}");
    }
}

#[test]
fn help_shows_groups_and_an_example() {
    let finished = command().arg("--help").run();
    assert_eq!(finished.code(), Some(0));
    let output = finished.output();
    for text in [
        "Source:",
        "Target:",
        "--engine-url",
        "--inactivity-timeout",
        "--locked-wait",
        "Example, with a",
    ] {
        assert!(output.contains(text), "{text} in {output}");
    }
}

#[test]
fn arguments_that_are_wrong_are_named() {
    for (argument, words) in [
        ("--disk-id=17", "is not the UUID of a disk"),
        ("--inactivity-timeout=0", "60s to 1d"),
        ("--locked-wait=5", "without a unit"),
        ("--lock-wait=5m", "--locked-wait"),
    ] {
        let finished = command()
            .flag("volume-path", "/nonexistent/disk.img")
            .arg(argument)
            .run();
        assert_eq!(finished.code(), Some(Exit::Usage.code().into()));
        let output = finished.output();
        assert!(output.contains(words), "{words} in {output}");
    }
}

#[test]
fn what_is_missing_or_malformed_is_named_before_anything_is_asked() {
    let base = || {
        command()
            .flag("disk-id", DISK)
            .flag("volume-path", "/nonexistent/disk.img")
    };
    for (command, words) in [
        (base(), "--engine-url"),
        (base().env("url", "engine"), "has no scheme"),
        (base().env("url", "https://engine"), "secret key user"),
        (
            base().env("url", "https://engine").env("user", "u"),
            "secret key password",
        ),
    ] {
        let finished = command.run();
        let output = finished.output();
        assert_eq!(finished.code(), Some(Exit::Configuration.code().into()));
        assert!(output.contains(words), "{words} in {output}");
    }
}

#[test]
fn a_copy_says_no_secret_at_any_level() {
    let disk = Disk::random(1, 3 << 20);
    let engine = Engine::start(&disk, None);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk.img");
    let finished = against(&engine, &target).run();
    assert_eq!(finished.code(), Some(0), "{}", finished.output());
    assert_silent(&finished.output());
    disk.assert_on(&target);
    assert_eq!(engine.transfers(), (1, 0));
}

#[test]
fn a_signal_while_copying_ends_the_transfer() {
    for (signal, exit) in [
        (Signal::TERM, Exit::Terminated),
        (Signal::INT, Exit::Interrupted),
    ] {
        let disk = Disk::random(1, 3 << 20);
        let engine = Engine::start(&disk, None);
        let gate = Gate::new();
        let stall = Fault::stall(1000, &gate);
        engine.data().fault(When::ranged().always(), stall);
        let folder = tempfile::tempdir().unwrap();
        let running = against(&engine, &folder.path().join("disk.img")).spawn();
        engine.data().wait_for_held(1);
        running.signal(signal);
        let finished = running.wait();
        assert_eq!(finished.code(), Some(exit.code().into()));
        assert_silent(&finished.output());
        assert_eq!(engine.transfers(), (1, 0));
        gate.open();
    }
}
