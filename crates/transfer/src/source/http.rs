//! An object behind HTTP(S) with ranges, or without them.

use std::{num::NonZeroUsize, sync::Arc};

use http::HeaderMap;
use net::Cancel;
use url::Url;

use super::{
    Access, Reader, Source,
    object::{Dialect, HttpObject},
    reader::{self, OrderedReader, RangedReader},
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
}

impl HttpSource {
    /// Probes the object with a one-byte range: 206 with the right `Content-Range` and total means
    /// ranged access by up to `connections` readers; 200 means one ordered stream, whose body is
    /// not read now. So does 400 (Glance, when the image's store has no ranges) or 501, if the
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
        let object = HttpObject::new(connector, url, Dialect::Http, authorization, changes);
        let mut session = object.session();
        let is_ranged = reader::probe(&mut session, expected_size)?;
        drop(session);
        tracing::debug!(origin = object.origin(), is_ranged, "probed the object");
        Ok(Self {
            object,
            size: expected_size,
            access: if is_ranged {
                Access::Ranged { connections }
            } else {
                Access::Ordered
            },
        })
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
            Access::Ranged { .. } => Box::new(RangedReader::new(session, self.size)),
            Access::Ordered => Box::new(OrderedReader::new(session, self.size)),
        })
    }
}
