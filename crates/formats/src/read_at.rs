//! Where the bytes of the file come from.

use std::fmt;

use crate::{Error, Format, Kind, bytes::Fields};

/// The error of a [`ReadAt`], kept as the source of ours. A caller finds its own type again by `downcast_ref`.
pub type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// A file whose ranges can be read.
///
/// It is asked for headers and tables only, in pieces of at most 64 KiB, mostly one behind the other; [`ReadAhead`]
/// makes few large reads of them. Calls may fail at any time (a stop flag, for example): the error ends what was under
/// way and comes back as the source of an [`Error`] of [`Kind::Read`].
pub trait ReadAt {
    /// Size of the file in bytes. Constant.
    fn size(&self) -> u64;

    /// Fills `buf` with the bytes from `offset`. It is never asked for bytes beyond [`ReadAt::size`].
    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError>;
}

impl<R: ReadAt + ?Sized> ReadAt for &mut R {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_exact_at(offset, buf)
    }
}

impl ReadAt for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .and_then(|rest| rest.get(..buf.len()))
            .ok_or("beyond the end")?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// Reads a block at a time, and serves what is asked for from the last blocks.
///
/// For files behind a network: a request costs more than the bytes of a block.
pub struct ReadAhead<R> {
    inner: R,
    block: usize,
    /// The last used one is the last. An offset, and the bytes from there.
    blocks: Vec<(u64, Vec<u8>)>,
}

impl<R: ReadAt> ReadAhead<R> {
    /// Blocks that are held: tables of two levels are read alternately, and a header is looked at again.
    const KEPT: usize = 4;

    /// Holds up to four blocks of `block` bytes of `inner`.
    #[must_use]
    pub const fn new(inner: R, block: usize) -> Self {
        Self {
            inner,
            block,
            blocks: Vec::new(),
        }
    }
}

impl<R: ReadAt> ReadAt for ReadAhead<R> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if let Some(index) = self
            .blocks
            .iter()
            .position(|(start, bytes)| copy(*start, bytes, offset, buf))
        {
            let used = self.blocks.remove(index);
            self.blocks.push(used);
            return Ok(());
        }
        let left = self.size().saturating_sub(offset);
        let length = self.block.min(usize::try_from(left).unwrap_or(usize::MAX));
        if length < buf.len() {
            return self.inner.read_exact_at(offset, buf);
        }
        // The memory of the block that was not used for the longest time serves the new one.
        let mut bytes = if self.blocks.len() < Self::KEPT {
            Vec::new()
        } else {
            self.blocks.remove(0).1
        };
        bytes.resize(length, 0);
        self.inner.read_exact_at(offset, &mut bytes)?;
        copy(offset, &bytes, offset, buf);
        self.blocks.push((offset, bytes));
        Ok(())
    }
}

impl<R> fmt::Debug for ReadAhead<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead")
            .field("block", &self.block)
            .field("held", &self.blocks.len())
            .finish_non_exhaustive()
    }
}

/// Fills `buf` from a block that begins at `start`; `false` when the block does not hold all of it.
fn copy(start: u64, block: &[u8], offset: u64, buf: &mut [u8]) -> bool {
    let bytes = offset
        .checked_sub(start)
        .and_then(|skip| usize::try_from(skip).ok())
        .and_then(|skip| block.get(skip..))
        .and_then(|rest| rest.get(..buf.len()));
    if let Some(bytes) = bytes {
        buf.copy_from_slice(bytes);
    }
    bytes.is_some()
}

/// The file as the readers of formats use it: checks bounds, and names what was read in errors.
pub(crate) struct Input<'a> {
    pub(crate) file: &'a mut dyn ReadAt,
    pub(crate) format: Format,
}

impl Input<'_> {
    pub(crate) fn size(&self) -> u64 {
        self.file.size()
    }

    /// The first bytes of the file, as many as tell its format.
    pub(crate) fn head(&mut self) -> Result<Vec<u8>, Error> {
        let length =
            usize::try_from(self.size()).map_or(Format::HEAD, |size| size.min(Format::HEAD));
        let mut head = vec![0; length];
        self.read("head", 0, &mut head)?;
        Ok(head)
    }

    /// Fills `buf` with the part of the file that is called `name`.
    pub(crate) fn read(
        &mut self,
        name: &'static str,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), Error> {
        let size = self.size();
        let fits = offset
            .checked_add(buf.len() as u64)
            .is_some_and(|end| end <= size);
        if !fits {
            let value = format!("at {offset}");
            let problem = format!("{} bytes there, the file ends at {size}", buf.len());
            return Err(Error::new(
                Kind::Truncated,
                self.format,
                name,
                value,
                problem,
            ));
        }
        self.file.read_exact_at(offset, buf).map_err(|error| {
            let value = format!("at {offset}");
            Error::new(Kind::Read, self.format, name, value, "it cannot be read").because(error)
        })
    }
}

/// Tables of the file, read in slices; the last slice of each of two levels is held.
pub(crate) struct Tables<'a> {
    pub(crate) input: Input<'a>,
    slices: [Slice; 2],
}

/// A part of a table.
#[derive(Debug, Default)]
struct Slice {
    /// Offset in the file.
    offset: u64,
    bytes: Vec<u8>,
}

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// 0 for a table whose entries name tables, 1 for one whose entries name data.
    pub(crate) level: usize,
    pub(crate) name: &'static str,
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Bytes; a multiple of the size of an entry.
    pub(crate) len: u64,
}

impl<'a> Tables<'a> {
    /// Bytes that are read at a time; a multiple of the size of every format's entries.
    const SLICE: u64 = 16 << 10;

    pub(crate) fn new(input: Input<'a>) -> Self {
        Self {
            input,
            slices: Default::default(),
        }
    }

    /// Bytes of `table` from its byte `at`: to the end of a slice, or of the table. Empty beyond its end.
    pub(crate) fn entries(&mut self, table: Table, at: u64) -> Result<Fields<'_>, Error> {
        let format = self.input.format;
        let start = at - at % Self::SLICE;
        let len = table.len.saturating_sub(start).min(Self::SLICE);
        let offset = table.offset.saturating_add(start);
        let slice = self
            .slices
            .get_mut(table.level)
            .ok_or_else(|| Error::new(Kind::Corrupt, format, table.name, at, "no such table"))?;
        let len = usize::try_from(len).unwrap_or_default();
        if slice.offset != offset || slice.bytes.len() != len {
            slice.bytes.clear();
            let mut bytes = std::mem::take(&mut slice.bytes);
            bytes.resize(len, 0);
            self.input.read(table.name, offset, &mut bytes)?;
            *slice = Slice { offset, bytes };
        }
        let skip = usize::try_from(at - start).unwrap_or(usize::MAX);
        Ok(Fields {
            format,
            name: table.name,
            bytes: slice.bytes.get(skip..).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted<'a> {
        bytes: &'a [u8],
        reads: &'a mut Vec<(u64, usize)>,
    }

    impl ReadAt for Counted<'_> {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            self.reads.push((offset, buf.len()));
            self.bytes.read_exact_at(offset, buf)
        }
    }

    #[test]
    fn a_block_serves_what_follows_and_ends_with_the_file() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut reads = Vec::new();
        let mut file = ReadAhead::new(
            Counted {
                bytes: &bytes,
                reads: &mut reads,
            },
            100,
        );
        let mut buf = [0; 10];
        for offset in [0_u8, 10, 90, 95, 200, 5, 246] {
            file.read_exact_at(offset.into(), &mut buf).unwrap();
            let expected: Vec<u8> = (0..10).map(|i| offset + i).collect();
            assert_eq!(buf, *expected);
        }
        let mut large = [0; 150];
        file.read_exact_at(1, &mut large).unwrap();
        assert_eq!(large[149], 150);
        assert_eq!(reads, [(0, 100), (95, 100), (200, 56), (1, 150)]);
    }

    #[test]
    fn at_most_four_blocks_are_held() {
        let bytes = [7; 4096];
        let mut file = ReadAhead::new(&bytes[..], 64);
        for offset in (0..4096).step_by(64) {
            file.read_exact_at(offset, &mut [0; 8]).unwrap();
        }
        assert_eq!(file.blocks.len(), 4);
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let mut bytes = &[0_u8; 100][..];
        let mut input = Input {
            file: &mut bytes,
            format: Format::Vdi,
        };
        for offset in [91, 100, u64::MAX] {
            let error = input.read("map", offset, &mut [0; 10]).unwrap_err();
            assert_eq!(error.kind(), Kind::Truncated);
        }
        assert!(input.read("map", 90, &mut [0; 10]).is_ok());
    }
}
