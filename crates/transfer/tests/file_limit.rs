//! The process's own limit on the size of files. Alone in its process, which it holds to that
//! limit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use rustix::process::{Resource, Rlimit, setrlimit};
use transfer::{
    Kind,
    sink::{self, Overwrite},
};

/// The kernel would end the process by SIGXFSZ.
#[test]
fn a_disk_beyond_the_limit_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let limit = Rlimit {
        current: Some(1 << 20),
        maximum: None,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let sink = sink::open(&path, Overwrite::Refuse).unwrap();
    let error = sink.prepare((1 << 20) + 1).unwrap_err();
    assert_eq!(error.kind(), Kind::TargetFull);
    assert!(error.chain().contains("RLIMIT_FSIZE"), "{}", error.chain());
    assert!(!path.exists());
    sink.prepare(1 << 20).unwrap();
    sink.write_at(&[1; 4096], (1 << 20) - 4096).unwrap();
    sink.close().unwrap();

    std::fs::write(&path, "old").unwrap();
    let sink = sink::open(&path, Overwrite::Allow).unwrap();
    let error = sink.prepare((1 << 20) + 1).unwrap_err();
    assert_eq!(error.kind(), Kind::TargetFull);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}
