//! qcow2: versions, cluster sizes, compression, subclusters, snapshots; and what is refused.

use std::{fs, path::Path};

use formats::{Compression, Format, Image, Kind};

use crate::read::{self, assert_same};
use testkit::qemu::{self, Qemu, commands, disk};

const M: u64 = 1 << 20;

fn same(qemu: &Qemu, image: &Path) -> (Image, formats::Summary) {
    assert_same(image, Format::Qcow2, &qemu.read("qcow2", image))
}

#[test]
fn every_cluster_size_is_read_after_random_writes_and_discards() {
    let qemu = Qemu::new();
    for (seed, bits) in (9..=21).enumerate() {
        let cluster = 1_u64 << bits;
        for (version, size) in [("v2", 3 * M + 512), ("v3", 5 * M + 1536)] {
            let compat = if version == "v2" { "0.10" } else { "1.1" };
            let options = format!("compat={compat},cluster_size={cluster}");
            let image = qemu.create("qcow2", &options, size);
            let commands = commands(seed as u64, 150, size, cluster);
            qemu::io("qcow2", &image, &commands);
            let (image, summary) = same(&qemu, &image);
            assert_eq!(image.info().cluster_size, cluster);
            assert_eq!(image.info().version, if version == "v2" { 2 } else { 3 });
            assert!(summary.data > 0, "{summary:?}");
            // A few large clusters are written again before the end.
            assert!(summary.compressed > 0 || bits > 15, "{summary:?}");
        }
    }
}

#[test]
fn subclusters_are_read_after_random_writes_and_discards() {
    let qemu = Qemu::new();
    for (seed, bits) in (14..=21).enumerate() {
        let cluster = 1_u64 << bits;
        let size = 9 * M + 512;
        let options = format!("extended_l2=on,cluster_size={cluster}");
        let image = qemu.create("qcow2", &options, size);
        // Writes of the size of subclusters, then those of clusters.
        qemu::io(
            "qcow2",
            &image,
            &commands(seed as u64, 150, size, cluster / 32),
        );
        qemu::io("qcow2", &image, &commands(seed as u64, 30, size, cluster));
        let (image, _) = same(&qemu, &image);
        assert!(image.info().features.contains(&"extended L2"));
    }
}

#[test]
fn both_compressions_are_read_at_odd_sizes_and_all_cluster_sizes() {
    let qemu = Qemu::new();
    for (seed, cluster) in [512, 4096, 65536, 1 << 21].into_iter().enumerate() {
        let size = 6 * 1024 * 1024 + 512 * (seed + 1);
        let raw = qemu.raw("disk.raw", &disk(seed as u64, size, 200_000));
        for (kind, compression) in [("zlib", Compression::Deflate), ("zstd", Compression::Zstd)] {
            let options = format!("compression_type={kind},cluster_size={cluster}");
            let image = qemu.convert(&raw, "qcow2", &["-c", "-o", &options]);
            let by_qemu = fs::read(&raw).unwrap();
            let (image, summary) = assert_same(&image, Format::Qcow2, &by_qemu);
            assert_eq!(image.info().compression, Some(compression));
            assert!(summary.compressed > 0);
        }
    }
}

#[test]
fn a_dense_image_is_one_extent_and_a_sparse_one_names_its_data_only() {
    let qemu = Qemu::new();
    let dense = qemu.raw("disk.raw", &vec![7; 8 << 20]);
    let image = qemu.convert(&dense, "qcow2", &[]);
    let (_, summary) = same(&qemu, &image);
    assert_eq!((summary.extents, summary.data), (1, 8 * M));
    let image = qemu.create("qcow2", "", 64 * M);
    qemu::io("qcow2", &image, &["write -P 1 20M 64k".to_owned()]);
    let (_, summary) = same(&qemu, &image);
    assert_eq!((summary.extents, summary.data), (1, 65536));
}

#[test]
fn preallocation_snapshots_and_bitmaps_do_not_change_the_disk() {
    let qemu = Qemu::new();
    for preallocation in ["metadata", "falloc", "full"] {
        let options = format!("preallocation={preallocation}");
        let image = qemu.create("qcow2", &options, 3 * M);
        qemu::io("qcow2", &image, &commands(1, 20, 3 * M, 65536));
        same(&qemu, &image);
    }
    let image = qemu.create("qcow2", "", 3 * M);
    let name = image.to_str().unwrap();
    for round in 0..3 {
        qemu::io("qcow2", &image, &commands(round, 40, 3 * M, 65536));
        qemu::img(&["snapshot", "-c", &format!("s{round}"), name]);
        qemu::img(&["bitmap", "--add", name, &format!("b{round}")]);
    }
    qemu::io("qcow2", &image, &commands(9, 40, 3 * M, 65536));
    let (image, _) = same(&qemu, &image);
    assert!(
        image
            .info()
            .features
            .iter()
            .any(|name| name.contains("snapshots"))
    );
}

#[test]
fn what_is_elsewhere_is_refused_by_its_name() {
    let qemu = Qemu::new();
    let base = qemu.create("qcow2", "", M);
    fs::rename(&base, qemu.path("base.qcow2")).unwrap();
    let base = qemu.path("base.qcow2");
    let backing = format!("backing_fmt=qcow2,backing_file={}", base.display());
    let image = qemu.create("qcow2", &backing, M);
    let error = open(&image);
    assert_eq!(error.kind(), Kind::Backing);
    assert!(error.to_string().contains("base.qcow2"), "{error}");

    let data = qemu.path("data.raw");
    let image = qemu.create("qcow2", &format!("data_file={}", data.display()), M);
    let error = open(&image);
    assert_eq!(error.kind(), Kind::External);
    assert!(error.to_string().contains("data.raw"), "{error}");
}

#[test]
fn flags_that_forbid_reading_are_refused_by_their_name() {
    let qemu = Qemu::new();
    let image = qemu.create("qcow2", "", M);
    let good = fs::read(&image).unwrap();
    for (at, byte, kind, text) in [
        (4, 1, Kind::Unsupported, "version"),
        (7, 1, Kind::Unsupported, "version"),
        (35, 1, Kind::Encrypted, "crypt_method is 1"),
        (79, 2, Kind::Dirty, "corrupt"),
        (79, 32, Kind::Unsupported, "bit 5"),
        (72, 128, Kind::Unsupported, "bit 63"),
        (79, 8, Kind::Corrupt, "compression_type"),
        (104, 1, Kind::Corrupt, "compression_type"),
        (104, 2, Kind::Unsupported, "compression_type"),
        (23, 8, Kind::Unsupported, "cluster_bits"),
        (23, 22, Kind::Unsupported, "cluster_bits"),
        (24, 1, Kind::Corrupt, "l1_size"),
        (28, 0x80, Kind::Corrupt, "needs"),
        (36, 255, Kind::Corrupt, "l1_size"),
        (47, 1, Kind::Corrupt, "l1_table_offset"),
        (55, 1, Kind::Corrupt, "refcount_table_offset"),
        (59, 0xff, Kind::Corrupt, "refcount_table_clusters"),
        (99, 7, Kind::Corrupt, "refcount_order"),
        (103, 1, Kind::Corrupt, "header_length"),
    ] {
        let mut file = good.clone();
        file[at] = byte;
        let error = Image::open(&mut &file[..]).unwrap_err();
        assert_eq!(error.kind(), kind, "{at} {byte}: {error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // A dirty bit says that refcounts may be wrong, which nothing here relies on.
    let mut file = good;
    file[79] = 1;
    let (_, image, _) = read::whole(&file).unwrap();
    assert!(image.info().features.contains(&"dirty refcounts"));
}

#[test]
fn a_feature_that_is_not_known_is_called_as_the_image_calls_it() {
    let qemu = Qemu::new();
    let image = qemu.create("qcow2", "", M);
    let mut file = fs::read(&image).unwrap();
    let name = b"corrupt bit";
    let at = file
        .windows(name.len())
        .position(|window| window == name)
        .unwrap();
    file[at - 1] = 9;
    file[78] = 2;
    let error = Image::open(&mut &file[..]).unwrap_err();
    assert!(
        error.to_string().contains("bit 9, \"corrupt bit\""),
        "{error}"
    );
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let qemu = Qemu::new();
    let image = qemu.create("qcow2", "", 8 << 30);
    let writes: Vec<_> = (0..16)
        .map(|i| format!("write -P 9 {}M 192k", 512 * i))
        .collect();
    qemu::io("qcow2", &image, &writes);
    let good = fs::read(&image).unwrap();
    let number = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
    let l1 = usize::try_from(number(40)).unwrap();
    let l2 = usize::try_from(number(l1) & !(1 << 63)).unwrap();
    let refcounts = number(48);
    let (first, second) = (number(l2), number(l2 + 8));
    let copied = 1_u64 << 63;
    for (at, entry, kind) in [
        // One cluster twice, a table as data, the header as data, data as a table, a table that is its own data.
        (l2, second, Kind::Corrupt),
        (l2, number(l1), Kind::Corrupt),
        (l2, l1 as u64 | copied, Kind::Corrupt),
        (l2, refcounts | copied, Kind::Corrupt),
        (l1, number(l1 + 8), Kind::Corrupt),
        (l1, l1 as u64 | copied, Kind::Corrupt),
        // Beyond the end, not aligned, reserved bits, flags without an offset.
        (l2, 1 << 50 | copied, Kind::Truncated),
        (l2, (good.len() as u64) | copied, Kind::Truncated),
        (l1, 1 << 50 | copied, Kind::Truncated),
        (l2, first + 512, Kind::Corrupt),
        (l1, number(l1) + 512, Kind::Corrupt),
        (l2, first | 4, Kind::Corrupt),
        (l1, number(l1) | 4, Kind::Corrupt),
        (l2, copied, Kind::Corrupt),
        (l1, copied, Kind::Corrupt),
        // A compressed cluster in the header, and with the flag of the others.
        (l2, 1 << 62, Kind::Corrupt),
        (l2, first | 1 << 62, Kind::Corrupt),
    ] {
        let mut file = good.clone();
        file[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        let image = Image::open(&mut &file[..]).unwrap();
        let error = image.check(&mut &file[..]).unwrap_err();
        assert_eq!(error.kind(), kind, "{at} {entry:#x}: {error}");
    }
}

#[test]
fn one_cluster_cannot_be_repeated_into_a_disk() {
    let qemu = Qemu::new();
    let size = 256 * M;
    let image = qemu.create("qcow2", "cluster_size=4096", size);
    qemu::io(
        "qcow2",
        &image,
        &["write -c -P 1 0 4k".to_owned(), "write 1M 4k".to_owned()],
    );
    let good = fs::read(&image).unwrap();
    let number = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
    let l1 = usize::try_from(number(40)).unwrap();
    let l2 = usize::try_from(number(l1) & !(1 << 63)).unwrap();
    // The compressed cluster in all entries of the first table, and the table in all entries of L1.
    let mut file = good.clone();
    for entry in 0..512 {
        file.copy_within(l2..l2 + 8, l2 + entry * 8);
        if entry < 128 {
            file.copy_within(l1..l1 + 8, l1 + entry * 8);
        }
    }
    let image = Image::open(&mut &file[..]).unwrap();
    let error = image.check(&mut &file[..]).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    // Without the check before it, a walk ends before it has named more bytes than there are.
    let mut source = &file[..];
    let walk: Vec<_> = image.extents(&mut source, 0..size).collect();
    assert!(walk.last().unwrap().is_err());
    assert!(walk.len() < file.len() / 2);
}

fn open(path: &Path) -> formats::Error {
    Image::open(&mut &fs::read(path).unwrap()[..]).unwrap_err()
}
