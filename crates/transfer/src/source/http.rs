//! An object behind HTTP(S) with ranges, or without them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use http::HeaderMap;
use net::Cancel;
use url::Url;

use super::{
    Access, Reader, Source,
    object::{Dialect, HttpObject},
    reader::{First, Opened, OrderedReader, RangedReader},
};
use crate::{Error, Kind};

/// Credentials of an [`HttpSource`], asked for at every request.
pub trait Authorization: Send + Sync + std::fmt::Debug {
    /// Headers to send, their secret values marked sensitive.
    fn headers(&self) -> Result<HeaderMap, Error>;

    /// Called after a 401 to a request that carried `refused`: gets new credentials, unless another
    /// reader has already done so.
    ///
    /// # Errors
    /// [`crate::Kind::Credentials`] when there is no way to get new ones.
    fn renew(&self, refused: &HeaderMap) -> Result<(), Error>;
}

/// What it means when later answers state another version of the object than the first (`ETag`,
/// `Last-Modified`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// The object has changed: an error.
    Refused,
    /// Nothing but a warning, since a hash of the whole decides: the nodes behind one address may
    /// give the same object other marks.
    Verified,
}

/// Access without credentials.
#[derive(Debug, Clone, Copy)]
pub struct NoAuthorization;

impl Authorization for NoAuthorization {
    fn headers(&self) -> Result<HeaderMap, Error> {
        Ok(HeaderMap::new())
    }

    fn renew(&self, _refused: &HeaderMap) -> Result<(), Error> {
        Err(Error::new(
            Kind::Credentials,
            "the server wants credentials, and there are none",
        ))
    }
}

/// An HTTP object of known size.
///
/// * Each answer is checked before a byte of it is used: status, `Content-Range`, total size and
///   `Content-Length`, no compression, and the same `ETag` and `Last-Modified` as the first
///   answer's (see [`Changes`]). `Content-MD5` is ignored: Glance sends the whole image's with every range.
/// * Redirects are followed, at most five for a request, never from `https` to `http`. Credentials
///   go to the first origin alone. Where they led is asked directly from then on; when that fails
///   before the first byte of a body, the first URL is asked again.
/// * A 401 renews the credentials.
/// * A kept connection that the server has closed is replaced without an error.
#[derive(Debug)]
pub struct HttpSource {
    object: HttpObject,
    size: u64,
    access: Access,
    /// What the probe has asked for, until a reader goes on with it.
    first: First,
    /// Length of the range that the first request of a copy asks for.
    first_range: u64,
}

impl HttpSource {
    /// Probes the object with a one-byte range, whose answer is not used further: 206 with the right
    /// `Content-Range` and total means ranged access by up to `connections` readers; 200 means one
    /// ordered stream, whose body is not read now. So does 400 (Glance, when the image's store has no ranges) or 501, if the
    /// same request without a range gives 200.
    ///
    /// `expected_size` is what the metadata said, in bytes; a server that states another is an
    /// error.
    ///
    /// # Errors
    /// The server's refusals by their kind: [`Kind::Unusable`] for 204, with which Glance
    /// answers for an image whose data is not in its store. Nothing is repeated here.
    pub fn probe(
        connector: net::Connector,
        url: Url,
        authorization: Arc<dyn Authorization>,
        expected_size: u64,
        connections: NonZeroUsize,
        changes: Changes,
    ) -> Result<Self, Error> {
        let source = Self::open(
            connector,
            url,
            authorization,
            expected_size,
            connections,
            changes,
            1,
        )?;
        let opened = source.take_first();
        if let Some(mut opened) = opened.filter(Opened::is_ranged) {
            opened.peek(&source.object, 1)?;
        }
        Ok(source)
    }

    /// As [`Self::probe`], with a range of `first_range` bytes ([`crate::first_range`]). The reader that asks
    /// for the same range, or for the whole of an object without ranges, goes on with the answer, so that no
    /// server is asked twice for the beginning. The answer waits meanwhile: the copy has to start soon. If
    /// the server ends it, the reader has the bytes that came and an error, as in the middle of any answer.
    ///
    /// # Errors
    /// Those of [`Self::probe`].
    pub fn open(
        connector: net::Connector,
        url: Url,
        authorization: Arc<dyn Authorization>,
        expected_size: u64,
        connections: NonZeroUsize,
        changes: Changes,
        first_range: u64,
    ) -> Result<Self, Error> {
        let object = HttpObject::new(connector, url, Dialect::Http, authorization, changes);
        let opened = Opened::new(&object, expected_size, first_range)?;
        let is_ranged = opened.is_ranged();
        tracing::debug!(origin = object.origin(), is_ranged, "probed the object");
        Ok(Self {
            object,
            size: expected_size,
            access: if is_ranged {
                Access::Ranged { connections }
            } else {
                Access::Ordered
            },
            first: Mutex::new(Some(opened)),
            first_range,
        })
    }

    /// The first `length` bytes, at most as many as the first range has. The copy gets them from the
    /// same answer.
    ///
    /// # Errors
    /// Those of a read. The next call asks the server again.
    pub fn head(&self, length: usize) -> Result<Vec<u8>, Error> {
        let mut opened = match self.take_first() {
            Some(opened) => opened,
            None => Opened::new(&self.object, self.size, self.first_range)?,
        };
        let bytes = opened.peek(&self.object, length)?;
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(bytes)
    }

    /// What it means from now on when an answer states another version: for a caller that knows only after the probe
    /// whether it reads the whole, whose hash decides.
    pub fn set_changes(&self, changes: Changes) {
        self.object.set_changes(changes);
    }

    fn take_first(&self) -> Option<Opened> {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Source for HttpSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn access(&self) -> Access {
        self.access
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        let session = self.object.session().with_cancel(cancel);
        Ok(match self.access {
            Access::Ranged { .. } => {
                Box::new(RangedReader::new(session, self.size).with_first(&self.first))
            }
            Access::Ordered => Box::new(OrderedReader::new(session, self.size, &self.first)),
        })
    }
}
