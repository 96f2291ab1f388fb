//! [`transfer::sink::BlockSink`] on loop devices full of 0xFF.

use std::{os::unix::fs::FileExt, thread};

use testkit::{LoopDevice, Volume};
use transfer::{
    ByteRange, Kind, Sink,
    sink::{self, Overwrite},
};

use crate::support::{Attached, Memory, assert_fails, assert_holds, make_file, perform, steps};

const SECTORS: [u32; 2] = [512, 4096];
const MIB: u64 = 1 << 20;
/// No multiple of anything here: every page has two writers or more.
const PIECE: usize = 1000;

fn open(device: &LoopDevice) -> Box<dyn Sink> {
    sink::open(device.path(), Overwrite::Refuse).unwrap()
}

#[test]
fn any_write_and_any_zero_lands_where_it_belongs_and_nowhere_else() {
    for sector in SECTORS {
        // The disk ends within a page, the device later.
        let (size, capacity) = (4 * MIB + 512, 5 * MIB);
        let device = LoopDevice::new(capacity, sector);
        let sink = open(&device);
        assert_eq!(sink.capacity(), capacity);
        assert!(!sink.is_blank());
        sink.prepare(size).unwrap();
        let mut model = vec![0xFF; usize::try_from(capacity).unwrap()];
        perform(&*sink, &steps(u64::from(sector), size, 200), &mut model);
        sink.sync().unwrap();
        assert_holds(device.path(), &model);
        sink.close().unwrap();
        assert_holds(device.path(), &model);
    }
}

#[test]
fn zeroing_the_whole_device_makes_it_read_as_zero_and_gives_storage_back() {
    for sector in SECTORS {
        let device = LoopDevice::new(4 * MIB, sector);
        let before = device.allocated_bytes();
        let sink = open(&device);
        sink.zero(ByteRange::new(0, 4 * MIB)).unwrap();
        sink.close().unwrap();
        assert_holds(device.path(), &vec![0; 4 << 20]);
        assert!(
            device.allocated_bytes() < before / 4,
            "{} of {before} bytes are still allocated",
            device.allocated_bytes()
        );
    }
}

#[test]
fn what_others_have_read_into_the_page_cache_is_not_seen_again() {
    let device = LoopDevice::new(MIB, 512);
    let reader = std::fs::File::open(device.path()).unwrap();
    let mut byte = [0; 1];
    let look = |byte: &mut [u8; 1], at| reader.read_exact_at(byte, at).unwrap();
    look(&mut byte, 0);
    look(&mut byte, 8192);
    assert_eq!(byte, [0xFF]);
    let sink = open(&device);
    sink.write_at(Memory::holding(&[7; 8192], 0).get(), 0)
        .unwrap();
    sink.zero(ByteRange::new(8192, 16384)).unwrap();
    look(&mut byte, 0);
    assert_eq!(byte, [7]);
    look(&mut byte, 8192);
    assert_eq!(byte, [0]);
}

#[test]
fn writers_of_neighbouring_bytes_do_not_disturb_each_other() {
    for sector in SECTORS {
        let device = LoopDevice::new(MIB, sector);
        let sink = open(&device);
        thread::scope(|scope| {
            for thread in 0..4 {
                let sink = &sink;
                scope.spawn(move || {
                    for index in (thread..1000).step_by(4) {
                        let content = vec![u8::try_from(index % 251).unwrap(); PIECE];
                        sink.write_at(&content, (index * PIECE) as u64).unwrap();
                    }
                });
            }
            // Beside them whole pages, directly.
            scope.spawn(|| {
                let content = Memory::holding(&[0xAB; 4096], 0);
                for at in (1_003_520..MIB).step_by(4096) {
                    sink.write_at(content.get(), at).unwrap();
                }
            });
        });
        sink.close().unwrap();
        let mut model = vec![0xFF; 1 << 20];
        for index in 0..1000 {
            model[index * PIECE..(index + 1) * PIECE].fill(u8::try_from(index % 251).unwrap());
        }
        model[1_003_520..].fill(0xAB);
        assert_holds(device.path(), &model);
    }
}

#[test]
fn a_device_may_be_larger_but_not_smaller_than_the_disk() {
    let device = LoopDevice::new(MIB, 512);
    let sink = open(&device);
    sink.prepare(MIB).unwrap();
    sink.prepare(0).unwrap();
    assert_fails(
        sink.prepare(MIB + 1),
        Kind::TargetTooSmall,
        &["1048576", "1048577"],
    );
    for (offset, len) in [(MIB, 1), (MIB - 1, 2), (u64::MAX, 1)] {
        let content = vec![0; len];
        assert_fails(sink.write_at(&content, offset), Kind::TargetTooSmall, &[]);
    }
    assert_fails(
        sink.zero(ByteRange::new(0, MIB + 1)),
        Kind::TargetTooSmall,
        &[],
    );
    assert_holds(device.path(), &vec![0xFF; 1 << 20]);
}

#[test]
fn a_read_only_device_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backing");
    make_file(&file, MIB);
    let device = Attached::over(&file, &["--read-only"]);
    assert_fails(
        sink::open(device.path(), Overwrite::Refuse),
        Kind::TargetDenied,
        &["read-only"],
    );
}

/// The backing file of the device is on a file system that is too small for it, as in an
/// overcommitted thin pool.
#[test]
fn a_write_that_the_storage_loses_is_an_error_at_the_latest_at_the_sync() {
    let volume = Volume::tmpfs(2 * MIB);
    let file = volume.path("backing");
    make_file(&file, 16 * MIB);
    let device = Attached::over(&file, &[]);

    let direct = sink::open(device.path(), Overwrite::Refuse).unwrap();
    let content = Memory::holding(&vec![1; 8 << 20], 0);
    assert!(direct.write_at(content.get(), 0).is_err());
    drop(direct);

    let buffered = sink::open(device.path(), Overwrite::Refuse).unwrap();
    let content = Memory::holding(&vec![1; 8 << 20], 1);
    let written = buffered.write_at(content.get(), 0);
    assert!(written.is_err() || buffered.sync().is_err());
    // The kernel says it once, the sink for ever.
    assert_fails(buffered.sync(), Kind::TargetIo, &["earlier"]);
    assert!(buffered.close().is_err());
}
