//! The stored extents in the order of the file, in bounded memory.

use std::{cmp::Ordering, collections::BinaryHeap, fmt, vec};

use super::{Content, Extent, Map, Piece, Stored, Walk};
use crate::{Error, Kind, ReadAt};

/// How many extents are sorted at a time: 6 MiB, and half as much again while the list grows.
pub(crate) const SORTED: usize = 1 << 17;

/// What the tables of an image add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the guest's disk that are in the file; the rest are zeroes.
    pub data: u64,
    /// Bytes of the file that they are read from: with compressed clusters an upper bound.
    pub stored: u64,
    /// Extents that are in the file.
    pub extents: u64,
    /// Those among them that are compressed clusters.
    pub compressed: u64,
}

/// The extents that are in the file, in the order of their offsets there. Made by
/// [`Image::file_order`](crate::Image::file_order). Holes are not among them.
///
/// It reads all tables before the first extent, and once more after each 131072 of them. Two extents, or an
/// extent and a table, that share bytes of the file are an error. After an error nothing follows.
pub struct FileOrder<'a> {
    map: Map<'a>,
    file: &'a mut dyn ReadAt,
    sorted: usize,
    batch: vec::IntoIter<Placed>,
    /// The last piece that was sorted; `None` before the first.
    last: Option<Placed>,
    /// Whether all pieces have been sorted.
    is_complete: bool,
    /// End of what the last piece has for itself in the file.
    used: u64,
    /// A compressed extent whose packed bytes end at the next piece at the latest.
    held: Option<Extent>,
    summary: Summary,
}

impl<'a> FileOrder<'a> {
    pub(crate) fn new(map: Map<'a>, file: &'a mut dyn ReadAt, sorted: usize) -> Self {
        Self {
            map,
            file,
            sorted: sorted.max(1),
            batch: Vec::new().into_iter(),
            last: None,
            is_complete: false,
            used: 0,
            held: None,
            summary: Summary::default(),
        }
    }

    /// Walks to the end, and sums up.
    pub(crate) fn summary(mut self) -> Result<Summary, Error> {
        for extent in &mut self {
            extent?;
        }
        Ok(self.summary)
    }

    /// The next piece with a place in the file.
    fn next_piece(&mut self) -> Result<Option<Placed>, Error> {
        loop {
            if let Some(placed) = self.batch.next() {
                if placed.offset < self.used {
                    return Err(self.overlap(&placed));
                }
                let own = placed.piece.place().map_or(0, |(_, own)| own);
                self.used = placed.offset.saturating_add(own);
                return Ok(Some(placed));
            }
            if self.is_complete {
                return Ok(None);
            }
            self.sort()?;
        }
    }

    /// Walks over the disk, and keeps the pieces that come next in the file.
    fn sort(&mut self) -> Result<(), Error> {
        // Its memory, before that of the next.
        self.batch = Vec::new().into_iter();
        let is_first = self.last.is_none();
        let disk = self.map.info.virtual_size;
        let mut walk = Walk::new(self.map, self.file, 0..disk);
        walk.regions(Nearest {
            behind: self.last,
            most: self.sorted,
            heap: BinaryHeap::new(),
            has_dropped: false,
        })?;
        while let Some(piece) = walk.next().transpose()? {
            if is_first {
                self.summary.add(&piece);
            }
            walk.nearest().offer(piece);
        }
        let nearest = std::mem::replace(walk.nearest(), Nearest::none());
        self.is_complete = !nearest.has_dropped;
        let sorted = nearest.heap.into_sorted_vec();
        self.last = sorted.last().copied().or(self.last);
        self.batch = sorted.into_iter();
        Ok(())
    }

    fn overlap(&self, placed: &Placed) -> Error {
        let what = match placed.piece.stored {
            Stored::Table { .. } => "table",
            _ => "data",
        };
        let field = format!(
            "offset of the {what} for byte {} of the disk",
            placed.piece.at
        );
        let problem = format!(
            "it overlaps what ends at {} of the file: two entries name the same bytes",
            self.used
        );
        Error::new(
            Kind::Corrupt,
            self.map.info.format,
            field,
            placed.offset,
            problem,
        )
    }

    fn fail(&mut self, error: Error) -> Error {
        self.batch = Vec::new().into_iter();
        self.is_complete = true;
        self.held = None;
        error
    }
}

impl Iterator for FileOrder<'_> {
    type Item = Result<Extent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let all = 0..u64::MAX;
        loop {
            let placed = match self.next_piece() {
                Ok(Some(placed)) => placed,
                Ok(None) => return self.held.take().map(Ok),
                Err(error) => return Some(Err(self.fail(error))),
            };
            let extent = placed.piece.extent(&all);
            let ready = match self.held.take() {
                Some(held) => {
                    self.held = extent;
                    Some(ends_before(held, placed.offset))
                }
                None if matches!(placed.piece.stored, Stored::Compressed { .. }) => {
                    self.held = extent;
                    None
                }
                None => extent,
            };
            if let Some(ready) = ready {
                return Some(Ok(ready));
            }
        }
    }
}

impl fmt::Debug for FileOrder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileOrder")
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

impl Summary {
    fn add(&mut self, piece: &Piece) {
        let (bytes, is_packed) = match piece.stored {
            Stored::Hole | Stored::Table { .. } => return,
            Stored::Data { .. } => (piece.len, false),
            Stored::Compressed { most, .. } => (u64::from(most), true),
        };
        self.data = self.data.saturating_add(piece.len);
        self.stored = self.stored.saturating_add(bytes);
        self.extents = self.extents.saturating_add(1);
        self.compressed = self.compressed.saturating_add(u64::from(is_packed));
    }
}

/// A packed cluster cannot reach into what follows it in the file: what its table says is an upper bound.
fn ends_before(mut extent: Extent, next: u64) -> Extent {
    if let Content::Compressed { offset, length, .. } = &mut extent.content {
        *length = (*length).min(next.saturating_sub(*offset));
    }
    extent
}

/// The pieces that come next in the file behind one, as many as fit.
#[derive(Debug)]
pub(crate) struct Nearest {
    behind: Option<Placed>,
    most: usize,
    heap: BinaryHeap<Placed>,
    has_dropped: bool,
}

impl Nearest {
    /// One that takes nothing.
    pub(crate) const fn none() -> Self {
        Self {
            behind: None,
            most: 0,
            heap: BinaryHeap::new(),
            has_dropped: false,
        }
    }

    pub(crate) fn offer(&mut self, piece: Piece) {
        let Some((offset, _)) = piece.place() else {
            return;
        };
        let placed = Placed { offset, piece };
        if self.behind.is_some_and(|behind| placed <= behind) {
            return;
        }
        if self.heap.len() < self.most {
            self.heap.push(placed);
            return;
        }
        self.has_dropped = true;
        if let Some(mut farthest) = self.heap.peek_mut()
            && placed < *farthest
        {
            *farthest = placed;
        }
    }
}

/// A piece, ordered by its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    offset: u64,
    piece: Piece,
}

impl Placed {
    /// No two pieces of one walk have the same.
    fn key(&self) -> (u64, bool, u64, u64) {
        let is_data = !matches!(self.piece.stored, Stored::Table { .. });
        (self.offset, is_data, self.piece.at, self.piece.len)
    }
}

impl Ord for Placed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_size_that_is_documented() {
        assert_eq!(size_of::<Placed>() * SORTED, 6 << 20);
    }
}
