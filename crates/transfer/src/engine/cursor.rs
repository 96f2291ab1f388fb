//! Hands out tasks in order of offset.

use std::{
    num::NonZeroUsize,
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    buffer::BUFFER,
    pace::FIRST,
    plan::{Limits, Longest, Planner},
    pool::Pool,
    retry_budget::cancelled,
    shared::Shared,
};
use crate::{ByteRange, Content, Error, Extent, digest::BLOCK, extent::READ_ALONG};

/// Range of one request where bytes may arrive in any order: long enough that what a request costs does
/// not count (a round trip, and a server that checks the token and its database again), and short
/// enough to keep all connections busy to the end.
const GUIDED: RangeInclusive<u64> = 32 << 20..=1 << 30;

/// Longest range that is zeroed with one call. Where zeroes have to be written, slow storage needs
/// some seconds for it, and a stop waits for it.
const ZERO_TASK: u64 = 64 << 20;

/// How much of the disk the source is asked about at a time. The map of a window is at most a MiB,
/// even when every other block is a hole.
const WINDOW: u64 = 128 << 20;

/// What decides how long the tasks of data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lengths {
    /// Nothing: one connection reads whatever there is with one request.
    Whole,
    /// What is left, shared among the workers.
    Guided(NonZeroUsize),
    /// The same, but all tasks of a block of the block hash are one worker's.
    Blocks(NonZeroUsize),
    /// The pool, whose buffers come back in order.
    Paced,
}

impl Lengths {
    /// Length of the first range of data on a disk of `size` bytes.
    pub(super) fn first(self, size: u64) -> u64 {
        match self {
            Self::Whole => size,
            Self::Guided(workers) => guided(size, workers),
            Self::Blocks(workers) => guided(size, workers).next_multiple_of(BLOCK),
            Self::Paced => FIRST,
        }
    }
}

/// The workers' common position on the disk.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    shared: &'a Shared<'a>,
    pool: &'a Pool,
    lengths: Lengths,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    planner: Planner,
    /// Bytes of data that were not handed out yet, as far as the source knows.
    data: u64,
    /// Tasks that will be handed out together with the next one.
    tasks: Vec<Extent>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, pool: &'a Pool, lengths: Lengths) -> Self {
        let limits = Limits {
            gap: READ_ALONG,
            window: WINDOW,
        };
        let size = shared.source.size();
        Self {
            shared,
            pool,
            lengths,
            state: Mutex::new(State {
                planner: Planner::new(size, limits),
                data: shared.source.data_bytes().unwrap_or(size),
                tasks: Vec::new(),
            }),
        }
    }

    /// The next tasks, neighbours in order of offset; none at the end of the disk. With a digest, it
    /// waits until that is near enough; workers that come later wait at the lock, so that tasks are
    /// handed out in order of offset.
    ///
    /// # Errors
    /// Those of [`crate::Source::extents`]; the same tasks can be asked for again.
    pub(super) fn next(&self) -> Result<Vec<Extent>, Error> {
        let mut state = self.lock();
        self.shared.check()?;
        loop {
            let longest = self.longest(&state)?;
            let task = state.planner.next(longest, |range| self.extents(range))?;
            let Some(task) = task else {
                break;
            };
            if task.content == Content::Data {
                state.data = state.data.saturating_sub(task.range.len());
                // Before the next task is handed out, which may have to wait for this one.
                self.pool.unanswered(task.range);
            }
            state.tasks.push(task);
            let is_whole = !matches!(self.lengths, Lengths::Blocks(_))
                || task.range.end().is_multiple_of(BLOCK);
            if is_whole {
                break;
            }
        }
        Ok(std::mem::take(&mut state.tasks))
    }

    /// How long the next task may be.
    fn longest(&self, state: &State) -> Result<Longest, Error> {
        let (data, zero) = match self.lengths {
            Lengths::Whole => (u64::MAX, ZERO_TASK),
            Lengths::Guided(workers) => (guided(state.data, workers), ZERO_TASK),
            Lengths::Blocks(workers) => {
                let in_block = state.planner.position() % BLOCK;
                if in_block == 0 {
                    let data = guided(state.data, workers).next_multiple_of(BLOCK);
                    (data, ZERO_TASK)
                } else {
                    (BLOCK - in_block, BLOCK - in_block)
                }
            }
            Lengths::Paced => {
                let data = self.pool.next_task(state.planner.position());
                (data.ok_or_else(cancelled)?, ZERO_TASK)
            }
        };
        Ok(Longest { data, zero })
    }

    /// An ordered source is read from start to end, whatever it knows of zeroes.
    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        if self.shared.is_ordered {
            return Ok(vec![Extent {
                range,
                content: Content::Data,
            }]);
        }
        self.shared.source.extents(range)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guided self-scheduling: the longest range of the next request when `left` bytes of data are left. Ranges
/// are long at first and short in the end, so that no worker is alone at work for long.
fn guided(left: u64, workers: NonZeroUsize) -> u64 {
    let share = left / workers.get() as u64;
    // Whole buffers, whole pieces in the search for zeroes.
    share
        .next_multiple_of(BUFFER as u64)
        .clamp(*GUIDED.start(), *GUIDED.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests for `left` bytes of data in one piece.
    fn requests(mut left: u64, workers: usize) -> Vec<u64> {
        let mut lengths = Vec::new();
        while left > 0 {
            let length = guided(left, NonZeroUsize::new(workers).unwrap()).min(left);
            lengths.push(length >> 20);
            left -= length;
        }
        lengths
    }

    #[test]
    fn requests_become_shorter_to_the_end_between_two_bounds() {
        assert_eq!(requests(40 << 20, 4), [32, 8]);
        let gib = [256, 192, 144, 108, 81, 61, 46, 34, 32, 32, 32, 6];
        assert_eq!(requests(1 << 30, 4), gib);
        assert_eq!(requests(1 << 30, 1), [1024]);
        let tib = requests(1 << 40, 4);
        assert_eq!(tib[..1000], [1024; 1000]);
        assert_eq!(tib.len(), 1036);
        assert_eq!(requests(100 << 20, usize::MAX), [32, 32, 32, 4]);
    }
}
