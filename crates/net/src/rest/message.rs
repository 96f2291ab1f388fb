//! A request, when to retry it, and its answer.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::origin::Origin;

/// One request. `Debug` shows the method and the origin only.
#[derive(Clone)]
pub struct Request {
    /// The method. Redirects are followed for `GET` and `HEAD` only.
    pub method: Method,
    /// The absolute URL.
    pub url: Url,
    /// Headers; secret values are marked sensitive by the caller.
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
    /// Limit of one try, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// When to retry it.
    pub retry: Repeat,
}

/// An answer, its body read whole. `Debug` shows the status and the origin only.
#[derive(Clone)]
pub struct Answer {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The header fields of the last answer, after redirects.
    pub headers: HeaderMap,
    /// Body, at most [`crate::Rest::MAX_BODY`] bytes.
    pub body: Bytes,
    /// The URL that answered, after redirects.
    pub url: Url,
}

/// When to retry a request.
///
/// Transient network errors ([`crate::Kind::is_transient`]) and the answers 429, 502, 503 and 504
/// are retried, by [`Repeat::Idempotent`] also 500: after the default [`backoff::Backoff`], and not
/// before the answer's `Retry-After`. A retry that would start after the given time is not made:
/// the last answer or error is returned instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Never: the caller decides (a POST whose answer was lost).
    Never,
    /// For at most this long in all. `POST` and `PATCH`, which are not idempotent, are retried only
    /// where the server certainly did not act on them: the request was not sent
    /// ([`crate::Error::was_sent`]), or was refused by 429 or 503.
    Safe(Duration),
    /// For at most this long in all, whatever the method: the caller knows that acting on the
    /// request twice is harmless (a log-in).
    Idempotent(Duration),
}

impl Repeat {
    pub(super) const fn budget(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Safe(budget) | Self::Idempotent(budget) => Some(budget),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method, shown(&self.url))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} from {})", self.status, shown(&self.url))
    }
}

/// What may be shown of a URL.
fn shown(url: &Url) -> String {
    Origin::of(url).map_or_else(|_| "no origin".to_owned(), |origin| origin.to_string())
}
