//! Where bytes go.

mod block;
mod file;
mod memory;

use std::path::Path;

pub use block::BlockSink;
pub use file::FileSink;
pub use memory::{MemorySink, SinkCall, SinkOperation};

use crate::{ByteRange, Error};

/// A target that can be written: positional, from several threads, durable after [`Sink::sync`].
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// How many bytes it can hold; [`u64::MAX`] where only the file system sets a limit.
    fn capacity(&self) -> u64;

    /// Makes it ready for a disk of `size` bytes: a file is cut to nothing and given exactly that
    /// size, so that it is blank afterwards; a device is left as it is. Called before the first
    /// write of every attempt, so possibly several times.
    fn prepare(&self, size: u64) -> Result<(), Error>;

    /// Whether everything that was not written since [`Sink::prepare`] reads as zero, so that zeroes
    /// need not be written at all.
    fn is_blank(&self) -> bool;

    /// Writes all of `buf` at `offset`. Fast when `buf` comes from the engine's pool (aligned) and
    /// offset and length are multiples of 4096; correct always.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error>;

    /// Makes `range` read as zeroes, whatever was there before, by the cheapest means that promises
    /// this; storage is given back where possible. The engine's ranges start and end at multiples
    /// of 4096 or at the end of the disk, and several threads call this and [`Sink::write_at`] at the
    /// same time for ranges that do not share such a block.
    fn zero(&self, range: ByteRange) -> Result<(), Error>;

    /// Returns when everything, a new file's entry in its folder included, is on stable storage. A
    /// write-back error since the last call is an error.
    fn sync(&self) -> Result<(), Error>;

    /// Syncs what is left and closes; the last chance to hear of an error.
    fn close(self: Box<Self>) -> Result<(), Error>;
}

/// Whether an existing file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// An existing, non-empty file is an error.
    Refuse,
    /// An existing file is cut to nothing first.
    Allow,
}

/// Opens the target at `path`: a block device if there is one, otherwise a regular file. Nothing is
/// written yet. `path` may be a symbolic link; other kinds of files are refused.
pub fn open(_path: &Path, _overwrite: Overwrite) -> Result<Box<dyn Sink>, Error> {
    todo!()
}
