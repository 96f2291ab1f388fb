//! One connection: takes a task, reads it, and hands what it has read on.

use super::{
    blocks::HashedBlocks,
    buffer::BUFFER,
    cursor::Cursor,
    pool::{Acquired, Lease, Pool, Purpose},
    retry_budget::{RetryBudget, cancelled},
    sequence::{Segment, Sequence},
    shared::Shared,
    writes::{Filled, Handle, write},
};
use crate::{ByteRange, Content, Error, Kind, Reader};

/// How much is read elsewhere before data is called damaged.
const PROBE: usize = 64 << 10;

/// One of the threads of a pass.
pub(super) struct Worker<'s, 'a> {
    shared: &'a Shared<'a>,
    cursor: &'s Cursor<'a>,
    pool: &'a Pool,
    sequence: Option<&'s Sequence<'a>>,
    retries: RetryBudget<'a>,
    output: Output<'s, 'a>,
    /// Where a block hash is computed by the workers, this one's part.
    blocks: Option<HashedBlocks<'s, 'a>>,
    /// Kept from task to task, dropped after an error.
    reader: Option<Positioned<'a>>,
}

/// Where what was read goes.
pub(super) enum Output<'s, 'a> {
    /// To the target at once; the buffer is kept for the next bytes.
    Target(Option<Lease<'a>>),
    /// To the threads that write, so that reading goes on meanwhile.
    Writers(Handle<'s, 'a>),
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
        cursor: &'s Cursor<'a>,
        pool: &'a Pool,
        sequence: Option<&'s Sequence<'a>>,
        output: Output<'s, 'a>,
        blocks: Option<HashedBlocks<'s, 'a>>,
        index: u64,
    ) -> Self {
        Self {
            shared,
            cursor,
            pool,
            sequence,
            retries: shared.retry_budget(index),
            output,
            blocks,
            reader: None,
        }
    }

    /// Works until the disk is done.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            self.retries.start();
            let tasks = loop {
                match self.cursor.next() {
                    Ok(tasks) => break tasks,
                    Err(error) => self.retries.back_off(error)?,
                }
            };
            if tasks.is_empty() {
                return Ok(());
            }
            for task in tasks {
                match task.content {
                    Content::Data => self.copy(task.range)?,
                    Content::Zero => self.zero(task.range)?,
                }
            }
        }
    }

    fn zero(&mut self, range: ByteRange) -> Result<(), Error> {
        self.shared.check()?;
        if !self.shared.is_blank {
            // With one connection the target is written in order of offset.
            if let Output::Writers(writers) = &self.output {
                writers.flush();
            }
            self.shared.check()?;
            self.shared.sink.zero(range)?;
        }
        self.shared.controls.progress.add_zero(range.len());
        if let Some(sequence) = self.sequence {
            sequence.put(range.start(), Segment::Zero(range.len()));
        }
        if let Some(blocks) = &mut self.blocks {
            blocks.zeroes(range)?;
        }
        Ok(())
    }

    fn copy(&mut self, task: ByteRange) -> Result<(), Error> {
        let mut left = task;
        while !left.is_empty() {
            let filled = self.read(task, left)?;
            left = ByteRange::new(left.start() + filled.length as u64, left.end());
            match &mut self.output {
                Output::Target(spare) => {
                    write(self.shared, filled.bytes(), filled.offset)?;
                    if let Some(blocks) = &mut self.blocks {
                        blocks.update(filled.bytes(), filled.offset);
                    }
                    *spare = Some(filled.lease);
                }
                Output::Writers(writers) => writers.put(filled),
            }
        }
        Ok(())
    }

    /// Fills a buffer with the first bytes of `left`, which is the rest of the task. What has
    /// arrived is kept; only the missing part is asked for again.
    fn read(&mut self, task: ByteRange, left: ByteRange) -> Result<Filled<'a>, Error> {
        let length = usize::try_from(left.len()).map_or(BUFFER, |len| len.min(BUFFER));
        let (mut filled, mut cuts, mut has_given_up) = (0, Cuts::default(), false);
        let mut lease = match &mut self.output {
            Output::Target(spare) => spare.take(),
            Output::Writers(_) => None,
        };
        self.retries.start();
        loop {
            let wanted = ByteRange::new(left.start() + filled as u64, left.end());
            // The request goes out before there is memory for its answer, so that bytes are on their way
            // when there is. A task of one buffer has it first, and never holds an answer up.
            if lease.is_none() && (has_given_up || task.len() <= BUFFER as u64) {
                lease = self.buffer(task, left.start(), false)?;
            }
            let asked = self.ask(task, wanted);
            if asked.is_ok() && lease.is_none() {
                lease = self.buffer(task, left.start(), true)?;
                if lease.is_none() {
                    has_given_up = true;
                    self.reader = None;
                    self.pool.unanswered(task);
                    continue;
                }
            }
            let missing = lease.as_mut().map(|lease| {
                lease
                    .bytes_mut()
                    .get_mut(filled..length)
                    .unwrap_or_default()
            });
            let read = asked.and_then(|()| self.fill(missing.unwrap_or_default()));
            let Err(failed) = read else {
                self.retries.received(length - filled);
                let Some(lease) = lease else {
                    return Err(Error::new(Kind::Internal, "bytes without a buffer"));
                };
                return Ok(Filled {
                    offset: left.start(),
                    lease,
                    length,
                });
            };
            let Failed {
                arrived,
                has_begun,
                error,
            } = failed;
            if arrived > length - filled {
                return Err(Error::with_source(
                    Kind::Internal,
                    "a reader claims more bytes than were asked for",
                    error,
                ));
            }
            self.retries.received(arrived);
            filled += arrived;
            let was_kept = self.reader.take().is_some_and(|reader| reader.is_kept);
            self.pool.unanswered(task);
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
                if self.shared.source.is_local() {
                    self.retries.back_off(error)?;
                } else {
                    self.retries.back_off_data(error)?;
                }
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
            } else if self.gives_others(lease.as_mut(), filled, wanted.start()) {
                cuts.gives_others = true;
            } else {
                // A server that answers and has no data at all: an outage of what it reads from.
                cuts = Cuts::default();
                self.retries.back_off(error)?;
            }
        }
    }

    /// Waits for a buffer for the bytes from `offset` on; `None` when the worker has to give up the answer
    /// that it holds. The wait does not count against the source.
    fn buffer(
        &mut self,
        task: ByteRange,
        offset: u64,
        holds_answer: bool,
    ) -> Result<Option<Lease<'a>>, Error> {
        let purpose = Purpose {
            task,
            offset,
            holds_answer,
        };
        let acquired = self.retries.aside(|| self.pool.acquire(purpose));
        match acquired {
            Acquired::Lease(lease) => Ok(Some(lease)),
            Acquired::GiveUp => Ok(None),
            Acquired::Closed => Err(cancelled()),
        }
    }

    /// Whether the source gives bytes that lie elsewhere: those before `offset` or, where there are
    /// none, the last of the disk. They go to the part of the buffer that is not filled yet.
    fn gives_others(&mut self, lease: Option<&mut Lease<'a>>, filled: usize, offset: u64) -> bool {
        let Some(scratch) = lease.and_then(|lease| lease.bytes_mut().get_mut(filled..)) else {
            return false;
        };
        let length = scratch.len().min(PROBE) as u64;
        let size = self.shared.source.size();
        let range = match offset {
            0 => ByteRange::new(size.saturating_sub(length).max(1), size),
            _ => ByteRange::new(offset.saturating_sub(length), offset),
        };
        let length = usize::try_from(range.len()).unwrap_or_default();
        let scratch = scratch.get_mut(..length).unwrap_or_default();
        let read = self.begin(range).and_then(|()| self.fill(scratch));
        self.reader = None;
        read.is_ok() && !range.is_empty()
    }

    /// Asks for `wanted`, the rest of a task, unless it is already under way. Waits until its turn has
    /// come.
    fn ask(&mut self, task: ByteRange, wanted: ByteRange) -> Result<(), Failed> {
        let is_under_way = self
            .reader
            .as_ref()
            .is_some_and(|reader| reader.left == wanted);
        if is_under_way {
            return Ok(());
        }
        if !self.retries.aside(|| self.pool.ask(task)) {
            return Err(Failed::before(cancelled()));
        }
        self.begin(wanted)?;
        self.pool.answered(task);
        Ok(())
    }

    fn begin(&mut self, wanted: ByteRange) -> Result<(), Failed> {
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
        positioned.reader.begin(wanted).map_err(Failed::before)?;
        positioned.left = wanted;
        Ok(())
    }

    /// Fills `buffer` with the next bytes of the answer.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Failed> {
        if self.shared.stop.is_cancelled() {
            return Err(Failed::before(cancelled()));
        }
        let Some(positioned) = &mut self.reader else {
            let error = Error::new(Kind::Internal, "nothing was asked for");
            return Err(Failed::before(error));
        };
        positioned
            .reader
            .fill(buffer)
            .map_err(|(arrived, error)| Failed {
                arrived,
                has_begun: true,
                error,
            })?;
        let read = positioned.left.start() + buffer.len() as u64;
        positioned.left = ByteRange::new(read, positioned.left.end());
        positioned.is_kept = positioned.left.is_empty();
        Ok(())
    }
}
