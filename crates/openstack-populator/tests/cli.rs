//! The built binary's arguments: what it shows, what it refuses, and what it must never say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use contract::Exit;
use testkit::{
    Command, Disk,
    fake::{
        Glance,
        glance::{IMAGE, PASSWORD, TOKEN_PREFIX},
    },
};

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_openstack-populator"))
}

const WRONG: &str = "wrong-but-secret";

#[test]
fn help_shows_groups_and_an_example() {
    let finished = command().arg("--help").run();
    assert_eq!(finished.code(), Some(0));
    let output = finished.output();
    for text in [
        "Source:",
        "Target:",
        "Transfer:",
        "Credentials:",
        "Run:",
        "Kubernetes compatibility:",
        "--endpoint",
        "--verbatim",
        "--scratch-dir",
        "Example, with a",
    ] {
        assert!(output.contains(text), "{text} in {output}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let finished = command().arg("--version").run();
    assert_eq!(finished.code(), Some(0));
    let words = concat!("openstack-populator ", env!("CARGO_PKG_VERSION"));
    assert!(finished.output().contains(words), "{}", finished.output());
}

#[test]
fn arguments_that_are_wrong_are_named() {
    for (argument, words) in [
        ("--image-id=../x", "an image id is a UUID"),
        ("--imageid=17", "--image-id"),
        ("--conections=4", "--connections"),
        ("--connections=0", "1..=64"),
        ("--verify=maybe", "auto"),
        ("--nonsense", "--help"),
    ] {
        let finished = command()
            .flag("endpoint", "https://keystone.invalid")
            .flag("volume-path", "/nonexistent/disk.img")
            .arg(argument)
            .run();
        assert_eq!(finished.code(), Some(Exit::Usage.code().into()));
        let output = finished.output();
        assert!(output.contains(words), "{words} in {output}");
    }
}

/// Every way to fail and to succeed shows no secret; here with everything that is logged at all.
#[test]
fn a_copy_and_a_check_say_no_secret_at_any_level() {
    let disk = Disk::random(1, 3 << 20);
    let glance = Glance::start(&disk, None);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk.img");
    let with = |password: &str| {
        let command = command()
            .flag("endpoint", glance.identity_url())
            .flag("image-id", IMAGE)
            .flag("volume-path", &target)
            .arg("--log-level=trace")
            .arg("--force");
        let secret = glance.secret().into_iter();
        secret
            .fold(command, |command, (key, value)| command.env(key, value))
            .env("password", password)
    };
    for (command, exit) in [
        (with(PASSWORD), Exit::Success),
        (with(PASSWORD).arg("--check"), Exit::Success),
        (with(PASSWORD).arg("--json"), Exit::Success),
        (with(WRONG), Exit::Credentials),
    ] {
        let finished = command.run();
        let output = finished.output();
        assert_eq!(finished.code(), Some(exit.code().into()), "{output}");
        for secret in [PASSWORD, TOKEN_PREFIX, WRONG] {
            assert!(!output.contains(secret), "{secret} in {output}");
        }
    }
    disk.assert_on(&target);
}
