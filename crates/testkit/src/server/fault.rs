//! What can go wrong, and when.

use std::{net::SocketAddr, ops::Range, sync::Arc};

use rustls::ServerConfig;

use super::{Reply, Request};
use crate::Gate;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// TCP FIN; over TLS without the closing alert, so that the peer cannot know whether it is the
    /// end.
    Fin,
    /// TCP RST. Bytes that the peer has not read yet may be lost.
    Reset,
    /// An orderly end: over TLS the closing alert, then FIN.
    Orderly,
}

/// What goes wrong with one answer. Several faults of one answer add up.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another answer in place of the right one. The route does not see the request, whereas other
    /// faults spoil the answer that it gave.
    Answer(Reply),
    /// The connection ends before the head of the answer.
    NoAnswer(Cut),
    /// Bytes before the head, such as an interim answer, or rubbish.
    Before(Vec<u8>),
    /// These bytes in place of the whole answer, then an orderly end.
    Raw(Vec<u8>),
    /// The head is held back until the gate opens.
    HoldHead(Gate),
    /// The connection ends after this many bytes of the body. The head is unchanged, so with
    /// [`Cut::Orderly`] this is a short body.
    CutBody {
        /// Bytes of the body that are sent.
        after: u64,
        /// How it ends.
        how: Cut,
    },
    /// After this many bytes of the body nothing comes until the gate opens.
    StallBody {
        /// Bytes of the body that are sent before.
        after: u64,
        /// Ends the stall.
        until: Gate,
    },
    /// A wrong `Content-Length`; the body is the right one and the connection ends after it.
    ContentLength(u64),
    /// No `Content-Length`; the body ends with the connection.
    UntilClose,
    /// This many more bytes than the answer states follow the body.
    Extra(usize),
    /// The body in chunks of this many bytes.
    Chunked(usize),
    /// A header that replaces the right one, such as a lying `Content-Range` or `ETag`.
    Header(&'static str, String),
    /// `Content-Range` with another total size.
    Total(u64),
    /// Honestly another range than asked: moved by this many bytes.
    Shift(i64),
    /// 200 with the whole object for an answer that has a range.
    IgnoreRange,
    /// The byte at this position of the object is another one.
    Corrupt(u64),
    /// The connection ends in order after the answer, which says so (`Connection: close`).
    Close,
    /// The connection ends in order after the answer, which does not say so.
    CloseSilently,
    /// At most this many bytes for each write.
    Drip(usize),
    /// After the head, bytes go to and fro between the peer and this address, as through a proxy.
    /// Plain servers only.
    Tunnel(SocketAddr),
}

impl Fault {
    /// An error status with an empty body.
    pub fn status(status: u16) -> Self {
        Self::Answer(Reply::status(status))
    }

    /// 429 or 503 with a `Retry-After` in seconds.
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self::Answer(Reply::status(status).header("Retry-After", &seconds.to_string()))
    }

    /// The body is cut after this many bytes.
    pub fn cut(after: u64, how: Cut) -> Self {
        Self::CutBody { after, how }
    }

    /// The body stalls after this many bytes, until the gate opens.
    pub fn stall(after: u64, until: &Gate) -> Self {
        Self::StallBody {
            after,
            until: until.clone(),
        }
    }
}

/// What goes wrong with one connection.
#[derive(Debug, Clone)]
pub enum ConnectionFault {
    /// Accepted, and ended at once.
    Drop(Cut),
    /// The TLS handshake is cut: the first bytes of the client are read, none answered.
    AbortHandshake(Cut),
    /// Something that is not TLS is sent in place of a handshake.
    NotTls,
    /// Another identity.
    Identity(Arc<ServerConfig>),
    /// The connection ends after the handshake, before any answer.
    DropAfterHandshake(Cut),
    /// The handshake is held back until the gate opens.
    HoldHandshake(Gate),
}

/// Which requests a fault hits: those that meet every condition. Once, unless told otherwise.
#[derive(Debug, Clone)]
pub struct When {
    method: Option<&'static str>,
    path: Option<String>,
    ranged: bool,
    overlaps: Option<Range<u64>>,
    connection: Option<usize>,
    hits: Range<usize>,
}

impl When {
    /// The next request.
    pub fn any() -> Self {
        Self {
            method: None,
            path: None,
            ranged: false,
            overlaps: None,
            connection: None,
            hits: 0..1,
        }
    }

    /// The next request whose path begins with `prefix`.
    pub fn path(prefix: &str) -> Self {
        Self {
            path: Some(prefix.to_owned()),
            ..Self::any()
        }
    }

    /// The next request with a range.
    pub fn ranged() -> Self {
        Self {
            ranged: true,
            ..Self::any()
        }
    }

    /// Only this method.
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Only requests with a range.
    pub fn with_range(mut self) -> Self {
        self.ranged = true;
        self
    }

    /// Only requests whose range has a byte of this one.
    pub fn overlapping(mut self, range: Range<u64>) -> Self {
        self.ranged = true;
        self.overlaps = Some(range);
        self
    }

    /// Only requests of this connection.
    pub fn connection(mut self, connection: usize) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Leaves out the first `count` requests that meet the conditions.
    pub fn skip(mut self, count: usize) -> Self {
        self.hits = count..self.hits.end.saturating_add(count);
        self
    }

    /// Hits this many requests.
    pub fn times(mut self, count: usize) -> Self {
        self.hits.end = self.hits.start.saturating_add(count);
        self
    }

    /// Hits every request from then on.
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    fn meets(&self, request: &Request) -> bool {
        let overlaps = |wanted: &Range<u64>| {
            request.range().is_some_and(|(first, last)| {
                first < wanted.end && last.is_none_or(|last| last >= wanted.start)
            })
        };
        self.method.is_none_or(|method| request.method == method)
            && self
                .path
                .as_ref()
                .is_none_or(|prefix| request.path().starts_with(prefix))
            && (!self.ranged || request.header("range").is_some())
            && self.overlaps.as_ref().is_none_or(overlaps)
            && self
                .connection
                .is_none_or(|connection| request.connection == connection)
    }
}

/// A fault and its condition, with the number of requests that met it so far.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) when: When,
    pub(crate) fault: Fault,
    pub(crate) met: usize,
}

impl Rule {
    /// The fault, if this request is hit. Counts.
    pub(crate) fn strike(&mut self, request: &Request) -> Option<Fault> {
        if !self.when.meets(request) {
            return None;
        }
        let position = self.met;
        self.met += 1;
        self.when
            .hits
            .contains(&position)
            .then(|| self.fault.clone())
    }
}
