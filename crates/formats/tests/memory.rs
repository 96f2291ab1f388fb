//! Memory of the walks, in a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use formats::{Image, ReadAt, ReadError};
use testkit::qemu;

struct OnDisk(File);

impl ReadAt for OnDisk {
    fn size(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        Ok(self.0.read_exact_at(buf, offset)?)
    }
}

#[test]
fn walks_over_many_packed_clusters_stay_within_the_documented_memory() {
    let qemu = qemu::Qemu::new();
    // More than two batches of what is sorted at a time, and nothing that would be merged.
    let mut disk = vec![0; 136 << 20];
    for (cluster, byte) in disk.chunks_mut(512).zip((1..=255).cycle()) {
        cluster.fill(byte);
    }
    let raw = qemu.raw("disk.raw", &disk);
    drop(disk);
    let image = qemu.convert(&raw, "qcow2", &["-c", "-o", "cluster_size=512"]);
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = most_memory();
    let mut file = OnDisk(File::open(image).unwrap());
    let image = Image::open(&mut file).unwrap();
    let summary = image.check(&mut file).unwrap();
    assert!(summary.compressed > 270_000, "{summary:?}");
    let in_order = image.file_order(&mut file).map(Result::unwrap).count();
    let by_guest = image
        .extents(&mut file, 0..u64::MAX)
        .map(Result::unwrap)
        .count();
    assert_eq!((in_order, by_guest), (by_guest, in_order));
    let grown = most_memory() - before;
    assert!(grown < 10 << 10, "{grown} KiB");
}

/// Largest resident memory since it was cleared, in KiB.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
