//! Disks: their content, their extents, and the comparison of what was written with what should be.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
};

use rustix::{fs::SeekFrom as Seeking, io::Errno};

use crate::Object;

/// A disk in memory: its bytes, and where the source says that there is data.
#[derive(Debug, Clone)]
pub struct Disk {
    bytes: Arc<Vec<u8>>,
    extents: Vec<Extent>,
}

/// A part of a disk, as a source describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
    /// Reads as zero.
    pub zero: bool,
    /// Not allocated (which reads as zero, too).
    pub hole: bool,
}

impl Disk {
    /// A disk drawn as text, one character for each block: `-` a hole, `0` written zeroes, anything
    /// else a block filled with that character.
    pub fn picture(text: &str, block: usize) -> Self {
        let mut bytes = Vec::new();
        let mut extents: Vec<Extent> = Vec::new();
        for character in text.bytes() {
            let zero = matches!(character, b'-' | b'0');
            let next = Extent {
                start: bytes.len() as u64,
                length: block as u64,
                zero,
                hole: character == b'-',
            };
            match extents.last_mut() {
                Some(last) if last.zero == next.zero && last.hole == next.hole => {
                    last.length += next.length;
                }
                _ => extents.push(next),
            }
            bytes.resize(bytes.len() + block, if zero { 0 } else { character });
        }
        Self {
            bytes: Arc::new(bytes),
            extents,
        }
    }

    /// A disk full of data that repeats nowhere. The same seed gives the same disk.
    pub fn random(seed: u64, size: usize) -> Self {
        Self::sparse(seed, size, std::slice::from_ref(&(0..size as u64)))
    }

    /// A disk of holes.
    pub fn empty(size: usize) -> Self {
        Self::sparse(0, size, &[])
    }

    /// Many tiny extents: data of 1 to `largest` granules, then a hole of 1 to `largest`, and so
    /// on. A granule has 512 bytes.
    pub fn tiny_extents(seed: u64, size: usize, largest: u64) -> Self {
        const GRANULE: u64 = 512;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut data = Vec::new();
        let mut at = 0;
        while at < size as u64 {
            let end = at + rng.u64(1..=largest) * GRANULE;
            data.push(at..end.min(size as u64));
            at = end + rng.u64(1..=largest) * GRANULE;
        }
        Self::sparse(seed, size, &data)
    }

    /// A disk of holes with random data in the given ranges, which ascend and do not touch.
    pub fn sparse(seed: u64, size: usize, data: &[Range<u64>]) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; size];
        let mut extents = Vec::new();
        let mut at = 0;
        let hole = |start: u64, end: u64| Extent {
            start,
            length: end - start,
            zero: true,
            hole: true,
        };
        for range in data.iter().filter(|range| !range.is_empty()) {
            if range.start > at {
                extents.push(hole(at, range.start));
            }
            let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            rng.fill(&mut bytes[part]);
            extents.push(Extent {
                start: range.start,
                length: range.end - range.start,
                zero: false,
                hole: false,
            });
            at = range.end;
        }
        if at < size as u64 {
            extents.push(hole(at, size as u64));
        }
        Self {
            bytes: Arc::new(bytes),
            extents,
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The extents, which cover the disk without gaps.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Bytes in extents that do not read as zero.
    pub fn data_bytes(&self) -> u64 {
        let data = self.extents.iter().filter(|extent| !extent.zero);
        data.map(|extent| extent.length).sum()
    }

    /// The content, to be served.
    pub fn object(&self) -> Object {
        Object::from(Arc::clone(&self.bytes))
    }

    /// Writes it to a new file; holes stay holes.
    pub fn write_to(&self, path: &Path) {
        let file = File::create_new(path).unwrap();
        file.set_len(self.size()).unwrap();
        for extent in self.extents.iter().filter(|extent| !extent.hole) {
            let start = usize::try_from(extent.start).unwrap();
            let end = start + usize::try_from(extent.length).unwrap();
            file.write_all_at(&self.bytes[start..end], extent.start)
                .unwrap();
        }
    }

    /// Fails unless the file or block device begins with exactly this disk, and a file ends with
    /// it.
    #[track_caller]
    pub fn assert_on(&self, path: &Path) {
        let size = size_of(path);
        if fs::metadata(path).unwrap().is_file() {
            assert_eq!(size, self.size(), "size of {}", path.display());
        }
        assert!(size >= self.size(), "{} has {size} bytes", path.display());
        let difference = self.first_difference(path);
        assert_eq!(difference, None, "{}: first difference", path.display());
    }

    /// The position of the first byte that differs, with the byte wanted and the byte found.
    pub fn first_difference(&self, path: &Path) -> Option<(u64, u8, u8)> {
        first_difference(
            &mut self.bytes(),
            &mut File::open(path).unwrap(),
            self.size(),
        )
    }
}

impl From<Vec<u8>> for Disk {
    /// A disk with this content, all of it data.
    fn from(bytes: Vec<u8>) -> Self {
        let extent = Extent {
            start: 0,
            length: bytes.len() as u64,
            zero: false,
            hole: false,
        };
        Self {
            bytes: Arc::new(bytes),
            extents: vec![extent],
        }
    }
}

/// Fails unless both files or block devices hold the same `size` bytes.
#[track_caller]
pub fn assert_same(wanted: &Path, found: &Path, size: u64) {
    let mut left = File::open(wanted).unwrap();
    let mut right = File::open(found).unwrap();
    let difference = first_difference(&mut left, &mut right, size);
    let (wanted, found) = (wanted.display(), found.display());
    assert_eq!(difference, None, "{wanted} and {found}: first difference");
}

/// The position of the first byte that differs among the first `size`, with both bytes.
///
/// # Panics
/// When one of them is shorter.
pub fn first_difference(
    left: &mut impl Read,
    right: &mut impl Read,
    size: u64,
) -> Option<(u64, u8, u8)> {
    const BLOCK: usize = 1 << 20;
    let (mut a, mut b) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut at = 0;
    while at < size {
        let length = usize::try_from((size - at).min(BLOCK as u64)).unwrap();
        let (a, b) = (&mut a[..length], &mut b[..length]);
        left.read_exact(a).unwrap();
        right.read_exact(b).unwrap();
        if a != b {
            let index = a.iter().zip(b.iter()).position(|(a, b)| a != b).unwrap();
            return Some((at + index as u64, a[index], b[index]));
        }
        at += length as u64;
    }
    None
}

/// Size of a file or block device.
pub fn size_of(path: &Path) -> u64 {
    File::open(path).unwrap().seek(SeekFrom::End(0)).unwrap()
}

/// Bytes on disk: allocated blocks of the file.
pub fn allocated_bytes(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Bytes of the file that the file system calls data (`SEEK_DATA`, `SEEK_HOLE`).
pub fn data_bytes(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    let mut data = 0;
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(&file, Seeking::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return data,
            Err(error) => panic!("SEEK_DATA: {error}"),
        };
        at = rustix::fs::seek(&file, Seeking::Hole(start)).unwrap();
        data += at - start;
    }
}

/// Fills an existing file or block device with one byte, up to its size.
pub fn fill(path: &Path, byte: u8) {
    let block = vec![byte; 1 << 20];
    let mut left = size_of(path);
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    while left > 0 {
        let length = left.min(block.len() as u64);
        file.write_all(&block[..usize::try_from(length).unwrap()])
            .unwrap();
        left -= length;
    }
    file.sync_all().unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_become_extents() {
        let disk = Disk::picture("AB0--C", 4);
        assert_eq!(disk.bytes(), b"AAAABBBB\0\0\0\0\0\0\0\0\0\0\0\0CCCC");
        let drawn: Vec<_> = disk
            .extents()
            .iter()
            .map(|extent| (extent.start, extent.length, extent.zero, extent.hole))
            .collect();
        assert_eq!(
            drawn,
            [
                (0, 8, false, false),
                (8, 4, true, false),
                (12, 8, true, true),
                (20, 4, false, false)
            ]
        );
    }

    #[test]
    fn extents_cover_the_disk_and_tell_the_truth() {
        for disk in [
            Disk::empty(5000),
            Disk::random(1, 5000),
            Disk::tiny_extents(3, 1 << 20, 4),
        ] {
            let mut at = 0;
            for extent in disk.extents() {
                assert_eq!(extent.start, at);
                at += extent.length;
                let start = usize::try_from(extent.start).unwrap();
                let part = &disk.bytes()[start..usize::try_from(at).unwrap()];
                assert_eq!(part.iter().all(|byte| *byte == 0), extent.zero);
            }
            assert_eq!(at, disk.size());
        }
        assert!(Disk::tiny_extents(3, 1 << 20, 4).extents().len() > 300);
    }

    #[test]
    fn files_are_sparse_and_compared_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let disk = Disk::picture("A---------------", 64 << 10);
        disk.write_to(&path);
        disk.assert_on(&path);
        assert_eq!(data_bytes(&path), 64 << 10);
        assert!(allocated_bytes(&path) < 128 << 10);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"x", 700_000).unwrap();
        assert_eq!(disk.first_difference(&path), Some((700_000, 0, b'x')));
        fill(&path, 0xFF);
        assert_eq!(disk.first_difference(&path), Some((0, b'A', 0xFF)));
    }
}
