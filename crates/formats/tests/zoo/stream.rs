//! Images that come once, from their first byte to their last. That one pass gives the same disk as ranges do is
//! compared for each sound image of these tests (`read.rs`); here is which of them it reads.

use std::{fs, io::Read};

use formats::{Error, Format, Kind, Limits, Stream, Unwrap};
use testkit::qemu::{self, Qemu, disk};

use crate::read::in_one_pass;

const M: u64 = 1 << 20;

#[test]
fn images_that_were_written_in_one_go_are_read() {
    let qemu = Qemu::new();
    let disk = disk(11, (150 << 20) + 512, 3 << 20);
    let raw = qemu.raw("disk.raw", &disk);
    for (format, name, options) in [
        (Format::Qcow2, "qcow2", "cluster_size=65536"),
        // Tables of 2 MiB of the disk each, between the data.
        (Format::Qcow2, "qcow2", "cluster_size=4096"),
        (Format::Qcow2, "qcow2", "cluster_size=65536,extended_l2=on"),
        (Format::Qcow2, "qcow2", "preallocation=metadata"),
        (Format::Vmdk, "vmdk", "subformat=monolithicSparse"),
        (Format::Vmdk, "vmdk", "subformat=streamOptimized"),
        (Format::Vdi, "vdi", "static=off"),
        (Format::Vhd, "vpc", "subformat=dynamic,force_size=on"),
        (Format::Vhdx, "vhdx", "subformat=dynamic"),
    ] {
        let image = qemu.convert(&raw, name, &["-o", options]);
        let once = in_one_pass(&fs::read(image).unwrap(), format);
        let once = once.unwrap_or_else(|error| panic!("{name}, {options}: {error}"));
        assert!(once == disk, "{name}, {options}");
    }
    for kind in ["zlib", "zstd"] {
        let options = format!("compression_type={kind}");
        let image = qemu.convert(&raw, "qcow2", &["-c", "-o", &options]);
        let once = in_one_pass(&fs::read(image).unwrap(), Format::Qcow2).unwrap();
        assert!(once == disk, "{kind}");
    }
}

#[test]
fn the_size_of_the_file_need_not_be_known() {
    let qemu = Qemu::new();
    let disk = disk(12, 70 << 20, 3 << 20);
    let raw = qemu.raw("disk.raw", &disk);
    let image = fs::read(qemu.convert(&raw, "qcow2", &["-c"])).unwrap();
    let packed = zstd(&image);
    let unwrap = Unwrap::new(&packed[..], Format::Zstd, Limits::output(u64::MAX)).unwrap();
    let mut stream = Stream::open(unwrap, Format::Qcow2, None).unwrap();
    let mut data = 0;
    while let Some(run) = stream.next_run().unwrap() {
        if let formats::Run::Data { offset, bytes } = run {
            let at = usize::try_from(offset).unwrap();
            assert!(disk[at..at + bytes.len()] == *bytes, "{offset}");
            data += bytes.len();
        }
    }
    assert!(data > 0);
}

#[test]
fn a_table_that_comes_after_its_data_is_refused_before_bytes_are_lost() {
    let qemu = Qemu::new();
    let size = 3 << 30;
    // The second table is made first, and lies in front of the first one's data.
    let image = qemu.create("qcow2", "cluster_size=65536", size);
    let writes: Vec<_> = [2 << 30, 1 << 30, 0]
        .into_iter()
        .flat_map(|start: u64| {
            (0..10).map(move |step| format!("write -P 7 {} 1M", start + step * M))
        })
        .collect();
    qemu::io("qcow2", &image, &writes);
    let error = drain(&fs::read(&image).unwrap(), Format::Qcow2, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Order, "{error}");
    // In 8 MiB of the file any order will do.
    let image = qemu.create("qcow2", "cluster_size=65536", size);
    let writes = [2_u64 << 30, 1 << 30, 0].map(|start| format!("write -P 7 {start} 1M"));
    qemu::io("qcow2", &image, &writes);
    assert_eq!(
        drain(&fs::read(&image).unwrap(), Format::Qcow2, None).unwrap(),
        size
    );
}

/// Its tables are longer than a slice, and what is in front of the data than the window.
#[test]
fn tables_of_large_disks_are_held() {
    let qemu = Qemu::new();
    for (format, name, options, size) in [
        (
            Format::Vmdk,
            "vmdk",
            "subformat=monolithicSparse",
            200_u64 << 30,
        ),
        (Format::Vmdk, "vmdk", "subformat=streamOptimized", 200 << 30),
        (Format::Qcow2, "qcow2", "cluster_size=65536", 3 << 40),
        (Format::Qcow2, "qcow2", "cluster_size=4096", 64 << 30),
        (
            Format::Vhd,
            "vpc",
            "subformat=dynamic,force_size=on",
            200 << 30,
        ),
        (Format::Vhdx, "vhdx", "subformat=dynamic", 2 << 40),
        (Format::Vdi, "vdi", "static=off", 1 << 40),
    ] {
        let image = qemu.create(name, options, size);
        // In the order of the disk, with more than the window between the first and the last.
        let grains = (0..12).map(|part| (size / 12 * part).next_multiple_of(64 << 10));
        let what = if options.contains("stream") {
            |at| format!("write -c -P 7 {at} 64k")
        } else {
            |at| format!("write -P 7 {at} 1M")
        };
        let writes: Vec<_> = grains.map(what).collect();
        qemu::io(name, &image, &writes);
        let drained = drain(&fs::read(&image).unwrap(), format, None);
        let drained = drained.unwrap_or_else(|error| panic!("{name}, {options}: {error}"));
        assert!(drained >= size, "{name}, {options}");
    }
}

/// Where the size of the file is not known, nothing else says that there is no such table.
#[test]
fn a_table_behind_the_end_of_the_file_is_cut_off() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(16, 1 << 20, 1 << 18));
    let mut file = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let entry = 1_u64 << 40 | 1 << 63;
    let tables = place(&file, 40);
    file[tables..tables + 8].copy_from_slice(&entry.to_be_bytes());
    let error = drain(&file, Format::Qcow2, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Truncated, "{error}");
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(13, 20 << 20, 1 << 20));
    for (format, name) in [
        (Format::Qcow2, "qcow2"),
        (Format::Vmdk, "vmdk"),
        (Format::Vdi, "vdi"),
    ] {
        let file = fs::read(qemu.convert(&raw, name, &[])).unwrap();
        // QEMU leaves up to a cluster behind the data.
        for end in [70_000, file.len() / 2, file.len() - (1 << 20)] {
            for size in [Some(end as u64), None] {
                let error = drain(&file[..end], format, size).unwrap_err();
                assert_eq!(error.kind(), Kind::Truncated, "{name} {end}: {error}");
            }
        }
    }
}

/// The last part of the disk in the file is described by a table behind it.
#[test]
fn data_in_front_of_its_table_is_not_guessed() {
    let qemu = Qemu::new();
    for (size, is_held) in [(4 << 20, true), (20 << 20, false)] {
        let raw = qemu.raw("disk.raw", &vec![7; size]);
        let mut file = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
        file.resize(file.len().next_multiple_of(65536), 0);
        let tables = place(&file, 40);
        let (table, end) = (place(&file, tables), file.len());
        file.extend_from_within(table..table + 65536);
        let entry = end as u64 | 1 << 63;
        file[tables..tables + 8].copy_from_slice(&entry.to_be_bytes());
        let once = in_one_pass(&file, Format::Qcow2);
        if is_held {
            assert!(once.unwrap().iter().all(|byte| *byte == 7));
        } else {
            assert_eq!(once.unwrap_err().kind(), Kind::Order);
        }
    }
}

/// The offset in the file that the entry at `at` of a qcow2's table names.
fn place(file: &[u8], at: usize) -> usize {
    let bytes = file[at..].first_chunk().unwrap();
    usize::try_from(u64::from_be_bytes(*bytes) & 0x00ff_ffff_ffff_fe00).unwrap()
}

#[test]
fn two_entries_cannot_name_the_same_bytes() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &vec![7; 20 << 20]);
    let mut file = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    // The first entry of the table of tables, which the header names, names the table of the first 512 MiB.
    let table = place(&file, place(&file, 40));
    for (from, to) in [(0, 1), (0, 200), (200, 0), (199, 200)] {
        let mut copy = file.clone();
        copy.copy_within(table + from * 8..table + from * 8 + 8, table + to * 8);
        let error = in_one_pass(&copy, Format::Qcow2).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{from} {to}: {error}");
    }
    // Half a cluster further: it shares bytes with two others.
    file[table + 6] ^= 0x80;
    let error = in_one_pass(&file, Format::Qcow2).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[test]
fn the_footer_of_a_fixed_vhd_shows_at_the_end() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(14, 4 << 20, 1 << 20));
    let fixed =
        fs::read(qemu.convert(&raw, "vpc", &["-o", "subformat=fixed,force_size=on"])).unwrap();
    let mut file = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    file.extend(&fixed[fixed.len() - 512..]);
    assert_eq!(
        in_one_pass(&file, Format::Qcow2).unwrap_err().kind(),
        Kind::Ambiguous
    );
    assert!(
        in_one_pass(&fixed, Format::Vhd).is_ok(),
        "all of it is held"
    );
}

#[test]
fn an_error_of_the_file_comes_back_as_its_cause() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(std::io::Error::other("the line is cut")),
                count => Ok(count),
            }
        }
    }
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(15, 20 << 20, 1 << 20));
    let file = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    for end in [100, 5 << 20] {
        let opened = Stream::open(Failing(&file[..end]), Format::Qcow2, None);
        let error = opened.and_then(|mut stream| {
            while stream.next_run()?.is_some() {}
            Ok(())
        });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), Kind::Read);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "the line is cut");
    }
}

/// Reads it to its end; how large the disk is.
fn drain(file: &[u8], format: Format, size: Option<u64>) -> Result<u64, Error> {
    let mut stream = Stream::open(file, format, size)?;
    while stream.next_run()?.is_some() {}
    Ok(stream.info().virtual_size)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}
