//! Where the bytes of the guest's disk lie in the file.

mod file_order;
mod pieces;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Range};

use file_order::Nearest;
pub(crate) use file_order::SORTED;
pub use file_order::{FileOrder, Summary};
pub(crate) use pieces::{Piece, Pieces, Stored};

use crate::{
    Error, Kind,
    info::Info,
    read_at::{Input, ReadAt, Tables},
};

/// A range of the guest's disk, and where its bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset on the guest's disk.
    pub start: u64,
    /// Bytes of the guest's disk; not 0.
    pub len: u64,
    /// Where they come from.
    pub content: Content,
}

/// Where the bytes of an extent come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// They are zeroes, and not in the file.
    Hole,
    /// They lie in the file as they are.
    Data {
        /// Offset of the first of them in the file.
        offset: u64,
    },
    /// They are a part of one compressed cluster, which [`Decoder`](crate::Decoder) unpacks.
    Compressed {
        /// Offset of the packed cluster in the file.
        offset: u64,
        /// How many bytes to read there: all of the packed cluster, and perhaps some that follow it.
        length: u64,
        /// Offset of the extent in the unpacked cluster. The cluster begins at [`Extent::start`] less this.
        skip: u64,
    },
}

/// The tables of one image: what an image format is to the rest of the crate.
pub(crate) trait Layout: fmt::Debug + Send + Sync {
    /// Adds what the tables say of the disk from `pieces.at()`, a multiple of the cluster size: at least one piece, at
    /// most those of one slice of a table, and none that begins at or behind `end`.
    fn describe(&self, tables: &mut Tables<'_>, end: u64, pieces: &mut Pieces)
    -> Result<(), Error>;

    /// Adds the parts of the file that are neither data nor found by [`Layout::describe`]: headers and tables.
    fn regions(&self, tables: &mut Tables<'_>, pieces: &mut Pieces) -> Result<(), Error>;
}

/// An image as the walks over it need it.
#[derive(Clone, Copy)]
pub(crate) struct Map<'a> {
    pub(crate) info: &'a Info,
    pub(crate) layout: &'a dyn Layout,
}

/// The guest's disk, or a part of it, in its order. Made by [`Image::extents`](crate::Image::extents).
///
/// Neighbours of the same kind are one extent: holes, data that goes on in the file. After an error nothing follows.
pub struct Extents<'a> {
    walk: Walk<'a>,
    range: Range<u64>,
}

impl<'a> Extents<'a> {
    pub(crate) fn new(map: Map<'a>, file: &'a mut dyn ReadAt, range: Range<u64>) -> Self {
        let end = range.end.min(map.info.virtual_size);
        Self {
            walk: Walk::new(map, file, range.start..end),
            range: range.start..end,
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let piece = match self.walk.next()? {
                Ok(piece) => piece,
                Err(error) => return Some(Err(error)),
            };
            if let Some(extent) = piece.extent(&self.range) {
                return Some(Ok(extent));
            }
        }
    }
}

impl fmt::Debug for Extents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extents")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// The pieces of a part of the disk, from the start of the cluster that it begins in.
pub(crate) struct Walk<'a> {
    layout: &'a dyn Layout,
    tables: Tables<'a>,
    pieces: Pieces,
    end: u64,
    has_failed: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(map: Map<'a>, file: &'a mut dyn ReadAt, range: Range<u64>) -> Self {
        let info = map.info;
        // A cluster size of 0 is refused when an image is opened.
        let at = range.start
            - range
                .start
                .checked_rem(info.cluster_size)
                .unwrap_or_default();
        let pieces = Pieces::new(info.format, info.virtual_size, file.size(), at);
        Self {
            layout: map.layout,
            tables: Tables::new(Input {
                file,
                format: info.format,
            }),
            pieces,
            end: range.end,
            has_failed: false,
        }
    }

    /// Lets `nearest` take the tables and headers from now on, first those that are found without walking over the disk.
    pub(crate) fn regions(&mut self, nearest: Nearest) -> Result<(), Error> {
        *self.pieces.tables() = nearest;
        self.layout.regions(&mut self.tables, &mut self.pieces)
    }

    /// What takes the tables.
    pub(crate) const fn nearest(&mut self) -> &mut Nearest {
        self.pieces.tables()
    }

    /// The next piece of those that were described before an error.
    pub(crate) fn described(&mut self) -> Option<Piece> {
        self.pieces.pop(true)
    }

    fn describe(&mut self) -> Result<(), Error> {
        let before = self.pieces.at();
        self.layout
            .describe(&mut self.tables, self.end, &mut self.pieces)?;
        if self.pieces.at() > before {
            return Ok(());
        }
        let format = self.tables.input.format;
        let problem = "the tables do not describe the disk from there";
        Err(Error::new(
            Kind::Corrupt,
            format,
            "offset on the disk",
            before,
            problem,
        ))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_failed {
            // The last piece may grow as long as there is more to learn.
            if let Some(piece) = self.pieces.pop(self.pieces.at() >= self.end) {
                return Some(Ok(piece));
            }
            if self.pieces.at() >= self.end {
                return None;
            }
            if let Err(error) = self.describe() {
                self.has_failed = true;
                return Some(Err(error));
            }
        }
        None
    }
}
