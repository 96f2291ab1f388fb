//! Where bytes come from.

mod answer;
mod extent_map;
mod hold;
mod http;
mod imageio;
#[cfg(feature = "testing")]
mod memory;
mod object;
mod reader;

use std::num::NonZeroUsize;

use net::Cancel;

pub use http::{Authorization, Changes, HttpSource, NoAuthorization};
pub use imageio::{ImageioSource, Ticket};
#[cfg(feature = "testing")]
pub use memory::{Fault, MemorySource, SourceCall, Trouble, When};

use crate::{Algorithm, ByteRange, Content, Error, Extent, Kind};

/// How a source can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Any range, in any order, by at most this many readers at a time.
    Ranged {
        /// Limit of concurrent readers.
        connections: NonZeroUsize,
    },
    /// One reader, from the first byte to the last.
    Ordered,
}

/// A disk that can be read: its size, where its zeroes are, and its exact bytes.
///
/// A source never returns a byte that the server did not send for exactly that offset: status,
/// `Content-Range`, `Content-Length` and total size are checked before a body is touched.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// Size in bytes. Constant.
    fn size(&self) -> u64;

    /// How it can be read. Constant.
    fn access(&self) -> Access;

    /// Whether it is read without a server, so that what is wrong once is wrong again. Constant.
    fn is_local(&self) -> bool {
        false
    }

    /// What is known of `range` without reading it: ascending extents that cover exactly `range`,
    /// without gaps. Sources that know nothing say "all data". Asked for one window of the disk
    /// after another while the copy runs, so the answer is at hand or comes quickly.
    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        Ok(vec![Extent {
            range,
            content: Content::Data,
        }])
    }

    /// How many bytes are data, by the same extents; `None` where the source does not know its zeroes.
    fn data_bytes(&self) -> Option<u64> {
        None
    }

    /// A new reader, on a connection of its own, made when the first range is asked for.
    ///
    /// Whatever blocks in it ends soon after `cancel` is pulled, with [`Kind::Cancelled`].
    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error>;

    /// Tells the server that the client is alive although it reads nothing. Called by the engine
    /// when no reader has been active for some time; ends soon after `cancel` is pulled.
    fn keep_alive(&self, _cancel: &Cancel) -> Result<(), Error> {
        Ok(())
    }

    /// The server's own digest of the whole disk, computed now, in hexadecimal; may take as long as
    /// reading it. Ends soon after `cancel` is pulled.
    fn checksum(&self, algorithm: Algorithm, _cancel: &Cancel) -> Result<String, Error> {
        Err(Error::new(
            Kind::Unusable,
            format!("the source computes no {algorithm} checksum"),
        ))
    }

    /// How many readers may read during [`Self::checksum_beside`]. `None`: the checksum is asked for when they
    /// have ended. Constant.
    fn readers_beside_checksum(&self) -> Option<NonZeroUsize> {
        None
    }

    /// [`Self::checksum`] while readers read. Returns no sooner than `copied` is pulled where the server would take
    /// the disk for read with its checksum, unless it fails; soon after `cancel` is pulled, which pulls `copied` too.
    fn checksum_beside(
        &self,
        algorithm: Algorithm,
        _copied: &Cancel,
        cancel: &Cancel,
    ) -> Result<String, Error> {
        self.checksum(algorithm, cancel)
    }
}

/// Reads one range after another.
///
/// After an error the reader is dropped and a new one asked for the missing part. A range that was
/// read to its end is followed by the next on the same connection.
pub trait Reader: Send {
    /// Asks for `range`. What is left of an earlier range is given up.
    fn begin(&mut self, range: ByteRange) -> Result<(), Error>;

    /// Fills the whole of `buf` with the next bytes of the range.
    ///
    /// # Errors
    /// The number of bytes at the front of `buf` that did arrive comes with the error; they are
    /// valid.
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)>;
}
