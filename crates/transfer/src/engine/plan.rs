//! From extents to tasks: what is read with one request, and what is zeroed with one call.
//!
//! Pure but for the question it is given: the disk is walked window by window, so that the map of a
//! disk of any size is never held as a whole.

use std::collections::VecDeque;

use crate::{ByteRange, Content, Error, Extent, Kind};

/// Tasks start and end at a multiple of this, or at the end of the disk: two workers never touch the
/// same block of a device, and direct I/O is possible wherever an extent begins.
pub(super) const GRANULE: u64 = 4096;

/// How the disk is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Longest range that is read with one request; a multiple of [`GRANULE`].
    pub(super) data: u64,
    /// Longest range that is zeroed with one call; a multiple of [`GRANULE`]. A stop is noticed
    /// between two of them.
    pub(super) zero: u64,
    /// Zero gaps shorter than this between data are read as data: one request more costs the server
    /// and the network more than these bytes.
    pub(super) gap: u64,
    /// How much of the disk the source is asked about at a time; a multiple of [`GRANULE`].
    pub(super) window: u64,
}

/// Walks a disk from its start to its end.
#[derive(Debug)]
pub(super) struct Planner {
    size: u64,
    limits: Limits,
    /// The source has been asked about everything below.
    asked: u64,
    /// End of the last extent in `known`, ever.
    cut: u64,
    /// Extents at multiples of [`GRANULE`], neighbours of different content, not yet looked at.
    known: VecDeque<Extent>,
    /// What the next task is cut from.
    run: Option<Extent>,
}

impl Planner {
    pub(super) const fn new(size: u64, limits: Limits) -> Self {
        Self {
            size,
            limits,
            asked: 0,
            cut: 0,
            known: VecDeque::new(),
            run: None,
        }
    }

    /// The next task; `None` at the end of the disk. `ask` gives the extents of a range.
    ///
    /// # Errors
    /// What `ask` fails with; the call can be repeated then. [`Kind::Protocol`] when its answer does
    /// not cover exactly the range.
    pub(super) fn next(
        &mut self,
        mut ask: impl FnMut(ByteRange) -> Result<Vec<Extent>, Error>,
    ) -> Result<Option<Extent>, Error> {
        loop {
            if self.known.is_empty() && self.asked < self.size {
                self.learn(&mut ask)?;
                continue;
            }
            let Some(run) = self.run.or_else(|| self.known.pop_front()) else {
                return Ok(None);
            };
            self.run = Some(run);
            let limit = match run.content {
                Content::Data => self.limits.data,
                Content::Zero => self.limits.zero,
            };
            if run.range.len() >= limit {
                return Ok(Some(self.emit(run, limit)));
            }
            let joined = match (run.content, self.known.front(), self.known.get(1)) {
                (content, Some(next), _) if next.content == content => 1,
                (Content::Data, Some(gap), _) if gap.range.len() >= self.limits.gap => 0,
                (Content::Data, Some(_), Some(_)) => 2,
                // The gap may go on in the next window, or data may follow.
                (Content::Data, Some(_), None) if self.asked < self.size => {
                    self.learn(&mut ask)?;
                    continue;
                }
                _ => 0,
            };
            match self.known.drain(..joined).last() {
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

/// Refuses extents that do not cover exactly `window`: a byte that nobody spoke of would be lost.
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
