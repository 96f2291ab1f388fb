//! The engine's memory: a fixed number of buffers, aligned for direct I/O, and who gets one.
//!
//! Without a digest, a thread waits until one is free. With a digest, buffers come back in order of
//! offset only, so they are given in this order too:
//!
//! * The *frontier* is the offset that the digest waits for. Its *owner* is the worker whose task
//!   contains it.
//! * The owner gets every buffer that is free.
//! * Any other worker gets one for an offset inside of a window beyond the frontier, as long as
//!   [`RESERVE`] buffers are free beside it. The window is as long as all buffers but these.
//!
//! # Why the owner always gets one
//! Buffers of the others never are more than `capacity - RESERVE`. What the owner got beyond that
//! lies in its task, so all of it was hashed and has come back when the frontier leaves the task. Hence
//! an owner that asks for the buffer at the frontier finds one, and one that asks for a later buffer
//! waits for the digest alone, which has all bytes up to there.
//!
//! # Why servers with few slots hold no worker up
//! A server may answer fewer requests at a time than there are connections. If it answered a later
//! task first, whose worker got no buffer, it would never answer the owner. So a worker sends its
//! request only when the answers to all earlier tasks have begun, or when all of its own task fits
//! into the window ([`Pool::ask`]); and when an earlier task loses its answer, those behind it that wait for
//! a buffer give up theirs ([`Acquired::GiveUp`]).

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    buffer::{ALIGNMENT, BUFFER, Memory},
    pace::{Pace, Step},
};
use crate::ByteRange;

/// Buffers that only the owner of the frontier gets: it fills one while the other is written.
const RESERVE: usize = 2;

/// Buffers, made when first needed, at most `capacity` of them.
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
    lent: usize,
    order: Option<Order>,
    closed: bool,
}

/// What a pool with a digest knows of the pass.
#[derive(Debug)]
struct Order {
    /// The offset that the digest waits for.
    frontier: u64,
    window: u64,
    /// Starts of the tasks that were handed out and have no answer.
    unanswered: BTreeSet<u64>,
    pace: Pace,
}

/// What a buffer is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    /// The task.
    pub(super) task: ByteRange,
    /// The first byte that the buffer is to hold.
    pub(super) offset: u64,
    /// Whether the server is sending an answer meanwhile.
    pub(super) holds_answer: bool,
}

/// What became of the wait for a buffer.
#[derive(Debug)]
pub(super) enum Acquired<'a> {
    /// A buffer, whose content is arbitrary.
    Lease(Lease<'a>),
    /// The worker has to give up its answer first, since an earlier task has none.
    GiveUp,
    /// The pool was closed.
    Closed,
}

/// A buffer on loan; goes back to the pool when dropped.
pub(super) struct Lease<'a> {
    memory: Memory,
    pool: &'a Pool,
}

impl Pool {
    /// A pool whose buffers are given to whoever comes.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// A pool whose buffers come back in order of offset, for so many workers.
    pub(super) fn in_order(capacity: usize, workers: usize) -> Self {
        let capacity = capacity.max(RESERVE + 1);
        let window = ((capacity - RESERVE) * BUFFER) as u64;
        let mut pool = Self::new(capacity);
        let order = Order {
            frontier: 0,
            window,
            unanswered: BTreeSet::new(),
            pace: Pace::new(window, workers as u64),
        };
        pool.state
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .order = Some(order);
        pool
    }

    /// Waits until there is a buffer for this purpose.
    pub(super) fn acquire(&self, purpose: Purpose) -> Acquired<'_> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Acquired::Closed;
            }
            if state.admits(&purpose, self.capacity) {
                state.lent += 1;
                let memory = state.free.pop();
                if memory.is_none() {
                    state.made += 1;
                }
                drop(state);
                return Acquired::Lease(Lease {
                    memory: memory.unwrap_or_else(Memory::new),
                    pool: self,
                });
            }
            if purpose.holds_answer && state.has_unanswered_before(purpose.task) {
                return Acquired::GiveUp;
            }
            state = self.wait(state);
        }
    }

    /// Waits until the digest is near enough to `position` for the next task to begin there, and gives
    /// the length that it should have. `None` when the pool was closed.
    pub(super) fn next_task(&self, position: u64) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let Some(order) = &mut state.order else {
                return Some(u64::MAX);
            };
            if let Some(length) = order.next_length(position) {
                return Some(length);
            }
            state = self.wait(state);
        }
    }

    /// A task of data has no answer: it was handed out just now, or its answer was lost.
    pub(super) fn unanswered(&self, task: ByteRange) {
        if let Some(order) = &mut self.lock().order {
            order.unanswered.insert(task.start());
        }
        self.changed.notify_all();
    }

    /// Waits until the request for a task may be sent. False when the pool was closed.
    #[must_use]
    pub(super) fn ask(&self, task: ByteRange) -> bool {
        let mut state = self.lock();
        while !state.closed && !state.may_ask(task) {
            state = self.wait(state);
        }
        !state.closed
    }

    /// The answer to a task has begun.
    pub(super) fn answered(&self, task: ByteRange) {
        if let Some(order) = &mut self.lock().order {
            order.unanswered.remove(&task.start());
        }
        self.changed.notify_all();
    }

    /// The digest has come to `frontier`, by `bytes` of data, if any, for which it has `waited` and then
    /// worked.
    pub(super) fn hashed(&self, frontier: u64, bytes: u64, waited: Duration, busy: Duration) {
        let mut state = self.lock();
        let held = (state.lent * BUFFER) as u64;
        if let Some(order) = &mut state.order {
            order.frontier = frontier;
            order.pace.hashed(Step {
                frontier,
                bytes,
                held,
                waited,
                busy,
            });
        }
        drop(state);
        self.changed.notify_all();
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

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admits(&self, purpose: &Purpose, capacity: usize) -> bool {
        let Some(order) = &self.order else {
            return self.lent < capacity;
        };
        if order.owns_frontier(purpose.task) {
            return self.lent < capacity;
        }
        self.lent + RESERVE < capacity && order.has_in_window(purpose.offset)
    }

    fn may_ask(&self, task: ByteRange) -> bool {
        self.order.as_ref().is_none_or(|order| {
            order.owns_frontier(task) || order.has_in_window(task.end().saturating_sub(1))
        }) || !self.has_unanswered_before(task)
    }

    fn has_unanswered_before(&self, task: ByteRange) -> bool {
        self.order
            .as_ref()
            .and_then(|order| order.unanswered.first())
            .is_some_and(|first| *first < task.start())
    }
}

impl Order {
    /// Tasks of workers lie at or beyond the frontier, so its owner is the first of them.
    const fn owns_frontier(&self, task: ByteRange) -> bool {
        task.start() <= self.frontier
    }

    const fn has_in_window(&self, offset: u64) -> bool {
        offset < self.frontier.saturating_add(self.window)
    }

    /// Length of the task that begins at `position`, if the digest is near enough.
    fn next_length(&mut self, position: u64) -> Option<u64> {
        let reach = self.window.saturating_add(self.pace.lead());
        let is_near = position < self.frontier.saturating_add(reach);
        is_near.then(|| self.pace.next_length(position))
    }
}

impl Lease<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.aligned()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.aligned_mut()
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state
            .free
            .push(std::mem::replace(&mut self.memory, Memory::none()));
        state.lent = state.lent.saturating_sub(1);
        drop(state);
        self.pool.changed.notify_all();
    }
}

impl fmt::Debug for Lease<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Pool {
    /// A buffer for a test that does not care what for.
    pub(super) fn lend(&self) -> Lease<'_> {
        let purpose = Purpose {
            task: ByteRange::new(0, u64::MAX),
            offset: 0,
            holds_answer: false,
        };
        match self.acquire(purpose) {
            Acquired::Lease(lease) => lease,
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const MIB: u64 = BUFFER as u64;

    fn mib(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start * MIB, end * MIB)
    }

    /// For the buffer at this MiB of a task that has an answer.
    fn purpose(task: ByteRange, offset: u64) -> Purpose {
        Purpose {
            task,
            offset: offset * MIB,
            holds_answer: true,
        }
    }

    fn lease(pool: &Pool, task: ByteRange, offset: u64) -> Lease<'_> {
        match pool.acquire(purpose(task, offset)) {
            Acquired::Lease(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    fn admits(pool: &Pool, task: ByteRange, offset: u64) -> bool {
        let purpose = purpose(task, offset);
        pool.lock().admits(&purpose, pool.capacity)
    }

    fn hashed(pool: &Pool, frontier: u64) {
        pool.hashed(frontier * MIB, MIB, Duration::ZERO, Duration::ZERO);
    }

    #[test]
    fn buffers_are_aligned_and_used_again() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            let mut lease = lease(&pool, mib(0, 9), 0);
            assert_eq!(lease.bytes().len(), BUFFER);
            assert_eq!(lease.bytes().as_ptr().addr() % ALIGNMENT, 0);
            lease.bytes_mut()[BUFFER - 1] = 1;
        }
        assert_eq!(pool.bytes(), (BUFFER + ALIGNMENT) as u64);
    }

    #[test]
    fn who_waits_gets_the_buffer_that_comes_back() {
        let pool = Pool::new(1);
        let first = lease(&pool, mib(0, 9), 0);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| drop(lease(&pool, mib(0, 9), 1)));
            drop(first);
            waiter.join().unwrap();
        });
    }

    #[test]
    fn closing_ends_every_wait() {
        let pool = Pool::in_order(3, 2);
        pool.unanswered(mib(0, 9));
        pool.unanswered(mib(9, 18));
        thread::scope(|scope| {
            let acquiring = scope.spawn(|| {
                let mut purpose = purpose(mib(9, 18), 9);
                purpose.holds_answer = false;
                matches!(pool.acquire(purpose), Acquired::Closed)
            });
            let asking = scope.spawn(|| !pool.ask(mib(9, 18)));
            let beginning = scope.spawn(|| pool.next_task(100 * MIB).is_none());
            pool.close();
            assert!(acquiring.join().unwrap() && asking.join().unwrap());
            assert!(beginning.join().unwrap());
        });
    }

    #[test]
    fn buffers_beyond_the_window_or_in_the_reserve_are_the_owners() {
        let pool = Pool::in_order(5, 2);
        let (owner, other) = (mib(0, 2), mib(2, 90));
        // The window is 3 MiB.
        assert!(admits(&pool, other, 2) && !admits(&pool, other, 3));
        let _others = [lease(&pool, other, 2), lease(&pool, other, 2)];
        let third = lease(&pool, owner, 0);
        assert!(!admits(&pool, other, 2) && admits(&pool, owner, 1));
        let fourth = lease(&pool, owner, 1);
        let fifth = lease(&pool, owner, 1);
        assert!(!admits(&pool, owner, 1));
        drop([third, fourth, fifth]);
        hashed(&pool, 2);
        assert!(admits(&pool, other, 80), "it owns the frontier now");
    }

    #[test]
    fn requests_are_sent_in_order_unless_their_task_fits_into_the_window() {
        let pool = Pool::in_order(6, 3);
        let tasks = [mib(0, 2), mib(2, 4), mib(4, 9)];
        for task in tasks {
            pool.unanswered(task);
        }
        let may_ask = || tasks.map(|task| pool.lock().may_ask(task));
        // The window is 4 MiB.
        assert_eq!(may_ask(), [true, true, false]);
        pool.answered(tasks[1]);
        assert_eq!(may_ask(), [true, true, false]);
        pool.answered(tasks[0]);
        assert_eq!(may_ask(), [true, true, true]);
        pool.unanswered(tasks[0]);
        assert_eq!(may_ask(), [true, true, false]);
        hashed(&pool, 5);
        assert_eq!(may_ask(), [true, true, true]);
    }

    #[test]
    fn who_waits_behind_a_task_that_has_lost_its_answer_gives_up_its_own() {
        let pool = Pool::in_order(3, 2);
        let (owner, other) = (mib(0, 9), mib(9, 18));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.acquire(purpose(other, 9)));
            pool.unanswered(owner);
            assert!(matches!(waiter.join().unwrap(), Acquired::GiveUp));
        });
        // Its own loss is none of its business.
        pool.answered(owner);
        pool.unanswered(other);
        assert!(!pool.lock().has_unanswered_before(other));
    }

    #[test]
    fn a_task_is_handed_out_when_the_digest_is_near() {
        let pool = Pool::in_order(16, 4);
        assert_eq!(pool.next_task(0), Some(32 * MIB));
        thread::scope(|scope| {
            let second = scope.spawn(|| pool.next_task(32 * MIB));
            hashed(&pool, 18);
            hashed(&pool, 19);
            assert!(second.join().unwrap().is_some());
        });
    }
}
