//! One connection: takes a task, reads it, writes it, hands it to the digest.

use super::{
    cursor::Cursor,
    pool::{BUFFER, Lease, Pool},
    retry_budget::{RetryBudget, cancelled},
    sequence::{Segment, Sequence},
    shared::Shared,
    zeroes,
};
use crate::{ByteRange, Content, Error, Extent, Kind, Reader};

/// One of the threads of a pass.
pub(super) struct Worker<'s, 'a> {
    shared: &'a Shared<'a>,
    cursor: &'s Cursor<'s>,
    pool: &'a Pool,
    sequence: Option<&'s Sequence<'a>>,
    retries: RetryBudget<'a>,
    /// Kept from task to task, dropped after an error.
    reader: Option<Positioned<'a>>,
    /// Without a digest, the only buffer.
    spare: Option<Lease<'a>>,
    /// The task whose request was sent before the one before it was written.
    upcoming: Option<Extent>,
}

/// A reader, and what it has been asked for.
struct Positioned<'a> {
    reader: Box<dyn Reader + 'a>,
    /// What it has not given yet: no new request is needed to read on from here.
    left: ByteRange,
    /// Whether it has read an earlier range and nothing of this one.
    is_kept: bool,
}

/// A request that was not answered whole.
struct Failed {
    /// Bytes that did arrive.
    arrived: usize,
    /// Whether the answer's head had come and was right.
    has_begun: bool,
    error: Error,
}

impl Failed {
    const fn before(error: Error) -> Self {
        Self {
            arrived: 0,
            has_begun: false,
            error,
        }
    }
}

impl<'s, 'a> Worker<'s, 'a> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        cursor: &'s Cursor<'s>,
        pool: &'a Pool,
        sequence: Option<&'s Sequence<'a>>,
        index: u64,
    ) -> Self {
        Self {
            shared,
            cursor,
            pool,
            sequence,
            retries: shared.retry_budget(index),
            reader: None,
            spare: None,
            upcoming: None,
        }
    }

    /// Works until the disk is done.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            let Some(task) = self.next()? else {
                return Ok(());
            };
            match task.content {
                Content::Data => self.copy(task.range)?,
                Content::Zero => self.zero(task.range)?,
            }
        }
    }

    fn next(&mut self) -> Result<Option<Extent>, Error> {
        if let Some(task) = self.upcoming.take() {
            return Ok(Some(task));
        }
        self.retries.start();
        loop {
            match self.cursor.next() {
                Ok(task) => return Ok(task),
                Err(error) => self.retries.back_off(error)?,
            }
        }
    }

    /// Sends the request for the next task's data, if that needs no memory: a source takes some
    /// milliseconds to its first byte, and the last buffer of this task is written meanwhile.
    fn prefetch(&mut self) -> Result<(), Error> {
        // A task for the digest reserves its buffers, and could wait for the one that is held here.
        if self.sequence.is_some() || self.shared.is_ordered {
            return Ok(());
        }
        // An error comes again, and is retried, when the task is due.
        while let Ok(Some(task)) = self.cursor.next() {
            match task.content {
                Content::Zero => self.zero(task.range)?,
                Content::Data => {
                    if let Some(positioned) = &mut self.reader {
                        positioned.reader.prefetch(task.range);
                    }
                    self.upcoming = Some(task);
                    break;
                }
            }
        }
        Ok(())
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        self.shared.check()?;
        if !self.shared.is_blank {
            self.shared.sink.zero(range)?;
        }
        self.shared.controls.progress.add_zero(range.len());
        if let Some(sequence) = self.sequence {
            sequence.put(range.start(), Segment::Zero(range.len()));
        }
        Ok(())
    }

    fn copy(&mut self, range: ByteRange) -> Result<(), Error> {
        let mut left = range;
        while !left.is_empty() {
            let mut lease = self.buffer()?;
            let buffer = lease.bytes_mut();
            let length = usize::try_from(left.len()).map_or(BUFFER, |len| len.min(BUFFER));
            let Some(bytes) = buffer.get_mut(..length) else {
                return Err(Error::new(Kind::Internal, "a buffer is too short"));
            };
            self.read(bytes, left)?;
            if left.len() == length as u64 {
                self.prefetch()?;
            }
            self.write(bytes, left.start())?;
            self.shared.controls.progress.add_data(length as u64);
            match self.sequence {
                Some(sequence) => sequence.put(left.start(), Segment::Data(lease, length)),
                None => self.spare = Some(lease),
            }
            left = ByteRange::new(left.start() + length as u64, left.end());
        }
        Ok(())
    }

    fn buffer(&mut self) -> Result<Lease<'a>, Error> {
        if let Some(lease) = self.spare.take() {
            return Ok(lease);
        }
        let is_reserved = self.sequence.is_some() && !self.shared.is_ordered;
        if !is_reserved && !self.pool.reserve(1) {
            return Err(cancelled());
        }
        Ok(self.pool.take())
    }

    /// Fills `buffer` with the first bytes of `left`, which is the rest of the task. What has
    /// arrived is kept; only the missing part is asked for again.
    fn read(&mut self, buffer: &mut [u8], left: ByteRange) -> Result<(), Error> {
        self.retries.start();
        let (mut filled, mut cut_short) = (0, 0);
        while let Some(missing) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let wanted = ByteRange::new(left.start() + filled as u64, left.end());
            let Failed {
                arrived,
                has_begun,
                error,
            } = match self.attempt(missing, wanted) {
                Ok(()) => {
                    self.retries.received(missing.len());
                    return Ok(());
                }
                Err(failed) => failed,
            };
            if arrived > missing.len() {
                return Err(Error::with_source(
                    Kind::Internal,
                    "a reader claims more bytes than were asked for",
                    error,
                ));
            }
            self.retries.received(arrived);
            filled += arrived;
            let was_kept = self.reader.take().is_some_and(|reader| reader.is_kept);
            // An ordered source has no ranges: what has been read cannot be continued.
            if self.shared.is_ordered {
                return Err(error);
            }
            if was_kept && arrived == 0 && self.retries.retry_immediately(&error) {
                continue;
            }
            let is_cut = has_begun && arrived == 0 && error.kind() == Kind::Network;
            cut_short = if is_cut { cut_short + 1 } else { 0 };
            if cut_short >= self.shared.options.retry.cut_short {
                let text = format!(
                    "{cut_short} answers in a row ended where byte {} was due: the source's data \
                     seems to be cut short or damaged there",
                    wanted.start()
                );
                return Err(Error::with_source(Kind::Unusable, text, error));
            }
            self.retries.back_off(error)?;
        }
        Ok(())
    }

    /// Asks for `wanted` unless it is already under way, and fills `buffer` with its first bytes.
    fn attempt(&mut self, buffer: &mut [u8], wanted: ByteRange) -> Result<(), Failed> {
        let stop = &self.shared.stop;
        if stop.is_cancelled() {
            return Err(Failed::before(cancelled()));
        }
        let positioned = match &mut self.reader {
            Some(positioned) => positioned,
            none => none.insert(Positioned {
                reader: self.shared.source.reader(stop).map_err(Failed::before)?,
                left: ByteRange::new(0, 0),
                is_kept: false,
            }),
        };
        if positioned.left != wanted {
            positioned.reader.begin(wanted).map_err(Failed::before)?;
            positioned.left = wanted;
        }
        positioned
            .reader
            .fill(buffer)
            .map_err(|(arrived, error)| Failed {
                arrived,
                has_begun: true,
                error,
            })?;
        let end = wanted.start() + buffer.len() as u64;
        positioned.left = ByteRange::new(end, wanted.end());
        positioned.is_kept = positioned.left.is_empty();
        Ok(())
    }

    /// Writes what is not zero, and makes the rest read as zero.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let shared = self.shared;
        if !shared.options.detect_zeroes {
            shared.check()?;
            return shared.sink.write_at(bytes, offset);
        }
        let shortest = if shared.is_blank {
            1
        } else {
            zeroes::DIRTY_RUN
        };
        zeroes::each_run(bytes, offset, shortest, |run, is_zero| {
            shared.check()?;
            let start = offset + run.start as u64;
            if !is_zero {
                return shared
                    .sink
                    .write_at(bytes.get(run).unwrap_or_default(), start);
            }
            if shared.is_blank {
                return Ok(());
            }
            shared
                .sink
                .zero(ByteRange::new(start, start + run.len() as u64))
        })
    }
}
