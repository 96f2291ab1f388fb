//! Reads the disk out of the file, range by range.

use std::collections::VecDeque;

use formats::{Content, Decoder, Extent, ReadAhead};
use net::Cancel;
use transfer::{ByteRange, Error, READ_ALONG, Reader};

use super::{
    DiskImage, LOOK_UP,
    file::{FileAt, FileStream, Shared},
    tables, unusable,
};

/// Reads ranges of the disk. It has one connection, for tables and data in turns.
pub(super) struct DiskReader<'a> {
    disk: &'a DiskImage,
    shared: Shared<'a>,
    tables: ReadAhead<FileAt<'a>>,
    stream: FileStream<'a>,
    decoder: Decoder,
    /// What is known of the disk from `at` on.
    extents: VecDeque<Extent>,
    /// The part of the range that was not read yet.
    at: u64,
    end: u64,
    /// The unpacked cluster that was used last, and where it begins on the disk.
    cluster: Vec<u8>,
    cluster_start: Option<u64>,
}

impl<'a> DiskReader<'a> {
    pub(super) fn new(disk: &'a DiskImage, cancel: &Cancel) -> Result<Self, Error> {
        let shared = Shared::new(disk.file.reader(cancel)?);
        let decoder = Decoder::new(&disk.image).map_err(unusable)?;
        Ok(Self {
            disk,
            tables: tables(&*disk.file, &shared),
            stream: FileStream::new(&shared),
            shared,
            decoder,
            extents: VecDeque::new(),
            at: 0,
            end: 0,
            cluster: Vec::new(),
            cluster_start: None,
        })
    }

    /// The extent at `self.at`.
    fn extent(&mut self) -> Result<Extent, Error> {
        while let Some(first) = self.extents.front() {
            if self.at < first.start + first.len {
                return Ok(*first);
            }
            self.extents.pop_front();
        }
        self.stream.interrupt();
        let range = ByteRange::new(self.at, self.end.min(self.at.saturating_add(LOOK_UP)));
        let found = self.disk.look_up(&mut self.tables, range);
        self.extents = found.map_err(|error| self.shared.explain(&error))?.into();
        let first = self.extents.front().filter(|first| first.start == self.at);
        first.copied().ok_or_else(|| {
            unusable(format!(
                "its tables do not say what lies at byte {} of the disk",
                self.at
            ))
        })
    }

    /// Unpacks the cluster of a compressed extent, unless it is the last one.
    fn unpack(&mut self, extent: Extent, packed: ByteRange, skip: u64) -> Result<(), Error> {
        let start = extent.start.saturating_sub(skip);
        if self.cluster_start == Some(start) {
            return Ok(());
        }
        self.cluster_start = None;
        let size = usize::try_from(self.disk.info().cluster_size).unwrap_or(usize::MAX);
        self.cluster.resize(size, 0);
        let bytes = self.stream.packed(packed, || run_end(&self.extents))?;
        self.decoder
            .decode(start, bytes, &mut self.cluster)
            .map_err(unusable)?;
        self.cluster_start = Some(start);
        Ok(())
    }

    /// Fills as much of `buf` as the extent at `self.at` has.
    fn fill_part(&mut self, buf: &mut [u8]) -> Result<usize, (usize, Error)> {
        let extent = self.extent().map_err(|error| (0, error))?;
        let done = self.at - extent.start;
        let left = usize::try_from(extent.len - done).unwrap_or(usize::MAX);
        let count = buf.len().min(left);
        let buf = buf.get_mut(..count).unwrap_or_default();
        match extent.content {
            Content::Hole => buf.fill(0),
            Content::Data { offset } => {
                self.stream
                    .read(offset + done, || run_end(&self.extents), buf)?;
            }
            Content::Compressed {
                offset,
                length,
                skip,
            } => {
                let packed = ByteRange::new(offset, offset + length);
                self.unpack(extent, packed, skip)
                    .map_err(|error| (0, error))?;
                let from = usize::try_from(skip + done).unwrap_or(usize::MAX);
                let bytes = self.cluster.get(from..).and_then(|rest| rest.get(..count));
                let bytes = bytes.ok_or_else(|| {
                    (
                        0,
                        unusable(format!(
                            "the cluster at byte {} of the disk is too short",
                            self.at
                        )),
                    )
                })?;
                buf.copy_from_slice(bytes);
            }
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Reader for DiskReader<'_> {
    fn begin(&mut self, range: ByteRange) -> Result<(), Error> {
        self.extents.clear();
        (self.at, self.end) = (range.start(), range.end());
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.fill_part(rest) {
                Ok(count) => filled += count,
                Err((more, error)) => return Err((filled + more, error)),
            }
        }
        Ok(())
    }
}

/// Where the request ends that reads the first of `extents`: the following ones are read by the same
/// request as long as each begins behind the one before it in the file, and not far behind. Packed
/// clusters may begin before the one before them ends.
fn run_end(extents: &VecDeque<Extent>) -> u64 {
    let mut last = 0;
    let mut end: Option<u64> = None;
    for extent in extents {
        let (start, length) = match extent.content {
            Content::Hole => continue,
            Content::Data { offset } => (offset, extent.len),
            Content::Compressed { offset, length, .. } => (offset, length),
        };
        if end.is_some_and(|end| start < last || start > end + READ_ALONG) {
            break;
        }
        last = start;
        end = Some(end.unwrap_or_default().max(start + length));
    }
    end.unwrap_or_default()
}
