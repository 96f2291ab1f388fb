//! What the fuzz targets do with an input. A target finds a fault when this panics, runs out of time or of memory.
//!
//! Images are mostly empty and some formats begin behind a MiB, so that an input is no file but a list of what is in
//! one: see [`Sparse`].

use std::{collections::BTreeMap, io::Read, sync::OnceLock};

use formats::{
    Content, Decoder, Format, Image, Kind, Limits, ReadAt, ReadError, Run, Stream, Unwrap,
};

// What the tests of the record layer play, too.
#[path = "../../crates/net/tests/memory/mod.rs"]
mod memory;

/// Extents that are looked at, and clusters that are unpacked.
const EXTENTS: usize = 2000;
const CLUSTERS: usize = 20;
/// Largest file that is read in one pass.
const MOST_ONCE: u64 = 64 << 20;
/// Bytes of a packed cluster that are read.
const PACKED: u64 = 8 << 20;

/// Runs the target of this name.
///
/// # Panics
/// When what the crate promises does not hold.
pub fn run(target: &str, input: &[u8]) {
    match target {
        "detect" => {
            let mut file = input;
            let _ = Image::open(&mut file);
            image(Format::detect(&mut file).unwrap_or(Format::Raw), &mut file);
        }
        "qcow2" => image(Format::Qcow2, &mut Sparse::decode(input)),
        "vmdk" => image(Format::Vmdk, &mut Sparse::decode(input)),
        "vdi" => image(Format::Vdi, &mut Sparse::decode(input)),
        "vhd" => {
            let mut file = Sparse::decode(input);
            file.seal_vhd();
            image(Format::Vhd, &mut file);
        }
        "vhdx" => {
            let mut file = Sparse::decode(input);
            file.seal_vhdx();
            image(Format::Vhdx, &mut file);
        }
        "unwrap" => unwrap(input),
        "records" => {
            static WORLD: OnceLock<memory::World> = OnceLock::new();
            memory::script::Script::decode(input).run(WORLD.get_or_init(memory::World::new));
        }
        _ => panic!("no such target: {target}"),
    }
}

/// Reads an image in one pass, and compares what comes with what its tables say.
fn one_pass(image: &Image, is_sound: bool, file: &mut dyn ReadAt, is_known: bool) {
    let size = file.size();
    // A raw file is as large as it is.
    if size > MOST_ONCE || (!is_known && image.info().format == Format::Raw) {
        return;
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    file.read_exact_at(0, &mut bytes).unwrap();
    let Ok(mut stream) = Stream::open(&bytes[..], image.info().format, is_known.then_some(size))
    else {
        return;
    };
    let disk = stream.info().virtual_size;
    assert_eq!(disk, image.virtual_size());
    let mut given = 0;
    for _ in 0..EXTENTS {
        let run = match stream.next_run() {
            Ok(Some(run)) => run,
            Ok(None) => {
                assert_eq!(given, disk);
                return;
            }
            Err(error) => {
                // Compressed clusters are decoded by this way only.
                let is_other =
                    matches!(error.kind(), Kind::Order | Kind::Corrupt | Kind::Ambiguous);
                assert!(!is_sound || is_other, "{error}");
                return;
            }
        };
        let (range, data) = match run {
            Run::Hole(range) => (range, None),
            Run::Data { offset, bytes } => (offset..offset + bytes.len() as u64, Some(bytes)),
        };
        assert!(range.start < range.end && range.end <= disk, "{range:?}");
        given += range.end - range.start;
        if !is_sound {
            continue;
        }
        for extent in image.extents(file, range.clone()).take(EXTENTS) {
            let extent = extent.unwrap();
            let skip = usize::try_from(extent.start - range.start).unwrap();
            match (extent.content, data) {
                (Content::Hole, None) | (Content::Compressed { .. }, Some(_)) => {}
                (Content::Data { offset }, Some(data)) => {
                    let length = usize::try_from(extent.len).unwrap();
                    let from = usize::try_from(offset).unwrap();
                    assert!(data[skip..skip + length] == bytes[from..from + length]);
                }
                (content, data) => panic!("{content:?}, {}", data.is_some()),
            }
        }
    }
}

/// Opens, checks and walks over an image, in each way that there is.
fn image(format: Format, file: &mut dyn ReadAt) {
    let Ok(image) = Image::open_as(file, format) else {
        return;
    };
    let checked = image.check(file);
    for is_known in [true, false] {
        one_pass(&image, checked.is_ok(), file, is_known);
    }
    let mut packed = Vec::new();
    let mut at = 0;
    for extent in image.extents(file, 0..u64::MAX).take(EXTENTS) {
        let Ok(extent) = extent else { break };
        assert!(extent.start == at && extent.len > 0, "{extent:?}");
        at += extent.len;
        if let Content::Compressed {
            offset,
            length,
            skip,
        } = extent.content
        {
            packed.push((extent.start - skip, offset, length));
        }
    }
    assert!(at <= image.virtual_size());
    let (mut end, mut data) = (0, 0_u64);
    for extent in image.file_order(file).take(EXTENTS) {
        let Ok(extent) = extent else {
            assert!(checked.is_err());
            break;
        };
        let (offset, length) = match extent.content {
            Content::Data { offset } => (offset, extent.len),
            Content::Compressed { offset, .. } => (offset, 1),
            Content::Hole => panic!("a hole has no place"),
        };
        assert!(offset >= end, "{extent:?}");
        end = offset + length;
        data += extent.len;
    }
    if let Ok(summary) = checked {
        assert!(end <= file.size() && data <= summary.data && summary.data <= image.virtual_size());
    }
    let Ok(mut decoder) = Decoder::new(&image) else {
        return;
    };
    let size = usize::try_from(image.info().cluster_size).unwrap_or(usize::MAX);
    for (start, offset, length) in packed.into_iter().take(CLUSTERS) {
        let length = usize::try_from(length.min(PACKED)).unwrap_or_default();
        let mut bytes = vec![0; length];
        file.read_exact_at(offset, &mut bytes)
            .expect("an extent lies in the file");
        let _ = decoder.decode(start, &bytes, &mut vec![0; size]);
    }
}

/// Decodes a compressed file, whatever its first bytes say.
fn unwrap(input: &[u8]) {
    for format in [Format::Gzip, Format::Xz, Format::Zstd, Format::Bzip2] {
        let limits = Limits {
            memory: 16 << 20,
            output: 4 << 20,
        };
        let Ok(mut reader) = Unwrap::new(input, format, limits) else {
            continue;
        };
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            total += count as u64;
        }
        assert!(total <= limits.output);
    }
}

/// Size of a line of a [`Sparse`] file.
const LINE: usize = 64;
/// Lines of the largest file, of a GiB: how long a hostile file keeps its reader busy grows with its size.
const MOST_LINES: u32 = (1 << 24) + 1;
/// Bytes of a line in an input: its number (4), and what it holds.
const RECORD: usize = 4 + LINE;

/// A file of lines of 64 bytes, of which most are zeroes. An input is the size of the file in lines (4 bytes,
/// little-endian), then records of a line's number and bytes.
#[derive(Debug)]
pub struct Sparse {
    size: u64,
    lines: BTreeMap<u32, [u8; LINE]>,
}

impl Sparse {
    /// The file that an input means.
    #[must_use]
    pub fn decode(input: &[u8]) -> Self {
        let number = |bytes: &[u8]| bytes.first_chunk().copied().map_or(0, u32::from_le_bytes);
        let records = input.get(4..).unwrap_or_default().chunks_exact(RECORD);
        let lines = records
            .map(|record| {
                let mut line = [0; LINE];
                line.copy_from_slice(&record[4..]);
                (number(record), line)
            })
            .collect();
        Self {
            size: u64::from(number(input) % MOST_LINES) * LINE as u64,
            lines,
        }
    }

    /// The input that means these parts of a file; the other bytes are zeroes.
    #[must_use]
    pub fn encode(file: &[u8], is_wanted: impl Fn(u64) -> bool) -> Vec<u8> {
        let lines = u32::try_from(file.len().div_ceil(LINE)).expect("a small file");
        let mut input = lines.to_le_bytes().to_vec();
        for (number, part) in (0_u32..).zip(file.chunks(LINE)) {
            if part.iter().all(|byte| *byte == 0) || !is_wanted(u64::from(number) * LINE as u64) {
                continue;
            }
            let mut line = [0; LINE];
            line[..part.len()].copy_from_slice(part);
            input.extend(number.to_le_bytes());
            input.extend(line);
        }
        input
    }

    fn read(&self, offset: u64, buf: &mut [u8]) {
        buf.fill(0);
        let line = |at: u64| u32::try_from(at / LINE as u64).unwrap_or(u32::MAX);
        let last = line(offset + buf.len() as u64);
        for (number, bytes) in self.lines.range(line(offset)..=last) {
            let start = u64::from(*number) * LINE as u64;
            for (at, byte) in (start..).zip(bytes) {
                let index = at
                    .checked_sub(offset)
                    .and_then(|index| usize::try_from(index).ok());
                if let Some(target) = index.and_then(|index| buf.get_mut(index)) {
                    *target = *byte;
                }
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let at = offset + index as u64;
            if let Ok(line) = u32::try_from(at / LINE as u64) {
                let line = self.lines.entry(line).or_insert([0; LINE]);
                line[usize::try_from(at % LINE as u64).unwrap_or(0)] = *byte;
            }
        }
    }

    /// Writes right checksums, which a fuzzer does not find.
    fn seal_vhd(&mut self) {
        for (start, length, at) in [(0, 512, 64), (512, 1024, 36)] {
            let mut part = vec![0; length];
            self.read(start, &mut part);
            part[at..at + 4].fill(0);
            let sum: u32 = part.iter().map(|byte| u32::from(*byte)).sum();
            self.write(start + at as u64, &(!sum).to_be_bytes());
        }
    }

    fn seal_vhdx(&mut self) {
        for (start, length) in [(64, 4), (128, 4), (192, 64)] {
            let mut part = vec![0; length << 10];
            self.read(start << 10, &mut part);
            part[4..8].fill(0);
            let sum = crc32c::crc32c(&part);
            self.write((start << 10) + 4, &sum.to_le_bytes());
        }
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.checked_add(buf.len() as u64);
        assert!(
            end.is_some_and(|end| end <= self.size),
            "a read beyond the end"
        );
        self.read(offset, buf);
        Ok(())
    }
}
