//! vdi: dynamic and static; and what is refused.

use std::fs;

use formats::{Format, Image, Kind};

use crate::read::assert_same;
use testkit::qemu::{self, Qemu, commands, disk};

const M: u64 = 1 << 20;

#[test]
fn dynamic_and_static_disks_are_read_after_random_writes_and_discards() {
    let qemu = Qemu::new();
    for (seed, is_static) in ["off", "on"].into_iter().enumerate() {
        let size = 37 * M + 1536;
        let image = qemu.create("vdi", &format!("static={is_static}"), size);
        qemu::io("vdi", &image, &commands(seed as u64, 60, size, M));
        let (image, _) = assert_same(&image, Format::Vdi, &qemu.read("vdi", &image));
        let variant = if is_static == "on" {
            "static"
        } else {
            "dynamic"
        };
        assert_eq!(image.info().variant, variant);
    }
}

#[test]
fn sparse_and_dense_disks_are_read() {
    let qemu = Qemu::new();
    for run in [4 << 20, 1000] {
        let raw = qemu.raw("disk.raw", &disk(5, 23 << 20, run));
        for options in ["static=off", "static=on"] {
            let image = qemu.convert(&raw, "vdi", &["-o", options]);
            assert_same(&image, Format::Vdi, &fs::read(&raw).unwrap());
        }
    }
}

#[test]
fn headers_and_maps_that_cannot_be_are_refused() {
    let qemu = Qemu::new();
    let image = qemu.create("vdi", "", 20 * M);
    let writes = ["write -P 1 0 1k".to_owned(), "write -P 2 4M 1k".to_owned()];
    qemu::io("vdi", &image, &writes);
    let good = fs::read(&image).unwrap();
    let map = usize::try_from(u32::from_le_bytes(good[340..344].try_into().unwrap())).unwrap();
    for (at, bytes, kind, text) in [
        (68, &[0, 0, 2, 0][..], Kind::Unsupported, "version"),
        (76, &[4], Kind::Backing, "image type is 4"),
        (76, &[3], Kind::Backing, "image type is 3"),
        (76, &[9], Kind::Unsupported, "image type"),
        (450, &[1], Kind::Backing, "parent's UUID"),
        (360, &[0, 4], Kind::Unsupported, "sector size"),
        (376, &[1], Kind::Corrupt, "block size"),
        (376, &[0; 4], Kind::Corrupt, "block size"),
        (380, &[1], Kind::Unsupported, "block extra size"),
        (384, &[1], Kind::Corrupt, "blocks in the image"),
        (375, &[255], Kind::Corrupt, "blocks in the image"),
        (340, &[0xff; 4], Kind::Truncated, "block map"),
        (344, &[0xff; 4], Kind::Truncated, "data for byte 0"),
        (344, &[0; 4], Kind::Corrupt, "overlaps"),
        (map + 16, &[0; 4], Kind::Corrupt, "data for byte 4194304"),
        (map + 16, &[3], Kind::Truncated, "data for byte 4194304"),
    ] {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let error = Image::open(&mut &file[..])
            .and_then(|image| image.check(&mut &file[..]))
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{at}: {error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}
