//! Reading: ways to the data, and transfers that are lost on the way.

use std::sync::atomic::Ordering;

use contract::Exit;
use ovirt_populator::engine::{Kind as EngineKind, Phase};
use transfer::Kind;

use crate::fakes::{Copy, Create, Fixture, Look, SIZE};

#[tokio::test(start_paused = true)]
async fn the_proxy_serves_where_the_host_does_not() {
    for kind in [Kind::Network, Kind::Stalled, Kind::Tls, Kind::Busy] {
        let fixture = Fixture::new().opens([kind]);
        fixture.run().await.unwrap();
        assert_eq!(fixture.data.opened.load(Ordering::Relaxed), 2, "{kind:?}");
        assert_eq!(fixture.engine.changes(), ["create", "finalize t0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_that_nobody_trusts_are_named_for_both_ways() {
    let fixture = Fixture::new().opens([Kind::Tls; 2]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Tls);
    assert!(
        failure.message().contains("the host's imageio daemon"),
        "{failure}"
    );
    assert!(
        failure.message().contains("the engine's imageio proxy"),
        "{failure}"
    );
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn daemons_that_are_away_are_tried_again_within_the_retry_budget() {
    let fixture = Fixture::new().opens([Kind::Network; 6]);
    fixture.run().await.unwrap();

    let fixture = Fixture::new().opens([Kind::Network; 1000]);
    assert_eq!(
        fixture.run().await.unwrap_err().exit(),
        Exit::SourceUnavailable
    );
    assert!((600..630).contains(&fixture.engine.elapsed()));
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_ends_while_its_daemon_is_away_is_replaced() {
    let fixture = Fixture::new()
        .opens([Kind::Network; 2])
        .looks([Look::Is(Phase::CancelledSystem)]);
    fixture.run().await.unwrap();
    assert_eq!(
        fixture.engine.changes(),
        ["create", "create", "finalize t1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_is_lost_while_its_daemon_is_away_says_why_it_was_away() {
    let fixture = Fixture::new().opens([Kind::Network; 1000]);
    // The engine ends each after the inactivity time.
    let looks = [
        Look::Is(Phase::Transferring),
        Look::Is(Phase::CancelledSystem),
    ];
    let looks = looks.into_iter().cycle().take(1000);
    fixture.engine.state().looks.extend(looks);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    for words in [
        "cancelled_system",
        "the host's imageio daemon: Network at open",
        "the engine's imageio proxy: Network at open",
    ] {
        assert!(failure.message().contains(words), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_one_way_does_not_close_the_other() {
    let fixture = Fixture::new().opens([Kind::Configuration]);
    fixture.run().await.unwrap();
    let fixture = Fixture::new().opens([Kind::Configuration; 2]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Configuration);
    assert_eq!(fixture.engine.elapsed(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_size_is_the_one_that_the_disk_has_once_it_is_locked() {
    let fixture = Fixture::new().copies([Copy::Ends(1, Some(Kind::Lost))]);
    fixture.engine.state().sizes.extend([SIZE + 512, 2 * SIZE]);
    fixture.run().await.unwrap();
    assert_eq!(*fixture.data.sizes.lock().unwrap(), [SIZE + 512, 2 * SIZE]);

    let fixture = Fixture::new();
    fixture.engine.state().sizes.extend([2 * SIZE + 1]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::TargetTooSmall);
    assert!(failure.message().contains("was extended"), "{failure}");
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_heal_needs_no_second_way() {
    let fixture = Fixture::new().opens([Kind::Protocol]);
    assert_eq!(
        fixture.run().await.unwrap_err().exit(),
        Exit::SourceProtocol
    );
    assert_eq!(fixture.data.opened.load(Ordering::Relaxed), 1);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_ticket_starts_over_with_a_new_transfer() {
    let fixture = Fixture::new().copies([Copy::Ends(10, Some(Kind::Lost))]);
    fixture.run().await.unwrap();
    // The first is still open for the engine, and would keep the disk locked.
    assert_eq!(
        fixture.engine.changes(),
        ["create", "cancel t0", "create", "finalize t1"]
    );
}

#[tokio::test(start_paused = true)]
async fn transfers_that_are_lost_again_and_again_end_the_run() {
    let fixture = Fixture::new().copies(vec![Copy::Ends(10, Some(Kind::Lost)); 100]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    assert_eq!(fixture.engine.count("create"), 5);
    assert!(
        failure.message().contains("5 that were read from"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn transfers_that_are_taken_back_at_once_are_made_at_a_pace_within_the_retry_budget() {
    let lost = |count| vec![Create::Makes(Phase::CancelledSystem, 0); count];
    // A host in trouble for some minutes.
    let fixture = Fixture::new().creates(lost(9));
    fixture.run().await.unwrap();
    let spent = fixture.engine.elapsed();
    assert!((60..300).contains(&spent), "{spent}");

    let fixture = Fixture::new().creates(lost(1000));
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    assert!((600..610).contains(&fixture.engine.elapsed()));
    assert!(fixture.engine.count("create") < 25, "hammers the engine");
    assert!(
        failure.message().contains("600 s without data"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn transfers_without_a_byte_end_with_the_retry_budget() {
    let fixture = Fixture::new().copies(vec![Copy::UntilLost; 100]);
    // Each look while copying finds the transfer cancelled.
    fixture
        .engine
        .state()
        .looks
        .extend(vec![Look::Is(Phase::CancelledSystem); 1000]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    assert!((600..640).contains(&fixture.engine.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_found_out_at_the_engine() {
    for phase in [
        Phase::CancelledSystem,
        Phase::PausedSystem,
        Phase::FinishedFailure,
    ] {
        let fixture = Fixture::new().copies([Copy::UntilLost]).looks([
            Look::Is(Phase::Transferring),
            Look::Silent(EngineKind::Unreachable),
            Look::Is(phase.clone()),
        ]);
        fixture.run().await.unwrap();
        assert_eq!(fixture.engine.count("create"), 2, "{phase}");
        assert_eq!(fixture.engine.count("finalize t1"), 1, "{phase}");
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
        let fixture = Fixture::new().copies([Copy::Ends(10, Some(kind))]);
        assert_eq!(fixture.run().await.unwrap_err().exit(), exit);
        assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_makes_and_ends_a_transfer_and_copies_nothing() {
    let fixture = Fixture::new().copies([Copy::Hangs]);
    fixture.session().dry_run().await.unwrap();
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);

    let fixture = Fixture::new().opens([Kind::Tls; 2]);
    let failure = fixture.session().dry_run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Tls);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
}
