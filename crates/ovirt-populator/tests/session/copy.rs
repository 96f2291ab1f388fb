//! Reading: ways to the data, and transfers that are lost on the way.

use std::sync::atomic::Ordering;

use contract::Exit;
use ovirt_populator::engine::{Kind as EngineKind, Phase};
use transfer::Kind;

use crate::double::{Bench, Copy, Look};

#[tokio::test(start_paused = true)]
async fn the_proxy_serves_where_the_host_does_not() {
    for kind in [Kind::Network, Kind::Stalled, Kind::Tls, Kind::Busy] {
        let bench = Bench::new().opens([kind]);
        bench.run().await.unwrap();
        assert_eq!(bench.data.opened.load(Ordering::Relaxed), 2, "{kind:?}");
        assert_eq!(bench.engine.changes(), ["create", "finalize t0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_that_nobody_trusts_are_named_for_both_ways() {
    let bench = Bench::new().opens([Kind::Tls; 2]);
    let failure = bench.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Tls);
    assert!(
        failure.message().contains("the host's imageio daemon"),
        "{failure}"
    );
    assert!(
        failure.message().contains("the engine's imageio proxy"),
        "{failure}"
    );
    assert_eq!(bench.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn daemons_that_are_away_are_tried_again_within_the_patience() {
    let bench = Bench::new().opens([Kind::Network; 6]);
    bench.run().await.unwrap();

    let bench = Bench::new().opens([Kind::Network; 1000]);
    assert_eq!(
        bench.run().await.unwrap_err().exit(),
        Exit::SourceUnavailable
    );
    assert!((600..630).contains(&bench.engine.elapsed()));
    assert_eq!(bench.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_ends_while_its_daemon_is_away_is_replaced() {
    let bench = Bench::new()
        .opens([Kind::Network; 2])
        .looks([Look::Is(Phase::CancelledSystem)]);
    bench.run().await.unwrap();
    assert_eq!(bench.engine.changes(), ["create", "create", "finalize t1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_heal_needs_no_second_way() {
    let bench = Bench::new().opens([Kind::Protocol]);
    assert_eq!(bench.run().await.unwrap_err().exit(), Exit::SourceProtocol);
    assert_eq!(bench.data.opened.load(Ordering::Relaxed), 1);
    assert_eq!(bench.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_ticket_starts_over_with_a_new_transfer() {
    let bench = Bench::new().copies([Copy::Ends(10, Some(Kind::Lost))]);
    bench.run().await.unwrap();
    // The first is still open for the engine, and would keep the disk locked.
    assert_eq!(
        bench.engine.changes(),
        ["create", "cancel t0", "create", "finalize t1"]
    );
}

#[tokio::test(start_paused = true)]
async fn transfers_that_are_lost_again_and_again_end_the_run() {
    let bench = Bench::new().copies(vec![Copy::Ends(10, Some(Kind::Lost)); 100]);
    let failure = bench.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    assert_eq!(bench.engine.count("create"), 5);
}

#[tokio::test(start_paused = true)]
async fn transfers_without_a_byte_end_with_the_patience() {
    let mut bench = Bench::new().copies(vec![Copy::UntilLost; 100]);
    bench.timers.attempts = 1000;
    // Each look while copying finds the transfer cancelled.
    bench
        .engine
        .state()
        .looks
        .extend(vec![Look::Is(Phase::CancelledSystem); 1000]);
    let failure = bench.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    assert!((600..640).contains(&bench.engine.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_found_out_at_the_engine() {
    for phase in [
        Phase::CancelledSystem,
        Phase::PausedSystem,
        Phase::FinishedFailure,
    ] {
        let bench = Bench::new().copies([Copy::UntilLost]).looks([
            Look::Is(Phase::Transferring),
            Look::Silent(EngineKind::Unreachable),
            Look::Is(phase.clone()),
        ]);
        bench.run().await.unwrap();
        assert_eq!(bench.engine.count("create"), 2, "{phase}");
        assert_eq!(bench.engine.count("finalize t1"), 1, "{phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_does_not_heal_cancels_and_is_reported() {
    for (kind, exit) in [
        (Kind::Exhausted, Exit::SourceUnavailable),
        (Kind::Hash, Exit::HashMismatch),
        (Kind::TargetFull, Exit::TargetFull),
        (Kind::TargetIo, Exit::TargetIo),
        (Kind::Protocol, Exit::SourceProtocol),
    ] {
        let bench = Bench::new().copies([Copy::Ends(10, Some(kind))]);
        assert_eq!(bench.run().await.unwrap_err().exit(), exit);
        assert_eq!(bench.engine.changes(), ["create", "cancel t0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_makes_and_ends_a_transfer_and_copies_nothing() {
    let bench = Bench::new().copies([Copy::Hangs]);
    bench.session().dry_run().await.unwrap();
    assert_eq!(bench.engine.changes(), ["create", "cancel t0"]);

    let bench = Bench::new().opens([Kind::Tls; 2]);
    let failure = bench.session().dry_run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Tls);
    assert_eq!(bench.engine.changes(), ["create", "cancel t0"]);
}
