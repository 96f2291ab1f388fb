//! The data path's HTTP/1.1 connection: blocking, kept alive, one copy per byte.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use url::Url;

use crate::{Cancel, Clock, Error, Settings};

/// Opens connections with one TLS configuration.
#[derive(Debug, Clone)]
pub struct Connector {}

impl Connector {
    /// A connector from the settings.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`].
    pub fn new(
        _settings: &Settings,
        _clock: Arc<dyn Clock>,
        _cancel: Cancel,
    ) -> Result<Self, Error> {
        todo!()
    }

    /// The same connector with another stop flag, for the connections of one copy: its flag is a
    /// child that the copy's own failure pulls as well.
    #[must_use]
    pub fn with_cancel(&self, _cancel: Cancel) -> Self {
        todo!()
    }

    /// Connects to the origin (scheme, host, port) of `url`, through a proxy if one applies.
    pub fn connect(&self, _url: &Url) -> Result<Connection, Error> {
        todo!()
    }
}

/// One connection. At most one request is under way; its body must be read to the end before the
/// next, otherwise the connection is not reusable.
#[derive(Debug)]
pub struct Connection {}

/// Status and headers of an answer.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Length of the body when the answer states one.
    pub content_length: Option<u64>,
}

impl Connection {
    /// Sends `GET` for the path and query of `url` with the extra headers, and reads the head of the
    /// answer. Interim 1xx answers are skipped.
    pub fn get(&mut self, _url: &Url, _headers: &HeaderMap) -> Result<ResponseHead, Error> {
        todo!()
    }

    /// Reads body bytes into `buf` until it is full or the body ends; returns how many. Less than
    /// `buf.len()` means the end of the body, as its length or its chunks state it.
    ///
    /// # Errors
    /// The number of bytes that are valid in `buf` comes with the error: they were received in order
    /// and may be used.
    pub fn read(&mut self, _buf: &mut [u8]) -> Result<usize, (usize, Error)> {
        todo!()
    }

    /// Whether another request can be sent: the body is at its end and neither side closes.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        todo!()
    }
}
