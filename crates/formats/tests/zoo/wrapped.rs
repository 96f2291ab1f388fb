//! Files that were compressed as a whole.

use std::{
    fs,
    io::{self, Read},
};

use fastrand::Rng;
use formats::{Error, Format, Image, Kind, Limits, Unwrap};

use testkit::qemu::{Qemu, disk};

/// The programs, how they pack, and what they make.
const PROGRAMS: [(&str, &[&str], Format); 8] = [
    ("gzip", &["-c"], Format::Gzip),
    ("gzip", &["-c", "-1"], Format::Gzip),
    ("xz", &["-c", "-T1"], Format::Xz),
    (
        "xz",
        &["-c", "-0", "--check=sha256", "--block-size=300000"],
        Format::Xz,
    ),
    ("xz", &["-c", "--x86", "--lzma2=preset=1"], Format::Xz),
    ("zstd", &["-c", "-q"], Format::Zstd),
    ("zstd", &["-c", "-q", "-19", "--long=25"], Format::Zstd),
    ("bzip2", &["-c"], Format::Bzip2),
];

#[test]
fn what_the_programs_pack_is_unpacked() {
    let qemu = Qemu::new();
    for (seed, size) in [(1, 3 << 20), (2, 1), (3, 0)] {
        let disk = disk(seed, size, 50_000);
        for (program, args, format) in PROGRAMS {
            let packed = qemu.pack(program, args, &disk);
            assert_eq!(Format::detect(&mut &packed[..]).unwrap(), format);
            let unpacked = unpack(&packed, format, disk.len() as u64);
            assert!(unpacked.unwrap() == disk, "{program} {args:?} {size}");
            // Two files one behind the other are one file.
            let twice = unpack(&[&packed[..], &packed].concat(), format, 8 << 20);
            assert!(
                twice.unwrap() == [&disk[..], &disk].concat(),
                "{program} {args:?}"
            );
        }
    }
}

#[test]
fn an_image_in_a_compressed_file_is_refused_by_its_name_until_it_is_unpacked() {
    let qemu = Qemu::new();
    let image = fs::read(qemu.create("qcow2", "", 1 << 20)).unwrap();
    for (program, args, format) in PROGRAMS {
        let packed = qemu.pack(program, args, &image);
        let error = Image::open(&mut &packed[..]).unwrap_err();
        assert_eq!((error.kind(), error.format()), (Kind::Unsupported, format));
        assert!(format.is_wrapper());
        // Who knows that a guest has written it gets the bytes as they are.
        let raw = Image::open_as(&mut &packed[..], Format::Raw).unwrap();
        assert_eq!(raw.virtual_size(), packed.len() as u64);
    }
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let qemu = Qemu::new();
    let zeroes = vec![0; 16 << 20];
    for (program, args, format) in PROGRAMS {
        let packed = qemu.pack(program, args, &zeroes);
        assert!(packed.len() < 1 << 20);
        let (count, error) = unpack(&packed, format, 1 << 20).unwrap_err();
        assert!(count <= 1 << 20);
        assert_eq!(kind(&error), Some(Kind::Limit), "{program}: {error}");
    }
}

#[test]
fn a_window_beyond_the_memory_is_refused_before_it_is_allocated() {
    let qemu = Qemu::new();
    let disk = disk(1, 5 << 20, 50_000);
    for (program, args, format) in [
        ("xz", &["-c", "--lzma2=dict=64MiB"][..], Format::Xz),
        ("zstd", &["-c", "-q", "--long=26"], Format::Zstd),
    ] {
        let packed = qemu.pack(program, args, &disk);
        let limits = |memory| Limits {
            memory,
            output: 1 << 40,
        };
        let read = |memory| -> Result<Vec<u8>, Option<Kind>> {
            let mut bytes = Vec::new();
            let mut reader = Unwrap::new(&packed[..], format, limits(memory))
                .map_err(|error| Some(error.kind()))?;
            reader
                .read_to_end(&mut bytes)
                .map_err(|error| kind(&error))?;
            Ok(bytes)
        };
        assert_eq!(read(8 << 20), Err(Some(Kind::Limit)), "{program}");
        assert!(read(80 << 20).unwrap() == disk, "{program}");
    }
}

#[test]
fn damage_ends_in_a_named_error() {
    let qemu = Qemu::new();
    let disk = disk(4, 300_000, 20_000);
    let mut rng = Rng::with_seed(15);
    for (program, args, format) in PROGRAMS {
        let packed = qemu.pack(program, args, &disk);
        let mut unnoticed = 0;
        for _ in 0..40 {
            let end = rng.usize(..packed.len());
            let cut = unpack(&packed[..end], format, 1 << 20);
            let (count, error) = cut.expect_err("a part is not the whole");
            assert!(
                count <= disk.len() && kind(&error).is_some(),
                "{program}: {error}"
            );
        }
        for _ in 0..100 {
            let mut damaged = packed.clone();
            damaged[rng.usize(..packed.len())] ^= 1 << rng.u8(..8);
            match unpack(&damaged, format, 1 << 20) {
                Ok(bytes) if bytes == disk => {}
                // The first bytes of a gzip file's header, and a size in a zstd's, are covered by nothing.
                Ok(_) => unnoticed += 1,
                Err((_, error)) => assert!(kind(&error).is_some(), "{program}: {error}"),
            }
        }
        assert_eq!(unnoticed, 0, "{program} {args:?}");
    }
}

#[test]
fn an_error_of_the_files_reader_comes_through() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = buf.len().min(self.0);
            self.0 -= count;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            Ok(count)
        }
    }
    let qemu = Qemu::new();
    let disk = disk(4, 600_000, 20_000);
    for (program, args, format) in PROGRAMS {
        let packed = qemu.pack(program, args, &disk);
        let source = packed[..packed.len() / 2].chain(Failing(0));
        let mut reader = Unwrap::new(source, format, Limits::output(1 << 20)).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::ConnectionReset,
            "{program}: {error}"
        );
        assert!(reader.read(&mut [0]).is_err());
        let error = Unwrap::new(Failing(7), format, Limits::output(1)).unwrap_err();
        assert_eq!(error.kind(), Kind::Read);
    }
    let error = Unwrap::new(&[0; 99][..], Format::Vdi, Limits::output(1)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
}

fn kind(error: &io::Error) -> Option<Kind> {
    error.get_ref()?.downcast_ref::<Error>().map(Error::kind)
}

/// What comes out; or how much did before the error.
fn unpack(packed: &[u8], format: Format, output: u64) -> Result<Vec<u8>, (usize, io::Error)> {
    let mut bytes = Vec::new();
    let reader = Unwrap::new(packed, format, Limits::output(output));
    let mut reader = reader.map_err(|error| (0, io::Error::other(error)))?;
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err((bytes.len(), error)),
    }
}
