//! A small REST client for control calls: bounded answers, bounded time, redirects by hand.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::{Error, Settings};

/// The client. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Rest {}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Absolute URL.
    pub url: Url,
    /// Headers; secret values are marked sensitive by the caller.
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
    /// For the whole exchange, one try.
    pub timeout: Duration,
    /// When to repeat it.
    pub retry: RetryPolicy,
}

/// When to repeat a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Never: the caller decides (a POST whose answer was lost).
    Never,
    /// On transient network errors and on 429, 502, 503, 504, with exponential back-off, jitter and
    /// `Retry-After`, for at most this long in all.
    For(Duration),
}

/// An answer, its body read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most [`Rest::MAX_BODY`] bytes.
    pub body: Bytes,
    /// The URL that answered, after redirects.
    pub url: Url,
}

impl Rest {
    /// Largest body of an answer, in bytes.
    pub const MAX_BODY: usize = 16 << 20;

    /// A client from the settings.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`].
    pub fn new(_settings: &Settings) -> Result<Self, Error> {
        todo!()
    }

    /// Sends a request and reads the answer, whatever its status.
    pub async fn send(&self, _request: Request) -> Result<Answer, Error> {
        todo!()
    }
}
