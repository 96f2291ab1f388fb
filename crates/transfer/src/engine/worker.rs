//! One connection: takes a task, reads it, writes it, hands it to the digest.

use super::{
    cursor::Cursor,
    pool::{BUFFER, Lease, Pool},
    retry_budget::{RetryBudget, cancelled},
    sequence::{Segment, Sequence},
    shared::Shared,
    zeroes,
};
use crate::{ByteRange, Content, Error, Kind, Reader};

/// How much is read elsewhere before data is called damaged.
const PROBE: usize = 64 << 10;

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
}

/// A reader, and what it has been asked for.
struct Positioned<'a> {
    reader: Box<dyn Reader + 'a>,
    /// What it has not given yet: no new request is needed to read on from here.
    left: ByteRange,
    /// Whether it has read an earlier range and nothing of this one.
    is_kept: bool,
}

/// Answers that began right and ended before their first byte.
#[derive(Default)]
struct Cuts {
    in_a_row: u32,
    /// The source has given other bytes since the first of them.
    gives_others: bool,
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
        }
    }

    /// Works until the disk is done.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            self.retries.start();
            let task = loop {
                match self.cursor.next() {
                    Ok(task) => break task,
                    Err(error) => self.retries.back_off(error)?,
                }
            };
            let Some(task) = task else {
                return Ok(());
            };
            match task.content {
                Content::Data => self.copy(task.range)?,
                Content::Zero => self.zero(task.range)?,
            }
        }
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
        let (mut filled, mut cuts) = (0, Cuts::default());
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
            if !is_cut {
                cuts = Cuts::default();
                self.retries.back_off_data(error)?;
                continue;
            }
            cuts.in_a_row += 1;
            if cuts.in_a_row < self.shared.options.retry.cut_short {
                self.retries.back_off(error)?;
            } else if cuts.gives_others {
                let text = format!(
                    "{} answers in a row ended where byte {} was due, while others are whole: the \
                     source's data is cut short or damaged there",
                    cuts.in_a_row,
                    wanted.start()
                );
                return Err(Error::with_source(Kind::Unusable, text, error));
            } else if self.gives_others(missing, wanted.start()) {
                cuts.gives_others = true;
            } else {
                // A server that answers and has no data at all: an outage of what it reads from.
                cuts = Cuts::default();
                self.retries.back_off(error)?;
            }
        }
        Ok(())
    }

    /// Whether the source gives bytes that lie elsewhere: those before `offset` or, where there are
    /// none, the last of the disk. `scratch` gets them.
    fn gives_others(&mut self, scratch: &mut [u8], offset: u64) -> bool {
        let length = scratch.len().min(PROBE) as u64;
        let size = self.shared.source.size();
        let range = match offset {
            0 => ByteRange::new(size.saturating_sub(length).max(1), size),
            _ => ByteRange::new(offset.saturating_sub(length), offset),
        };
        let length = usize::try_from(range.len()).unwrap_or_default();
        let scratch = scratch.get_mut(..length).unwrap_or_default();
        let read = self.attempt(scratch, range);
        self.reader = None;
        read.is_ok() && !range.is_empty()
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
