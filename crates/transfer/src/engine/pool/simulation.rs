//! Whole copies over links of several kinds, step by step on a clock of their own: how long tasks
//! become, how many there are, and how long the copy takes.

use std::collections::BTreeMap;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One step.
const TICK: Duration = Duration::from_micros(100);
/// Steps of a second.
const TICKS: u64 = 10_000;

/// What lies between the server and the digest. Rates are in MiB/s.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// All connections together.
    total: u64,
    /// Each connection.
    each: u64,
    /// From a request to the first byte of its answer.
    latency: Duration,
    /// Shares of the connections where they need more than there is.
    weights: [u64; 4],
    digest: u64,
}

/// One connection gets as much as four.
const SHARED: Link = Link {
    total: 110,
    each: u64::MAX,
    latency: Duration::from_millis(5),
    weights: [1; 4],
    digest: 700,
};

/// Four connections get four times as much as one.
const FAR: Link = Link {
    total: u64::MAX,
    each: 20,
    latency: Duration::from_millis(50),
    ..SHARED
};

/// The digest is slower than anything else.
const FAST: Link = Link {
    total: 1200,
    digest: 400,
    ..SHARED
};

enum Connection<'p> {
    Free,
    Ready(ByteRange),
    Asked(ByteRange, Duration),
    Reads(Answer<'p>),
}

struct Answer<'p> {
    task: ByteRange,
    at: u64,
    lease: Option<Lease<'p>>,
    /// What has come into the buffer, in bytes times [`TICKS`].
    filled: u64,
}

impl<'p> Connection<'p> {
    /// Asks and gets memory, when it may.
    fn go_on(&mut self, pool: &'p Pool, now: Duration, latency: Duration) {
        match self {
            Self::Ready(task) if pool.lock().may_ask(*task) => {
                *self = Self::Asked(*task, now + latency);
            }
            Self::Asked(task, until) if *until <= now => {
                pool.answered(*task);
                *self = Self::Reads(Answer {
                    task: *task,
                    at: task.start(),
                    lease: None,
                    filled: 0,
                });
            }
            _ => {}
        }
        let Self::Reads(answer) = self else {
            return;
        };
        let purpose = Purpose {
            task: answer.task,
            offset: answer.at,
            holds_answer: true,
        };
        if answer.lease.is_none()
            && pool.lock().admits(&purpose, pool.capacity)
            && let Acquired::Lease(lease) = pool.acquire(purpose)
        {
            answer.lease = Some(lease);
        }
    }

    const fn is_reading(&self) -> bool {
        matches!(self, Self::Reads(answer) if answer.lease.is_some())
    }

    /// Reads for a tick with so many MiB per second; gives the buffer when it is full.
    fn read(&mut self, rate: u64) -> Option<(u64, Lease<'p>)> {
        let Self::Reads(answer) = self else {
            return None;
        };
        answer.filled += rate * MIB;
        if answer.filled < MIB * TICKS {
            return None;
        }
        answer.filled -= MIB * TICKS;
        let full = answer.lease.take().map(|lease| (answer.at, lease));
        answer.at += MIB;
        if answer.at == answer.task.end() {
            *self = Self::Free;
        }
        full
    }
}

struct Copied {
    /// Starts and lengths of the tasks, in MiB.
    tasks: Vec<(u64, u64)>,
    time: Duration,
}

impl Copied {
    fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Tasks that begin in a GiB of the disk.
    fn in_gib(&self, gib: u64) -> usize {
        let begins = |task: &&(u64, u64)| task.0 / 1024 == gib;
        self.tasks.iter().filter(begins).count()
    }

    /// Lengths of the tasks, runs of equals as one.
    fn lengths(&self) -> Vec<u64> {
        let mut lengths: Vec<_> = self.tasks.iter().map(|task| task.1).collect();
        lengths.dedup();
        lengths
    }

    /// MiB per second.
    fn rate(&self) -> u64 {
        let size: u64 = self.tasks.iter().map(|task| task.1).sum();
        size * 1000 / u64::try_from(self.time.as_millis()).unwrap()
    }
}

/// Copies `gib` GiB of data with so many connections; the link is the one at the digest's GiB.
fn copy(gib: u64, workers: usize, link: impl Fn(u64) -> Link) -> Copied {
    let pool = Pool::in_order((4 * workers).min(16).max(2 * (workers + 1)), workers);
    let size = gib * GIB;
    let (mut now, mut position, mut frontier) = (Duration::ZERO, 0, 0);
    let mut tasks = Vec::new();
    let mut connections: Vec<_> = (0..workers).map(|_| Connection::Free).collect();
    let mut sequence = BTreeMap::new();
    let (mut hashing, mut idle_since) = (None, None);
    while frontier < size {
        now += TICK;
        let link = link(frontier / GIB);
        let weight = |index: usize| link.weights[index % 4];
        let mut needs = 0;
        for (index, connection) in connections.iter_mut().enumerate() {
            if matches!(connection, Connection::Free) && position < size {
                let next = pool.lock().order.as_mut().unwrap().next_length(position);
                if let Some(length) = next {
                    let task = ByteRange::new(position, size.min(position + length));
                    pool.unanswered(task);
                    tasks.push((position / MIB, task.len() / MIB));
                    position = task.end();
                    *connection = Connection::Ready(task);
                }
            }
            connection.go_on(&pool, now, link.latency);
            if connection.is_reading() {
                needs += weight(index);
            }
        }
        for (index, connection) in connections.iter_mut().enumerate() {
            if connection.is_reading() {
                let share = link.total.saturating_mul(weight(index)) / needs;
                sequence.extend(connection.read(share.min(link.each)));
            }
        }
        if let Some(begun) = hashing {
            let busy = now.saturating_sub(begun);
            if busy.as_nanos() * u128::from(link.digest) >= 1_000_000_000 {
                drop(sequence.remove(&frontier));
                frontier += MIB;
                let waited = begun.saturating_sub(idle_since.unwrap_or(begun));
                pool.hashed(frontier, MIB, waited, busy);
                (hashing, idle_since) = (None, Some(now));
            }
        }
        if hashing.is_none() && sequence.contains_key(&frontier) {
            hashing = Some(now);
        }
    }
    Copied { tasks, time: now }
}

#[test]
fn a_link_that_one_connection_fills_costs_16_requests_for_each_gib() {
    for total in [40, 110, 200, 300, 400, 500] {
        for (weights, latency) in [([1; 4], 1), ([1, 2, 3, 2], 20), ([6, 2, 1, 1], 50)] {
            let latency = Duration::from_millis(latency);
            let link = Link {
                total,
                latency,
                weights,
                ..SHARED
            };
            let copied = copy(2, 4, |_| link);
            let counts = [0, 1].map(|gib| copied.in_gib(gib));
            assert!(
                counts.iter().all(|count| *count <= 16),
                "{link:?} {counts:?}"
            );
            assert!(
                copied.rate() * 100 >= total * 94,
                "{link:?} {}",
                copied.rate()
            );
        }
    }
    // The first task, the trial, and what follows.
    let lengths = copy(1, 4, |_| SHARED).tasks;
    let lengths: Vec<_> = lengths.iter().map(|task| task.1).collect();
    let trial = [3, 3, 3, 3, 3, 3, 3, 3, 36];
    assert_eq!(lengths, [&[32][..], &trial, &[256, 256, 256, 164]].concat());
}

#[test]
fn any_number_of_connections_costs_16_requests_for_each_gib() {
    for workers in [2, 3, 5, 8, 16] {
        let copied = copy(2, workers, |_| SHARED);
        let counts = [0, 1].map(|gib| copied.in_gib(gib));
        assert!(
            counts.iter().all(|count| *count <= 16),
            "{workers} {counts:?}"
        );
        let copied = copy(2, workers, |_| FAR);
        let least = FAR.each * workers.min(4) as u64 * 6 / 10;
        assert!(copied.rate() >= least, "{workers} {}", copied.rate());
    }
}

#[test]
fn connections_that_add_up_get_short_tasks_and_work_at_a_time() {
    // With the time in which requests wait for their answers.
    for (each, least) in [(10, 28), (20, 50), (40, 85)] {
        let link = Link { each, ..FAR };
        let copied = copy(2, 4, |_| link);
        assert_eq!(copied.lengths()[..6], [32, 3, 36, 3, 36, 3], "{each}");
        assert!(copied.rate() >= least, "{each} {}", copied.rate());
        let uneven = Link {
            total: each * 3,
            weights: [1, 2, 3, 2],
            ..link
        };
        assert_eq!(
            copy(1, 4, |_| uneven).tasks.last().map(|task| task.1),
            Some(2)
        );
    }
    // Tasks of the same length end at all times, and what a few of them bring is a matter of chance.
    let quick = copy(4, 4, |_| Link { each: 60, ..FAR });
    assert!(quick.in_gib(3) > 300, "{:?}", quick.lengths());
    // One connection gets two thirds of the link.
    let most = Link {
        total: 30,
        each: 22,
        ..FAR
    };
    assert!(copy(1, 4, |_| most).count() <= 16);
}

#[test]
fn a_digest_that_is_slower_than_the_link_costs_8_requests_for_each_gib() {
    for workers in [2, 4, 8] {
        let copied = copy(2, workers, |_| FAST);
        assert!(copied.in_gib(0) <= 8 && copied.in_gib(1) <= 4, "{workers}");
        assert_eq!(copied.lengths()[..4], [32, 64, 128, 256]);
    }
}

#[test]
fn a_link_whose_nature_changes_is_found() {
    let switch = |first, then| copy(8, 4, move |gib| if gib < 2 { first } else { then });
    let last = |copied: &Copied| copied.tasks[copied.count() - 2].1;
    let copied = switch(SHARED, FAR);
    assert_eq!(last(&copied), 3, "{:?}", copied.lengths());
    assert!(copied.in_gib(1) <= 16 && copied.in_gib(4) > 300);
    let copied = switch(FAR, SHARED);
    assert_eq!(last(&copied), 256, "{:?}", copied.lengths());
    assert!(copied.in_gib(1) > 300 && copied.in_gib(4) <= 16);
    let copied = switch(FAR, FAST);
    assert_eq!(last(&copied), 256, "{:?}", copied.lengths());
    assert!(copied.in_gib(1) > 300 && copied.in_gib(2) < 40 && copied.in_gib(3) <= 4);
}
