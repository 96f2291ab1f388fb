//! A target in memory, which records what was asked of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Sink;
use crate::{ByteRange, Error, Kind};

/// What was asked of a [`MemorySink`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkCall {
    /// [`Sink::prepare`].
    Prepare(u64),
    /// [`Sink::write_at`].
    Write(ByteRange),
    /// [`Sink::zero`].
    Zero(ByteRange),
    /// [`Sink::sync`], also as part of [`Sink::close`].
    Sync,
    /// [`Sink::close`], after its sync.
    Close,
}

/// Kinds of calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkOperation {
    /// [`Sink::prepare`].
    Prepare,
    /// [`Sink::write_at`].
    Write,
    /// [`Sink::zero`].
    Zero,
    /// [`Sink::sync`].
    Sync,
    /// [`Sink::close`].
    Close,
}

/// The target. Clones share the content, so that it can be read after [`Sink::close`].
#[derive(Debug, Clone)]
pub struct MemorySink {
    capacity: u64,
    is_file: bool,
    granule: u64,
    room: Option<u64>,
    /// Operation, how many calls of it succeed first, and the kind of the error after that.
    failures: Vec<(SinkOperation, u64, Kind)>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    content: Vec<u8>,
    size: u64,
    calls: Vec<SinkCall>,
    seen: [u64; 5],
}

impl MemorySink {
    /// What a device and an old file hold before: not zeroes.
    pub const DIRT: u8 = 0xff;

    /// A target like a block device: `capacity` bytes, full of [`Self::DIRT`], never blank.
    #[must_use]
    pub fn device(capacity: usize) -> Self {
        Self {
            capacity: capacity as u64,
            is_file: false,
            granule: 1,
            room: None,
            failures: Vec::new(),
            shared: Arc::new(Mutex::new(Shared {
                content: vec![Self::DIRT; capacity],
                ..Shared::default()
            })),
        }
    }

    /// A target like a regular file: without a limit of its own, blank after [`Sink::prepare`].
    #[must_use]
    pub fn file() -> Self {
        Self {
            capacity: u64::MAX,
            is_file: true,
            ..Self::device(0)
        }
    }

    /// Refuses writes and zeroing that do not start and end at a multiple of `granule` bytes (the
    /// end of the disk is allowed as well).
    #[must_use]
    pub const fn with_granule(mut self, granule: u64) -> Self {
        self.granule = granule;
        self
    }

    /// The same on a file system with this much room.
    #[must_use]
    pub const fn with_room(mut self, room: u64) -> Self {
        self.room = Some(room);
        self
    }

    /// Lets the calls of `operation` after the first `successes` fail with `kind`.
    #[must_use]
    pub fn failing(mut self, operation: SinkOperation, successes: u64, kind: Kind) -> Self {
        self.failures.push((operation, successes, kind));
        self
    }

    /// What it holds.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.lock().content.clone()
    }

    /// What was asked of it, in order, the failed calls included.
    #[must_use]
    pub fn calls(&self) -> Vec<SinkCall> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call, and fails if it is to.
    fn call(
        &self,
        operation: SinkOperation,
        call: SinkCall,
    ) -> Result<MutexGuard<'_, Shared>, Error> {
        let mut shared = self.lock();
        shared.calls.push(call);
        let seen = &mut shared.seen[operation as usize];
        *seen += 1;
        let seen = *seen;
        match self
            .failures
            .iter()
            .find(|(failing, successes, _)| *failing == operation && seen > *successes)
        {
            Some((.., kind)) => Err(Error::new(*kind, format!("scripted failure of {call:?}"))),
            None => Ok(shared),
        }
    }

    fn fill(
        &self,
        shared: &mut Shared,
        range: ByteRange,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Error> {
        let refused = |why| Error::new(Kind::TargetIo, format!("{range} {why}"));
        let is_cut = |offset: u64| !offset.is_multiple_of(self.granule) && offset != shared.size;
        if is_cut(range.start()) || is_cut(range.end()) {
            return Err(refused(format!("is not aligned to {}", self.granule)));
        }
        let bounds = usize::try_from(range.start())
            .ok()
            .zip(usize::try_from(range.end()).ok());
        let bytes = bounds
            .and_then(|(start, end)| shared.content.get_mut(start..end))
            .ok_or_else(|| refused("is beyond the end".to_owned()))?;
        fill(bytes);
        Ok(())
    }
}

impl Sink for MemorySink {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn room(&self) -> Option<u64> {
        self.room
    }

    fn prepare(&self, size: u64) -> Result<(), Error> {
        let mut shared = self.call(SinkOperation::Prepare, SinkCall::Prepare(size))?;
        shared.size = size;
        if self.is_file {
            let length = usize::try_from(size)
                .map_err(|error| Error::with_source(Kind::TargetFull, "too large", error))?;
            shared.content = vec![0; length];
        }
        Ok(())
    }

    fn resize(&self, size: u64) -> Result<(), Error> {
        let mut shared = self.call(SinkOperation::Prepare, SinkCall::Prepare(size))?;
        shared.size = size;
        if self.is_file {
            let length = usize::try_from(size)
                .map_err(|error| Error::with_source(Kind::TargetFull, "too large", error))?;
            shared.content.resize(length, 0);
        }
        Ok(())
    }

    fn is_blank(&self) -> bool {
        self.is_file
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        let range = ByteRange::new(offset, offset.saturating_add(buf.len() as u64));
        let mut shared = self.call(SinkOperation::Write, SinkCall::Write(range))?;
        self.fill(&mut shared, range, |bytes| bytes.copy_from_slice(buf))
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        let mut shared = self.call(SinkOperation::Zero, SinkCall::Zero(range))?;
        self.fill(&mut shared, range, |bytes| bytes.fill(0))
    }

    fn sync(&self) -> Result<(), Error> {
        self.call(SinkOperation::Sync, SinkCall::Sync).map(drop)
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.sync()?;
        self.call(SinkOperation::Close, SinkCall::Close).map(drop)
    }
}
