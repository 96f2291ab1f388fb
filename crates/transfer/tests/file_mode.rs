//! The mode of a new file. A program of its own: the umask is the whole process's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt;

use transfer::sink::{self, Overwrite};

#[test]
fn a_new_file_is_made_when_the_copy_begins_for_owner_and_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let sink = sink::open(&path, Overwrite::Refuse).unwrap();
    assert!(!path.exists());
    sink.prepare(5).unwrap();
    rustix::process::umask(before);
    sink.close().unwrap();
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    assert_eq!(metadata.len(), 5);
}
