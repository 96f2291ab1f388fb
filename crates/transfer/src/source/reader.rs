//! Readers of an HTTP object: range by range, or as one stream.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use net::{Cancel, ResponseHead};

use super::{
    Reader,
    answer::{check_partial, check_whole},
    object::{Connected, HttpObject, HttpSession},
};
use crate::{ByteRange, Error, Kind};

/// Reads ranges; each answer is checked before a byte of it is handed on.
#[derive(Debug)]
pub(super) struct RangedReader<'a> {
    session: HttpSession<'a>,
    size: u64,
    unread: Unread,
    first: Option<&'a First>,
}

impl<'a> RangedReader<'a> {
    pub(super) const fn new(session: HttpSession<'a>, size: u64) -> Self {
        Self {
            session,
            size,
            unread: Unread::NOTHING,
            first: None,
        }
    }

    /// Waits for this time; `true` when reading has been ended meanwhile.
    pub(super) fn pause(&self, time: Duration) -> bool {
        self.session.pause(time)
    }

    /// The same, which goes on with the first answer if that is to its first range.
    pub(super) fn with_first(self, first: &'a First) -> Self {
        Self {
            first: Some(first),
            ..self
        }
    }
}

impl Reader for RangedReader<'_> {
    fn begin(&mut self, range: ByteRange) -> Result<(), Error> {
        // The session does not use a connection again whose body was not read to its end.
        self.unread = Unread::NOTHING;
        if range.end() > self.size {
            return Err(Error::new(
                Kind::Internal,
                format!("{range} lie beyond the source's {} bytes", self.size),
            ));
        }
        if range.is_empty() {
            return Ok(());
        }
        if let Some(unread) = resume(self.first, &mut self.session, range) {
            self.unread = unread;
            return Ok(());
        }
        let head = self.session.get(&range_header(range))?;
        self.unread = accept_partial(&self.session, &head, range, self.size)
            .inspect_err(|_| self.session.give_up())?;
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        self.unread.fill(&mut self.session, buf)
    }
}

/// Reads an object without ranges, from its first byte to its last.
#[derive(Debug)]
pub(super) struct OrderedReader<'a> {
    session: HttpSession<'a>,
    size: u64,
    /// What is left of the whole stream, whatever part of it was asked for.
    unread: Unread,
    first: &'a First,
}

impl<'a> OrderedReader<'a> {
    pub(super) const fn new(session: HttpSession<'a>, size: u64, first: &'a First) -> Self {
        Self {
            session,
            size,
            unread: Unread::NOTHING,
            first,
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        self.session.close();
        let whole = ByteRange::new(0, self.size);
        if let Some(unread) = resume(Some(self.first), &mut self.session, whole) {
            self.unread = unread;
            return Ok(());
        }
        let head = self.session.get(&HeaderMap::new())?;
        self.unread = accept_whole(&self.session, &head, self.size)
            .inspect_err(|_| self.session.give_up())?;
        Ok(())
    }
}

impl Reader for OrderedReader<'_> {
    fn begin(&mut self, range: ByteRange) -> Result<(), Error> {
        let next = self.unread.range.start();
        if range.end() > self.size || range.start() != 0 && range.start() != next {
            return Err(Error::new(
                Kind::Internal,
                format!("{range} were asked of a stream that is at byte {next}"),
            ));
        }
        if range.start() == 0 && !range.is_empty() {
            self.start()?;
        }
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        self.unread.fill(&mut self.session, buf)
    }
}

/// What is left of the bytes that an answer must hold.
///
/// It follows from the request. The connection counts too, but what the answer states, which is
/// nothing for a body without a length; so this count finds a body that is too short or too long.
#[derive(Debug)]
struct Unread {
    range: ByteRange,
    /// The first bytes of `range`, where they were read already.
    again: Vec<u8>,
    /// The answer states no length, so that its end has to be read.
    must_see_end: bool,
    /// No byte has come yet.
    is_untouched: bool,
}

impl Unread {
    const NOTHING: Self = Self {
        range: ByteRange::new(0, 0),
        again: Vec::new(),
        must_see_end: false,
        is_untouched: true,
    };

    /// Fills all of `buf`, and checks at the end of the range that the body ends there.
    fn fill(
        &mut self,
        session: &mut HttpSession<'_>,
        buf: &mut [u8],
    ) -> Result<(), (usize, Error)> {
        let given = self.again.len().min(buf.len());
        let (front, rest) = buf.split_at_mut(given);
        for (to, from) in front.iter_mut().zip(self.again.drain(..given)) {
            *to = from;
        }
        let at = self.range.start() + given as u64;
        self.range = ByteRange::new(at, self.range.end());
        self.receive(session, rest)
            .map_err(|(count, error)| (given + count, error))
    }

    /// Reads the first bytes, which [`Self::fill`] gives again.
    fn peek(&mut self, session: &mut HttpSession<'_>, length: usize) -> Result<Vec<u8>, Error> {
        let (range, missing) = (self.range, length.saturating_sub(self.again.len()));
        let mut bytes = vec![0; missing];
        let read = ByteRange::new(range.start() + self.again.len() as u64, range.end());
        self.range = read;
        self.receive(session, &mut bytes)
            .map_err(|(_, error)| error)?;
        self.range = range;
        self.again.extend(bytes);
        Ok(self.again.get(..length).unwrap_or_default().to_vec())
    }

    fn receive(
        &mut self,
        session: &mut HttpSession<'_>,
        buf: &mut [u8],
    ) -> Result<(), (usize, Error)> {
        if buf.len() as u64 > self.range.len() {
            return Err((0, beyond()));
        }
        if buf.is_empty() {
            return Ok(());
        }
        let (count, error) = match session.read(buf) {
            Ok(count) if count < buf.len() => {
                let context = format!(
                    "{}: the body ended {} bytes early",
                    session.object().origin(),
                    self.range.len() - count as u64
                );
                (count, Some(Error::new(Kind::Network, context)))
            }
            Ok(count) => (count, None),
            Err((count, error)) => (count, Some(error)),
        };
        self.is_untouched &= count == 0;
        let at = self.range.start() + count as u64;
        self.range = ByteRange::new(at, self.range.end());
        if let Some(error) = error {
            if self.is_untouched {
                session.give_up();
            } else {
                session.close();
            }
            // No more of this answer can be read.
            self.range = ByteRange::new(at, at);
            return Err((count, error));
        }
        if self.range.is_empty() && self.must_see_end {
            return expect_end(session).map_err(|error| (0, error));
        }
        Ok(())
    }
}

/// Checks the answer to a request for a range.
fn accept_partial(
    session: &HttpSession<'_>,
    head: &ResponseHead,
    range: ByteRange,
    size: u64,
) -> Result<Unread, Error> {
    let object = session.object();
    if head.status != StatusCode::PARTIAL_CONTENT {
        return Err(object.refusal(head.status, &head.headers));
    }
    check_partial(head, range, size)
        .map_err(|what| Error::new(Kind::Protocol, format!("{}: {what}", object.origin())))?;
    object.check_identity(&head.headers)?;
    Ok(Unread {
        range,
        again: Vec::new(),
        must_see_end: head.content_length.is_none(),
        is_untouched: true,
    })
}

/// Checks the answer to a request for the whole object.
fn accept_whole(
    session: &HttpSession<'_>,
    head: &ResponseHead,
    size: u64,
) -> Result<Unread, Error> {
    let object = session.object();
    if head.status != StatusCode::OK {
        return Err(object.refusal(head.status, &head.headers));
    }
    check_whole(head, size)
        .map_err(|what| Error::new(Kind::Protocol, format!("{}: {what}", object.origin())))?;
    object.check_identity(&head.headers)?;
    Ok(Unread {
        range: ByteRange::new(0, size),
        again: Vec::new(),
        must_see_end: head.content_length.is_none(),
        is_untouched: true,
    })
}

/// Reads the end of a body whose length was not stated, after all wanted bytes have come.
fn expect_end(session: &mut HttpSession<'_>) -> Result<(), Error> {
    match session.read(&mut [0]) {
        Ok(0) => Ok(()),
        // Everything is here; only the connection is of no more use.
        Err((0, error)) if error.kind() != Kind::Cancelled => {
            session.close();
            Ok(())
        }
        Err((0, error)) => Err(error),
        Ok(_) | Err(_) => {
            session.close();
            let context = format!(
                "{}: the body is longer than it may be",
                session.object().origin()
            );
            Err(Error::new(Kind::Protocol, context))
        }
    }
}

/// The answer that showed how an object can be read, until a reader goes on with it.
pub(super) type First = Mutex<Option<Opened>>;

/// An answer that has begun, without a reader.
pub(super) struct Opened {
    connection: Option<Connected>,
    /// Pulled together with the flag of whoever goes on with it.
    flag: Cancel,
    /// What was asked for: a range, or the whole.
    asked: ByteRange,
    unread: Unread,
    is_ranged: bool,
}

impl Opened {
    /// Asks an object of `size` bytes for its first `first` ones; it may answer with all.
    pub(super) fn new(object: &HttpObject, size: u64, first: u64) -> Result<Self, Error> {
        let flag = object.flag();
        let mut session = object.session().with_cancel(&flag);
        let range = ByteRange::new(0, first.min(size).max(1));
        let mut head = session.get(&range_header(range))?;
        // Glance answers 400 where the image lies in a store without ranges
        // (`StoreRandomGetNotSupported`); without a range it may still be read.
        if matches!(head.status.as_u16(), 400 | 501) {
            session.close();
            head = session.get(&HeaderMap::new())?;
        }
        let is_ranged = head.status != StatusCode::OK;
        let accepted = if is_ranged {
            accept_partial(&session, &head, range, size)
        } else {
            accept_whole(&session, &head, size)
        };
        let unread = accepted.inspect_err(|_| session.give_up())?;
        Ok(Self {
            connection: session.leave(),
            flag,
            asked: unread.range,
            unread,
            is_ranged,
        })
    }

    /// Whether the server has ranges.
    pub(super) const fn is_ranged(&self) -> bool {
        self.is_ranged
    }

    /// Reads the first bytes, which the reader that goes on will give again. After an error the answer
    /// is of no more use.
    pub(super) fn peek(&mut self, object: &HttpObject, length: usize) -> Result<Vec<u8>, Error> {
        let mut session = object.session().with_cancel(&self.flag);
        session.go_on(self.connection.take());
        let bytes = self.unread.peek(&mut session, length)?;
        self.connection = session.leave();
        Ok(bytes)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

/// Goes on with the first answer if that is to a request for `wanted`. Nothing else begins at the first
/// byte, so one to another request is given up.
fn resume(
    first: Option<&First>,
    session: &mut HttpSession<'_>,
    wanted: ByteRange,
) -> Option<Unread> {
    if wanted.start() > 0 {
        return None;
    }
    let opened = first?
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    if opened.asked != wanted {
        return None;
    }
    session.cancel().adopt(&opened.flag);
    session.go_on(opened.connection);
    Some(opened.unread)
}

/// Reads the first byte of an object, whatever it is.
pub(super) fn read_one_byte(mut session: HttpSession<'_>) -> Result<(), Error> {
    let head = session.get(&range_header(ByteRange::new(0, 1)))?;
    if head.status != StatusCode::PARTIAL_CONTENT {
        return Err(session.object().refusal(head.status, &head.headers));
    }
    session.read(&mut [0]).map(drop).map_err(|(_, error)| error)
}

fn range_header(range: ByteRange) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = format!("bytes={}-{}", range.start(), range.end().saturating_sub(1));
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(header::RANGE, value);
    }
    headers
}

fn beyond() -> Error {
    Error::new(
        Kind::Internal,
        "more bytes were asked for than the range has",
    )
}
