//! Large disks in sparse files: what a check reads of them.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use formats::{Image, ReadAhead, ReadAt, ReadError};

use testkit::qemu::{self, Qemu};

const G: u64 = 1 << 30;

/// A file that is too large to be held; counts what is read of it.
pub(crate) struct Counted {
    file: File,
    pub(crate) bytes: u64,
    pub(crate) reads: u64,
    largest: usize,
}

impl Counted {
    pub(crate) fn open(path: &Path) -> Self {
        Self {
            file: File::open(path).unwrap(),
            bytes: 0,
            reads: 0,
            largest: 0,
        }
    }
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.largest = self.largest.max(buf.len());
        self.bytes += buf.len() as u64;
        self.reads += 1;
        Ok(self.file.read_exact_at(buf, offset)?)
    }
}

#[test]
fn a_check_reads_each_table_twice_at_most() {
    let qemu = Qemu::new();
    for (format, options, size, tables) in [
        (
            "qcow2",
            "preallocation=metadata",
            100 * G,
            100 * G / 65536 * 8,
        ),
        (
            "qcow2",
            "preallocation=metadata,extended_l2=on",
            50 * G,
            50 * G / 65536 * 16,
        ),
        // Directories and tables, and their copies.
        (
            "vmdk",
            "subformat=monolithicSparse",
            200 * G,
            200 * G / 65536 * 4 * 2,
        ),
        ("vdi", "static=on", 500 * G, 500 * 1024 * 4),
        ("vhdx", "block_size=1M", 500 * G, 500 * 1024 * 8),
        ("vpc", "force_size=on", 500 * G, 250 * 1024 * 4),
    ] {
        let image = qemu.create(format, options, size);
        let mut file = Counted::open(&image);
        let image = Image::open(&mut file).unwrap();
        assert!(image.virtual_size() >= size);
        let summary = image.check(&mut file).unwrap();
        // Headers and their copies.
        let most = 2 * tables + (1 << 19);
        assert!(
            file.bytes <= most,
            "{format} {options}: {} of {most}",
            file.bytes
        );
        assert!(file.largest <= 64 << 10);
        assert!(summary.extents < 300, "{format} {options}: {summary:?}");
    }
}

#[test]
fn reading_ahead_makes_few_requests() {
    let qemu = Qemu::new();
    let image = qemu.create("vmdk", "", 200 * G);
    let mut file = Counted::open(&image);
    let image = Image::open(&mut file).unwrap();
    image.check(&mut file).unwrap();
    let alone = file.reads;
    file.reads = 0;
    image
        .check(&mut ReadAhead::new(&mut file, 256 << 10))
        .unwrap();
    assert!(
        file.reads * 50 < alone,
        "{} in place of {alone}",
        file.reads
    );
}

#[test]
fn a_disk_of_four_tebibytes_is_described_by_a_few_extents() {
    let qemu = Qemu::new();
    let image = qemu.create("qcow2", "", 4096 * G);
    let commands: Vec<String> = [0, 1024 * G, 4096 * G - 65536]
        .map(|at| format!("write -P 5 {at} 64k"))
        .into();
    qemu::io("qcow2", &image, &commands);
    let mut file = Counted::open(&image);
    let image = Image::open(&mut file).unwrap();
    let starts: Vec<_> = image
        .extents(&mut file, 0..u64::MAX)
        .map(|extent| extent.unwrap().start)
        .collect();
    assert_eq!(
        starts,
        [0, 65536, 1024 * G, 1024 * G + 65536, 4096 * G - 65536]
    );
    assert!(file.bytes < 1 << 20);
}
