//! Copies without trouble, and the troubles of the target.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contract;
mod support;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use contract::noise;
use net::Cancel;
use support::{Hooked, Leap, Still, controls, options, run, until};
use transfer::{
    Access, Algorithm, ByteRange, Digest, Error, Kind, Options, Phase, Reader, Source,
    Verification, copy,
    sink::{MemorySink, SinkCall, SinkOperation},
    source::{MemorySource, SourceCall, Trouble, When},
};

const BLOCK: usize = 64 << 10;
const MIB: u64 = 1 << 20;

fn verified(connections: usize, verification: Verification) -> Options {
    Options {
        verification,
        ..options(connections)
    }
}

fn write(start: u64, end: u64) -> SinkCall {
    SinkCall::Write(ByteRange::new(start * BLOCK as u64, end * BLOCK as u64))
}

fn zero(start: u64, end: u64) -> SinkCall {
    SinkCall::Zero(ByteRange::new(start * BLOCK as u64, end * BLOCK as u64))
}

#[test]
fn on_a_blank_sink_zeroes_are_not_touched() {
    let source = MemorySource::picture("A-0B------00C", BLOCK);
    let sink = MemorySink::file();
    run(&source, &sink, &options(1)).unwrap();
    assert_eq!(sink.content(), source.content());
    let size = source.size();
    let expected = [
        SinkCall::Prepare(size),
        write(0, 1),
        write(3, 4),
        write(12, 13),
        SinkCall::Sync,
    ];
    assert_eq!(sink.calls(), expected);
}

#[test]
fn on_a_dirty_sink_zeroes_are_made() {
    let source = MemorySource::picture("A-0B------00000C", BLOCK);
    let sink = MemorySink::device(source.content().len() + BLOCK);
    run(&source, &sink, &options(1)).unwrap();
    assert_eq!(sink.content()[..source.content().len()], *source.content());
    // What lies beyond the disk is left alone.
    let beyond = &sink.content()[source.content().len()..];
    assert!(beyond.iter().all(|byte| *byte == MemorySink::DIRT));
    let size = source.size();
    let expected = [
        SinkCall::Prepare(size),
        write(0, 4),
        zero(4, 10),
        zero(10, 15),
        write(15, 16),
        SinkCall::Sync,
    ];
    assert_eq!(sink.calls(), expected);
}

#[test]
fn zeroes_inside_data_are_written_when_that_is_wanted() {
    let source = MemorySource::picture("A000000-B", BLOCK);
    let sink = MemorySink::file();
    let options = Options {
        detect_zeroes: false,
        ..options(1)
    };
    run(&source, &sink, &options).unwrap();
    assert_eq!(sink.content(), source.content());
    assert_eq!(sink.calls()[1..2], [write(0, 9)]);
}

#[test]
fn any_size_any_number_of_connections() {
    for size in [
        1,
        511,
        4096,
        4097,
        BLOCK - 1,
        (1 << 20) + 512,
        (20 << 20) + 513,
    ] {
        let source = MemorySource::new(noise(size));
        for connections in [1, 3, 8] {
            let sink = MemorySink::device(size).with_granule(4096);
            let report = run(&source, &sink, &options(connections)).unwrap();
            assert!(sink.content() == source.content(), "{size} {connections}");
            let bound = support::buffers(connections, false) * (MIB + 4096);
            assert!(report.buffer_bytes <= bound);
        }
    }
}

#[test]
fn no_more_readers_than_the_source_allows_and_none_without_data() {
    let source = MemorySource::new(noise(40 << 20)).with_access(Access::Ranged {
        connections: NonZeroUsize::new(2).unwrap(),
    });
    run(&source, &MemorySink::file(), &options(8)).unwrap();
    assert!(source.most_readers() <= 2, "{}", source.most_readers());

    let source = MemorySource::picture("------", BLOCK);
    run(&source, &MemorySink::file(), &options(4)).unwrap();
    assert_eq!(source.most_readers(), 0);
}

#[test]
fn a_source_without_bytes_is_refused_and_its_target_not_touched() {
    for access in [
        Access::Ordered,
        Access::Ranged {
            connections: NonZeroUsize::MIN,
        },
    ] {
        let source = MemorySource::new([]).with_access(access);
        for sink in [MemorySink::file(), MemorySink::device(4096)] {
            let controls = controls(Arc::new(Leap::default()));
            let error = copy(&source, &sink, &options(2), &controls).unwrap_err();
            assert_eq!(error.kind(), Kind::Unusable);
            assert!(error.to_string().contains("0 bytes"), "{error}");
            assert_eq!((sink.calls(), source.calls()), (vec![], vec![]));
            assert_eq!(controls.progress.snapshot().phase, Phase::Preparing);
        }
    }
}

#[test]
fn a_target_that_is_too_small_is_not_touched() {
    let source = MemorySource::new(noise(4097));
    let sink = MemorySink::device(4096);
    let error = run(&source, &sink, &options(2)).unwrap_err();
    assert_eq!(error.kind(), Kind::TargetTooSmall);
    let text = error.to_string();
    assert!(text.contains("4096") && text.contains("4097"), "{text}");
    assert_eq!((sink.calls(), source.calls()), (vec![], vec![]));
}

#[test]
fn a_file_system_without_room_for_the_data_is_not_touched() {
    let block = BLOCK as u64;
    // Three blocks of data in seven, as far as the extents know.
    let thin = MemorySource::picture("A--B0--", BLOCK);
    for (room, fits) in [(3 * block - 1, false), (3 * block, true)] {
        let sink = MemorySink::file().with_room(room);
        let result = run(&thin, &sink, &options(2));
        assert_eq!(result.is_ok(), fits, "{result:?}");
        if let Err(error) = result {
            assert_eq!(error.kind(), Kind::TargetFull);
            for number in [room, 3 * block] {
                assert!(error.to_string().contains(&number.to_string()), "{error}");
            }
            assert_eq!(sink.calls(), []);
        }
    }
    // Of a source that knows no zeroes, the size counts only if zeroes are written.
    let blind = MemorySource::new(thin.content());
    for (detect_zeroes, fits) in [(true, true), (false, false)] {
        let sink = MemorySink::file().with_room(3 * block);
        let options = Options {
            detect_zeroes,
            ..options(2)
        };
        assert_eq!(run(&blind, &sink, &options).is_ok(), fits);
    }
}

#[test]
fn every_algorithm_is_verified_over_holes_and_many_connections() {
    let picture = format!("A-0B{}CDE0{}F", "-".repeat(100), "G".repeat(150));
    let source = MemorySource::picture(&picture, BLOCK);
    for algorithm in Algorithm::ALL {
        let digest = Digest::of(algorithm, source.content());
        for verification in [
            Verification::Stated(digest.clone()),
            Verification::Asked(algorithm),
        ] {
            let sink = MemorySink::device(source.content().len());
            let report = run(&source, &sink, &verified(3, verification)).unwrap();
            assert!(sink.content() == source.content());
            assert_eq!(report.verified.as_ref(), Some(&digest));
        }
    }
}

#[test]
fn a_wrong_digest_is_told_with_both_values_and_nothing_is_synced() {
    let source = MemorySource::new(noise(100_000)).with_checksum("beef");
    let truth = Digest::of(Algorithm::Sha256, source.content()).hex;
    let stated = Digest {
        algorithm: Algorithm::Sha256,
        hex: "beef".into(),
    };
    for verification in [
        Verification::Stated(stated),
        Verification::Asked(Algorithm::Sha256),
    ] {
        let sink = MemorySink::file();
        let controls = controls(Arc::new(Leap::default()));
        let options = verified(2, verification);
        let error = copy(&source, &sink, &options, &controls).unwrap_err();
        assert_eq!(error.kind(), Kind::Hash);
        let text = error.to_string();
        assert!(
            text.contains("sha256:beef") && text.contains(&truth),
            "{text}"
        );
        assert!(!sink.calls().contains(&SinkCall::Sync));
        assert_ne!(controls.progress.snapshot().phase, Phase::Done);
    }
}

#[test]
fn the_checksum_is_asked_for_once_after_the_last_read_and_before_the_sync() {
    let source = MemorySource::new(noise(5 << 20));
    let at_sync = Mutex::new(Vec::new());
    let sink = Hooked(MemorySink::file(), |operation| {
        if operation == SinkOperation::Sync {
            at_sync.lock().unwrap().push(source.calls());
        }
    });
    let options = verified(2, Verification::Asked(Algorithm::Blkhash));
    run(&source, &sink, &options).unwrap();
    let calls = source.calls();
    assert_eq!(
        calls.last(),
        Some(&SourceCall::Checksum(Algorithm::Blkhash))
    );
    let asked = calls
        .iter()
        .filter(|call| matches!(call, SourceCall::Checksum(_)));
    assert_eq!(asked.count(), 1);
    assert_eq!(*at_sync.lock().unwrap(), [calls]);
}

#[test]
fn the_checksum_takes_the_place_of_a_reader_where_there_is_no_room() {
    let two = NonZeroUsize::MIN.saturating_add(1);
    let source = MemorySource::new(noise(24 << 20)).with_readers_beside_checksum(two);
    for algorithm in [Algorithm::Blkhash, Algorithm::Sha256] {
        let options = verified(4, Verification::Asked(algorithm));
        let report = run(&source, &MemorySink::file(), &options).unwrap();
        assert_eq!(report.verified.unwrap().algorithm, algorithm);
        assert!(source.most_readers() <= 2, "{}", source.most_readers());
    }
}

#[test]
fn the_digest_needs_a_window_of_memory_whatever_the_size() {
    let source = MemorySource::new(noise(64 << 20));
    let digest = Digest::of(Algorithm::Md5, source.content());
    for connections in [1, 4, 8] {
        let options = verified(connections, Verification::Stated(digest.clone()));
        let report = run(&source, &MemorySink::file(), &options).unwrap();
        let bound = support::buffers(connections, true) * (MIB + 4096);
        assert!(
            report.buffer_bytes <= bound,
            "{} > {bound}",
            report.buffer_bytes
        );
    }
}

#[test]
fn an_ordered_source_is_read_by_one_request() {
    let picture = format!("A-0B{}C", "D".repeat(50));
    let source = MemorySource::picture(&picture, BLOCK).with_access(Access::Ordered);
    let digest = Digest::of(Algorithm::Sha512, source.content());
    let sink = MemorySink::device(source.content().len());
    run(&source, &sink, &verified(4, Verification::Stated(digest))).unwrap();
    assert!(sink.content() == source.content());
    let whole = ByteRange::new(0, source.size());
    assert_eq!(
        source.calls(),
        [SourceCall::Reader, SourceCall::Begin(whole)]
    );
}

#[test]
fn a_failing_target_ends_the_copy_with_its_own_error() {
    let source = MemorySource::new(noise(64 << 20));
    for kind in [Kind::TargetFull, Kind::TargetIo] {
        for operation in [
            SinkOperation::Prepare,
            SinkOperation::Write,
            SinkOperation::Sync,
        ] {
            let successes = u64::from(operation == SinkOperation::Write) * 5;
            let sink = MemorySink::file().failing(operation, successes, kind);
            let controls = controls(Arc::new(Leap::default()));
            let error = copy(&source, &sink, &options(4), &controls).unwrap_err();
            assert_eq!(error.kind(), kind, "{operation:?}");
            assert!(controls.progress.snapshot().phase != Phase::Done);
        }
    }
}

#[test]
fn after_an_error_of_the_sink_it_is_not_called_again() {
    let source = MemorySource::picture(&"A".repeat(100), BLOCK);
    let sink = MemorySink::file().failing(SinkOperation::Write, 3, Kind::TargetFull);
    run(&source, &sink, &options(1)).unwrap_err();
    let calls = sink.calls();
    assert_eq!(calls.len(), 5, "{calls:?}");
    // With more connections, at most those calls follow that were under way.
    let sink = MemorySink::file().failing(SinkOperation::Write, 3, Kind::TargetFull);
    run(&source, &sink, &options(4)).unwrap_err();
    assert!(sink.calls().len() <= 5 + 3, "{:?}", sink.calls());
}

#[test]
fn a_full_target_is_not_hidden_by_a_source_that_fails_later() {
    let source = MemorySource::new(noise(32 << 20)).with_fault(
        When::Byte(31 << 20),
        u32::MAX,
        Trouble::Error(Kind::Protocol),
    );
    let sink = MemorySink::file().failing(SinkOperation::Write, 0, Kind::TargetFull);
    let error = run(&source, &sink, &options(4)).unwrap_err();
    assert_eq!(error.kind(), Kind::TargetFull);
}

#[test]
fn a_stop_ends_readers_that_hang() {
    let source = MemorySource::new(noise(32 << 20))
        .with_fault(When::Byte(9 << 20), 1, Trouble::Hang)
        .with_fault(When::Byte(17 << 20), 1, Trouble::Hang);
    for verification in [Verification::None, Verification::Asked(Algorithm::Sha256)] {
        let controls = controls(Arc::new(Still::default()));
        let (progress, cancel) = (controls.progress.clone(), controls.cancel.clone());
        let sink = MemorySink::file();
        thread::scope(|scope| {
            let options = verified(3, verification);
            let copying = scope.spawn({
                let (source, sink, controls) = (source.clone(), sink.clone(), &controls);
                move || copy(&source, &sink, &options, controls)
            });
            until("byte in place", || progress.snapshot().data > 0);
            cancel.cancel();
            let error = copying.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), Kind::Cancelled);
        });
        assert!(!sink.calls().contains(&SinkCall::Sync));
    }
}

#[test]
fn one_worker_that_fails_stops_those_that_hang() {
    for verification in [Verification::None, Verification::Asked(Algorithm::Sha256)] {
        // In the first task of each of two workers.
        let picture = format!("{0}{1}{0}", "A".repeat(32), "-".repeat(32));
        let source = MemorySource::picture(&picture, BLOCK)
            .with_fault(When::Byte(4096), 1, Trouble::Hang)
            .with_fault(When::Byte(5 << 20), 1, Trouble::Error(Kind::Permission));
        let error = run(&source, &MemorySink::file(), &verified(2, verification)).unwrap_err();
        assert_eq!(error.kind(), Kind::Permission);
    }
}

/// A source whose readers panic.
#[derive(Debug)]
struct Broken(MemorySource);

impl Source for Broken {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn access(&self) -> Access {
        self.0.access()
    }

    fn reader(&self, _cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        panic!("a fault of this program");
    }
}

#[test]
fn a_panic_is_an_error_and_not_a_hang() {
    for verification in [Verification::None, Verification::Asked(Algorithm::Sha256)] {
        let source = Broken(MemorySource::new(noise(32 << 20)));
        let error = run(&source, &MemorySink::file(), &verified(3, verification)).unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
    }
}

/// A source whose first thread hangs until it is stopped, and whose second one panics.
#[derive(Debug)]
struct HangsAndPanics(MemorySource);

impl Source for HangsAndPanics {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn access(&self) -> Access {
        self.0.access()
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        // The threads are joined in their order: the panic of the second one would not be seen.
        assert_eq!(thread::current().name(), Some("copy-0"), "the panic");
        self.0.reader(cancel)
    }
}

#[test]
fn a_panic_stops_threads_that_hang() {
    let inner = MemorySource::new(noise(40 << 20)).with_fault(When::Request(0), 1, Trouble::Hang);
    let source = HangsAndPanics(inner);
    let controls = controls(Arc::new(Still::default()));
    let cancel = controls.cancel.clone();
    let (sender, receiver) = mpsc::channel();
    let copying = thread::spawn(move || {
        let _ = sender.send(copy(&source, &MemorySink::file(), &options(2), &controls));
    });
    let ended = receiver.recv_timeout(testkit::DEADLINE);
    cancel.cancel();
    copying.join().unwrap();
    let error = ended.expect("the copy hangs").unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
}

#[test]
fn the_source_hears_a_sign_of_life_every_20_s_while_the_sink_syncs() {
    let signs = |source: &MemorySource| {
        source
            .calls()
            .iter()
            .filter(|call| **call == SourceCall::KeepAlive)
            .count()
    };
    // A sign that fails changes nothing, and one that hangs does not hold up the end.
    let source = MemorySource::new(noise(100_000)).with_fault(
        When::KeepAlive,
        1,
        Trouble::Error(Kind::Network),
    );
    let clock = Arc::new(Still::default());
    let controls = controls(clock.clone());
    let release = Cancel::new();
    let sink = Hooked(MemorySink::file(), |operation| {
        if operation == SinkOperation::Sync {
            let _ = release.wait(testkit::DEADLINE);
        }
    });
    thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&source, &sink, &Options::default(), &controls));
        until("sync", || {
            controls.progress.snapshot().phase == Phase::Syncing
        });
        for count in 0..3 {
            clock.pass(Duration::from_millis(19_999));
            clock.wait_for_looks();
            assert_eq!(signs(&source), count);
            clock.pass(Duration::from_millis(1));
            until("sign of life", || signs(&source) > count);
        }
        let source = source.clone().with_fault(When::KeepAlive, 1, Trouble::Hang);
        clock.pass(Duration::from_secs(20));
        until("sign of life", || signs(&source) > 3);
        release.cancel();
        copying.join().unwrap().unwrap();
    });
    assert_eq!(controls.progress.snapshot().phase, Phase::Done);
}
