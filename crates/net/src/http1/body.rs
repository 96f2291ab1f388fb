//! Reads a body where its head says it is (RFC 9112, 6 and 7).

use super::{
    head::{Framing, chunk_size},
    transport::Transport,
};
use crate::{Error, Kind};

/// Longest line of a chunk's size, in bytes, and all trailers together.
const MAX_LINE: usize = 4 << 10;
const MAX_TRAILERS: usize = 16 << 10;
/// How much is received at once for heads and chunk lines.
const PIECE: usize = 8 << 10;
/// After the data of a chunk: its CRLF, and at least `0 CRLF CRLF`.
const AFTER_CHUNK: u64 = 7;

/// Bytes that were received together with a head or a chunk's line, and belong to what follows it.
#[derive(Default)]
pub(crate) struct ReadAhead {
    bytes: Vec<u8>,
    start: usize,
}

/// The position in the body of one answer, by what the answer's framing states. How many bytes it
/// should hold is for the caller to check.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
    /// Bytes delivered so far, and in all where that is known.
    received: u64,
    expected: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// This many bytes are left.
    Length(u64),
    /// The line of a chunk comes next.
    ChunkLine,
    /// This many bytes of a chunk are left.
    ChunkData(u64),
    /// Until the peer closes.
    Close,
    /// At the end, in order.
    End,
    /// At the end of a body that closed the connection.
    Closed,
    /// Not at the end, and no more can be read.
    Broken,
}

impl ReadAhead {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    pub(crate) fn skip(&mut self, count: usize) {
        self.start = self.bytes.len().min(self.start + count);
    }

    /// Receives more bytes behind those that are there; 0 at the end of the stream.
    pub(crate) fn receive(&mut self, transport: &mut Transport) -> Result<usize, Error> {
        self.bytes.drain(..self.start);
        self.start = 0;
        let length = self.bytes.len();
        self.bytes.resize(length + PIECE, 0);
        let count = transport.read(self.bytes.get_mut(length..).unwrap_or_default(), 1);
        self.bytes
            .truncate(length + count.as_ref().copied().unwrap_or_default());
        count
    }

    fn take(&mut self, out: &mut [u8]) -> usize {
        let bytes = self.bytes();
        let count = bytes.len().min(out.len());
        out[..count].copy_from_slice(&bytes[..count]);
        self.skip(count);
        count
    }
}

impl Body {
    pub(crate) const fn new(framing: Framing) -> Self {
        let (state, expected) = match framing {
            Framing::Length(0) => (State::End, Some(0)),
            Framing::Length(length) => (State::Length(length), Some(length)),
            Framing::Chunked => (State::ChunkLine, None),
            Framing::Close => (State::Close, None),
        };
        Self {
            state,
            received: 0,
            expected,
        }
    }

    /// A connection on which no answer is under way.
    pub(crate) const fn none() -> Self {
        Self::new(Framing::Length(0))
    }

    /// A connection that broke.
    pub(crate) const fn broken() -> Self {
        Self {
            state: State::Broken,
            received: 0,
            expected: None,
        }
    }

    /// Whether the body was read to its end and something can follow it.
    pub(crate) fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// Fills `buf`, or less at the end of the body.
    pub(crate) fn read(
        &mut self,
        buf: &mut [u8],
        read_ahead: &mut ReadAhead,
        transport: &mut Transport,
    ) -> Result<usize, (usize, Error)> {
        let mut filled = 0;
        while filled < buf.len() {
            let room = buf.get_mut(filled..).unwrap_or_default();
            match self.read_some(room, read_ahead, transport) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    self.received += count as u64;
                }
                Err(error) => {
                    self.state = State::Broken;
                    return Err((filled, error));
                }
            }
        }
        Ok(filled)
    }

    /// Reads at least one byte of data, or 0 at the end of the body.
    ///
    /// A loop, since some states give no data: a chunk's line, the CRLF behind it, the trailers.
    fn read_some(
        &mut self,
        buf: &mut [u8],
        read_ahead: &mut ReadAhead,
        transport: &mut Transport,
    ) -> Result<usize, Error> {
        loop {
            match self.state {
                State::End | State::Closed => return Ok(0),
                State::Broken => return Err(self.short(transport.peer())),
                State::Length(left) => {
                    let count = self.data(buf, left, left, read_ahead, transport)?;
                    let left = left - count as u64;
                    self.state = if left == 0 {
                        State::End
                    } else {
                        State::Length(left)
                    };
                    return Ok(count);
                }
                // The CRLF behind a chunk's data is read with the next chunk's line, not with the
                // data: the data is delivered although the server may be slow to send more.
                State::ChunkData(0) => {
                    if !self.line(read_ahead, transport)?.is_empty() {
                        return Err(broken_chunk(transport.peer()));
                    }
                    self.state = State::ChunkLine;
                }
                State::ChunkData(left) => {
                    let to_come = left.saturating_add(AFTER_CHUNK);
                    let count = self.data(buf, left, to_come, read_ahead, transport)?;
                    self.state = State::ChunkData(left - count as u64);
                    return Ok(count);
                }
                State::ChunkLine => {
                    let line = self.line(read_ahead, transport)?;
                    match chunk_size(&line) {
                        None => return Err(broken_chunk(transport.peer())),
                        Some(0) => {
                            self.trailers(read_ahead, transport)?;
                            self.state = State::End;
                        }
                        Some(size) => self.state = State::ChunkData(size),
                    }
                }
                // No length is stated. The end of the stream ends a wait as well, so that this may
                // be for as many bytes as any.
                State::Close => {
                    let count = match read_ahead.take(buf) {
                        0 => transport.read(buf, u64::MAX)?,
                        count => count,
                    };
                    if count == 0 {
                        self.state = State::Closed;
                    }
                    return Ok(count);
                }
            }
        }
    }

    /// Between 1 and `left` bytes of data. At least `to_come` bytes are still to be sent, data and
    /// framing together, so that a receive may wait for many of them at a time.
    fn data(
        &self,
        buf: &mut [u8],
        left: u64,
        to_come: u64,
        read_ahead: &mut ReadAhead,
        transport: &mut Transport,
    ) -> Result<usize, Error> {
        let most = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let buf = buf.get_mut(..most).unwrap_or_default();
        let count = match read_ahead.take(buf) {
            0 => transport.read(buf, to_come)?,
            count => count,
        };
        if count == 0 {
            return Err(self.short(transport.peer()));
        }
        Ok(count)
    }

    /// The next line, without its CRLF.
    fn line(
        &self,
        read_ahead: &mut ReadAhead,
        transport: &mut Transport,
    ) -> Result<Vec<u8>, Error> {
        loop {
            if let Some(end) = read_ahead.bytes().iter().position(|&byte| byte == b'\n') {
                let line = read_ahead.bytes()[..end].to_vec();
                read_ahead.skip(end + 1);
                return match line.split_last() {
                    Some((b'\r', line)) => Ok(line.to_vec()),
                    _ => Err(broken_chunk(transport.peer())),
                };
            }
            if read_ahead.bytes().len() > MAX_LINE {
                return Err(broken_chunk(transport.peer()));
            }
            if read_ahead.receive(transport)? == 0 {
                return Err(self.short(transport.peer()));
            }
        }
    }

    fn trailers(&self, read_ahead: &mut ReadAhead, transport: &mut Transport) -> Result<(), Error> {
        let mut size = 0;
        loop {
            let line = self.line(read_ahead, transport)?;
            if line.is_empty() {
                return Ok(());
            }
            size += line.len();
            if size > MAX_TRAILERS {
                return Err(broken_chunk(transport.peer()));
            }
        }
    }

    fn short(&self, peer: &str) -> Error {
        let of = match self.expected {
            Some(expected) => format!("of {expected} bytes"),
            None => "bytes".to_owned(),
        };
        Error::new(
            Kind::Closed,
            format!(
                "{peer}: the connection ended within the body, after {} {of}",
                self.received
            ),
        )
    }
}

fn broken_chunk(peer: &str) -> Error {
    Error::new(
        Kind::Protocol,
        format!("{peer}: the answer's chunked transfer coding is malformed"),
    )
}
