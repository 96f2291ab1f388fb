//! A stream-optimized vmdk whose tables come at its end: each part has a marker in front of it.
//!
//! "Virtual Disk Format 5.0", part "Stream-Optimized Compressed Sparse Extents": a marker is a sector with a number (8 bytes), a
//! size (4) and, where the size is 0, a type (4). With a size it is a packed grain, whose bytes follow the size at once.

use std::io::Read;

use super::{Run, window::Window};
use crate::{Decoder, Error, Format, Info, Kind, bytes::Fields, vmdk};

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
    info: Info,
    decoder: Decoder,
    cluster: Vec<u8>,
    /// Offset of the next marker in the file.
    marker: u64,
    /// How much of the disk was given.
    at: u64,
    /// The start of the grain whose marker was read, behind a hole.
    next: Option<Grain>,
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
        let (info, marker) = vmdk::open_stream(window)?;
        Ok(Self {
            decoder: Decoder::of(&info)?,
            info,
            cluster: Vec::new(),
            marker,
            at: 0,
            next: None,
            has_ended: false,
        })
    }

    pub(super) const fn info(&self) -> &Info {
        &self.info
    }

    /// The next run of a disk that is not complete.
    pub(super) fn next_run<'a, R: Read>(
        &'a mut self,
        window: &mut Window<R>,
    ) -> Result<Run<'a>, Error> {
        let size = self.info.virtual_size;
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
        let cluster = usize::try_from(self.info.cluster_size).unwrap_or(usize::MAX);
        self.cluster.resize(cluster, 0);
        self.decoder
            .decode(grain.start, packed, &mut self.cluster)?;
        self.at = grain.start.saturating_add(self.info.cluster_size).min(size);
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
                if grain.length > self.info.cluster_size * 2 + MARKER {
                    let problem = "a packed grain has at most twice its size";
                    return Err(corrupt("size in a marker", length, problem));
                }
                self.marker = (marker + grain.length).next_multiple_of(SECTOR);
                return Ok(Next::Grain(grain));
            }
            match fields.le32(12)? {
                END_OF_STREAM => {
                    self.has_ended = true;
                    return Ok(Next::End);
                }
                TABLE | DIRECTORY => {}
                FOOTER => {
                    let footer = marker.saturating_add(SECTOR);
                    window.need("footer", footer.saturating_add(SECTOR))?;
                    vmdk::check_footer(window.from(footer), &self.info)?;
                }
                kind => {
                    let problem = "types 0 to 3 are known";
                    return Err(corrupt("type of a marker", kind, problem));
                }
            }
            let behind = number
                .checked_add(1)
                .and_then(|sectors| sectors.checked_mul(SECTOR))
                .and_then(|bytes| marker.checked_add(bytes));
            self.marker = behind.filter(|at| *at <= window.size()).ok_or_else(|| {
                corrupt(
                    "sectors behind a marker",
                    number,
                    "they end behind the file",
                )
            })?;
        }
    }

    /// Where the grain for a sector begins on the disk; grains come in the disk's order.
    fn start_of(&self, sector: u64) -> Result<u64, Error> {
        let start = sector.checked_mul(SECTOR);
        let start = start.filter(|start| start.is_multiple_of(self.info.cluster_size));
        match start {
            Some(start) if self.at <= start && start < self.info.virtual_size => Ok(start),
            _ => Err(self.misplaced(sector.saturating_mul(SECTOR))),
        }
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

fn corrupt(field: &'static str, value: impl std::fmt::Display, problem: &'static str) -> Error {
    Error::new(Kind::Corrupt, Format::Vmdk, field, value, problem)
}
