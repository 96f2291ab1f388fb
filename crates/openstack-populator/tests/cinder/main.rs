//! Volumes and snapshots of a scripted cloud that refuses, fails and lies on command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fake;
mod making;
mod others;
mod quota;
mod refusals;
mod removal;

use contract::{Exit, args::flag};
use fake::{Fake, VOLUME};
use serde_json::{Value, json};
use testkit::{Command, Finished};

pub(crate) const SNAPSHOTS: &str = "/volume/v3/0123456789abcdef0123456789abcdef/snapshots";
pub(crate) const VOLUMES: &str = "/volume/v3/0123456789abcdef0123456789abcdef/volumes";

pub(crate) fn in_use() -> Value {
    json!({"status": "in-use", "attachments": [{}]})
}

/// Runs it for the user's volume, and looks that nothing but what was there is there.
#[track_caller]
pub(crate) fn run(fake: &Fake, exit: Exit, words: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk");
    let finished = ended(&fake.command(flag::VOLUME_ID, VOLUME, &target), exit, words);
    assert_eq!(fake.made(), [""; 0], "{}", finished.output());
    if exit == Exit::Success {
        fake.disk.assert_on(&target);
    }
    finished
}

#[track_caller]
pub(crate) fn ended(command: &Command, exit: Exit, words: &[&str]) -> Finished {
    let finished = command.run();
    let output = finished.output();
    assert_eq!(finished.code(), Some(exit.code().into()), "{output}");
    for word in words {
        assert!(output.contains(word), "no {word:?} in {output}");
    }
    assert!(!output.contains("pa55word"), "{output}");
    finished
}
