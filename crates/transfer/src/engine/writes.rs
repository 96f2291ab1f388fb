//! From readers to the target: what was read waits here for the threads that write.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    pool::Lease,
    sequence::{Segment, Sequence},
    shared::Shared,
    zeroes,
};
use crate::Error;

/// Bytes that were read.
#[derive(Debug)]
pub(super) struct Filled<'a> {
    /// Where they belong on the disk.
    pub(super) offset: u64,
    /// They are the first of this buffer.
    pub(super) lease: Lease<'a>,
    /// How many they are.
    pub(super) length: usize,
}

impl Filled<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.lease.bytes().get(..self.length).unwrap_or_default()
    }
}

/// Buffers on their way from the readers to the writers, bounded by the pool.
#[derive(Debug)]
pub(super) struct Writes<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<'a> {
    waiting: VecDeque<Filled<'a>>,
    /// Buffers that a writer has taken and not written yet.
    under_way: usize,
    readers: usize,
    closed: bool,
}

/// A reader; the writers end when there is none left.
pub(super) struct Handle<'s, 'a>(&'s Writes<'a>);

impl<'a> Writes<'a> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                under_way: 0,
                readers: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// One more reader.
    pub(super) fn handle(&self) -> Handle<'_, 'a> {
        self.lock().readers += 1;
        Handle(self)
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

    /// Writes what readers hand over until the last of them has ended.
    ///
    /// # Errors
    /// Those of the sink.
    pub(super) fn run(
        &self,
        shared: &Shared<'_>,
        sequence: Option<&Sequence<'a>>,
    ) -> Result<(), Error> {
        while let Some(filled) = self.take() {
            write(shared, filled.bytes(), filled.offset)?;
            if let Some(sequence) = sequence {
                sequence.put(filled.offset, Segment::Data(filled.lease, filled.length));
            } else {
                drop(filled);
            }
            self.lock().under_way -= 1;
            self.changed.notify_all();
        }
        Ok(())
    }

    fn take(&self) -> Option<Filled<'a>> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                !state.closed && state.readers > 0 && state.waiting.is_empty()
            })
            .unwrap_or_else(PoisonError::into_inner);
        let filled = state.waiting.pop_front()?;
        state.under_way += 1;
        Some(filled)
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Handle<'_, 'a> {
    /// Hands bytes over.
    pub(super) fn put(&self, filled: Filled<'a>) {
        let mut state = self.0.lock();
        // No thread takes it any more, so that its buffer goes back at once.
        if state.closed {
            return;
        }
        state.waiting.push_back(filled);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until everything that was handed over is written, or the pass has ended.
    pub(super) fn flush(&self) {
        let _state = self
            .0
            .changed
            .wait_while(self.0.lock(), |state| {
                !state.closed && (state.under_way > 0 || !state.waiting.is_empty())
            })
            .unwrap_or_else(PoisonError::into_inner);
    }
}

impl Drop for Handle<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().readers -= 1;
        self.0.changed.notify_all();
    }
}

/// Writes what is not zero, makes the rest read as zero, and counts both.
///
/// # Errors
/// Those of the sink.
pub(super) fn write(shared: &Shared<'_>, bytes: &[u8], offset: u64) -> Result<(), Error> {
    if shared.options.detect_zeroes {
        zeroes::write_around(shared.sink, bytes, offset, || shared.check())?;
    } else {
        shared.check()?;
        shared.sink.write_at(bytes, offset)?;
    }
    shared.controls.progress.add_data(bytes.len() as u64);
    Ok(())
}
