//! The engine's memory: a fixed number of buffers, aligned for direct I/O.

use std::{
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Bytes in a buffer: direct I/O is at its best from 1 MiB on.
pub(super) const BUFFER: usize = 1 << 20;

/// Alignment of a buffer in memory: enough for direct I/O on any device.
const ALIGNMENT: usize = 4096;

/// Buffers, made when first needed, at most `capacity` of them.
///
/// A thread that will need several buffers reserves them all first and takes them later, which
/// never blocks: so no thread waits for a buffer while it holds another.
#[derive(Debug)]
pub(super) struct Pool {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Memory>,
    made: usize,
    reserved: usize,
    closed: bool,
}

/// A buffer on loan; goes back to the pool, with its reservation, when dropped.
pub(super) struct Lease<'a> {
    memory: Memory,
    pool: &'a Pool,
}

/// One allocation, larger than needed, so that an aligned part of it can be used.
struct Memory {
    bytes: Vec<u8>,
    start: usize,
}

impl Pool {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Blocks until `count` buffers are free and keeps them for the caller. False when the pool was
    /// closed.
    #[must_use]
    pub(super) fn reserve(&self, count: usize) -> bool {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                !state.closed && state.reserved + count > self.capacity
            })
            .unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.reserved += count;
        }
        !state.closed
    }

    /// One of the buffers that the caller has reserved. Its content is arbitrary.
    pub(super) fn take(&self) -> Lease<'_> {
        let mut state = self.lock();
        let memory = state.free.pop();
        if memory.is_none() {
            state.made += 1;
        }
        drop(state);
        Lease {
            memory: memory.unwrap_or_else(Memory::new),
            pool: self,
        }
    }

    /// Ends all waiting, now and later.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Memory of all buffers that were made, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.lock().made * (BUFFER + ALIGNMENT)) as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.bytes.get(self.memory.start..).unwrap_or(&[])
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.memory.start;
        self.memory.bytes.get_mut(start..).unwrap_or(&mut [])
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state
            .free
            .push(std::mem::replace(&mut self.memory, Memory::none()));
        state.reserved = state.reserved.saturating_sub(1);
        drop(state);
        self.pool.changed.notify_all();
    }
}

impl fmt::Debug for Lease<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl Memory {
    const fn none() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
        }
    }

    fn new() -> Self {
        let mut bytes = vec![0; BUFFER + ALIGNMENT];
        // The vector is never resized, so the address stays.
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        bytes.truncate(start + BUFFER);
        Self { bytes, start }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_used_again() {
        let pool = Pool::new(2);
        assert!(pool.reserve(2));
        for _ in 0..3 {
            let mut lease = pool.take();
            assert_eq!(lease.bytes().len(), BUFFER);
            assert_eq!(lease.bytes().as_ptr().addr() % ALIGNMENT, 0);
            lease.bytes_mut()[BUFFER - 1] = 1;
        }
        assert_eq!(pool.bytes(), (BUFFER + ALIGNMENT) as u64);
    }

    #[test]
    fn a_reservation_waits_for_a_buffer_that_comes_back() {
        let pool = Pool::new(2);
        assert!(pool.reserve(1));
        let lease = pool.take();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.reserve(2));
            drop(lease);
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn closing_ends_the_wait() {
        let pool = Pool::new(1);
        assert!(pool.reserve(1));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.reserve(1));
            pool.close();
            assert!(!waiter.join().unwrap());
        });
    }
}
