//! A disk behind an ovirt-imageio daemon.

use net::Cancel;
use url::Url;

use super::{Access, Reader, Source};
use crate::{Algorithm, ByteRange, Error, Extent};

/// The URL of an image ticket. The random id in its path is the only credential, so `Debug` and
/// `Display` show the origin alone.
#[derive(Clone)]
pub struct Ticket(Url);

impl Ticket {
    /// A ticket from a `transfer_url` or a `proxy_url`.
    #[must_use]
    pub const fn new(url: Url) -> Self {
        Self(url)
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = &self.0;
        todo!()
    }
}

/// The disk.
#[derive(Debug)]
pub struct ImageioSource {}

impl ImageioSource {
    /// Asks the daemon what it can do (OPTIONS) and where the zeroes are (extents, which may take
    /// minutes), on one connection that is closed before data is read.
    ///
    /// `size` is the disk's virtual size as the engine states it; extents that end elsewhere are an
    /// error. `connections` is the user's limit; the daemon's `max_readers`, less one for the
    /// keep-alive, is the other.
    pub fn open(
        _connector: net::Connector,
        _ticket: Ticket,
        _size: u64,
        _connections: std::num::NonZeroUsize,
    ) -> Result<Self, Error> {
        todo!()
    }
}

impl Source for ImageioSource {
    fn size(&self) -> u64 {
        todo!()
    }

    fn access(&self) -> Access {
        todo!()
    }

    fn extents(&self, _range: ByteRange) -> Result<Vec<Extent>, Error> {
        todo!()
    }

    fn reader(&self, _cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        todo!()
    }

    fn keep_alive(&self, _cancel: &Cancel) -> Result<(), Error> {
        todo!()
    }

    fn checksum(&self, _algorithm: Algorithm, _cancel: &Cancel) -> Result<String, Error> {
        todo!()
    }
}
