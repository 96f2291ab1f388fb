//! Where bytes go.

mod block;
mod fault;
mod file;
mod handle;
mod kernel;
#[cfg(feature = "testing")]
mod memory;
mod null;
mod scratch;
mod sys;
mod writeback;
mod writer;
mod zeroing;

use std::path::Path;

pub use block::BlockSink;
pub use file::FileSink;
#[cfg(feature = "testing")]
pub use memory::{MemorySink, SinkCall, SinkOperation};
pub use null::NullSink;
use rustix::{fs::FileType, io::Errno};
pub use scratch::ScratchFile;
pub use writer::SinkWriter;

use crate::{ByteRange, Error, Kind};

/// A target that can be written: positional, from several threads, durable after [`Sink::sync`].
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// How many bytes it can hold; [`u64::MAX`] where only the file system sets a limit.
    fn capacity(&self) -> u64;

    /// How many bytes of data its file system still takes, what an existing file gives back
    /// included; `None` where no file system sets a limit.
    fn room(&self) -> Option<u64> {
        None
    }

    /// Makes it ready for a disk of `size` bytes: a file is cut to nothing and given exactly that
    /// size, so that it is blank afterwards; a device is left as it is. Called before the first
    /// write of every attempt, so possibly several times.
    fn prepare(&self, size: u64) -> Result<(), Error>;

    /// Gives it another size than [`Sink::prepare`] did, for a disk whose size is known only at its end; what was written
    /// before stays, and what is new of a file is blank.
    fn resize(&self, size: u64) -> Result<(), Error>;

    /// Whether everything that was not written since [`Sink::prepare`] reads as zero, so that
    /// zeroes need not be written at all.
    fn is_blank(&self) -> bool;

    /// Writes all of `buf` at `offset`. Fast when `buf` comes from the engine's pool (aligned) and
    /// offset and length are multiples of 4096; correct always.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error>;

    /// Makes `range` read as zeroes, whatever was there before, by the cheapest means that
    /// promises this; storage is given back where possible. Fast where a range starts and ends at
    /// multiples of 4096 or at the end of the disk, as the engine's do; correct always. Several threads call this and
    /// [`Sink::write_at`] at the same time for ranges that do not share such a block.
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
/// written yet, and a file that is missing is made by [`Sink::prepare`]. Other kinds of files are refused.
/// `path` may be a symbolic link to a device, as udev makes them, if root or the process's user owns the link;
/// a file is never opened through one: whoever can change its folder could have another file overwritten.
///
/// # Errors
/// [`Kind::TargetDenied`] when it may not be opened or is something else, [`Kind::TargetExists`]
/// when there is a file that `overwrite` refuses.
pub fn open(path: &Path, overwrite: Overwrite) -> Result<Box<dyn Sink>, Error> {
    match look_at(path)? {
        Found::BlockDevice => Ok(Box::new(BlockSink::open(path)?)),
        Found::File => Ok(Box::new(FileSink::open(path, overwrite)?)),
        Found::Other(what) => Err(Error::new(
            Kind::TargetDenied,
            format!(
                "{} is {what}; the target must be a block device or a regular file",
                path.display()
            ),
        )),
    }
}

enum Found {
    BlockDevice,
    /// A regular file, or nothing in a folder that is there.
    File,
    Other(&'static str),
}

fn look_at(path: &Path) -> Result<Found, Error> {
    let link = rustix::fs::lstat(path)
        .ok()
        .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    let kind = match rustix::fs::stat(path) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(Errno::NOENT) => return look_around(path),
        Err(errno) => return Err(fault::look_fault(path, errno)),
    };
    Ok(match kind {
        FileType::BlockDevice => {
            let own = rustix::process::geteuid().as_raw();
            if let Some(link) = link.filter(|link| ![0, own].contains(&link.st_uid)) {
                return Err(Error::new(
                    Kind::TargetDenied,
                    format!(
                        "{} is a symbolic link to a block device that belongs to uid {}; give the path of \
                         the device itself",
                        path.display(),
                        link.st_uid
                    ),
                ));
            }
            Found::BlockDevice
        }
        FileType::RegularFile if link.is_some() => return Err(fault::link_fault(path)),
        FileType::RegularFile => Found::File,
        FileType::Directory => Found::Other("a folder"),
        FileType::CharacterDevice => Found::Other("a character device"),
        FileType::Fifo => Found::Other("a named pipe"),
        FileType::Socket => Found::Other("a socket"),
        _ => Found::Other("of an unknown kind"),
    })
}

/// Why there is nothing at `path`.
fn look_around(path: &Path) -> Result<Found, Error> {
    if let Ok(goal) = path.read_link() {
        return Err(Error::new(
            Kind::TargetDenied,
            format!(
                "{} is a symbolic link to {}, which does not exist",
                path.display(),
                goal.display()
            ),
        ));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => Err(Error::new(
            Kind::TargetDenied,
            format!(
                "the folder {} of the target {} does not exist",
                folder.display(),
                path.display()
            ),
        )),
        _ if path.file_name().is_none() => Ok(Found::Other("no name of a file")),
        _ => Ok(Found::File),
    }
}

/// Refuses what does not lie inside the target.
fn bounded(path: &Path, offset: u64, len: u64, size: u64) -> Result<(), Error> {
    if offset.checked_add(len).is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(Error::new(
        Kind::TargetTooSmall,
        format!(
            "{len} bytes at offset {offset} lie beyond the {size} bytes of {}",
            path.display()
        ),
    ))
}
