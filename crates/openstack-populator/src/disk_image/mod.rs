//! The disk of a guest in an image file (qcow2, vmdk, vdi, vhd, vhdx), as a source of raw bytes.
//!
//! ```text
//! HttpSource --ranges of the file--> FileAt --> formats::Image: where the disk's bytes lie
//!     |                                               |
//!     +------ranges of the file--> FileStream --> DiskReader --> the engine: ranges of the disk
//! ```
//!
//! Nothing is kept beside the buffers: no scratch space, no map of the whole disk. What the tables call
//! unallocated is a hole, and is never downloaded. A file that was downloaded before, into a
//! [`ScratchFile`](transfer::sink::ScratchFile), is read in the same way; one that is compressed as a whole is
//! unpacked into another first ([`unpack`]).

mod file;
mod one_pass;
mod reader;
mod unpack;

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use formats::{Format, Image, Info, ReadAhead};
use net::Cancel;
use transfer::{Access, ByteRange, Content, Error, Extent, Kind, Reader, Source};

use file::{FileAt, Shared};
pub(crate) use one_pass::not_compressed;
pub use one_pass::{Judge, OnePass};
use reader::DiskReader;
pub use unpack::{Bound, unpack};

/// How much is read of the file when a table is. An L2 table of qcow2 with the usual clusters.
const TABLE_BLOCK: usize = 64 << 10;
/// So much of the disk is looked up at a time, in bytes: tables are read by few requests, and each data
/// request of a disk that was written in one go is as long.
const LOOK_UP: u64 = 512 << 20;
/// At most so many extents are kept of one look-up (40 bytes each), however small the clusters are.
const MOST_EXTENTS: usize = 1 << 14;

/// An image file whose guest's disk is read.
pub struct DiskImage {
    file: Arc<dyn Source>,
    connections: NonZeroUsize,
    image: Image,
    /// Bytes of the disk that the file holds.
    data: u64,
    known: Mutex<Vec<Extent>>,
    /// Ends what looks the tables up for [`Source::extents`].
    cancel: Cancel,
}

impl DiskImage {
    /// Reads headers and all tables of `file`, of which any range must be readable, and refuses what
    /// cannot be read whole. Nothing is written anywhere before that. What is read for tables, also later, ends soon
    /// after `cancel` is pulled.
    ///
    /// # Errors
    /// [`Kind::Unusable`] with what is wrong with the image and what to do, or why the file cannot be read.
    pub fn open(file: Arc<dyn Source>, cancel: &Cancel) -> Result<Self, Error> {
        let Access::Ranged { connections } = file.access() else {
            return Err(Error::new(
                Kind::Unusable,
                "the store serves no ranges, so that no tables can be read before the rest",
            ));
        };
        let shared = Shared::new(file.reader(cancel)?);
        let mut tables = tables(&*file, &shared);
        let opened =
            Image::open(&mut tables).and_then(|image| Ok((image.check(&mut tables)?.data, image)));
        let (data, image) = opened.map_err(|error| shared.explain(&error))?;
        drop((tables, shared));
        Ok(Self {
            file,
            connections,
            image,
            data,
            known: Mutex::default(),
            cancel: cancel.clone(),
        })
    }

    /// What the file is, by its content.
    #[must_use]
    pub const fn info(&self) -> &Info {
        self.image.info()
    }

    /// Size of the guest's disk in bytes.
    #[must_use]
    pub const fn virtual_size(&self) -> u64 {
        self.image.virtual_size()
    }

    /// How many bytes of the disk are in the file; the others are zero.
    #[must_use]
    pub const fn data(&self) -> u64 {
        self.data
    }

    /// What the tables say of the disk from `range.start()` on, as far as [`MOST_EXTENTS`] go.
    fn look_up(
        &self,
        tables: &mut ReadAhead<FileAt<'_>>,
        range: ByteRange,
    ) -> Result<Vec<formats::Extent>, formats::Error> {
        self.image
            .extents(tables, range.start()..range.end())
            .take(MOST_EXTENTS)
            .collect()
    }

    /// Zeroes and data from `start` on, for the look-up that `start` lies in.
    fn describe(&self, start: u64) -> Result<Vec<Extent>, Error> {
        let shared = Shared::new(self.file.reader(&self.cancel)?);
        let range = ByteRange::new(start, self.virtual_size().min(start + LOOK_UP));
        let found = self.look_up(&mut tables(&*self.file, &shared), range);
        let mut extents: Vec<Extent> = Vec::new();
        for extent in found.map_err(|error| shared.explain(&error))? {
            let end = extent.start + extent.len;
            let content = match extent.content {
                formats::Content::Hole => Content::Zero,
                formats::Content::Data { .. } | formats::Content::Compressed { .. } => {
                    Content::Data
                }
            };
            match extents.last_mut() {
                Some(last) if last.content == content => {
                    last.range = ByteRange::new(last.range.start(), end);
                }
                _ => extents.push(Extent {
                    range: ByteRange::new(extent.start, end),
                    content,
                }),
            }
        }
        Ok(extents)
    }
}

impl Source for DiskImage {
    fn size(&self) -> u64 {
        self.virtual_size()
    }

    fn access(&self) -> Access {
        Access::Ranged {
            connections: self.connections,
        }
    }

    fn is_local(&self) -> bool {
        self.file.is_local()
    }

    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        // The engine asks for one part of the disk after another: several are looked up at once.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        let mut at = range.start();
        while at < range.end() {
            let covers = |extent: &Extent| extent.range.start() <= at && at < extent.range.end();
            let Some(first) = known.iter().position(covers) else {
                *known = self.describe(at)?;
                if !known.iter().any(covers) {
                    return Err(unusable(format!(
                        "its tables do not say what lies at byte {at} of the disk"
                    )));
                }
                continue;
            };
            for extent in known.iter().skip(first) {
                let part = extent.range.intersect(ByteRange::new(at, range.end()));
                if part.is_empty() {
                    break;
                }
                found.push(Extent {
                    range: part,
                    content: extent.content,
                });
                at = part.end();
            }
        }
        Ok(found)
    }

    fn data_bytes(&self) -> Option<u64> {
        Some(self.data)
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        Ok(Box::new(DiskReader::new(self, cancel)?))
    }

    fn keep_alive(&self, cancel: &Cancel) -> Result<(), Error> {
        self.file.keep_alive(cancel)
    }
}

impl fmt::Debug for DiskImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskImage")
            .field("file", &self.file)
            .field("info", self.info())
            .finish_non_exhaustive()
    }
}

/// The format of a compressed file, by its first and its last bytes; `None` for any other file. One of which two
/// programs would see two disks is such another: [`DiskImage::open`] says what is wrong with it.
///
/// # Errors
/// Those of `file`.
pub fn wrapper(file: &dyn Source, cancel: &Cancel) -> Result<Option<Format>, Error> {
    let shared = Shared::new(file.reader(cancel)?);
    match Format::detect(&mut FileAt::new(file.size(), &shared)) {
        Ok(format) => Ok(Some(format).filter(|format| format.is_wrapper())),
        Err(error) if error.kind() == formats::Kind::Read => Err(shared.explain(&error)),
        Err(_) => Ok(None),
    }
}

fn tables<'a>(file: &dyn Source, shared: &Shared<'a>) -> ReadAhead<FileAt<'a>> {
    ReadAhead::new(FileAt::new(file.size(), shared), TABLE_BLOCK)
}

fn unusable(what: impl fmt::Display) -> Error {
    Error::new(Kind::Unusable, format!("the image cannot be read: {what}"))
}
