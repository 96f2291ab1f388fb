//! [`transfer::sink::FileSink`] on ext4 and tmpfs.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use testkit::{Volume, image};
use transfer::{
    ByteRange, Kind, Sink,
    sink::{self, Overwrite},
};

use crate::support::{Memory, assert_fails, assert_holds, cached_bytes, perform, steps};

const MIB: u64 = 1 << 20;

fn open(path: &Path) -> Box<dyn Sink> {
    sink::open(path, Overwrite::Refuse).unwrap()
}

fn volumes() -> [Volume; 2] {
    [Volume::ext4(64 * MIB), Volume::tmpfs(64 * MIB)]
}

#[test]
fn any_write_and_any_zero_lands_where_it_belongs() {
    for volume in volumes() {
        let path = volume.path("disk.img");
        // No multiple of anything.
        let size = 4 * MIB + 777;
        let sink = open(&path);
        assert_eq!(sink.capacity(), u64::MAX);
        sink.prepare(size).unwrap();
        assert!(sink.is_blank());
        let mut model = vec![0; usize::try_from(size).unwrap()];
        perform(&*sink, &steps(3, size, 200), &mut model);
        sink.sync().unwrap();
        assert_holds(&path, &model);
        sink.close().unwrap();
        assert_holds(&path, &model);
        assert_eq!(path.metadata().unwrap().len(), size);
    }
}

#[test]
fn what_is_not_written_takes_no_room() {
    for volume in volumes() {
        let path = volume.path("disk.img");
        let sink = open(&path);
        sink.prepare(1 << 40).unwrap();
        let content = Memory::holding(&[1; 4096], 0);
        sink.write_at(content.get(), (1 << 40) - 4096).unwrap();
        sink.write_at(content.get(), 4096).unwrap();
        sink.sync().unwrap();
        assert_eq!(path.metadata().unwrap().len(), 1 << 40);
        let written = image::allocated_bytes(&path);
        assert!(written < MIB, "{written}");
        // What is zeroed again is given back.
        sink.zero(ByteRange::new(0, 1 << 40)).unwrap();
        sink.close().unwrap();
        assert!(image::allocated_bytes(&path) < written);
    }
}

#[test]
fn a_sink_that_is_never_prepared_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let sink = open(&path);
    assert_fails(sink.write_at(&[1], 0), Kind::TargetTooSmall, &[]);
    sink.close().unwrap();
    assert!(!path.exists());
}

#[test]
fn an_old_file_is_kept_unless_it_may_be_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    fs::write(&path, vec![0xFF; 100_000]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_fails(
        sink::open(&path, Overwrite::Refuse),
        Kind::TargetExists,
        &["100000", "--force"],
    );
    assert_eq!(fs::read(&path).unwrap(), vec![0xFF; 100_000]);

    let sink = sink::open(&path, Overwrite::Allow).unwrap();
    // Not even then before the copy begins.
    let before = path.metadata().unwrap();
    assert_eq!((before.len(), before.mode() & 0o7777), (100_000, 0o600));
    let inode = path.metadata().unwrap().ino();
    sink.prepare(50_001).unwrap();
    sink.write_at(&[1; 10], 20).unwrap();
    sink.close().unwrap();
    let mut model = vec![0; 50_001];
    model[20..30].fill(1);
    assert_eq!(fs::read(&path).unwrap(), model);
    assert_eq!(path.metadata().unwrap().ino(), inode);
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o660);
}

#[test]
fn an_empty_file_may_always_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    fs::write(&path, "").unwrap();
    let sink = open(&path);
    sink.prepare(3).unwrap();
    sink.close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), [0; 3]);
}

#[test]
fn a_file_that_appears_in_the_meantime_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let sink = open(&path);
    fs::write(&path, "somebody else's").unwrap();
    assert_fails(sink.prepare(5), Kind::TargetExists, &["--force"]);
    assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
}

#[test]
fn every_attempt_begins_with_a_blank_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let sink = open(&path);
    sink.prepare(10_000).unwrap();
    sink.write_at(&[1; 10_000], 0).unwrap();
    sink.prepare(10_000).unwrap();
    assert!(sink.is_blank());
    sink.close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), vec![0; 10_000]);
}

#[test]
fn nothing_is_written_beyond_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let sink = open(&path);
    sink.prepare(10_000).unwrap();
    assert_fails(sink.write_at(&[1; 2], 9_999), Kind::TargetTooSmall, &[]);
    assert_fails(sink.write_at(&[1; 2], u64::MAX), Kind::TargetTooSmall, &[]);
    assert_fails(
        sink.zero(ByteRange::new(0, 10_001)),
        Kind::TargetTooSmall,
        &[],
    );
    sink.close().unwrap();
    assert_eq!(path.metadata().unwrap().len(), 10_000);
}

#[test]
fn a_full_file_system_is_named_with_what_is_free() {
    for volume in [Volume::ext4(4 * MIB), Volume::tmpfs(4 * MIB)] {
        for shift in [0, 1] {
            let path = volume.path(&format!("disk-{shift}.img"));
            let sink = open(&path);
            sink.prepare(16 * MIB).unwrap();
            let content = Memory::holding(&vec![1; 1 << 20], shift);
            let failed = (0..16).find_map(|at| sink.write_at(content.get(), at * MIB).err());
            let failed = failed.map_or_else(|| sink.sync(), Err);
            assert_fails(failed, Kind::TargetFull, &["bytes free", "write"]);
            drop(sink);
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn whole_pages_do_not_pass_through_the_page_cache() {
    let volume = Volume::ext4(64 * MIB);
    let path = volume.path("disk.img");
    let sink = open(&path);
    sink.prepare(16 * MIB + 100).unwrap();
    let content = Memory::holding(&vec![1; 1 << 20], 0);
    for at in 0..16 {
        sink.write_at(content.get(), at * MIB).unwrap();
    }
    sink.write_at(&content.get()[..100], 16 * MIB).unwrap();
    let cached = cached_bytes(&path);
    assert!(cached <= 65536, "{cached} bytes are cached");
    sink.close().unwrap();
    assert_holds(&path, &vec![1; (16 << 20) + 100]);
}

#[test]
fn buffered_writing_leaves_the_page_cache_to_others() {
    let volume = Volume::ext4(256 * MIB);
    let path = volume.path("disk.img");
    let sink = open(&path);
    sink.prepare(192 * MIB).unwrap();
    // Memory that direct I/O does not take.
    let content = Memory::holding(&vec![1; 1 << 20], 1);
    for at in 0..192 {
        sink.write_at(content.get(), at * MIB).unwrap();
    }
    let cached = cached_bytes(&path);
    assert!(
        cached <= 64 * MIB,
        "{cached} bytes are cached before the sync"
    );
    sink.sync().unwrap();
    let cached = cached_bytes(&path);
    assert!(cached <= MIB, "{cached} bytes are cached after the sync");
    sink.close().unwrap();
    assert_eq!(path.metadata().unwrap().len(), 192 * MIB);
}
