//! An object behind HTTP(S) with ranges, or without them.

use std::sync::Arc;

use http::HeaderMap;
use net::Cancel;
use url::Url;

use super::{Access, Reader, Source};
use crate::Error;

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

/// No credentials.
#[derive(Debug, Clone, Copy)]
pub struct NoAuthorization;

impl Authorization for NoAuthorization {
    fn headers(&self) -> Result<HeaderMap, Error> {
        Ok(HeaderMap::new())
    }

    fn renew(&self, _refused: &HeaderMap) -> Result<(), Error> {
        todo!()
    }
}

/// An HTTP object of known size.
#[derive(Debug)]
pub struct HttpSource {}

impl HttpSource {
    /// Probes the object with a one-byte range: 206 with the right `Content-Range` and total means
    /// ranged access by up to `connections` readers; 200 means one ordered stream.
    ///
    /// `expected_size` is what the metadata said; a server that states another is an error.
    pub fn probe(
        _connector: net::Connector,
        _url: Url,
        _authorization: Arc<dyn Authorization>,
        _expected_size: u64,
        _connections: std::num::NonZeroUsize,
    ) -> Result<Self, Error> {
        todo!()
    }
}

impl Source for HttpSource {
    fn size(&self) -> u64 {
        todo!()
    }

    fn access(&self) -> Access {
        todo!()
    }

    fn reader(&self, _cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        todo!()
    }
}
