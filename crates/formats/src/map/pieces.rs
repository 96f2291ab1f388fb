//! Collects what tables say of the disk, and refuses what cannot be.

use std::{collections::VecDeque, ops::Range};

use super::{Content, Extent, file_order::Nearest};
use crate::{Error, Format, Kind};

/// A range of the disk and where it is stored; or a table, which only the file knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Offset on the guest's disk.
    pub(crate) at: u64,
    /// Bytes of the guest's disk; of the file for a table.
    pub(crate) len: u64,
    pub(crate) stored: Stored,
}

/// How a piece is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Hole,
    Data {
        offset: u64,
    },
    Compressed {
        offset: u64,
        /// The packed cluster has not more bytes than this ...
        most: u32,
        /// ... and not fewer than this.
        least: u32,
    },
    Table {
        offset: u64,
    },
}

impl Piece {
    /// The part of it that lies in `range`; `None` for tables and where there is none.
    pub(crate) fn extent(&self, range: &Range<u64>) -> Option<Extent> {
        let start = self.at.max(range.start);
        let end = self.at.saturating_add(self.len).min(range.end);
        let len = end.checked_sub(start).filter(|len| *len > 0)?;
        let skip = start - self.at;
        let content = match self.stored {
            Stored::Hole => Content::Hole,
            Stored::Data { offset } => Content::Data {
                offset: offset.saturating_add(skip),
            },
            Stored::Compressed { offset, most, .. } => Content::Compressed {
                offset,
                length: u64::from(most),
                skip,
            },
            Stored::Table { .. } => return None,
        };
        Some(Extent {
            start,
            len,
            content,
        })
    }

    /// Where it begins in the file, and how many bytes of it belong to nothing else.
    pub(crate) fn place(&self) -> Option<(u64, u64)> {
        match self.stored {
            Stored::Hole => None,
            Stored::Data { offset } | Stored::Table { offset } => Some((offset, self.len)),
            Stored::Compressed { offset, least, .. } => Some((offset, u64::from(least))),
        }
    }
}

/// Pieces of the disk in its order.
#[derive(Debug)]
pub(crate) struct Pieces {
    format: Format,
    disk: u64,
    file: u64,
    at: u64,
    /// Bytes of the file that the pieces take, each counted once.
    spent: u64,
    list: VecDeque<Piece>,
    /// Takes the tables; none where the walk is over the disk alone.
    tables: Nearest,
}

impl Pieces {
    /// None yet, of a disk of `disk` bytes in a file of `file` bytes, from the offset `at` on.
    pub(crate) const fn new(format: Format, disk: u64, file: u64, at: u64) -> Self {
        Self {
            format,
            disk,
            file,
            at,
            spent: 0,
            list: VecDeque::new(),
            tables: Nearest::none(),
        }
    }

    /// Offset on the disk behind the last piece.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// The next `len` bytes are zeroes.
    pub(crate) fn hole(&mut self, len: u64) {
        self.push(len, Stored::Hole);
    }

    /// The next `len` bytes, or what the disk has of them, lie at `offset` of the file.
    pub(crate) fn data(&mut self, offset: u64, len: u64) -> Result<(), Error> {
        let on_disk = len.min(self.disk.saturating_sub(self.at));
        self.spend("data", offset, on_disk, on_disk)?;
        self.push(len, Stored::Data { offset });
        Ok(())
    }

    /// The next `len` bytes are a cluster that is packed into `least` to `most` bytes at `offset` of the file.
    pub(crate) fn compressed(
        &mut self,
        len: u64,
        offset: u64,
        most: u64,
        least: u64,
    ) -> Result<(), Error> {
        self.spend("compressed cluster", offset, least, least)?;
        // `spend` has made sure that there is at least one byte.
        let most = most.min(self.file.saturating_sub(offset));
        let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        self.push(
            len,
            Stored::Compressed {
                offset,
                most: narrow(most),
                least: narrow(least),
            },
        );
        Ok(())
    }

    /// `len` bytes at `offset` of the file are a table or a header, called `name`.
    pub(crate) fn table(&mut self, name: &'static str, offset: u64, len: u64) -> Result<(), Error> {
        self.spend(name, offset, len, len)?;
        self.tables.offer(Piece {
            at: self.at,
            len,
            stored: Stored::Table { offset },
        });
        Ok(())
    }

    /// The first piece, unless it is the only one and not `all` is known: then it may grow.
    pub(crate) fn pop(&mut self, all: bool) -> Option<Piece> {
        if self.list.len() < 2 && !all {
            return None;
        }
        self.list.pop_front()
    }

    /// What takes the tables.
    pub(crate) const fn tables(&mut self) -> &mut Nearest {
        &mut self.tables
    }

    /// Refuses what lies beyond the end of the file, and more bytes than it has.
    fn spend(&mut self, name: &'static str, offset: u64, len: u64, own: u64) -> Result<(), Error> {
        let field = |at| format!("offset of the {name} for byte {at} of the disk");
        let ends = offset.checked_add(len);
        if offset >= self.file || ends.is_none_or(|end| end > self.file) {
            let problem = format!("{len} bytes there, the file ends at {}", self.file);
            return Err(Error::new(
                Kind::Truncated,
                self.format,
                field(self.at),
                offset,
                problem,
            ));
        }
        // Cannot overflow: both are at most the size of the file.
        self.spent = self.spent.saturating_add(own);
        if self.spent > self.file {
            let problem = format!(
                "the tables name more than the {} bytes of the file, so that parts of it are used twice",
                self.file
            );
            return Err(Error::new(
                Kind::Corrupt,
                self.format,
                field(self.at),
                offset,
                problem,
            ));
        }
        Ok(())
    }

    fn push(&mut self, len: u64, stored: Stored) {
        let len = len.min(self.disk.saturating_sub(self.at));
        if len == 0 {
            return;
        }
        let at = self.at;
        self.at += len;
        if let Some(last) = self.list.back_mut() {
            let goes_on = match (last.stored, stored) {
                (Stored::Hole, Stored::Hole) => true,
                (Stored::Data { offset }, Stored::Data { offset: next }) => {
                    offset.checked_add(last.len) == Some(next)
                }
                _ => false,
            };
            if goes_on {
                last.len += len;
                return;
            }
        }
        self.list.push_back(Piece { at, len, stored });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> Pieces {
        Pieces::new(Format::Qcow2, 1000, 5000, 0)
    }

    #[test]
    fn neighbours_of_one_kind_are_one_piece_and_end_with_the_disk() {
        let mut pieces = pieces();
        pieces.hole(100);
        pieces.hole(100);
        pieces.data(2000, 100).unwrap();
        pieces.data(2100, 100).unwrap();
        pieces.data(2300, 100).unwrap();
        pieces.hole(9000);
        let all: Vec<_> = std::iter::from_fn(|| pieces.pop(true))
            .map(|piece| (piece.at, piece.len))
            .collect();
        assert_eq!(all, [(0, 200), (200, 200), (400, 100), (500, 500)]);
        assert_eq!(pieces.at(), 1000);
    }

    #[test]
    fn what_lies_beyond_the_end_of_the_file_is_refused() {
        for (offset, len) in [(4901, 100), (5000, 0), (u64::MAX, 100), (5001, 1)] {
            let error = pieces().data(offset, len).unwrap_err();
            assert_eq!(error.kind(), Kind::Truncated, "{offset} {len}");
        }
        // The disk ends before the cluster, and the file may.
        let mut last = Pieces::new(Format::Qcow2, 1000, 5000, 900);
        last.data(4900, 4096).unwrap();
    }

    #[test]
    fn a_file_cannot_be_used_more_than_once() {
        let mut pieces = Pieces::new(Format::Qcow2, u64::MAX, 1000, 0);
        pieces.data(0, 600).unwrap();
        pieces.compressed(1 << 20, 0, 1024, 400).unwrap();
        let error = pieces.table("L2 table", 0, 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }

    #[test]
    fn a_part_of_a_packed_cluster_knows_its_offset_in_it() {
        let piece = Piece {
            at: 1000,
            len: 500,
            stored: Stored::Compressed {
                offset: 7,
                most: 30,
                least: 1,
            },
        };
        let extent = piece.extent(&(1100..1200)).unwrap();
        assert_eq!((extent.start, extent.len), (1100, 100));
        let content = Content::Compressed {
            offset: 7,
            length: 30,
            skip: 100,
        };
        assert_eq!(extent.content, content);
        assert_eq!(piece.extent(&(0..1000)), None);
        assert_eq!(piece.extent(&(1500..9000)), None);
    }
}
