//! Images of every format that is read, made by `qemu-img`, copied by the engine and compared with what QEMU reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{fs, num::NonZeroUsize, path::Path, sync::Arc};

use net::Cancel;
use openstack_populator::disk_image::DiskImage;
use support::Leap;
use testkit::{
    Disk,
    qemu::{self, Qemu, commands, disk},
};
use transfer::{
    Access, ByteRange, Content, Controls, Error, Kind, Options, Progress, Source, copy,
    sink::MemorySink,
    source::{MemorySource, SourceCall, Trouble, When},
};

const MIB: u64 = 1 << 20;

fn open(file: &MemorySource) -> Result<DiskImage, Error> {
    DiskImage::open(Arc::new(file.clone()), &Cancel::new())
}

/// What the engine writes.
fn copied(image: &DiskImage, connections: usize) -> Result<Vec<u8>, Error> {
    let options = Options {
        connections: NonZeroUsize::new(connections).unwrap(),
        ..Options::default()
    };
    let controls = Controls {
        clock: Arc::new(Leap::default()),
        cancel: Cancel::new(),
        progress: Arc::new(Progress::new()),
        seed: 1,
    };
    let sink = MemorySink::file();
    copy(image, &sink, &options, &controls)?;
    Ok(sink.content())
}

fn file(path: &Path) -> MemorySource {
    MemorySource::new(fs::read(path).unwrap())
}

/// Ranges of the file that were asked for since it was opened, as (start, length).
fn requests(file: &MemorySource) -> Vec<(u64, u64)> {
    let begun = file.calls().into_iter().filter_map(|call| match call {
        SourceCall::Begin(range) => Some((range.start(), range.len())),
        _ => None,
    });
    begun.collect()
}

#[test]
fn every_format_arrives_as_the_disk_that_it_holds() {
    let qemu = Qemu::new();
    // Not a multiple of a cluster; a vhd rounds it up.
    let bytes = disk(5, (9 << 20) + 7 * 512, 300_000);
    let raw = qemu.raw("disk.raw", &bytes);
    for (format, arguments) in [
        ("qcow2", &["-o", "compat=0.10"][..]),
        ("qcow2", &["-o", "cluster_size=512"]),
        ("qcow2", &["-o", "cluster_size=2M"]),
        ("qcow2", &["-o", "extended_l2=on,cluster_size=128k"]),
        ("qcow2", &["-c"]),
        ("qcow2", &["-c", "-o", "compression_type=zstd"]),
        ("qcow2", &["-c", "-o", "cluster_size=4k"]),
        ("vmdk", &[]),
        ("vmdk", &["-o", "subformat=streamOptimized"]),
        ("vdi", &[]),
        ("vdi", &["-o", "static=on"]),
        ("vpc", &[]),
        ("vpc", &["-o", "subformat=fixed"]),
        ("vhdx", &[]),
    ] {
        let path = qemu.convert(&raw, format, arguments);
        let expected = qemu.read(format, &path);
        for connections in [1, 4] {
            let file = file(&path);
            let image = open(&file).unwrap();
            assert_eq!(image.size(), expected.len() as u64);
            let found = copied(&image, connections).unwrap();
            assert!(found == expected, "{format} {arguments:?} by {connections}");
        }
    }
}

#[test]
fn a_disk_that_was_written_in_no_order_arrives_in_its_own() {
    let qemu = Qemu::new();
    for (seed, cluster) in [(4, 65536), (2, 4096), (3, 512)] {
        let size = 6 * MIB + 512 * seed;
        let path = qemu.create("qcow2", &format!("cluster_size={cluster}"), size);
        qemu::io("qcow2", &path, &commands(seed, 120, size, cluster));
        let expected = qemu.read("qcow2", &path);
        for connections in [1, 3] {
            let file = file(&path);
            let image = open(&file).unwrap();
            let found = copied(&image, connections).unwrap();
            assert!(found == expected, "{seed} by {connections}");
            // A request does not go on over what lies far away.
            let read: u64 = requests(&file).iter().map(|(_, length)| length).sum();
            assert!(read < 8 * file.size() + MIB, "{read} of {}", file.size());
        }
    }
}

/// Also one that begins or ends within a cluster, and one behind another on the same reader.
#[test]
fn any_range_can_be_read() {
    let qemu = Qemu::new();
    let bytes = disk(6, 5 << 20, 150_000);
    let raw = qemu.raw("disk.raw", &bytes);
    for (format, arguments) in [
        ("qcow2", &[][..]),
        ("qcow2", &["-c"]),
        ("qcow2", &["-c", "-o", "cluster_size=2M"]),
        ("vmdk", &["-o", "subformat=streamOptimized"]),
    ] {
        let image = open(&file(&qemu.convert(&raw, format, arguments))).unwrap();
        let mut reader = image.reader(&Cancel::new()).unwrap();
        for number in 0..300 {
            let start = number * 911_111 % bytes.len();
            let end = bytes.len().min(start + number * 7919 % 200_000);
            reader
                .begin(ByteRange::new(start as u64, end as u64))
                .unwrap();
            let mut found = vec![1; end - start];
            let (front, back) = found.split_at_mut((end - start) / 3);
            reader.fill(front).unwrap();
            reader.fill(back).unwrap();
            assert!(found == bytes[start..end], "{format} {start}..{end}");
        }
    }
}

/// An ordinary image is read by few long requests, and its holes by none.
#[test]
fn holes_are_not_downloaded_and_requests_are_long() {
    let qemu = Qemu::new();
    let parts = [8 << 20..24 << 20, 80 << 20..96 << 20];
    let disk = Disk::sparse(7, 96 << 20, &parts);
    let bytes = disk.bytes();
    let raw = qemu.raw("disk.raw", bytes);
    for (arguments, most) in [(&[][..], 14), (&["-c"][..], 14)] {
        let path = qemu.convert(&raw, "qcow2", arguments);
        let file = file(&path);
        let image = open(&file).unwrap();
        assert_eq!(image.data(), 32 << 20);
        let extents = image.extents(ByteRange::new(0, image.size())).unwrap();
        let zeroes = extents
            .iter()
            .filter(|extent| extent.content == Content::Zero);
        assert_eq!(
            zeroes.map(|extent| extent.range.len()).sum::<u64>(),
            64 << 20
        );
        assert!(copied(&image, 1).unwrap() == bytes);
        let requests = requests(&file);
        let read: u64 = requests.iter().map(|(_, length)| length).sum();
        assert!(requests.len() <= most, "{arguments:?}: {requests:?}");
        assert!(read < file.size() + MIB, "{read} of {}", file.size());
    }
}

#[test]
fn what_fails_on_the_way_is_asked_for_again() {
    let qemu = Qemu::new();
    let bytes = disk(9, 12 << 20, 900_000);
    let raw = qemu.raw("disk.raw", &bytes);
    for arguments in [&[][..], &["-c"]] {
        let path = qemu.convert(&raw, "qcow2", arguments);
        let whole = file(&path);
        let image = open(&whole).unwrap();
        copied(&image, 1).unwrap();
        let opening = requests(&file(&path)).len() as u64;
        let all = requests(&whole).len() as u64;
        assert!(all > opening);
        for number in 0..all {
            let faulty =
                file(&path).with_fault(When::Request(number), 1, Trouble::Error(Kind::Network));
            // What opens an image is tried again by its caller.
            let image = open(&faulty).or_else(|error| {
                assert_eq!(error.kind(), Kind::Network);
                open(&faulty)
            });
            assert!(copied(&image.unwrap(), 1).unwrap() == bytes, "{number}");
        }
        for byte in (0..whole.size()).step_by(777_777) {
            let faulty = file(&path).with_fault(When::Byte(byte), 1, Trouble::Error(Kind::Network));
            let image = open(&faulty).or_else(|_| open(&faulty));
            assert!(copied(&image.unwrap(), 2).unwrap() == bytes, "{byte}");
        }
    }
}

#[test]
fn what_cannot_be_read_whole_is_refused_before_anything_is_written() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(3, 3 << 20, 100_000));
    let path = qemu.convert(&raw, "qcow2", &["-c"]);
    let bytes = fs::read(&path).unwrap();
    let refused = |bytes: Vec<u8>| open(&MemorySource::new(bytes)).map(drop).unwrap_err();

    let cut = refused(bytes[..bytes.len() / 2].to_vec());
    assert_eq!(cut.kind(), Kind::Unusable);
    assert!(cut.to_string().contains("upload"), "{cut}");

    let backed = qemu.path("backed");
    let base = format!("backing_file={},backing_fmt=raw", raw.display());
    qemu::img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        &base,
        backed.to_str().unwrap(),
    ]);
    let backed = refused(fs::read(backed).unwrap());
    assert!(backed.to_string().contains("backing file"), "{backed}");

    let ordered = MemorySource::new(bytes).with_access(Access::Ordered);
    let ordered = open(&ordered).map(drop).unwrap_err();
    assert_eq!(ordered.kind(), Kind::Unusable);
    assert!(ordered.to_string().contains("ranges"), "{ordered}");
}

/// The source has no flag of its own for its map: without the one that it was opened with, this would never end.
#[test]
fn a_look_at_the_tables_ends_when_it_is_cancelled() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(2, 1 << 20, 100_000));
    let file = file(&qemu.convert(&raw, "qcow2", &[]));
    let cancel = Cancel::new();
    let image = DiskImage::open(Arc::new(file.clone()), &cancel).unwrap();
    let next = requests(&file).len() as u64;
    let _ = file.with_fault(When::Request(next), 1, Trouble::Hang);
    cancel.cancel();
    let error = image.extents(ByteRange::new(0, image.size())).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled, "{error}");
}

/// A packed cluster without a checksum: what its bytes unpack to is known only when they are read.
#[test]
fn a_damaged_cluster_ends_the_copy_with_its_place() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(4, 2 << 20, 100_000));
    let path = qemu.convert(&raw, "qcow2", &["-c"]);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 4096;
    bytes[end - 8192..end].fill(0xff);
    let image = open(&MemorySource::new(bytes)).unwrap();
    let error = copied(&image, 1).unwrap_err();
    assert_eq!(error.kind(), Kind::Unusable, "{error}");
    assert!(error.to_string().contains("compressed cluster"), "{error}");
}
