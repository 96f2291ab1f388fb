//! vhdx: dynamic and fixed; and what is refused.

use std::fs;

use formats::{Format, Image, Kind};

use crate::{
    large::Counted,
    read::{self, assert_same},
};
use testkit::qemu::{self, Qemu, commands, disk};

const M: u64 = 1 << 20;

#[test]
fn dynamic_and_fixed_disks_are_read_after_random_writes() {
    let qemu = Qemu::new();
    for (seed, (variant, block)) in [("dynamic", 1), ("dynamic", 8), ("fixed", 2)]
        .into_iter()
        .enumerate()
    {
        let size = 37 * M + 512;
        let options = format!("subformat={variant},block_size={block}M");
        let image = qemu.create("vhdx", &options, size);
        qemu::io("vhdx", &image, &commands(seed as u64, 60, size, M));
        let (image, _) = assert_same(&image, Format::Vhdx, &qemu.read("vhdx", &image));
        assert_eq!(image.info().cluster_size, block * M);
    }
}

#[test]
fn sparse_and_dense_disks_are_read() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(5, 23 << 20, 4 << 20));
    for options in [
        "subformat=dynamic",
        "subformat=fixed",
        "block_size=1M,block_state_zero=off",
    ] {
        let image = qemu.convert(&raw, "vhdx", &["-o", options]);
        assert_same(&image, Format::Vhdx, &fs::read(&raw).unwrap());
    }
}

#[test]
fn entries_of_sector_bitmaps_are_passed_over() {
    let qemu = Qemu::new();
    // With blocks of 256 MiB, each 16 entries are followed by one of a bitmap.
    let image = qemu.create("vhdx", "block_size=256M", 20 << 30);
    // Not in order, so that no two blocks go on in the file.
    let writes: Vec<_> = [0_u64, 16, 15, 31, 33, 79]
        .map(|block| format!("write -P {} {} 64k", block + 1, block * 256 * M))
        .into();
    qemu::io("vhdx", &image, &writes);
    let mut file = Counted::open(&image);
    let image = Image::open(&mut file).unwrap();
    image.check(&mut file).unwrap();
    let starts: Vec<_> = image
        .extents(&mut file, 0..u64::MAX)
        .map(Result::unwrap)
        .filter_map(|extent| match extent.content {
            formats::Content::Data { offset } => Some((extent.start / (256 * M), offset)),
            _ => None,
        })
        .collect();
    let blocks: Vec<_> = starts.iter().map(|(block, _)| *block).collect();
    assert_eq!(blocks, [0, 15, 16, 31, 33, 79]);
    for (block, offset) in starts {
        let mut byte = [0];
        formats::ReadAt::read_exact_at(&mut file, offset, &mut byte).unwrap();
        assert_eq!(u64::from(byte[0]), block + 1);
    }
}

#[test]
fn headers_and_tables_that_cannot_be_are_refused() {
    let qemu = Qemu::new();
    let image = qemu.create("vhdx", "block_size=1M", 20 * M);
    let writes = ["write -P 1 0 1k".to_owned(), "write -P 2 4M 1k".to_owned()];
    qemu::io("vhdx", &image, &writes);
    let good = fs::read(&image).unwrap();
    read::whole(&good).unwrap();
    let number = |at: usize| {
        usize::try_from(u64::from_le_bytes(good[at..at + 8].try_into().unwrap())).unwrap()
    };
    let find = |text: &[u8]| {
        good.windows(text.len())
            .position(|window| window == text)
            .unwrap()
    };
    let (bat, table) = (number(find(&BAT) + 16), find(b"metadata"));
    let item = |id: &[u8]| table + number(find(id) + 16) % (1 << 32);
    let (parameters, size, sector) = (item(&PARAMETERS), item(&SIZE), item(&SECTOR));
    let (first, second) = (number(bat), number(bat + 32));
    assert_eq!((first % 8, second % 8), (6, 6));
    let regions = 192 << 10;
    let mut unknown = [0; 29];
    unknown[28] = 1;
    for (at, bytes, kind, text) in [
        (find(&BAT), &unknown[..], Kind::Unsupported, "region"),
        (regions + 8, &[0xff; 4], Kind::Corrupt, "entry count"),
        (regions + 8, &[1, 0, 0, 0], Kind::Corrupt, "incomplete"),
        (
            find(&BAT) + 24,
            &[8, 0, 0, 0],
            Kind::Corrupt,
            "length of the BAT",
        ),
        (find(&BAT) + 16, &[0xff; 8], Kind::Truncated, "BAT"),
        (
            find(&METADATA) + 16,
            &[0xff; 8],
            Kind::Truncated,
            "metadata table",
        ),
        (
            find(&METADATA) + 16,
            &[0; 8],
            Kind::Corrupt,
            "metadata table",
        ),
        (table + 10, &[0xff; 2], Kind::Corrupt, "entry count"),
        (find(&SIZE), &[1; 16], Kind::Unsupported, "metadata item"),
        (find(&SIZE) + 16, &[0; 4], Kind::Corrupt, "metadata item"),
        (find(&SIZE) + 16, &[0xff; 4], Kind::Corrupt, "metadata item"),
        (table + 10, &[1, 0], Kind::Corrupt, "incomplete"),
        (parameters + 4, &[2], Kind::Backing, "parent"),
        (parameters, &[0; 4], Kind::Corrupt, "block size"),
        (parameters, &[0, 0, 0, 0x20], Kind::Corrupt, "block size"),
        (sector, &[0, 1], Kind::Corrupt, "logical sector size"),
        (size, &[1], Kind::Corrupt, "virtual disk size"),
        (size, &[0; 8], Kind::Corrupt, "virtual disk size"),
        (find(&SIZE), &PARENT, Kind::Backing, "parent"),
        (size, &[0xff; 8], Kind::Corrupt, "virtual disk size"),
        (
            size,
            &[0, 0, 0, 0, 0, 1],
            Kind::Corrupt,
            "length of the BAT",
        ),
        (bat, &second.to_le_bytes(), Kind::Corrupt, "data for byte"),
        (
            bat,
            &(bat | 6).to_le_bytes(),
            Kind::Corrupt,
            "data for byte",
        ),
        (
            bat,
            &[6, 0, 0, 0, 0, 0, 0, 1],
            Kind::Truncated,
            "data for byte 0",
        ),
        (bat, &[7], Kind::Corrupt, "no state"),
        (bat, &[14], Kind::Corrupt, "reserved"),
    ] {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut file);
        let error = check(&file);
        assert_eq!(error.kind(), kind, "{at}: {error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn the_current_header_decides_and_its_log_must_be_empty() {
    let qemu = Qemu::new();
    let image = qemu.create("vhdx", "", 20 * M);
    let good = fs::read(&image).unwrap();
    let headers = [64 << 10, 128 << 10];
    let sequence = |at: usize| u64::from_le_bytes(good[at + 8..at + 16].try_into().unwrap());
    let current = headers.into_iter().max_by_key(|at| sequence(*at)).unwrap();
    let old = headers.into_iter().find(|at| *at != current).unwrap();
    let with = |at: usize, byte: u8, sealed: bool| {
        let mut file = good.clone();
        file[at] = byte;
        if sealed {
            seal(&mut file);
        }
        file
    };
    let error = check(&with(current + 48, 1, true));
    assert_eq!((error.kind(), error.field()), (Kind::Dirty, "log GUID"));
    assert!(read::whole(&with(old + 48, 1, true)).is_ok());
    // One that is damaged is passed over; two that are, are not.
    assert!(read::whole(&with(old + 48, 1, false)).is_ok());
    assert!(read::whole(&with(current + 48, 1, false)).is_ok());
    let mut file = with(current + 48, 1, false);
    file[old + 100] ^= 1;
    assert_eq!(check(&file).field(), "checksum");
    let mut file = good.clone();
    file.copy_within(old..old + 4096, current);
    assert_eq!(check(&file).field(), "sequence number");
    let error = check(&with(current + 66, 2, true));
    assert_eq!(
        (error.kind(), error.field()),
        (Kind::Unsupported, "version")
    );
    // The first copy of the region table may be damaged, but not both.
    let mut file = with((192 << 10) + 20, 1, false);
    assert!(read::whole(&file).is_ok());
    file[(256 << 10) + 20] ^= 1;
    assert_eq!(check(&file).field(), "checksum");
}

const BAT: [u8; 16] = guid(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
const METADATA: [u8; 16] = guid(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);
const PARAMETERS: [u8; 16] = guid(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b);
const PARENT: [u8; 16] = guid(0xa8d3_5f2d, 0xb30b, 0x454d, 0xabf7_d3d8_4834_ab0c);
const SIZE: [u8; 16] = guid(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8);
const SECTOR: [u8; 16] = guid(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f);

/// A GUID as it lies in the file: three numbers in little-endian order, then bytes.
const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

/// Writes all checksums. The second copy of the region table becomes that of the first.
fn seal(file: &mut [u8]) {
    file.copy_within(192 << 10..256 << 10, 256 << 10);
    for (at, length) in [(64, 4), (128, 4), (192, 64), (256, 64)] {
        let part = &mut file[at << 10..(at << 10) + (length << 10)];
        part[4..8].fill(0);
        let sum = crc32c::crc32c(part);
        part[4..8].copy_from_slice(&sum.to_le_bytes());
    }
}

fn check(file: &[u8]) -> formats::Error {
    Image::open(&mut { file })
        .and_then(|image| image.check(&mut { file }))
        .unwrap_err()
}
