//! Tests of the built binaries on real services, and what they share: the services' addresses from
//! the environment, the stand-in engine's knobs, image and volume services to fill, and the movers'
//! command lines.
//!
//! Everything here needs `tests/services/run` around it; `make services` does that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "tests fail by panicking, and builders are used where they are made"
)]

pub mod cinder;
pub mod curl;
pub mod engine;
pub mod glance;
pub mod mover;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use cinder::{Cinder, Volume};
pub use engine::{Engine, EngineDisk, User};
pub use glance::{Glance, Image};
pub use mover::{assert_exit, openstack, ovirt};

/// How long something may take before a test fails. Generous: reached only when something hangs.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Between two questions about a state whose changes are not announced.
const PAUSE: Duration = Duration::from_millis(10);

/// A variable of the environment that `tests/services/run` or the Makefile sets.
#[track_caller]
#[allow(
    clippy::disallowed_methods,
    reason = "the environment is how a test learns where the services are"
)]
pub fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; run these tests with `make services`"))
}

/// A built binary of the workspace.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let path = Path::new(&variable("POPULATOR_BIN_DIR")).join(name);
    assert!(
        path.is_file(),
        "{} does not exist; run these tests with `make services`, which builds it",
        path.display()
    );
    path
}

/// Repeats the question until the answer is yes, with a pause that leaves the processor to what is asked.
#[track_caller]
#[allow(
    clippy::disallowed_methods,
    reason = "another process is waited for, whose time no clock of ours can move"
)]
pub fn eventually(what: &str, mut question: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !question() {
        assert!(begun.elapsed() < DEADLINE, "did not happen: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// A random UUID (version 4), in lower case.
pub fn uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xF << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

/// A folder for one test's files; removed when dropped.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A new file full of `0xFF`.
pub fn filled_file(path: &Path, size: u64) {
    std::fs::File::create_new(path)
        .unwrap()
        .set_len(size)
        .unwrap();
    testkit::image::fill(path, 0xFF);
}

/// Fails unless every byte of the file or device from `start` on is `0xFF`.
#[track_caller]
pub fn assert_untouched(path: &Path, start: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).unwrap();
    let size = testkit::image::size_of(path);
    let mut block = vec![0; 1 << 20];
    let mut at = start;
    while at < size {
        let length = usize::try_from((size - at).min(block.len() as u64)).unwrap();
        file.read_exact_at(&mut block[..length], at).unwrap();
        let touched = block[..length].iter().position(|byte| *byte != 0xFF);
        let name = path.display();
        assert_eq!(touched, None, "{name} was written at {at} or after");
        at += length as u64;
    }
}
