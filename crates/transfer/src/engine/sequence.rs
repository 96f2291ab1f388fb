//! Back into order: workers finish segments in any order, the digest takes them by offset.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::pool::Lease;

/// A part of the disk on its way to the digest.
#[derive(Debug)]
pub(super) enum Segment<'a> {
    /// The first bytes of this buffer.
    Data(Lease<'a>, usize),
    /// So many zeroes.
    Zero(u64),
}

/// Segments that wait for those before them.
///
/// What it holds is bounded: data by the pool's buffers, and zeroes because neighbours are merged,
/// so that there is at most one entry of them between two of data.
#[derive(Debug, Default)]
pub(super) struct Sequence<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State<'a> {
    waiting: BTreeMap<u64, Segment<'a>>,
    closed: bool,
}

impl<'a> Sequence<'a> {
    /// Hands over the segment that starts at `offset`.
    pub(super) fn put(&self, offset: u64, segment: Segment<'a>) {
        let mut state = self.lock();
        // No thread takes it any more, so that its buffer goes back at once.
        if state.closed {
            return;
        }
        match segment {
            Segment::Data(..) => {
                state.waiting.insert(offset, segment);
            }
            Segment::Zero(length) => state.put_zero(offset, length),
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Takes the segment that starts at `offset`, and waits for it if need be. `None` when closed.
    pub(super) fn take(&self, offset: u64) -> Option<Segment<'a>> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                !state.closed && !state.waiting.contains_key(&offset)
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        state.waiting.remove(&offset)
    }

    /// Ends all waiting, now and later, and drops what is there.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State<'_> {
    fn put_zero(&mut self, offset: u64, length: u64) {
        let (mut start, mut end) = (offset, offset.saturating_add(length));
        if let Some((&before, Segment::Zero(other))) = self.waiting.range(..start).next_back()
            && before.saturating_add(*other) == start
        {
            start = before;
        }
        if let Some(Segment::Zero(other)) = self.waiting.get(&end) {
            let after = end;
            end = end.saturating_add(*other);
            self.waiting.remove(&after);
        }
        self.waiting.insert(start, Segment::Zero(end - start));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pool::Pool, *};

    #[test]
    fn neighbouring_zeroes_become_one_entry() {
        let sequence = Sequence::default();
        for start in [2, 0, 1, 5, 4, 3] {
            sequence.put(start * 10, Segment::Zero(10));
        }
        assert_eq!(sequence.lock().waiting.len(), 1);
        assert!(matches!(sequence.take(0), Some(Segment::Zero(60))));
    }

    #[test]
    fn segments_are_taken_by_offset_whatever_the_order_they_came_in() {
        let pool = Pool::new(2);
        let sequence = Sequence::default();
        sequence.put(7, Segment::Zero(1));
        sequence.put(4, Segment::Data(pool.lend(), 3));
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| matches!(sequence.take(0), Some(Segment::Data(_, 4))));
            sequence.put(0, Segment::Data(pool.lend(), 4));
            assert!(taker.join().unwrap());
        });
        assert!(matches!(sequence.take(4), Some(Segment::Data(_, 3))));
        assert!(matches!(sequence.take(7), Some(Segment::Zero(1))));
    }

    #[test]
    fn closing_ends_the_wait_and_gives_buffers_back() {
        let pool = Pool::new(1);
        let sequence = Sequence::default();
        sequence.put(8, Segment::Data(pool.lend(), 1));
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| sequence.take(0).is_none());
            sequence.close();
            assert!(taker.join().unwrap());
        });
        sequence.put(0, Segment::Data(pool.lend(), 1));
        drop(pool.lend());
    }
}
