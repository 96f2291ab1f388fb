//! A stream-optimized vmdk whose tables come at its end: each part has a marker in front of it.
//!
//! "Virtual Disk Format 5.0", part "Stream-Optimized Compressed Sparse Extents": a marker is a sector with a number (8 bytes), a
//! size (4) and, where the size is 0, a type (4). With a size it is a packed grain, whose bytes follow the size at once. The
//! tables are compared with the grains that came: a reader that goes by them sees the same disk.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    io::Read,
};

use super::{Run, window::Window};
use crate::{
    Decoder, Error, Format, Info, Kind,
    bytes::Fields,
    vmdk::{self, StreamHead},
};

const SECTOR: u64 = 512;
/// Bytes of a grain's marker.
const MARKER: u64 = 12;
/// Types of the other markers.
const END_OF_STREAM: u32 = 0;
const TABLE: u32 = 1;
const DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;

/// The state of a walk from marker to marker.
pub(super) struct Grains {
    head: StreamHead,
    decoder: Decoder,
    cluster: Vec<u8>,
    /// Offset of the next marker in the file.
    marker: u64,
    /// How much of the disk was given.
    at: u64,
    /// The start of the grain whose marker was read, behind a hole.
    next: Option<Grain>,
    /// The grains since the last table: sectors in the file by the number in their table.
    table: BTreeMap<u64, u64>,
    /// The tables that came: sectors in the file by their number.
    tables: BTreeMap<u64, u64>,
    /// Sectors in the file of tables without a grain.
    empty: BTreeSet<u64>,
    /// Offset in the file of the directory.
    directory: Option<u64>,
    has_footer: bool,
    has_ended: bool,
}

/// A packed grain.
#[derive(Debug, Clone, Copy)]
struct Grain {
    /// Offset on the guest's disk.
    start: u64,
    /// Offset of its marker in the file.
    marker: u64,
    /// Bytes of its marker and of what is packed.
    length: u64,
}

/// What a marker announces.
enum Next {
    Grain(Grain),
    /// The disk has no more.
    End,
}

impl Grains {
    pub(super) fn open<R: Read>(window: &mut Window<R>) -> Result<Self, Error> {
        let head = vmdk::open_stream(window)?;
        Ok(Self {
            decoder: Decoder::of(&head.info)?,
            marker: head.marker,
            head,
            cluster: Vec::new(),
            at: 0,
            next: None,
            table: BTreeMap::new(),
            tables: BTreeMap::new(),
            empty: BTreeSet::new(),
            directory: None,
            has_footer: false,
            has_ended: false,
        })
    }

    pub(super) const fn info(&self) -> &Info {
        &self.head.info
    }

    /// The next run of a disk that is not complete.
    pub(super) fn next_run<'a, R: Read>(
        &'a mut self,
        window: &mut Window<R>,
    ) -> Result<Run<'a>, Error> {
        let size = self.info().virtual_size;
        let grain = match self.next.take() {
            Some(grain) => grain,
            None => match self.read_marker(window)? {
                Next::Grain(grain) if grain.start == self.at => grain,
                Next::Grain(grain) => {
                    self.next = Some(grain);
                    let hole = self.at..grain.start;
                    self.at = grain.start;
                    return Ok(Run::Hole(hole));
                }
                Next::End => {
                    let hole = self.at..size;
                    self.at = size;
                    return Ok(Run::Hole(hole));
                }
            },
        };
        window.forget(grain.marker);
        let end = grain.marker + grain.length;
        window.need("compressed grain", end)?;
        let packed = window.from(grain.marker);
        let length = usize::try_from(grain.length).unwrap_or(usize::MAX);
        let packed = packed.get(..length).unwrap_or(packed);
        let grain_size = self.info().cluster_size;
        let cluster = usize::try_from(grain_size).unwrap_or(usize::MAX);
        self.cluster.resize(cluster, 0);
        self.decoder
            .decode(grain.start, packed, &mut self.cluster)?;
        self.at = grain.start.saturating_add(grain_size).min(size);
        let count = usize::try_from(self.at - grain.start).unwrap_or(usize::MAX);
        Ok(Run::Data {
            offset: grain.start,
            bytes: self.cluster.get(..count).unwrap_or(&self.cluster),
        })
    }

    /// Reads on to the end of the stream, behind the last grain of a disk that is complete.
    pub(super) fn finish<R: Read>(&mut self, window: &mut Window<R>) -> Result<(), Error> {
        if self.has_ended {
            return Ok(());
        }
        match self.read_marker(window)? {
            Next::End => Ok(()),
            Next::Grain(grain) => Err(self.misplaced(grain.start)),
        }
    }

    /// Whether the file ends with the stream; readers that begin at its end would see another one.
    pub(super) fn check_end(&self, end: u64) -> Result<(), Error> {
        if self.marker.saturating_add(SECTOR) == end {
            return Ok(());
        }
        let problem = format!("the stream ends at {}", self.marker.saturating_add(SECTOR));
        Err(corrupt("end of the file", end, problem))
    }

    /// Reads markers up to that of a grain, or of the end of the stream.
    fn read_marker<R: Read>(&mut self, window: &mut Window<R>) -> Result<Next, Error> {
        loop {
            window.skip_to(self.marker)?;
            window.need("marker", self.marker.saturating_add(SECTOR))?;
            let fields = Fields {
                format: Format::Vmdk,
                name: "marker",
                bytes: window.from(self.marker),
            };
            let (number, length) = (fields.le64(0)?, u64::from(fields.le32(8)?));
            let marker = self.marker;
            if length > 0 {
                let grain = Grain {
                    start: self.start_of(number)?,
                    marker,
                    length: MARKER + length,
                };
                if grain.length > self.info().cluster_size * 2 + MARKER {
                    let problem = "a packed grain has at most twice its size";
                    return Err(corrupt("size in a marker", length, problem));
                }
                if self.directory.is_some() {
                    return Err(self.late(marker));
                }
                self.note(grain)?;
                self.marker = (marker + grain.length).next_multiple_of(SECTOR);
                return Ok(Next::Grain(grain));
            }
            let kind = fields.le32(12)?;
            let content = marker.saturating_add(SECTOR);
            if self.directory.is_some() && kind == TABLE {
                return Err(self.late(marker));
            }
            let length = match kind {
                END_OF_STREAM if self.has_footer => {
                    self.has_ended = true;
                    return Ok(Next::End);
                }
                END_OF_STREAM => {
                    let problem = "the stream ends there, without its tables and its footer";
                    return Err(corrupt("marker", format!("at {marker}"), problem));
                }
                TABLE => self.head.table_covers / self.info().cluster_size * 4,
                DIRECTORY => self.head.directory_bytes,
                FOOTER => SECTOR,
                kind => {
                    let problem = "types 0 to 3 are known";
                    return Err(corrupt("type of a marker", kind, problem));
                }
            };
            if number != length.div_ceil(SECTOR) {
                let problem = format!("what is announced there has {length} bytes");
                return Err(corrupt("sectors behind a marker", number, problem));
            }
            window.need("table", content.saturating_add(length))?;
            let bytes = window.from(content);
            let bytes = bytes.get(..usize::try_from(length).unwrap_or(usize::MAX));
            let bytes = bytes.unwrap_or_default();
            match kind {
                TABLE => self.check_table(bytes, content)?,
                DIRECTORY => self.check_directory(bytes, content)?,
                _ => {
                    vmdk::check_footer(bytes, self.info(), self.directory)?;
                    self.has_footer = true;
                }
            }
            self.marker = content + length.next_multiple_of(SECTOR);
        }
    }

    /// Notes where a grain is, to be compared with its table.
    fn note(&mut self, grain: Grain) -> Result<(), Error> {
        let covers = self.head.table_covers;
        let number = grain.start / covers;
        let is_another = self
            .at
            .checked_sub(1)
            .is_some_and(|last| last / covers != number);
        if is_another && !self.table.is_empty() {
            let field = format!("grain for byte {} of the disk", grain.start);
            let problem = "the table of the grains before it has not come";
            let value = format!("at {}", grain.marker);
            return Err(Error::new(Kind::Order, Format::Vmdk, field, value, problem));
        }
        let index = grain.start % covers / self.info().cluster_size;
        self.table.insert(index, grain.marker / SECTOR);
        Ok(())
    }

    /// Compares a grain table at `offset` with the grains that came since the last one.
    fn check_table(&mut self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let mut grains = std::mem::take(&mut self.table);
        let is_empty = grains.is_empty();
        for (index, entry) in bytes.chunks_exact(4).enumerate() {
            let expected = grains.remove(&(index as u64)).unwrap_or_default();
            let sector = entry.first_chunk().copied().map_or(0, u32::from_le_bytes);
            // 1 is a grain of zeroes.
            if u64::from(sector) != expected && !(sector == 1 && expected == 0) {
                let field = format!("entry {index} of the grain table");
                let problem = format!("the grain that came is at {expected}");
                return Err(corrupt(field, format!("{sector}, at {offset}"), problem));
            }
        }
        if is_empty {
            self.empty.insert(offset / SECTOR);
        } else {
            // At least one grain came, so that something was given.
            let number = self.at.saturating_sub(1) / self.head.table_covers;
            self.tables.insert(number, offset / SECTOR);
        }
        Ok(())
    }

    /// Compares the directory at `offset` with the tables that came.
    fn check_directory(&mut self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        for (number, entry) in bytes.chunks_exact(4).enumerate() {
            let sector = entry.first_chunk().copied().map_or(0, u32::from_le_bytes);
            let sector = u64::from(sector);
            let is_right = match self.tables.get(&(number as u64)) {
                Some(expected) => sector == *expected,
                None => sector == 0 || self.empty.contains(&sector),
            };
            if !is_right {
                let field = format!("entry {number} of the grain directory");
                let problem = "another table came for these grains";
                return Err(corrupt(field, sector, problem));
            }
        }
        self.directory = Some(offset);
        Ok(())
    }

    /// Where the grain for a sector begins on the disk; grains come in the disk's order.
    fn start_of(&self, sector: u64) -> Result<u64, Error> {
        let start = sector.checked_mul(SECTOR);
        let start = start.filter(|start| start.is_multiple_of(self.info().cluster_size));
        match start {
            Some(start) if self.at <= start && start < self.info().virtual_size => Ok(start),
            _ => Err(self.misplaced(sector.saturating_mul(SECTOR))),
        }
    }

    fn late(&self, marker: u64) -> Error {
        let problem = format!(
            "the directory came at {}",
            self.directory.unwrap_or_default()
        );
        corrupt("marker", format!("at {marker}"), problem)
    }

    fn misplaced(&self, start: u64) -> Error {
        let problem = format!(
            "grains begin at multiples of their size, inside the disk, and each behind the one before it, which ends at {}",
            self.at
        );
        let (field, value) = ("place in a marker", format!("byte {start} of the disk"));
        Error::new(Kind::Order, Format::Vmdk, field, value, problem)
    }
}

fn corrupt(
    field: impl Into<Cow<'static, str>>,
    value: impl Display,
    problem: impl Into<Cow<'static, str>>,
) -> Error {
    Error::new(Kind::Corrupt, Format::Vmdk, field, value, problem)
}
