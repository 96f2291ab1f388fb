//! Compressed files, unpacked into a scratch file: whole, within bounds, or not at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicU64, Ordering};

use formats::Format;
use net::Cancel;
use openstack_populator::disk_image::{Bound, unpack};
use testkit::qemu::{Qemu, disk};
use transfer::{
    Error, Kind, Source,
    sink::ScratchFile,
    source::{MemorySource, Trouble, When},
};

const PROGRAMS: [(&str, &[&str], Format); 4] = [
    ("gzip", &["-c"], Format::Gzip),
    ("xz", &["-c", "-0"], Format::Xz),
    ("zstd", &["-c", "-q"], Format::Zstd),
    ("bzip2", &["-c", "-1"], Format::Bzip2),
];

const WIDE: Bound = Bound::Folder(u64::MAX);

/// What comes out, and how many bytes were written.
fn unpacked(
    packed: &MemorySource,
    format: Format,
    bound: Bound,
    cancel: &Cancel,
) -> (Result<Vec<u8>, Error>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let into = ScratchFile::create(folder.path()).unwrap();
    let count = AtomicU64::new(0);
    let judge = |_: &[u8]| Ok(bound);
    let result = unpack(packed, format, &into, judge, &count, cancel).map(|size| {
        assert_eq!(size, into.size());
        into.head(usize::MAX).unwrap()
    });
    (result, count.load(Ordering::Relaxed))
}

#[test]
fn what_was_packed_arrives() {
    let qemu = Qemu::new();
    for (seed, size) in [(1, 0), (2, 1), (3, 1 << 20), (4, (5 << 20) + 77)] {
        let bytes = disk(seed, size, 400_000);
        for (program, arguments, format) in PROGRAMS {
            let packed = MemorySource::new(qemu.pack(program, arguments, &bytes));
            let (found, count) = unpacked(&packed, format, WIDE, &Cancel::new());
            assert!(found.unwrap() == bytes, "{program} {size}");
            assert_eq!(count, size as u64);
        }
    }
}

#[test]
fn a_file_that_was_damaged_anywhere_is_an_error_or_the_same_bytes() {
    let qemu = Qemu::new();
    let bytes = disk(5, 1 << 20, 50_000);
    for (program, arguments, format) in PROGRAMS {
        let packed = qemu.pack(program, arguments, &bytes);
        let mut errors = 0;
        for number in 0..60 {
            let mut damaged = packed.clone();
            let at = number * packed.len() / 60;
            damaged[at] ^= 1 << (number % 8);
            let source = MemorySource::new(damaged);
            match unpacked(&source, format, WIDE, &Cancel::new()).0 {
                // Fields that mean nothing for the content: a time, a name.
                Ok(found) => assert!(found == bytes, "{program} {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Unusable, "{error}");
                    errors += 1;
                }
            }
            let cut = MemorySource::new(&packed[..at.max(1)]);
            let error = unpacked(&cut, format, WIDE, &Cancel::new()).0.unwrap_err();
            assert_eq!(error.kind(), Kind::Unusable, "{program} {at}: {error}");
        }
        assert!(errors > 50, "{program}: {errors}");
    }
}

#[test]
fn the_bounds_hold_to_the_byte() {
    let qemu = Qemu::new();
    let file = disk(6, 3 << 20, 50_000);
    let size = file.len() as u64;
    for (program, arguments, format) in PROGRAMS {
        for (bound, kind) in [
            // 512 bytes more may be the footer of a vhd.
            (Bound::Target(size - 512), None),
            (Bound::Target(size - 513), Some(Kind::TargetTooSmall)),
            (Bound::Folder(size), None),
            (Bound::Folder(size - 1), Some(Kind::Configuration)),
        ] {
            let packed = MemorySource::new(qemu.pack(program, arguments, &file));
            let (found, count) = unpacked(&packed, format, bound, &Cancel::new());
            match (found, kind) {
                (Ok(found), None) => assert!(found == file),
                (Err(error), Some(kind)) => {
                    assert_eq!(error.kind(), kind, "{error}");
                    assert!(error.to_string().contains("unpacks to more"), "{error}");
                    assert!(count < size);
                }
                (found, kind) => panic!("{program} {bound:?}: {kind:?} {:?}", found.err()),
            }
        }
    }
}

#[test]
fn a_file_is_judged_before_anything_of_it_is_written() {
    let qemu = Qemu::new();
    for size in [1, 3 << 20] {
        let file = vec![8; size];
        for (program, arguments, format) in PROGRAMS {
            let packed = MemorySource::new(qemu.pack(program, arguments, &file));
            let folder = tempfile::tempdir().unwrap();
            let into = ScratchFile::create(folder.path()).unwrap();
            let judge = |head: &[u8]| {
                assert_eq!(head, &file[..size.min(Format::HEAD)]);
                Err(Error::new(Kind::Unusable, "judged"))
            };
            let count = AtomicU64::new(0);
            let result = unpack(&packed, format, &into, judge, &count, &Cancel::new());
            assert_eq!(result.unwrap_err().to_string(), "judged");
            assert_eq!(count.load(Ordering::Relaxed), 0);
        }
    }
}

#[test]
fn the_compressed_files_own_error_is_shown_as_it_is() {
    let qemu = Qemu::new();
    let bytes = disk(7, 3 << 20, 50_000);
    let packed = qemu.pack("gzip", &["-c"], &bytes);
    let trouble = Trouble::Error(Kind::TargetIo);
    let faulty = MemorySource::new(&packed[..]).with_fault(When::Byte(300_000), 1, trouble);
    let error = unpacked(&faulty, Format::Gzip, WIDE, &Cancel::new()).0;
    assert_eq!(error.unwrap_err().kind(), Kind::TargetIo);

    let cancel = Cancel::new();
    cancel.cancel();
    let (error, count) = unpacked(&MemorySource::new(packed), Format::Gzip, WIDE, &cancel);
    assert_eq!(error.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(count, 0);
}

#[test]
fn it_ends_soon_after_it_is_cancelled() {
    let qemu = Qemu::new();
    // So few packed bytes that all are read before the flag is pulled.
    let packed = MemorySource::new(qemu.pack("gzip", &["-c"], &vec![0; 8 << 20]));
    let folder = tempfile::tempdir().unwrap();
    let into = ScratchFile::create(folder.path()).unwrap();
    let (cancel, count) = (Cancel::new(), AtomicU64::new(0));
    let judge = |_: &[u8]| {
        cancel.cancel();
        Ok(WIDE)
    };
    let result = unpack(&packed, Format::Gzip, &into, judge, &count, &cancel);
    assert_eq!(result.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(count.load(Ordering::Relaxed), 1 << 20);
}
