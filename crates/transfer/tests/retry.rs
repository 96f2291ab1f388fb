//! What is retried, and when it is given up: on a clock that leaps over the waits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contract;
mod support;

use std::{error::Error as _, num::NonZeroUsize, sync::Arc, time::Duration};

use backoff::Backoff;
use contract::noise;
use net::{Clock as _, LeastRate};
use support::{Hooked, Leap, controls, options, run, until};
use transfer::{
    Access, Algorithm, ByteRange, Digest, Kind, Options, RetryPolicy, RetryReason, Source as _,
    Verification, copy,
    sink::{MemorySink, SinkCall, SinkOperation},
    source::{MemorySource, SourceCall, Trouble, When},
};

const MIB: u64 = 1 << 20;

/// A disk of blocks of 64 KiB that takes three requests.
const THREE_RANGES: &str = "AB-----C-----D";

fn begins(source: &MemorySource) -> Vec<ByteRange> {
    let range = |call: &SourceCall| match call {
        SourceCall::Begin(range) => Some(*range),
        _ => None,
    };
    source.calls().iter().filter_map(range).collect()
}

fn readers(source: &MemorySource) -> usize {
    source
        .calls()
        .iter()
        .filter(|call| **call == SourceCall::Reader)
        .count()
}

#[test]
fn only_the_missing_part_is_asked_for_again_on_a_new_connection() {
    let at = MIB + 777;
    let source = MemorySource::new(noise(3 << 20)).with_fault(
        When::Byte(at),
        2,
        Trouble::Error(Kind::Network),
    );
    let sink = MemorySink::file();
    let clock = Arc::new(Leap::default());
    let controls = controls(clock.clone());
    copy(&source, &sink, &options(1), &controls).unwrap();
    assert!(sink.content() == source.content());
    let end = 3 * MIB;
    let expected = [
        ByteRange::new(0, end),
        ByteRange::new(at, end),
        ByteRange::new(at, end),
    ];
    assert_eq!((begins(&source), readers(&source)), (expected.to_vec(), 3));
    // Each byte is written once.
    assert_eq!(sink.calls().len(), 1 + 3 + 1);
    let snapshot = controls.progress.snapshot();
    assert_eq!(snapshot.retries.of(RetryReason::Network), 2);
    assert_eq!((snapshot.received, snapshot.data), (end, end));
    assert_eq!(clock.waits().len(), 2);
}

#[test]
fn a_connection_serves_range_after_range() {
    let source = MemorySource::picture(THREE_RANGES, 65_536);
    run(&source, &MemorySink::file(), &options(1)).unwrap();
    assert_eq!((begins(&source).len(), readers(&source)), (3, 1));
}

#[test]
fn a_kept_connection_that_died_meanwhile_is_replaced_without_a_pause() {
    let source = MemorySource::picture(THREE_RANGES, 65_536).with_fault(
        When::Request(1),
        1,
        Trouble::Error(Kind::Network),
    );
    let clock = Arc::new(Leap::default());
    copy(
        &source,
        &MemorySink::file(),
        &options(1),
        &controls(clock.clone()),
    )
    .unwrap();
    assert_eq!((clock.waits().len(), readers(&source)), (0, 2));
}

#[test]
fn pauses_grow_with_jitter_and_stay_below_the_bound() {
    let policy = RetryPolicy {
        backoff: Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(8),
        },
        ..RetryPolicy::default()
    };
    let waits = |seed| {
        let source = MemorySource::new(noise(5000)).with_fault(
            When::Byte(0),
            8,
            Trouble::Error(Kind::Stalled),
        );
        let clock = Arc::new(Leap::default());
        let mut controls = controls(clock.clone());
        controls.seed = seed;
        let options = Options {
            retry: policy,
            ..options(1)
        };
        copy(&source, &MemorySink::file(), &options, &controls).unwrap();
        clock.waits()
    };
    let mut longest = [Duration::ZERO; 8];
    for seed in 0..50 {
        let waits = waits(seed);
        assert_eq!(waits.len(), 8);
        for ((wait, bound), longest) in waits.iter().zip([1, 2, 4, 8, 8, 8, 8, 8]).zip(&mut longest)
        {
            assert!(*wait <= Duration::from_secs(bound), "{waits:?}");
            *longest = (*longest).max(*wait);
        }
    }
    // The bounds are made use of.
    for (longest, bound) in longest.iter().zip([1, 2, 4, 8, 8, 8, 8, 8]) {
        assert!(
            *longest > Duration::from_secs(bound) * 3 / 4,
            "{longest:?} of {bound} s"
        );
    }
    assert_ne!(waits(1), waits(2));
    assert_eq!(waits(1), waits(1));
}

#[test]
fn the_servers_wish_for_a_pause_is_honoured() {
    let delay = Duration::from_secs(90);
    let source = MemorySource::new(noise(5000)).with_fault(
        When::Request(0),
        1,
        Trouble::After(Kind::Busy, delay),
    );
    let clock = Arc::new(Leap::default());
    copy(
        &source,
        &MemorySink::file(),
        &options(1),
        &controls(clock.clone()),
    )
    .unwrap();
    assert_eq!(clock.waits(), [delay]);
}

#[test]
fn renewed_credentials_are_used_at_once() {
    let source = MemorySource::new(noise(5000)).with_fault(
        When::Request(0),
        1,
        Trouble::Error(Kind::Expired),
    );
    let clock = Arc::new(Leap::default());
    copy(
        &source,
        &MemorySink::file(),
        &options(1),
        &controls(clock.clone()),
    )
    .unwrap();
    assert_eq!(clock.waits(), [Duration::ZERO]);
}

#[test]
fn the_copy_is_given_up_after_the_timeout_without_a_byte() {
    for wish in [Duration::ZERO, Duration::from_hours(1)] {
        let source = MemorySource::new(noise(32 << 20)).with_fault(
            When::Byte(0),
            u32::MAX,
            Trouble::After(Kind::Busy, wish),
        );
        let clock = Arc::new(Leap::default());
        let sink = MemorySink::file();
        let error = copy(&source, &sink, &options(1), &controls(clock.clone())).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert!(
            error.source().unwrap().to_string().contains("scripted"),
            "{error:?}"
        );
        let limit = RetryPolicy::default().no_progress_timeout;
        assert_eq!(clock.now(), limit, "neither sooner nor later");
    }
}

#[test]
fn a_byte_on_any_connection_resets_the_timeout() {
    // Byte 0 fails for long, while the other connections move; time passes by its waits alone.
    let source = MemorySource::new(noise(32 << 20)).with_fault(
        When::Byte(0),
        200,
        Trouble::After(Kind::Busy, Duration::from_secs(1)),
    );
    let policy = RetryPolicy {
        no_progress_timeout: Duration::from_mins(5),
        ..RetryPolicy::default()
    };
    let sink = MemorySink::file();
    let slow = Options {
        retry: RetryPolicy {
            backoff: Backoff {
                longest: Duration::from_millis(1),
                ..Backoff::default()
            },
            ..policy
        },
        ..options(2)
    };
    run(&source, &sink, &slow).unwrap();
    assert!(sink.content() == source.content());
}

#[test]
fn time_spent_elsewhere_does_not_count_against_the_source() {
    let source = MemorySource::picture("A--------B", 65_536).with_fault(
        When::Request(1),
        3,
        Trouble::Error(Kind::Network),
    );
    let clock = Arc::new(Leap::default());
    let sink = Hooked(MemorySink::device(source.content().len()), |operation| {
        if operation == SinkOperation::Zero {
            clock.pass(Duration::from_mins(20));
        }
    });
    copy(&source, &sink, &options(1), &controls(clock.clone())).unwrap();
    assert!(sink.0.content() == source.content());
}

#[test]
fn the_tries_of_a_request_are_counted_without_those_that_gave_bytes() {
    let policy = RetryPolicy {
        tries: 3,
        ..RetryPolicy::default()
    };
    let options = Options {
        retry: policy,
        ..options(1)
    };
    let source = MemorySource::new(noise(5000))
        .with_fault(When::Byte(0), 2, Trouble::Error(Kind::Network))
        .with_fault(When::Byte(1000), 3, Trouble::Error(Kind::Network));
    // 2 failures, 1000 bytes with the third, 2 more: never 3 in a row without a byte.
    run(&source, &MemorySink::file(), &options).unwrap();
    let source =
        MemorySource::new(noise(5000)).with_fault(When::Byte(0), 3, Trouble::Error(Kind::Network));
    let error = run(&source, &MemorySink::file(), &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert!(error.to_string().contains("3 tries"), "{error}");
}

#[test]
fn data_that_is_cut_short_is_named_and_an_outage_is_waited_out() {
    let at = MIB + 5;
    let cut = |times| {
        let trouble = Trouble::Error(Kind::Network);
        MemorySource::new(noise(4 << 20)).with_fault(When::Byte(at), times, trouble)
    };
    let source = cut(u32::MAX);
    let error = run(&source, &MemorySink::file(), &options(1)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unusable, "{}", error.chain());
    assert!(error.to_string().contains(&at.to_string()), "{error}");
    // The first answer gave bytes; the others ended before theirs. Before it is called damage, the
    // bytes before it are read, and it is tried once more.
    let begins_of = begins(&source);
    assert_eq!(begins_of.len(), 1 + 12 + 2);
    assert_eq!(begins_of[13], ByteRange::new(at - 65_536, at));
    run(&cut(13), &MemorySink::file(), &options(1)).unwrap();

    // An outage gives no answer that could be cut, and the count restarts after it.
    let outage = |source: MemorySource| {
        source.with_fault(When::Request(6), 15, Trouble::Error(Kind::Network))
    };
    let source = outage(cut(17));
    run(&source, &MemorySink::file(), &options(1)).unwrap();
    assert!(begins(&source).len() > 17);
}

/// A store that fails behind its server: heads come, bytes do not, wherever one asks.
#[test]
fn a_source_that_gives_no_byte_at_all_is_an_outage() {
    let failing = |cuts, probes| {
        let fail = Trouble::Error(Kind::Network);
        let source = MemorySource::new(noise(4 << 20)).with_fault(When::Byte(MIB + 5), cuts, fail);
        // The request after each 12 answers that are cut is the one for other bytes.
        (1..=probes).fold(source, |source, probe| {
            source.with_fault(When::Request(13 * probe), 1, fail)
        })
    };
    run(
        &failing(1 + 12 + 12 + 11, 2),
        &MemorySink::file(),
        &options(1),
    )
    .unwrap();
    let source = failing(u32::MAX, 100);
    let error = run(&source, &MemorySink::file(), &options(1)).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{}", error.chain());
}

/// A router whose server restarts, a page of an administrator, a bit that was flipped.
#[test]
fn an_unexpected_answer_of_a_source_that_gave_bytes_is_not_believed_at_once() {
    for kind in [Kind::Missing, Kind::Unusable, Kind::Protocol, Kind::Tls] {
        let doubtful = |times| {
            let source = MemorySource::picture(THREE_RANGES, 65_536);
            source
                .with_fault(When::Request(1), 1, Trouble::Error(kind))
                .with_fault(When::Byte(7 * 65_536), times, Trouble::Error(kind))
        };
        let clock = Arc::new(Leap::default());
        let controls = controls(clock.clone());
        let source = doubtful(2);
        copy(&source, &MemorySink::file(), &options(1), &controls).unwrap();
        let retries = controls.progress.snapshot().retries;
        assert_eq!(retries.of(RetryReason::Unexpected), 3, "{kind:?}");

        // It is final when it comes again and again for a minute.
        let clock = Arc::new(Leap::default());
        let source = doubtful(u32::MAX);
        let error = copy(
            &source,
            &MemorySink::file(),
            &options(1),
            &support::controls(clock.clone()),
        )
        .unwrap_err();
        assert_eq!((error.kind(), begins(&source).len()), (kind, 1 + 1 + 3));
        assert!(clock.now() >= Duration::from_mins(1), "{:?}", clock.waits());

        // Of a source that has given nothing, it is believed.
        let source = MemorySource::new(noise(5000)).with_fault(
            When::Request(0),
            u32::MAX,
            Trouble::Error(kind),
        );
        let error = run(&source, &MemorySink::file(), &options(1)).unwrap_err();
        assert_eq!((error.kind(), begins(&source).len()), (kind, 1));
    }
}

#[test]
fn an_unexpected_answer_to_a_restart_is_not_believed_at_once() {
    let source = MemorySource::new(noise(5 << 20))
        .with_access(Access::Ordered)
        .with_fault(When::Byte(3 << 20), 1, Trouble::Error(Kind::Network))
        .with_fault(When::Request(1), 1, Trouble::Error(Kind::Missing));
    run(&source, &MemorySink::file(), &options(1)).unwrap();
    // In the middle of an answer there is nothing to doubt.
    let source = MemorySource::new(noise(5 << 20))
        .with_access(Access::Ordered)
        .with_fault(When::Byte(3 << 20), 1, Trouble::Error(Kind::Protocol));
    let error = run(&source, &MemorySink::file(), &options(1)).unwrap_err();
    assert_eq!((error.kind(), begins(&source).len()), (Kind::Protocol, 1));
}

#[test]
fn permanent_errors_are_not_repeated() {
    for kind in [
        Kind::Lost,
        Kind::Configuration,
        Kind::Credentials,
        Kind::Permission,
    ] {
        let source = MemorySource::new(noise(5000)).with_fault(
            When::Byte(100),
            u32::MAX,
            Trouble::Error(kind),
        );
        let error = run(&source, &MemorySink::file(), &options(1)).unwrap_err();
        assert_eq!((error.kind(), begins(&source).len()), (kind, 1));
    }
}

#[test]
fn an_ordered_source_begins_over_and_its_answers_are_not_mixed() {
    let source = MemorySource::picture("AB00CDEFGHIJKLMNOPQRSTUVWXYZ", 65_536)
        .with_access(Access::Ordered)
        .with_fault(When::Byte(MIB + 5), 1, Trouble::Error(Kind::Network))
        .with_fault(When::Byte(1000), 2, Trouble::Error(Kind::Stalled));
    let digest = Digest::of(Algorithm::Sha256, source.content());
    for sink in [
        MemorySink::file(),
        MemorySink::device(source.content().len()),
    ] {
        let controls = controls(Arc::new(Leap::default()));
        let options = Options {
            verification: Verification::Stated(digest.clone()),
            ..options(4)
        };
        let report = copy(&source, &sink, &options, &controls).unwrap();
        assert_eq!(report.verified, Some(digest.clone()));
        assert!(sink.content() == source.content());
        let prepared = sink
            .calls()
            .iter()
            .filter(|call| matches!(call, SinkCall::Prepare(_)))
            .count();
        let passes = usize::try_from(controls.progress.snapshot().retries.sum()).unwrap() + 1;
        assert_eq!(prepared, passes, "each pass is prepared");
        let whole = ByteRange::new(0, source.size());
        assert!(begins(&source).iter().all(|range| *range == whole));
    }
    assert_eq!(begins(&source).len(), 4 + 1);
}

#[test]
fn an_ordered_source_that_always_ends_at_the_same_byte_is_given_up() {
    let source = MemorySource::new(noise(5 << 20))
        .with_access(Access::Ordered)
        .with_fault(When::Byte(3 << 20), u32::MAX, Trouble::Error(Kind::Network));
    let error = run(&source, &MemorySink::file(), &options(1)).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert_eq!(begins(&source).len(), 6);
    assert!(
        error.to_string().contains(&(3 * MIB).to_string()),
        "{error}"
    );
}

#[test]
fn an_ordered_source_without_a_byte_is_given_up_after_the_timeout() {
    let source = MemorySource::new(noise(5000))
        .with_access(Access::Ordered)
        .with_fault(When::Byte(0), u32::MAX, Trouble::Error(Kind::Network));
    let clock = Arc::new(Leap::default());
    let error = copy(
        &source,
        &MemorySink::file(),
        &options(1),
        &controls(clock.clone()),
    )
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert_eq!(clock.now(), RetryPolicy::default().no_progress_timeout);
}

/// Each try gives one byte and then fails, half a minute after it: never without a byte for long.
#[test]
fn a_source_that_trickles_is_given_up() {
    let trickle = |bytes: u64, least_rate| {
        let mut source = MemorySource::new(noise(3000));
        for at in (bytes..3000).step_by(usize::try_from(bytes).unwrap()) {
            let stall = Trouble::After(Kind::Stalled, Duration::from_secs(30));
            source = source.with_fault(When::Byte(at), 1, stall);
        }
        let options = Options {
            retry: RetryPolicy {
                least_rate,
                ..RetryPolicy::default()
            },
            ..options(1)
        };
        let clock = Arc::new(Leap::default());
        let result = copy(
            &source,
            &MemorySink::file(),
            &options,
            &controls(clock.clone()),
        );
        (result.map(drop), clock.now())
    };
    let default = LeastRate::default();
    let (result, time) = trickle(1, default);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert!(error.to_string().contains("least rate"), "{error}");
    assert_eq!(time, RetryPolicy::default().no_progress_timeout);
    // At that pace it would be whole after hours, which no rate forbids here.
    let (result, time) = trickle(
        1,
        LeastRate {
            bytes: 0,
            ..default
        },
    );
    result.unwrap();
    assert!(time > Duration::from_hours(1), "{time:?}");
    // 10 bytes in half a minute, where 64 in five minutes are enough.
    let (result, _) = trickle(
        10,
        LeastRate {
            bytes: 64,
            ..default
        },
    );
    result.unwrap();
}

#[test]
fn a_checksum_is_asked_for_again_but_not_for_ever() {
    let options = Options {
        verification: Verification::Asked(Algorithm::Blkhash),
        ..options(2)
    };
    for (times, fails) in [(2, false), (3, true)] {
        let late = MemorySource::new(noise(5000));
        let early = MemorySource::new(noise(5000)).with_readers_beside_checksum(NonZeroUsize::MIN);
        for source in [late, early] {
            let trouble = Trouble::Error(Kind::Network);
            let source = source.with_fault(When::Checksum, times, trouble);
            let result = run(&source, &MemorySink::file(), &options);
            assert_eq!(result.is_err(), fails);
            if let Err(error) = result {
                assert_eq!(error.kind(), Kind::Exhausted);
            }
        }
    }
    let source = MemorySource::new(noise(5000)).with_fault(
        When::Checksum,
        1,
        Trouble::Error(Kind::Permission),
    );
    let error = run(&source, &MemorySink::file(), &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Permission);
}

#[test]
fn a_stop_during_a_pause_is_heard() {
    let source = MemorySource::new(noise(5000)).with_fault(
        When::Byte(0),
        u32::MAX,
        Trouble::After(Kind::Busy, Duration::from_mins(1)),
    );
    // On this clock a pause ends only by the stop.
    let controls = controls(Arc::new(support::Still::default()));
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&source, &MemorySink::file(), &options(2), &controls));
        until("retry", || controls.progress.snapshot().retries.sum() > 0);
        controls.cancel.cancel();
        assert_eq!(copying.join().unwrap().unwrap_err().kind(), Kind::Cancelled);
    });
}
