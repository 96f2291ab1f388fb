//! A pass ends, whatever the extents, the buffers, the connections and the server's slots.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, mpsc},
    time::Duration,
};

use net::{Cancel, Clock};
use proptest::prelude::*;

use super::*;
use crate::{
    Access, ByteRange, Content, Controls, Extent, Options, Progress, Reader, Sink, Source,
    engine::activity::Activity,
    sink::MemorySink,
    source::{MemorySource, SourceCall},
};

const UNIT: usize = 64 << 10;

/// A clock on which every wait is over at once.
#[derive(Debug)]
struct Leap;

impl Clock for Leap {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wait(&self, _period: Duration, cancel: &Cancel) -> bool {
        cancel.is_cancelled()
    }
}

/// A server that answers a few requests at a time, whatever the number of connections, and that breaks
/// connections.
struct Narrow {
    content: Vec<u8>,
    extents: Vec<Extent>,
    free: Mutex<usize>,
    /// Offsets whose byte does not come when it is due first.
    breaks: Mutex<BTreeSet<usize>>,
    requests: Mutex<usize>,
}

impl Narrow {
    /// Runs of data and holes in turns, of so many units.
    fn new(runs: &[usize], slots: usize, breaks: &[usize]) -> Self {
        let (mut content, mut extents) = (Vec::new(), Vec::new());
        for (index, units) in runs.iter().enumerate() {
            let start = content.len();
            let (byte, kind) = if index % 2 == 0 {
                (u8::try_from(index % 255).unwrap() + 1, Content::Data)
            } else {
                (0, Content::Zero)
            };
            content.resize(start + units * UNIT, byte);
            extents.push(Extent {
                range: ByteRange::new(start as u64, content.len() as u64),
                content: kind,
            });
        }
        let breaks = breaks.iter().map(|at| content.len() * at / 1000).collect();
        Self {
            content,
            extents,
            free: Mutex::new(slots),
            breaks: Mutex::new(breaks),
            requests: Mutex::new(0),
        }
    }
}

impl Source for Narrow {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn access(&self) -> Access {
        Access::Ranged {
            connections: NonZeroUsize::MAX,
        }
    }

    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        let cut = self.extents.iter().map(|extent| Extent {
            range: extent.range.intersect(range),
            content: extent.content,
        });
        Ok(cut.filter(|extent| !extent.range.is_empty()).collect())
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        Ok(Box::new(NarrowReader {
            source: self,
            cancel: cancel.clone(),
            left: 0..0,
            has_slot: false,
        }))
    }
}

struct NarrowReader<'a> {
    source: &'a Narrow,
    cancel: Cancel,
    left: std::ops::Range<usize>,
    has_slot: bool,
}

impl NarrowReader<'_> {
    fn give_slot_back(&mut self) {
        if std::mem::take(&mut self.has_slot) {
            *self.source.free.lock().unwrap() += 1;
        }
    }
}

impl Reader for NarrowReader<'_> {
    fn begin(&mut self, range: ByteRange) -> Result<(), Error> {
        self.give_slot_back();
        loop {
            let mut free = self.source.free.lock().unwrap();
            if *free > 0 {
                *free -= 1;
                break;
            }
            drop(free);
            if self.cancel.wait(Duration::from_millis(1)) {
                return Err(Error::new(Kind::Cancelled, "cancelled"));
            }
        }
        self.has_slot = true;
        *self.source.requests.lock().unwrap() += 1;
        let index = |at| usize::try_from(at).unwrap();
        self.left = index(range.start())..index(range.end());
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        assert!(self.has_slot && buf.len() <= self.left.len());
        let wanted = self.left.start..self.left.start + buf.len();
        let mut breaks = self.source.breaks.lock().unwrap();
        let broken = breaks.range(wanted.clone()).next().copied();
        if let Some(at) = broken {
            breaks.remove(&at);
        }
        drop(breaks);
        let end = broken.unwrap_or(wanted.end);
        let length = end - wanted.start;
        buf[..length].copy_from_slice(&self.source.content[wanted.start..end]);
        self.left.start = end;
        if broken.is_some() || self.left.is_empty() {
            self.give_slot_back();
        }
        match broken {
            Some(_) => Err((length, Error::new(Kind::Network, "broken"))),
            None => Ok(()),
        }
    }
}

impl Drop for NarrowReader<'_> {
    fn drop(&mut self) {
        self.give_slot_back();
    }
}

impl fmt::Debug for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.extents)
    }
}

#[allow(clippy::print_stderr, reason = "the last word before the end")]
/// Copies with so many workers and buffers, and checks the target, the digest and the bounds.
fn check(source: &Narrow, workers: usize, buffers: usize) {
    let digest = Digest::of(Algorithm::Sha256, &source.content);
    let options = Options {
        verification: Verification::Stated(digest.clone()),
        ..Options::default()
    };
    let controls = Controls {
        clock: Arc::new(Leap),
        cancel: Cancel::new(),
        seed: 7,
        progress: Arc::new(Progress::new()),
    };
    controls.progress.begin(source.size());
    let sink = MemorySink::file();
    sink.prepare(source.size()).unwrap();
    let broken = source.breaks.lock().unwrap().len();
    let activity = Activity::new(&Leap, options.retry.least_rate);
    let shared = Shared::new(source, &sink, &options, &controls, &activity, false);
    let workers = NonZeroUsize::new(workers).unwrap();
    let (sender, receiver) = mpsc::channel();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let _ = sender.send(run_with(&shared, workers, buffers, Some(Algorithm::Sha256)));
        });
        // A panic would wait for the threads that hang.
        receiver
            .recv_timeout(testkit::DEADLINE)
            .unwrap_or_else(|_| {
                eprintln!("the pass hangs: {workers} workers, {buffers} buffers, {source:?}");
                std::process::abort();
            })
    });
    let outcome = result.unwrap();
    assert_eq!(outcome.computed, Some(digest));
    assert!(outcome.buffer_bytes <= buffers as u64 * ((1 << 20) + 4096));
    assert!(sink.content() == source.content);
    // A request for each extent, and what follows a connection that breaks: the missing part is asked for, and
    // workers behind it may have to ask again.
    let most = source.extents.len() + broken * workers.get();
    let requests = *source.requests.lock().unwrap();
    assert!(requests <= most, "{requests} > {most}");
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::with_cases(60) })]
    #[test]
    fn no_extents_and_no_server_make_a_pass_hang(
        runs in prop::collection::vec(
            prop_oneof![4 => 1..8_usize, 2 => 8..40_usize, 1 => 40..100_usize], 1..24),
        workers in 2..7_usize,
        buffers in 3..9_usize,
        slots in 1..4_usize,
        breaks in prop::collection::vec(0..1000_usize, 0..5),
    ) {
        check(&Narrow::new(&runs, slots, &breaks), workers, buffers);
    }

    /// Each takes a whole buffer, so that a few of them fill the memory that their place on the disk
    /// would allow for.
    #[test]
    fn small_extents_leave_the_frontier_its_buffers(
        hole in 4..6_usize,
        pieces in 1..60_usize,
        workers in 3..9_usize,
        buffers in 3..6_usize,
        slots in 1..3_usize,
    ) {
        check(&Narrow::new(&[1, hole].repeat(pieces), slots, &[]), workers, buffers);
    }
}

/// A clock on which the digest waits for each MiB, and then works on it, for so many milliseconds.
#[derive(Debug)]
struct Scripted {
    steps: [u64; 2],
    calls: Mutex<(usize, Duration)>,
}

impl Clock for Scripted {
    fn now(&self) -> Duration {
        let mut calls = self.calls.lock().unwrap();
        if thread::current().name() == Some("digest") {
            let step = self.steps[calls.0 % 2];
            calls.0 += 1;
            calls.1 += Duration::from_millis(step);
        }
        calls.1
    }

    fn wait(&self, _period: Duration, cancel: &Cancel) -> bool {
        cancel.is_cancelled()
    }
}

/// Lengths in MiB of the ranges that are asked for, in order of offset.
fn lengths_of(source: &MemorySource, steps: [u64; 2]) -> Vec<u64> {
    let digest = Digest::of(Algorithm::Sha256, source.content());
    let options = Options {
        verification: Verification::Stated(digest),
        ..Options::default()
    };
    let controls = Controls {
        clock: Arc::new(Scripted {
            steps,
            calls: Mutex::default(),
        }),
        cancel: Cancel::new(),
        seed: 7,
        progress: Arc::new(Progress::new()),
    };
    crate::copy(source, &MemorySink::file(), &options, &controls).unwrap();
    let range = |call: &SourceCall| match call {
        SourceCall::Begin(range) => Some((range.start(), range.len() >> 20)),
        _ => None,
    };
    let ranges: BTreeSet<_> = source.calls().iter().filter_map(range).collect();
    ranges.iter().map(|range| range.1).collect()
}

#[test]
fn the_digests_waits_decide_how_long_ranges_are() {
    let source = || MemorySource::new(vec![7; 92 << 20]);
    let trial = [32, 3, 3, 3, 3, 3, 3, 3, 3, 36];
    assert_eq!(lengths_of(&source(), [9, 1]), trial);
    assert_eq!(lengths_of(&source(), [1, 9]), [32, 60]);
}

#[test]
fn zeroes_say_nothing_about_the_network() {
    let hole = "-".repeat(40);
    let picture = format!("{hole}a{hole}{}", "b".repeat(32));
    let source = MemorySource::picture(&picture, 1 << 20);
    assert_eq!(lengths_of(&source, [9, 1]), [1, 32]);
}
