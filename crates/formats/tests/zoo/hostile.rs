//! Damaged images: cut, with flipped bits, with words replaced. Each ends in a named error or in the right bytes; where
//! neither, in the bytes that QEMU reads, since then nothing in the file says what was there before.

use std::{
    fs,
    ops::Range,
    panic::{self, AssertUnwindSafe},
};

use fastrand::Rng;
use formats::{Content, Error, Format, Image};

use crate::read;
use testkit::qemu::{self, Qemu, commands, disk};

const M: u64 = 1 << 20;
/// Damaged copies of each image, of each kind of damage.
const COPIES: usize = 80;

/// A sound image, and what QEMU calls its format.
struct Sound {
    name: &'static str,
    format: &'static str,
    file: Vec<u8>,
    disk: Vec<u8>,
    /// Parts of the file that are the guest's bytes: nothing says what they were.
    data: Vec<Range<usize>>,
}

impl Sound {
    fn is_data(&self, at: usize) -> bool {
        self.data.iter().any(|range| range.contains(&at))
    }

    /// Whether the packed bytes carry no checksum, so that another valid packing goes unnoticed.
    fn is_deflate(&self, at: usize, image: &Image) -> bool {
        image.info().compression.is_some() && self.is_data(at)
    }

    /// What is read from a damaged copy; `None` when its format cannot be seen any more, so that it counts as a raw disk,
    /// which is for callers to compare with what they expect.
    fn read(&self, file: &[u8], what: &str) -> Result<Option<Vec<u8>>, Error> {
        let read = panic::catch_unwind(AssertUnwindSafe(|| read::whole(file)));
        let read = read.unwrap_or_else(|_| panic!("{}: a panic after {what}", self.name));
        read.map(|(disk, image, _)| (image.info().format != Format::Raw).then_some(disk))
    }
}

/// One image of each kind, of some MiB.
fn zoo(qemu: &Qemu) -> Vec<Sound> {
    let mut zoo = Vec::new();
    for (index, (name, format, options)) in [
        ("qcow2 v2", "qcow2", "compat=0.10,cluster_size=4096"),
        ("qcow2 v3", "qcow2", "cluster_size=65536"),
        (
            "qcow2 zstd",
            "qcow2",
            "cluster_size=8192,compression_type=zstd",
        ),
        (
            "qcow2 extended",
            "qcow2",
            "cluster_size=16384,extended_l2=on",
        ),
        ("vmdk sparse", "vmdk", "subformat=monolithicSparse"),
        ("vdi", "vdi", ""),
        ("vhd", "vpc", "force_size=on"),
        ("vhd fixed", "vpc", "subformat=fixed,force_size=on"),
        ("vhdx", "vhdx", "block_size=1M"),
    ]
    .into_iter()
    .enumerate()
    {
        let size = 4 * M + 512;
        let image = qemu.create(format, options, size);
        qemu::io(format, &image, &commands(index as u64, 25, size, 65536));
        zoo.push(sound(qemu, name, format, fs::read(&image).unwrap()));
    }
    let raw = qemu.raw("disk.raw", &disk(3, 2 << 20, 100_000));
    for (name, format, args) in [
        (
            "vmdk stream",
            "vmdk",
            &["-o", "subformat=streamOptimized"][..],
        ),
        ("qcow2 zlib", "qcow2", &["-c"]),
    ] {
        let image = qemu.convert(&raw, format, args);
        zoo.push(sound(qemu, name, format, fs::read(&image).unwrap()));
    }
    zoo
}

fn sound(qemu: &Qemu, name: &'static str, format: &'static str, file: Vec<u8>) -> Sound {
    let (disk, image, _) = read::whole(&file).unwrap();
    assert!(disk == qemu.read(format, &qemu.raw("sound", &file)));
    let index = |offset: u64| usize::try_from(offset).unwrap();
    let data = image
        .file_order(&mut &file[..])
        .map(|extent| {
            let extent = extent.unwrap();
            match extent.content {
                Content::Data { offset } => index(offset)..index(offset + extent.len),
                Content::Compressed { offset, length, .. } => index(offset)..index(offset + length),
                Content::Hole => panic!("a hole has no place"),
            }
        })
        .collect();
    Sound {
        name,
        format,
        file,
        disk,
        data,
    }
}

#[test]
fn a_cut_image_is_refused_or_holds_all_that_the_disk_needs() {
    let qemu = Qemu::new();
    for sound in zoo(&qemu) {
        let mut rng = Rng::with_seed(15);
        let mut refused = 0;
        for _ in 0..COPIES {
            let end = rng.usize(..sound.file.len());
            let what = format!("a cut at {end}");
            match sound.read(&sound.file[..end], &what) {
                Ok(Some(disk)) => assert!(disk == sound.disk, "{}: {what}", sound.name),
                // Without its first bytes nothing is what it was; without its last, a fixed vhd.
                Ok(None) => assert!(end < 68 || sound.name == "vhd fixed", "{what}"),
                Err(_) => refused += 1,
            }
        }
        assert!(
            refused > COPIES / 2 || sound.name == "vhd fixed",
            "{}",
            sound.name
        );
    }
}

#[test]
fn a_flipped_bit_in_headers_and_tables_is_noticed_or_read_as_qemu_reads_it() {
    let qemu = Qemu::new();
    for sound in zoo(&qemu) {
        let mut rng = Rng::with_seed(16);
        let places: Vec<usize> = (0..sound.file.len())
            .filter(|at| !sound.is_data(*at) && (sound.file[*at] != 0 || at % 1021 == 0))
            .collect();
        let (mut silent, mut refused) = (0, 0);
        for _ in 0..COPIES * 2 {
            let (at, bit) = (places[rng.usize(..places.len())], rng.u8(..8));
            let mut file = sound.file.clone();
            file[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            match sound.read(&file, &what) {
                Ok(None) => {}
                Ok(Some(disk)) if disk == sound.disk => {}
                Ok(Some(disk)) => {
                    silent += 1;
                    let path = qemu.raw("damaged", &file);
                    let by_qemu = qemu.try_read(sound.format, &path);
                    let name = sound.name;
                    assert!(
                        by_qemu.is_ok_and(|by_qemu| by_qemu == disk),
                        "{name}: {what}"
                    );
                }
                Err(_) => refused += 1,
            }
        }
        println!(
            "{}: {refused} refused, {silent} read as by QEMU",
            sound.name
        );
        // Bits of subclusters are covered by nothing.
        assert!(silent < COPIES / 2, "{}: {silent}", sound.name);
    }
}

#[test]
fn a_flipped_bit_in_the_guests_bytes_changes_nothing_else() {
    let qemu = Qemu::new();
    for sound in zoo(&qemu) {
        let mut rng = Rng::with_seed(17);
        let image = Image::open(&mut &sound.file[..]).unwrap();
        for _ in 0..COPIES / 2 {
            let range = sound.data[rng.usize(..sound.data.len())].clone();
            let (at, bit) = (rng.usize(range), rng.u8(..8));
            let mut file = sound.file.clone();
            file[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            let Ok(Some(disk)) = sound.read(&file, &what) else {
                assert!(sound.is_deflate(at, &image), "{}: {what}", sound.name);
                continue;
            };
            let differ = disk.iter().zip(&sound.disk).filter(|(a, b)| a != b).count();
            let cluster = usize::try_from(image.info().cluster_size).unwrap();
            let most = if sound.is_deflate(at, &image) {
                cluster
            } else {
                1
            };
            assert!(differ <= most, "{}: {what}: {differ}", sound.name);
        }
    }
}

#[test]
fn words_of_hostile_numbers_never_end_in_a_panic() {
    let qemu = Qemu::new();
    for sound in zoo(&qemu) {
        let mut rng = Rng::with_seed(18);
        let places: Vec<usize> = (0..sound.file.len().saturating_sub(8))
            .step_by(4)
            .filter(|at| !sound.is_data(*at) && (*at < 4096 || sound.file[*at..*at + 8] != [0; 8]))
            .collect();
        for _ in 0..COPIES * 3 {
            let mut file = sound.file.clone();
            for _ in 0..rng.usize(1..4) {
                let at = places[rng.usize(..places.len())];
                let word: u64 = match rng.u8(..6) {
                    0 => u64::MAX,
                    1 => 1 << rng.u8(..64),
                    2 => u64::MAX >> rng.u8(..64),
                    3 => rng.u64(..file.len() as u64),
                    4 => rng.u64(..),
                    _ => 0,
                };
                let bytes = if rng.bool() {
                    word.to_be_bytes()
                } else {
                    word.to_le_bytes()
                };
                let length = if rng.bool() { 4 } else { 8 };
                file[at..at + length].copy_from_slice(&bytes[..length]);
            }
            let _ = sound.read(&file, "hostile words");
        }
    }
}
