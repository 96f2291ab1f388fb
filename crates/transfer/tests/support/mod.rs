//! Clocks that tests move, and what most copies of the tests have in common.

#![allow(dead_code, reason = "a test file uses a part of it")]

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use net::{Cancel, Clock};
use transfer::{Controls, Error, Options, Progress, Report, Sink, Source, copy};

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
}

impl Still {
    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        let end = self.now().saturating_add(period);
        while self.now() < end {
            if cancel.wait(Duration::from_millis(1)) {
                return true;
            }
        }
        cancel.is_cancelled()
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
