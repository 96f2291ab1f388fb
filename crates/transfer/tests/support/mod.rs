//! Clocks that tests move, sinks that call back, and what most copies of the tests have in common.

#![allow(dead_code, reason = "a test file uses a part of it")]

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use net::{Cancel, Clock};
use transfer::{
    ByteRange, Controls, Error, Options, Progress, Report, Sink, Source, copy,
    sink::{MemorySink, SinkOperation},
};

/// Longer waits than this are not leapt over: they mean "never".
const NEVER: Duration = Duration::from_hours(24);

/// A clock on which every wait is over at once, and the time has passed.
#[derive(Debug, Default)]
pub(crate) struct Leap {
    millis: AtomicU64,
    waits: Mutex<Vec<Duration>>,
}

impl Leap {
    /// The waits so far.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for Leap {
    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        if period > NEVER {
            return cancel.wait(period);
        }
        self.waits.lock().unwrap().push(period);
        self.pass(period);
        cancel.is_cancelled()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct Still {
    millis: AtomicU64,
    looks: AtomicU64,
    waits: AtomicU64,
}

impl Still {
    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Waits until so many threads wait for it to move. Those that begin later wait from where it stands then.
    pub(crate) fn wait_for_waits(&self, number: u64) {
        until("wait", || self.waits.load(Ordering::SeqCst) == number);
    }

    /// Waits until it was read often enough to have done what the present time asks
    /// for: a wait looks at it once for each of its steps, and twice around what follows it.
    pub(crate) fn wait_for_looks(&self) {
        let enough = self.looks.load(Ordering::SeqCst) + 6;
        until("a look at the clock", || {
            self.looks.load(Ordering::SeqCst) >= enough
        });
    }
}

impl Clock for Still {
    fn now(&self) -> Duration {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        let end = self.now().saturating_add(period);
        self.waits.fetch_add(1, Ordering::SeqCst);
        while self.now() < end && !cancel.wait(Duration::from_millis(1)) {}
        self.waits.fetch_sub(1, Ordering::SeqCst);
        cancel.is_cancelled()
    }
}

/// Waits until `done`; ends the program when nothing can come any more: a panic would wait for the
/// threads of the test, which wait for what does not come.
#[allow(clippy::print_stderr, reason = "the last word before the end")]
pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > testkit::DEADLINE {
            let test = thread::current().name().unwrap_or_default().to_owned();
            eprintln!("{test}: no {what}");
            std::process::abort();
        }
        thread::yield_now();
    }
}

/// A sink in memory that calls back before each operation.
pub(crate) struct Hooked<F>(pub(crate) MemorySink, pub(crate) F);

impl<F> fmt::Debug for Hooked<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<F: Fn(SinkOperation) + Send + Sync> Sink for Hooked<F> {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn prepare(&self, size: u64) -> Result<(), Error> {
        (self.1)(SinkOperation::Prepare);
        self.0.prepare(size)
    }

    fn resize(&self, size: u64) -> Result<(), Error> {
        (self.1)(SinkOperation::Prepare);
        self.0.resize(size)
    }

    fn is_blank(&self) -> bool {
        self.0.is_blank()
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        (self.1)(SinkOperation::Write);
        self.0.write_at(buf, offset)
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        (self.1)(SinkOperation::Zero);
        self.0.zero(range)
    }

    fn sync(&self) -> Result<(), Error> {
        (self.1)(SinkOperation::Sync);
        self.0.sync()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        (self.1)(SinkOperation::Close);
        Box::new(self.0).close()
    }
}

/// Options of a test: so many connections, and no signs of life.
pub(crate) fn options(connections: usize) -> Options {
    Options {
        connections: NonZeroUsize::new(connections).unwrap(),
        keep_alive: Duration::MAX,
        ..Options::default()
    }
}

/// Most buffers of a copy with so many connections.
pub(crate) fn buffers(connections: usize, hashing: bool) -> u64 {
    let connections = connections as u64;
    match (connections, hashing) {
        (1, _) => 4,
        (_, false) => connections,
        (_, true) => (4 * connections).min(16).max(2 * (connections + 1)),
    }
}

/// Controls with this clock.
pub(crate) fn controls(clock: Arc<dyn Clock>) -> Controls {
    Controls {
        clock,
        cancel: Cancel::new(),
        seed: 7,
        progress: Arc::new(Progress::new()),
    }
}

/// Copies on a leaping clock.
pub(crate) fn run(
    source: &dyn Source,
    sink: &dyn Sink,
    options: &Options,
) -> Result<Report, Error> {
    copy(source, sink, options, &controls(Arc::new(Leap::default())))
}
