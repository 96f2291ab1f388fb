//! Ranges of the image file: for its tables, and as a stream for its data.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use formats::{ReadAt, ReadError};
use transfer::{ByteRange, Error, READ_ALONG, Reader};

use super::unusable;

/// One reader of the file, used in turns for tables and for data.
#[derive(Clone)]
pub(super) struct Shared<'a>(Arc<Mutex<State<'a>>>);

struct State<'a> {
    reader: Box<dyn Reader + 'a>,
    /// What ended a read of tables: `formats` hands on no more than that there was an error.
    failed: Option<Error>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(reader: Box<dyn Reader + 'a>) -> Self {
        let failed = None;
        Self(Arc::new(Mutex::new(State { reader, failed })))
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of the file where reading it failed, else that of the image.
    pub(super) fn explain(&self, error: &formats::Error) -> Error {
        match self.lock().failed.take() {
            Some(failed) if error.kind() == formats::Kind::Read => failed,
            _ => unusable(error),
        }
    }
}

/// Headers and tables.
pub(super) struct FileAt<'a> {
    size: u64,
    shared: Shared<'a>,
}

impl<'a> FileAt<'a> {
    pub(super) fn new(size: u64, shared: &Shared<'a>) -> Self {
        let shared = shared.clone();
        Self { size, shared }
    }
}

impl ReadAt for FileAt<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut state = self.shared.lock();
        let range = ByteRange::new(offset, offset + buf.len() as u64);
        let read = state.reader.begin(range);
        let read = read.and_then(|()| state.reader.fill(buf).map_err(|(_, error)| error));
        read.map_err(|error| {
            state.failed = Some(error);
            "the file could not be read".into()
        })
    }
}

/// Data, mostly one part behind the other: a request goes on as long as it can.
pub(super) struct FileStream<'a> {
    shared: Shared<'a>,
    /// Offset of the next byte of the request under way, and its end; equal when there is none.
    next: u64,
    end: u64,
    /// The bytes in front of `next`, as far as another part may want them again: packed clusters overlap.
    held: Vec<u8>,
}

impl<'a> FileStream<'a> {
    pub(super) fn new(shared: &Shared<'a>) -> Self {
        Self {
            shared: shared.clone(),
            next: 0,
            end: 0,
            held: Vec::new(),
        }
    }

    /// The reader was used for something else: its request is over.
    pub(super) fn interrupt(&mut self) {
        self.end = self.next;
        self.held.clear();
    }

    /// Fills `buf` with the bytes from `offset`. A request that has to be made goes to `run_end`.
    ///
    /// # Errors
    /// With the number of bytes at the front of `buf` that are valid.
    pub(super) fn read(
        &mut self,
        offset: u64,
        run_end: impl FnOnce() -> u64,
        buf: &mut [u8],
    ) -> Result<(), (usize, Error)> {
        self.seek(offset, buf.len(), run_end)
            .map_err(|error| (0, error))?;
        let old = self.held.get(self.held_at(offset)..).unwrap_or_default();
        let old = old.get(..buf.len()).unwrap_or(old);
        let count = old.len();
        let (front, rest) = buf.split_at_mut(count);
        front.copy_from_slice(old);
        if rest.is_empty() {
            return Ok(());
        }
        self.held.clear();
        self.receive(rest)
            .map_err(|(more, error)| (count + more, error))
    }

    /// The bytes of a packed cluster. They are held, since the next one may begin before this one ends.
    pub(super) fn packed(
        &mut self,
        range: ByteRange,
        run_end: impl FnOnce() -> u64,
    ) -> Result<&[u8], Error> {
        let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
        self.seek(range.start(), length, run_end)?;
        let before = self.held_at(range.start());
        let mut held = std::mem::take(&mut self.held);
        held.drain(..before);
        let have = held.len();
        if have < length {
            held.resize(length, 0);
            let rest = held.get_mut(have..).unwrap_or_default();
            self.receive(rest).map_err(|(_, error)| error)?;
        }
        self.held = held;
        Ok(self.held.get(..length).unwrap_or_default())
    }

    /// Where the byte at `offset` of the file is among those that are held, or would be.
    fn held_at(&self, offset: u64) -> usize {
        let back = usize::try_from(self.next - offset).unwrap_or(usize::MAX);
        self.held.len().saturating_sub(back)
    }

    /// Takes the next bytes of the request. After an error there is none.
    fn receive(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        let received = self.shared.lock().reader.fill(buf);
        match &received {
            Ok(()) => self.next += buf.len() as u64,
            Err(_) => self.interrupt(),
        }
        received
    }

    /// Goes to `offset`: backwards in what is held, forwards over a few bytes, or by a new request.
    fn seek(
        &mut self,
        offset: u64,
        length: usize,
        run_end: impl FnOnce() -> u64,
    ) -> Result<(), Error> {
        let held = self.next - self.held.len() as u64..=self.next;
        let end = offset + length as u64;
        if end <= self.end && held.contains(&offset) {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.clear();
        let gap = offset.checked_sub(self.next);
        if let Some(gap) = gap.filter(|gap| *gap <= READ_ALONG && end <= self.end) {
            held.resize(usize::try_from(gap).unwrap_or_default(), 0);
            return self.receive(&mut held).map_err(|(_, error)| error);
        }
        (self.next, self.end) = (offset, offset);
        let end = run_end().max(end);
        self.shared
            .lock()
            .reader
            .begin(ByteRange::new(offset, end))?;
        self.end = end;
        Ok(())
    }
}
