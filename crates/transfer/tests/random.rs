//! Any disk, any number of connections, any faults: the target equals the source, or the error is
//! the right one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use support::{Leap, controls, options};
use transfer::{
    Access, Algorithm, Digest, Kind, Options, Phase, RetryPolicy, Verification, copy,
    sink::{MemorySink, SinkOperation},
    source::{MemorySource, Trouble, When},
};

const TRANSIENT: [Kind; 4] = [Kind::Network, Kind::Stalled, Kind::Busy, Kind::Expired];

#[derive(Debug, Clone)]
struct Case {
    picture: String,
    block: usize,
    connections: usize,
    ordered: bool,
    /// Where, in thousandths of the disk; how often; which kind.
    faults: Vec<(u64, u32, Kind)>,
    permanent: Option<(u64, Kind)>,
    full: Option<u64>,
    verification: u8,
    dirty: bool,
    detect: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let fault = (
        0..1000_u64,
        1..4_u32,
        prop::sample::select(TRANSIENT.to_vec()),
    );
    let permanent = (
        0..1000_u64,
        prop::sample::select(vec![Kind::Missing, Kind::Lost, Kind::Protocol]),
    );
    (
        "[A-C0-]{1,60}",
        prop::sample::select(vec![512, 4096, 5000, 65_536, 300_000]),
        1..6_usize,
        any::<bool>(),
        prop::collection::vec(fault, 0..5),
        prop::option::weighted(0.2, permanent),
        prop::option::weighted(0.2, 0..20_u64),
        0..4_u8,
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(
                picture,
                block,
                connections,
                ordered,
                faults,
                permanent,
                full,
                verification,
                (dirty, detect),
            )| Case {
                picture,
                block,
                connections,
                ordered,
                faults,
                permanent,
                full,
                verification,
                dirty,
                detect,
            },
        )
}

fn check(case: &Case) {
    let mut source = MemorySource::picture(&case.picture, case.block);
    let size = source.content().len() as u64;
    if case.ordered {
        source = source.with_access(Access::Ordered);
    }
    for (place, times, kind) in &case.faults {
        source = source.with_fault(
            When::Byte(size * place / 1000),
            *times,
            Trouble::Error(*kind),
        );
    }
    if let Some((place, kind)) = case.permanent {
        source = source.with_fault(
            When::Byte(size * place / 1000),
            u32::MAX,
            Trouble::Error(kind),
        );
    }
    let mut sink = if case.dirty {
        MemorySink::device(source.content().len() + 1000)
    } else {
        MemorySink::file()
    }
    .with_granule(4096);
    if let Some(writes) = case.full {
        sink = sink.failing(SinkOperation::Write, writes, Kind::TargetFull);
    }
    let digest = Digest::of(Algorithm::Sha256, source.content());
    let wrong = Digest {
        hex: "00".into(),
        ..digest.clone()
    };
    let options = Options {
        verification: match case.verification {
            0 => Verification::None,
            1 => Verification::Stated(digest),
            2 => Verification::Asked(Algorithm::Blkhash),
            _ => Verification::Stated(wrong),
        },
        detect_zeroes: case.detect,
        retry: RetryPolicy {
            no_progress_timeout: std::time::Duration::from_hours(10),
            ..RetryPolicy::default()
        },
        ..options(case.connections)
    };
    let controls = controls(Arc::new(Leap::default()));
    let result = copy(&source, &sink, &options, &controls);
    let snapshot = controls.progress.snapshot();
    assert_eq!(result.is_ok(), snapshot.phase == Phase::Done);
    match result {
        Ok(report) => {
            assert!(case.verification < 3);
            assert!(sink.content()[..source.content().len()] == *source.content());
            assert_eq!(snapshot.done(), size);
            let connections = if case.ordered { 1 } else { case.connections };
            let buffers = support::buffers(connections, case.verification > 0);
            assert!(report.buffer_bytes <= buffers * ((1 << 20) + 4096));
        }
        Err(error) => match error.kind() {
            Kind::Hash => assert_eq!(case.verification, 3),
            Kind::TargetFull => assert!(case.full.is_some()),
            // Many restarts at the same byte.
            Kind::Exhausted => assert!(case.ordered && case.faults.len() > 1),
            kind => assert_eq!(Some(kind), case.permanent.map(|(_, kind)| kind)),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn equal_bytes_or_the_right_error(case in case()) {
        check(&case);
    }
}
