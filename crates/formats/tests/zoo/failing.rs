//! A file whose reads fail: each read of each walk.

use std::{error::Error as _, fmt, fs};

use formats::{Error, Image, Kind, ReadAt, ReadError};

use testkit::qemu::{self, Qemu, commands};

/// What a caller's own error is.
#[derive(Debug, PartialEq, Eq)]
struct Stopped(u64);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped at {}", self.0)
    }
}

impl std::error::Error for Stopped {}

/// Fails after some reads.
struct Failing<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl ReadAt for Failing<'_> {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.left = self.left.checked_sub(1).ok_or(Stopped(offset))?;
        self.bytes.read_exact_at(offset, buf)
    }
}

#[test]
fn the_callers_error_ends_a_walk_and_comes_back() {
    let qemu = Qemu::new();
    for (format, options) in [
        ("qcow2", "cluster_size=4096"),
        ("qcow2", "extended_l2=on"),
        ("vmdk", ""),
        ("vdi", ""),
        ("vpc", ""),
        ("vpc", "subformat=fixed"),
        ("vhdx", ""),
        ("raw", ""),
    ] {
        let size = 9 << 20;
        let image = qemu.create(format, options, size);
        qemu::io(format, &image, &commands(1, 20, size, 65536));
        let bytes = fs::read(&image).unwrap();
        let mut failures = 0;
        for left in 0.. {
            let mut file = Failing {
                bytes: &bytes,
                left,
            };
            let Err(error) = walk(&mut file) else { break };
            failures += 1;
            assert_eq!(error.kind(), Kind::Read, "{format}: {error}");
            let own = error
                .source()
                .and_then(|source| source.downcast_ref::<Stopped>());
            assert!(own.is_some(), "{format}: {error}");
        }
        assert!(failures >= 2, "{format}");
    }
}

/// Opens the image, and walks over it in each way; nothing comes after an error.
fn walk(file: &mut Failing<'_>) -> Result<(), Error> {
    let image = Image::open(file)?;
    image.check(file)?;
    let mut extents = image.extents(file, 0..u64::MAX);
    while let Some(extent) = extents.next() {
        if extent.is_err() {
            assert!(extents.next().is_none());
        }
        extent?;
    }
    let mut extents = image.file_order(file);
    while let Some(extent) = extents.next() {
        if extent.is_err() {
            assert!(extents.next().is_none());
        }
        extent?;
    }
    Ok(())
}
