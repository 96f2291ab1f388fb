//! vhd (`vpc`): fixed and dynamic, by size and by geometry; and what is refused.

use std::fs;

use formats::{Format, Image, Kind};

use crate::read::{self, assert_same};
use testkit::qemu::{self, Qemu, commands, disk};

const M: u64 = 1 << 20;

#[test]
fn fixed_and_dynamic_disks_are_read_after_random_writes() {
    let qemu = Qemu::new();
    for (seed, (subformat, force)) in [
        ("dynamic", "off"),
        ("dynamic", "on"),
        ("fixed", "off"),
        ("fixed", "on"),
    ]
    .into_iter()
    .enumerate()
    {
        let size = 37 * M + 512;
        let options = format!("subformat={subformat},force_size={force}");
        let image = qemu.create("vpc", &options, size);
        qemu::io("vpc", &image, &commands(seed as u64, 100, size, 100_352));
        let by_qemu = qemu.read("vpc", &image);
        let (image, _) = assert_same(&image, Format::Vhd, &by_qemu);
        assert_eq!(image.info().variant, subformat);
        assert!(image.virtual_size() >= size);
        assert_eq!(image.info().features.is_empty(), force == "on");
    }
}

#[test]
fn sparse_and_dense_disks_are_read() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &disk(5, 23 << 20, 4 << 20));
    for options in [
        "subformat=dynamic,force_size=on",
        "subformat=dynamic",
        "subformat=fixed",
    ] {
        let image = qemu.convert(&raw, "vpc", &["-o", options]);
        assert_same(&image, Format::Vhd, &qemu.read("vpc", &image));
    }
}

#[test]
fn headers_and_tables_that_cannot_be_are_refused() {
    let qemu = Qemu::new();
    let image = qemu.create("vpc", "", 20 * M);
    let writes = ["write -P 1 0 1k".to_owned(), "write -P 2 4M 1k".to_owned()];
    qemu::io("vpc", &image, &writes);
    let good = fs::read(&image).unwrap();
    let table = 1536;
    assert_eq!(
        u64::from_be_bytes(good[528..536].try_into().unwrap()),
        table
    );
    let table = usize::try_from(table).unwrap();
    let first: [u8; 4] = good[table..table + 4].try_into().unwrap();
    let last = u32::try_from(good.len() / 512 - 1).unwrap().to_be_bytes();
    for (at, bytes, kind, text) in [
        (60, &4_u32.to_be_bytes()[..], Kind::Backing, "disk type"),
        (60, &2_u32.to_be_bytes(), Kind::Corrupt, "disk type"),
        (60, &9_u32.to_be_bytes(), Kind::Unsupported, "disk type"),
        (12, &[9], Kind::Unsupported, "version"),
        (16, &1_u64.to_be_bytes(), Kind::Corrupt, "data offset"),
        (
            16,
            &u64::MAX.to_be_bytes(),
            Kind::Truncated,
            "dynamic header",
        ),
        (
            544,
            &1_000_000_u32.to_be_bytes(),
            Kind::Corrupt,
            "block size",
        ),
        (544, &0_u32.to_be_bytes(), Kind::Corrupt, "block size"),
        (
            540,
            &1_u32.to_be_bytes(),
            Kind::Corrupt,
            "max table entries",
        ),
        (
            528,
            &u64::MAX.to_be_bytes(),
            Kind::Truncated,
            "block allocation table",
        ),
        (table + 8, &first, Kind::Corrupt, "byte 4194304"),
        (table + 8, &[0, 0, 0, 1], Kind::Corrupt, "byte 4194304"),
        (table + 8, &last, Kind::Truncated, "data for byte 4194304"),
        (table, &[0, 0xff, 0, 0], Kind::Truncated, "byte 0"),
    ] {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut file[..512], 64);
        seal(&mut file[512..1536], 36);
        let error = Image::open(&mut &file[..])
            .and_then(|image| image.check(&mut &file[..]))
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{at}: {error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for at in [28, 60, 600] {
        let mut file = good.clone();
        file[at] ^= 1;
        let error = Image::open(&mut &file[..]).unwrap_err();
        assert_eq!((error.kind(), error.field()), (Kind::Corrupt, "checksum"));
    }
}

#[test]
fn a_file_that_two_programs_see_differently_is_refused() {
    let qemu = Qemu::new();
    let image = qemu.create("vpc", "subformat=fixed", 2 * M);
    let mut file = fs::read(&image).unwrap();
    file[..4].copy_from_slice(b"QFI\xfb");
    let error = Image::open(&mut &file[..]).unwrap_err();
    assert_eq!(error.kind(), Kind::Ambiguous, "{error}");
    // Who knows what it is says so.
    assert!(Image::open_as(&mut &file[..], Format::Vhd).is_ok());
    // A footer at another place is no footer of this file.
    file.insert(0, 0);
    let error = Image::open(&mut &file[..]).unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (Kind::Corrupt, "current size")
    );
}

/// Writes the checksum of a footer or a header.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}

#[test]
fn the_program_that_wrote_it_says_whether_size_or_geometry_counts() {
    let qemu = Qemu::new();
    let image = qemu.create("vpc", "", 20 * M);
    let good = fs::read(&image).unwrap();
    let size = u64::from_be_bytes(good[48..56].try_into().unwrap());
    for creator in [
        b"vpc ", b"qemu", b"qem2", b"win ", b"d2v ", b"tap\0", b"CTXS", b"wa\0\0",
    ] {
        let mut file = good.clone();
        file[28..32].copy_from_slice(creator);
        file[48..56].copy_from_slice(&(size - 512).to_be_bytes());
        seal(&mut file[..512], 64);
        let path = qemu.raw("image", &file);
        let by_qemu = qemu.read("vpc", &path);
        // QEMU 7.2 does not know Azure's yet; later versions do.
        let (disk, image, _) = read::whole(&file).unwrap();
        assert!(disk == by_qemu || creator == b"wa\0\0", "{creator:?}");
        let states_size = !matches!(creator, b"vpc " | b"qemu");
        assert_eq!(image.virtual_size() < size, states_size, "{creator:?}");
    }
}

#[test]
fn a_fixed_disk_does_not_reach_into_its_footer() {
    let qemu = Qemu::new();
    let image = qemu.create("vpc", "subformat=fixed", 2 * M);
    let mut file = fs::read(&image).unwrap();
    read::whole(&file).unwrap();
    let footer = file.len() - 512;
    file[footer + 59] += 1;
    seal(&mut file[footer..], 64);
    let error = Image::open(&mut &file[..]).unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (Kind::Corrupt, "size by geometry")
    );
}
