//! Hands out tasks in order of offset.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use super::{
    HASHED_TASK, PLAIN_TASKS, ZERO_TASK,
    plan::{Limits, Planner},
    pool::{BUFFER, Pool},
    retry_budget::cancelled,
    shared::Shared,
};
use crate::{ByteRange, Content, Error, Extent, extent::READ_ALONG};

/// How much of the disk the source is asked about at a time. The map of a window is at most a MiB,
/// even when every other block is a hole.
const WINDOW: u64 = 128 << 20;

/// The workers' common position on the disk.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    shared: &'a Shared<'a>,
    pool: &'a Pool,
    hashing: bool,
    planner: Mutex<Planner>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        pool: &'a Pool,
        hashing: bool,
        workers: NonZeroUsize,
    ) -> Self {
        let limits = Limits {
            data: match (shared.is_ordered, hashing) {
                (true, _) => u64::MAX,
                (false, true) => HASHED_TASK,
                (false, false) => plain_task(shared.source.size(), workers),
            },
            zero: ZERO_TASK,
            gap: READ_ALONG,
            window: WINDOW,
        };
        Self {
            shared,
            pool,
            hashing,
            planner: Mutex::new(Planner::new(shared.source.size(), limits)),
        }
    }

    /// The next task, with all the buffers reserved that it will hold at a time; `None` at the end
    /// of the disk. Blocks until there is memory for it: workers that come later wait at the lock,
    /// so that no later task gets the buffers that an earlier one needs.
    ///
    /// # Errors
    /// Those of [`crate::Source::extents`]; the same task can be asked for again.
    pub(super) fn next(&self) -> Result<Option<Extent>, Error> {
        let mut planner = self.planner.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.check()?;
        let Some(task) = planner.next(|range| self.extents(range))? else {
            return Ok(None);
        };
        if !self.pool.reserve(self.cost(task)) {
            return Err(cancelled());
        }
        Ok(Some(task))
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

    /// Buffers that a task needs before the first of them can come back. The worker of an ordered
    /// source is alone and reserves one at a time; without a digest a worker keeps one for itself.
    fn cost(&self, task: Extent) -> usize {
        match task.content {
            Content::Data if self.hashing && !self.shared.is_ordered => {
                usize::try_from(task.range.len().div_ceil(BUFFER as u64)).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }
}

/// The longest range of one request on a disk of `size` bytes: every worker gets several, so that
/// none is alone at work for long in the end.
fn plain_task(size: u64, workers: NonZeroUsize) -> u64 {
    const OF_EACH_WORKER: u64 = 8;
    let even = size / (workers.get() as u64).saturating_mul(OF_EACH_WORKER);
    // Whole buffers, whole pieces in the search for zeroes.
    even.next_multiple_of(BUFFER as u64)
        .clamp(*PLAIN_TASKS.start(), *PLAIN_TASKS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_grow_with_the_disk_between_two_bounds() {
        const MIB: u64 = 1 << 20;
        for (size, workers, expected) in [
            (0, 4, 8),
            (100 * MIB, 1, 13),
            (256 * MIB, 4, 8),
            (1 << 30, 4, 32),
            ((1 << 30) + 32, 4, 33),
            (1 << 30, 1, 64),
            (1 << 50, 4, 64),
            (1 << 30, usize::MAX, 8),
        ] {
            let workers = NonZeroUsize::new(workers).unwrap();
            assert_eq!(
                plain_task(size, workers),
                expected * MIB,
                "{size} {workers}"
            );
        }
    }
}
