//! From extents to tasks: what is read with one request, and what is zeroed with one call.
//!
//! Pure, but for the source's answers, which come through a closure: the disk is walked window by
//! window, so that the map of a disk of any size is never held as a whole.

use std::collections::VecDeque;

use crate::{ByteRange, Content, Error, Extent, Kind};

/// Tasks start and end at a multiple of this, or at the end of the disk: two workers never touch
/// the same block of a device, and direct I/O is possible wherever an extent begins.
pub(super) const GRANULE: u64 = 4096;

/// How the disk is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Zero gaps shorter than this between data are read as data: one request more costs the server
    /// and the network more than these bytes.
    pub(super) gap: u64,
    /// How much of the disk the source is asked about at a time; a multiple of [`GRANULE`].
    pub(super) window: u64,
}

/// How long the next task may be: multiples of [`GRANULE`], or [`u64::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Longest {
    /// What is read with one request.
    pub(super) data: u64,
    /// What is zeroed with one call. A stop is noticed between two of them.
    pub(super) zero: u64,
}

/// Walks a disk from its start to its end.
#[derive(Debug)]
pub(super) struct Planner {
    size: u64,
    limits: Limits,
    /// End of the last task.
    position: u64,
    /// The source has been asked about everything below.
    asked: u64,
    /// End of the last extent in `known`, ever.
    cut: u64,
    /// Extents at multiples of [`GRANULE`], neighbours of different content, not yet in a run.
    known: VecDeque<Extent>,
    /// Bytes of one content that the next task is cut from.
    run: Option<Extent>,
}

impl Planner {
    pub(super) const fn new(size: u64, limits: Limits) -> Self {
        Self {
            size,
            limits,
            position: 0,
            asked: 0,
            cut: 0,
            known: VecDeque::new(),
            run: None,
        }
    }

    /// Where the next task begins.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The next task; `None` at the end of the disk. `ask` gives the extents of a range.
    ///
    /// # Errors
    /// What `ask` fails with; the call can be repeated then. [`Kind::Protocol`] when its answer
    /// does not cover exactly the range.
    pub(super) fn next(
        &mut self,
        longest: Longest,
        mut ask: impl FnMut(ByteRange) -> Result<Vec<Extent>, Error>,
    ) -> Result<Option<Extent>, Error> {
        let limit = |content| match content {
            Content::Data => longest.data,
            Content::Zero => longest.zero,
        };
        // A run grows by what is known to follow, until it is long enough or something else
        // follows. Each turn changes `self` in one step, so that nothing is lost when `ask` fails
        // in between.
        loop {
            if let Some(run) = self.run
                && run.range.len() >= limit(run.content)
            {
                return Ok(Some(self.emit(run, limit(run.content))));
            }
            // Asked as late as possible: the source's answer may cost time, and its map memory.
            if self.known.is_empty() && self.asked < self.size {
                self.learn(&mut ask)?;
                continue;
            }
            let Some(run) = self.run else {
                self.run = self.known.pop_front();
                if self.run.is_none() {
                    return Ok(None);
                }
                continue;
            };
            // The run is shorter than a task may be. How many of the known extents continue it: the
            // same content, or a short gap together with the data behind it.
            let joined = match (run.content, self.known.front(), self.known.get(1)) {
                (content, Some(next), _) if next.content == content => 1,
                (Content::Data, Some(gap), _) if gap.range.len() >= self.limits.gap => 0,
                (Content::Data, Some(_), Some(_)) => 2,
                // A short gap at the end of the window: it may go on in the next, or data may
                // follow.
                (Content::Data, Some(_), None) if self.asked < self.size => {
                    self.learn(&mut ask)?;
                    continue;
                }
                _ => 0,
            };
            let last = self.known.drain(..joined).next_back();
            match last {
                Some(last) => {
                    self.run = Some(Extent {
                        range: ByteRange::new(run.range.start(), last.range.end()),
                        content: run.content,
                    });
                }
                None => return Ok(Some(self.emit(run, run.range.len()))),
            }
        }
    }

    /// Cuts a task of `length` bytes off the run.
    fn emit(&mut self, run: Extent, length: u64) -> Extent {
        let middle = run.range.start() + length;
        self.position = middle;
        let rest = ByteRange::new(middle, run.range.end());
        self.run = (!rest.is_empty()).then_some(Extent {
            range: rest,
            content: run.content,
        });
        Extent {
            range: ByteRange::new(run.range.start(), middle),
            content: run.content,
        }
    }

    /// Asks about one more window.
    fn learn(
        &mut self,
        ask: &mut impl FnMut(ByteRange) -> Result<Vec<Extent>, Error>,
    ) -> Result<(), Error> {
        let end = self.asked.saturating_add(self.limits.window).min(self.size);
        let window = ByteRange::new(self.asked, end);
        let extents = ask(window)?;
        check(window, &extents)?;
        self.asked = end;
        for extent in extents {
            self.push(extent);
        }
        Ok(())
    }

    /// Rounds an extent to the granule, in favour of data, and appends it.
    fn push(&mut self, extent: Extent) {
        let end = extent.range.end();
        let end = match extent.content {
            _ if end == self.size => end,
            Content::Data => end
                .checked_next_multiple_of(GRANULE)
                .map_or(self.size, |end| end.min(self.size)),
            Content::Zero => end - end % GRANULE,
        };
        if end <= self.cut {
            return;
        }
        match self.known.back_mut() {
            Some(last) if last.content == extent.content => {
                last.range = ByteRange::new(last.range.start(), end);
            }
            _ => self.known.push_back(Extent {
                range: ByteRange::new(self.cut, end),
                content: extent.content,
            }),
        }
        self.cut = end;
    }
}

/// Refuses extents that do not cover exactly `window`: a byte in none of them would be lost.
fn check(window: ByteRange, extents: &[Extent]) -> Result<(), Error> {
    let refused = |at, found: String| {
        let text = format!("the extents of {window} do not go on at {at}: {found}");
        Err(Error::new(Kind::Protocol, text))
    };
    let mut at = window.start();
    for extent in extents {
        if extent.range.start() != at || extent.range.end() > window.end() {
            return refused(at, format!("the next is {}", extent.range));
        }
        at = extent.range.end();
    }
    if at != window.end() {
        return refused(at, "there are no more".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const K: u64 = 1024;
    const LONGEST: Longest = Longest {
        data: 64 * K,
        zero: 256 * K,
    };
    const LIMITS: Limits = Limits {
        gap: 16 * K,
        window: 128 * K,
    };

    /// Extents from lengths and kinds: `D` data, `Z` zero.
    fn extents(lengths: &[(char, u64)]) -> Vec<Extent> {
        let mut at = 0;
        let extent = |&(kind, length): &(char, u64)| {
            let range = ByteRange::new(at, at + length);
            at = range.end();
            let content = if kind == 'D' {
                Content::Data
            } else {
                Content::Zero
            };
            Extent { range, content }
        };
        lengths.iter().map(extent).collect()
    }

    fn within(extents: &[Extent], range: ByteRange) -> Vec<Extent> {
        let cut = |extent: &Extent| Extent {
            range: extent.range.intersect(range),
            content: extent.content,
        };
        let cut = extents.iter().map(cut);
        cut.filter(|extent| !extent.range.is_empty()).collect()
    }

    fn plan(extents: &[Extent]) -> Vec<Extent> {
        let size = extents.last().map_or(0, |extent| extent.range.end());
        let mut planner = Planner::new(size, LIMITS);
        let mut tasks = Vec::new();
        while let Some(task) = planner
            .next(LONGEST, |range| Ok(within(extents, range)))
            .unwrap()
        {
            tasks.push(task);
        }
        tasks
    }

    #[test]
    fn tasks_of_extents() {
        for (disk, expected) in [
            // Nothing.
            (vec![], vec![]),
            // Data is cut at the limit.
            (
                vec![('D', 150 * K)],
                vec![('D', 64 * K), ('D', 64 * K), ('D', 22 * K)],
            ),
            // Zeroes too, over windows.
            (
                vec![('Z', 600 * K)],
                vec![('Z', 256 * K), ('Z', 256 * K), ('Z', 88 * K)],
            ),
            // A small gap is read, a large one is not.
            (
                vec![
                    ('D', 8 * K),
                    ('Z', 12 * K),
                    ('D', 8 * K),
                    ('Z', 16 * K),
                    ('D', 4 * K),
                ],
                vec![('D', 28 * K), ('Z', 16 * K), ('D', 4 * K)],
            ),
            // A gap at either end is not between data.
            (
                vec![('Z', 4 * K), ('D', 4 * K), ('Z', 4 * K)],
                vec![('Z', 4 * K), ('D', 4 * K), ('Z', 4 * K)],
            ),
            // A small gap over the end of a window, and a large one.
            (
                vec![('D', 124 * K), ('Z', 8 * K), ('D', 4 * K)],
                vec![('D', 64 * K), ('D', 64 * K), ('D', 8 * K)],
            ),
            (
                vec![('D', 124 * K), ('Z', 20 * K), ('D', 4 * K)],
                vec![('D', 64 * K), ('D', 60 * K), ('Z', 20 * K), ('D', 4 * K)],
            ),
            // Joining ends when a task is full.
            (
                vec![('D', 60 * K), ('Z', 4 * K), ('D', 4 * K)],
                vec![('D', 64 * K), ('D', 4 * K)],
            ),
            // Odd borders move in favour of data; the end of the disk stays.
            (
                vec![('Z', 20 * K + 512), ('D', 512), ('Z', 40 * K), ('D', 1000)],
                vec![('Z', 20 * K), ('D', 4 * K), ('Z', 36 * K), ('D', 2024)],
            ),
            (
                vec![('D', 512), ('Z', 30 * K), ('D', 512), ('Z', 30 * K + 3)],
                vec![('D', 4 * K), ('Z', 24 * K), ('D', 4 * K), ('Z', 29 * K + 3)],
            ),
            // Holes below the granule vanish, neighbours of one kind are one.
            (
                vec![
                    ('D', 1),
                    ('Z', 2000),
                    ('D', 1),
                    ('Z', 2000),
                    ('Z', 94),
                    ('D', 4096),
                ],
                vec![('D', 8192)],
            ),
            (
                vec![('Z', 1000), ('Z', 1000), ('Z', 1000)],
                vec![('Z', 3000)],
            ),
        ] {
            assert_eq!(plan(&extents(&disk)), extents(&expected), "{disk:?}");
        }
    }

    #[test]
    fn the_source_is_asked_for_no_more_than_is_needed() {
        let disk = extents(&[('D', 1 << 30)]);
        let mut planner = Planner::new(1 << 30, LIMITS);
        let mut asked = Vec::new();
        for _ in 0..4 {
            let task = planner.next(LONGEST, |range| {
                asked.push(range);
                Ok(within(&disk, range))
            });
            task.unwrap();
        }
        assert_eq!(
            asked,
            [ByteRange::new(0, 128 * K), ByteRange::new(128 * K, 256 * K)]
        );
    }

    #[test]
    fn an_error_of_the_source_loses_nothing() {
        let disk = extents(&[('D', 100 * K), ('Z', 100 * K), ('D', 300 * K)]);
        let mut planner = Planner::new(500 * K, LIMITS);
        let mut tasks = Vec::new();
        let mut healthy = true;
        loop {
            healthy = !healthy;
            let task = planner.next(LONGEST, |range| {
                if healthy {
                    return Ok(within(&disk, range));
                }
                Err(Error::new(Kind::Busy, "later"))
            });
            match task {
                Ok(Some(task)) => tasks.push(task),
                Ok(None) => break,
                Err(error) => assert_eq!(error.kind(), Kind::Busy),
            }
        }
        assert_eq!(tasks, plan(&disk));
    }

    #[test]
    fn extents_that_do_not_cover_the_window_are_refused() {
        for lies in [
            vec![],
            extents(&[('D', 4 * K)]),
            extents(&[('D', 12 * K)]),
            vec![Extent {
                range: ByteRange::new(K, 8 * K),
                content: Content::Data,
            }],
            [extents(&[('D', 4 * K)]), extents(&[('D', 8 * K)])].concat(),
        ] {
            let mut planner = Planner::new(8 * K, LIMITS);
            let error = planner.next(LONGEST, |_| Ok(lies.clone())).unwrap_err();
            assert_eq!(error.kind(), Kind::Protocol, "{lies:?}");
        }
    }

    proptest! {
        #[test]
        fn tasks_cover_the_disk_and_lose_no_data(
            disk in prop::collection::vec((prop::sample::select(vec!['D', 'Z']), 1..200 * K), 0..40),
        ) {
            let disk = extents(&disk);
            let tasks = plan(&disk);
            let mut at = 0;
            let end = disk.last().map_or(0, |extent| extent.range.end());
            for task in &tasks {
                prop_assert_eq!(task.range.start(), at);
                prop_assert!(!task.range.is_empty());
                prop_assert!(task.range.end() % GRANULE == 0 || task.range.end() == end);
                at = task.range.end();
                let longest = if task.content == Content::Data { LONGEST.data } else { LONGEST.zero };
                prop_assert!(task.range.len() <= longest);
                if task.content == Content::Zero {
                    let known = within(&disk, task.range);
                    prop_assert!(known.iter().all(|extent| extent.content == Content::Zero));
                }
            }
            prop_assert_eq!(at, end);
        }
    }
}
