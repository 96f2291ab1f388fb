//! A disk in memory, for tests and as the model that other sources are held against.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use net::Cancel;

use super::{Access, Reader, Source};
use crate::{Algorithm, ByteRange, Content, Digest, Error, Extent, Kind};

/// What was asked of a [`MemorySource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceCall {
    /// [`Source::extents`].
    Extents(ByteRange),
    /// [`Source::reader`].
    Reader,
    /// [`Reader::begin`].
    Begin(ByteRange),
    /// [`Source::keep_alive`].
    KeepAlive,
    /// [`Source::checksum`].
    Checksum(Algorithm),
}

/// When a scripted fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At the n-th [`Reader::begin`] of all readers, counted from 0.
    Request(u64),
    /// When the byte at this offset is due; what comes before it arrives.
    Byte(u64),
    /// At [`Source::checksum`].
    Checksum,
    /// At [`Source::keep_alive`].
    KeepAlive,
}

/// What a scripted fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// An error of this kind.
    Error(Kind),
    /// An error of this kind with the delay that the server asks for.
    After(Kind, Duration),
    /// Nothing at all, until the reader is cancelled.
    Hang,
}

/// A scripted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When it happens.
    pub when: When,
    /// How many times it happens.
    pub times: u32,
    /// What happens instead of an answer.
    pub trouble: Trouble,
}

/// The disk. Clones share the log and the faults that are left.
#[derive(Debug, Clone)]
pub struct MemorySource {
    content: Arc<[u8]>,
    extents: Vec<Extent>,
    access: Access,
    checksum: Option<String>,
    beside_checksum: Option<NonZeroUsize>,
    knows_zeroes: bool,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Vec<Fault>,
    calls: Vec<SourceCall>,
    requests: u64,
    readers: usize,
    most_readers: usize,
}

impl MemorySource {
    /// A disk of these bytes, of which nothing is known beforehand; up to 16 readers.
    #[must_use]
    pub fn new(content: impl Into<Arc<[u8]>>) -> Self {
        let content = content.into();
        let all = Extent {
            range: ByteRange::new(0, content.len() as u64),
            content: Content::Data,
        };
        Self {
            extents: if content.is_empty() {
                vec![]
            } else {
                vec![all]
            },
            content,
            access: Access::Ranged {
                connections: NonZeroUsize::MIN.saturating_add(15),
            },
            checksum: None,
            beside_checksum: None,
            knows_zeroes: false,
            shared: Arc::default(),
        }
    }

    /// A disk drawn as a picture, `block` bytes for each character: `-` is a hole that the extents
    /// know as zero, `0` zeroes that they call data, any other character data made of that byte.
    #[must_use]
    pub fn picture(picture: &str, block: usize) -> Self {
        let content: Vec<u8> = picture
            .bytes()
            .flat_map(|byte| {
                let byte = if matches!(byte, b'-' | b'0') { 0 } else { byte };
                std::iter::repeat_n(byte, block)
            })
            .collect();
        let mut extents: Vec<Extent> = Vec::new();
        for (index, byte) in (0_u64..).zip(picture.bytes()) {
            let start = index * block as u64;
            let range = ByteRange::new(start, start + block as u64);
            let content = if byte == b'-' {
                Content::Zero
            } else {
                Content::Data
            };
            match extents.last_mut() {
                Some(last) if last.content == content => {
                    last.range = ByteRange::new(last.range.start(), range.end());
                }
                _ => extents.push(Extent { range, content }),
            }
        }
        Self::new(content).with_extents(extents)
    }

    /// The same disk with other extents, which are believed: they may lie.
    #[must_use]
    pub fn with_extents(mut self, extents: Vec<Extent>) -> Self {
        self.extents = extents;
        self.knows_zeroes = true;
        self
    }

    /// The same disk with another way to be read.
    #[must_use]
    pub const fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The same disk, whose [`Source::checksum`] answers this instead of the truth.
    #[must_use]
    pub fn with_checksum(mut self, hex: impl Into<String>) -> Self {
        self.checksum = Some(hex.into());
        self
    }

    /// The same disk, of which so many readers read while its checksum is asked for.
    #[must_use]
    pub const fn with_readers_beside_checksum(mut self, readers: NonZeroUsize) -> Self {
        self.beside_checksum = Some(readers);
        self
    }

    /// The same disk with one more fault.
    #[must_use]
    pub fn with_fault(self, when: When, times: u32, trouble: Trouble) -> Self {
        self.lock().faults.push(Fault {
            when,
            times,
            trouble,
        });
        self
    }

    /// The disk's bytes.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// What was asked of it, in order, the failed calls included.
    #[must_use]
    pub fn calls(&self) -> Vec<SourceCall> {
        self.lock().calls.clone()
    }

    /// The largest number of readers that existed at one time.
    #[must_use]
    pub fn most_readers(&self) -> usize {
        self.lock().most_readers
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a call, and carries out the fault that is due at it.
    fn call(&self, call: SourceCall, cancel: &Cancel) -> Result<(), Error> {
        let mut shared = self.lock();
        shared.calls.push(call);
        let when = match call {
            SourceCall::Begin(_) => {
                shared.requests += 1;
                Some(When::Request(shared.requests - 1))
            }
            SourceCall::Checksum(_) => Some(When::Checksum),
            SourceCall::KeepAlive => Some(When::KeepAlive),
            SourceCall::Extents(_) | SourceCall::Reader => None,
        };
        let trouble = shared.strike(|fault| Some(fault.when) == when);
        drop(shared);
        trouble.map_or(Ok(()), |trouble| trouble.happen(cancel))
    }
}

impl Source for MemorySource {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn access(&self) -> Access {
        self.access
    }

    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        self.call(SourceCall::Extents(range), &Cancel::new())?;
        let cut = |extent: &Extent| Extent {
            range: extent.range.intersect(range),
            content: extent.content,
        };
        Ok(self
            .extents
            .iter()
            .map(cut)
            .filter(|extent| !extent.range.is_empty())
            .collect())
    }

    fn data_bytes(&self) -> Option<u64> {
        let data = self
            .extents
            .iter()
            .filter(|extent| extent.content == Content::Data);
        self.knows_zeroes
            .then(|| data.map(|extent| extent.range.len()).sum())
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        self.call(SourceCall::Reader, cancel)?;
        let mut shared = self.lock();
        shared.readers += 1;
        shared.most_readers = shared.most_readers.max(shared.readers);
        drop(shared);
        Ok(Box::new(MemoryReader {
            source: self,
            cancel: cancel.clone(),
            left: ByteRange::new(0, 0),
        }))
    }

    fn keep_alive(&self, cancel: &Cancel) -> Result<(), Error> {
        self.call(SourceCall::KeepAlive, cancel)
    }

    fn readers_beside_checksum(&self) -> Option<NonZeroUsize> {
        self.beside_checksum
    }

    fn checksum(&self, algorithm: Algorithm, cancel: &Cancel) -> Result<String, Error> {
        self.call(SourceCall::Checksum(algorithm), cancel)?;
        Ok(self
            .checksum
            .clone()
            .unwrap_or_else(|| Digest::of(algorithm, &self.content).hex))
    }
}

impl Shared {
    /// The trouble of the first fault that is due, which is used up by this.
    fn strike(&mut self, is_due: impl Fn(&Fault) -> bool) -> Option<Trouble> {
        let fault = self
            .faults
            .iter_mut()
            .find(|fault| fault.times > 0 && is_due(fault))?;
        fault.times -= 1;
        Some(fault.trouble)
    }
}

impl Trouble {
    fn happen(self, cancel: &Cancel) -> Result<(), Error> {
        match self {
            Self::Error(kind) => Err(Error::new(kind, "scripted fault")),
            Self::After(kind, delay) => Err(Error::new(kind, "scripted fault").after(Some(delay))),
            Self::Hang => {
                let _pulled = cancel.wait(Duration::MAX);
                Err(Error::new(Kind::Cancelled, "cancelled"))
            }
        }
    }
}

#[derive(Debug)]
struct MemoryReader<'a> {
    source: &'a MemorySource,
    cancel: Cancel,
    left: ByteRange,
}

impl Reader for MemoryReader<'_> {
    fn begin(&mut self, range: ByteRange) -> Result<(), Error> {
        self.source.call(SourceCall::Begin(range), &self.cancel)?;
        if range.end() > self.source.size() {
            return Err(Error::new(
                Kind::Protocol,
                format!("{range} is beyond the end"),
            ));
        }
        self.left = range;
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        if self.cancel.is_cancelled() {
            return Err((0, Error::new(Kind::Cancelled, "cancelled")));
        }
        let start = self.left.start();
        let wanted = ByteRange::new(start, start.saturating_add(buf.len() as u64));
        if wanted.end() > self.left.end() {
            return Err((0, Error::new(Kind::Internal, "asked beyond the range")));
        }
        let fault = self.next_fault(wanted);
        let end = fault.map_or(wanted.end(), |(offset, _)| offset);
        let (from, to) = (index(start), index(end));
        if let (Some(front), Some(bytes)) =
            (buf.get_mut(..to - from), self.source.content.get(from..to))
        {
            front.copy_from_slice(bytes);
        }
        self.left = ByteRange::new(end, self.left.end());
        match fault {
            Some((_, trouble)) => trouble
                .happen(&self.cancel)
                .map_err(|error| (to - from, error)),
            None => Ok(()),
        }
    }
}

impl MemoryReader<'_> {
    /// The fault with the lowest offset in `wanted`, which is used up by this.
    fn next_fault(&self, wanted: ByteRange) -> Option<(u64, Trouble)> {
        let mut shared = self.source.lock();
        let is_in = |offset: u64| wanted.start() <= offset && offset < wanted.end();
        let offset = shared
            .faults
            .iter()
            .filter_map(|fault| match fault.when {
                When::Byte(offset) if fault.times > 0 && is_in(offset) => Some(offset),
                _ => None,
            })
            .min()?;
        let trouble = shared.strike(|fault| fault.when == When::Byte(offset))?;
        Some((offset, trouble))
    }
}

impl Drop for MemoryReader<'_> {
    fn drop(&mut self) {
        self.source.lock().readers -= 1;
    }
}

/// An offset into memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
