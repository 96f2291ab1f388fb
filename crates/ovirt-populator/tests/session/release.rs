//! After the last byte, and after a failure.

use contract::Exit;
use ovirt_populator::engine::{DiskStatus, Kind, Phase};

use crate::fakes::{Copy, Fixture, Look};

#[tokio::test(start_paused = true)]
async fn a_transfer_that_the_engine_finalized_by_itself_is_done() {
    for phases in [
        vec![Phase::FinishedSuccess],
        vec![Phase::FinalizingSuccess, Phase::FinalizingSuccess],
    ] {
        let fixture = Fixture::new().looks(phases.into_iter().map(Look::Is));
        fixture.run().await.unwrap();
        assert_eq!(fixture.engine.changes(), ["create"]);
    }
}

// An engine needs 5 to 10 s for it, so a pause that keeps growing would add half of that to each disk.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_transfer_is_looked_for_every_second() {
    let looks = 20;
    let fixture = Fixture::new().looks(vec![Look::Is(Phase::FinalizingSuccess); looks]);
    fixture.run().await.unwrap();
    assert!(
        fixture.engine.elapsed() <= looks as u64,
        "{}",
        fixture.engine.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_transfer_is_done_when_the_disk_is_free() {
    let fixture = Fixture::new().looks([Look::Is(Phase::Transferring), Look::Forgotten]);
    fixture
        .engine
        .state()
        .disks
        .extend(vec![DiskStatus::Locked; 3]);
    fixture.engine.state().disks.extend([DiskStatus::Ok]);
    fixture.run().await.unwrap();
    assert_eq!(fixture.engine.changes(), ["create", "finalize t0"]);
    // The first is for the size.
    assert_eq!(fixture.engine.count("disk"), 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_illegal_afterwards_is_a_failure() {
    let fixture = Fixture::new().looks([Look::Forgotten]);
    let after = [DiskStatus::Locked, DiskStatus::Illegal];
    fixture.engine.state().disks.extend(after);
    assert_eq!(
        fixture.run().await.unwrap_err().exit(),
        Exit::SourceUnusable
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_no_success_starts_over() {
    for phase in [
        Phase::FinishedFailure,
        Phase::CancelledSystem,
        Phase::PausedSystem,
    ] {
        let fixture = Fixture::new().looks([Look::Is(phase.clone())]);
        fixture.run().await.unwrap();
        assert_eq!(fixture.engine.count("finalize t0"), 0, "{phase}");
        assert_eq!(fixture.engine.count("finalize t1"), 1, "{phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_at_the_end_is_asked_again() {
    let fixture = Fixture::new().looks([
        Look::Silent(Kind::Unreachable),
        Look::Hangs(60),
        Look::Is(Phase::Transferring),
    ]);
    fixture
        .engine
        .state()
        .finalizes
        .extend([Kind::Unreachable, Kind::Busy]);
    fixture.run().await.unwrap();
    assert_eq!(fixture.engine.count("finalize t0"), 3);
    assert_eq!(fixture.engine.phase(0), Phase::FinishedSuccess);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_accepted_is_a_success_though_the_engine_does_not_finish() {
    let fixture = Fixture::new().looks(vec![Look::Is(Phase::FinalizingSuccess); 1000]);
    fixture.run().await.unwrap();
    let spent = fixture.engine.elapsed();
    assert!((300..330).contains(&spent), "{spent}");
    // A cancellation would turn the success around, and another copy would not unlock the disk.
    assert_eq!(fixture.engine.changes(), ["create"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_not_accepted_is_a_failure_after_its_time() {
    let fixture = Fixture::new();
    let busy = vec![Kind::Busy; 1000];
    fixture.engine.state().finalizes.extend(busy);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    assert!(
        failure.message().contains("every byte is in place"),
        "{failure}"
    );
    let spent = fixture.engine.elapsed();
    assert!((300..330).contains(&spent), "{spent}");
    assert_eq!(fixture.engine.count("cancel t0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_is_tried_until_it_is_accepted() {
    let fixture = Fixture::new()
        .copies([Copy::Ends(0, Some(transfer::Kind::TargetIo))])
        .looks([Look::Silent(Kind::Unreachable), Look::Hangs(60)]);
    fixture
        .engine
        .state()
        .cancels
        .extend([Kind::Unreachable, Kind::AnswerLost]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::TargetIo);
    assert_eq!(fixture.engine.count("cancel t0"), 3);
    assert_eq!(fixture.engine.phase(0), Phase::FinishedFailure);
    assert!(fixture.engine.elapsed() <= 21);
}

#[tokio::test(start_paused = true)]
async fn what_ends_by_itself_is_not_cancelled() {
    for phase in [
        Phase::FinalizingSuccess,
        Phase::FinalizingFailure,
        Phase::FinalizingCleanup,
        Phase::FinishedSuccess,
        Phase::FinishedFailure,
        Phase::CancelledSystem,
        Phase::CancelledUser,
    ] {
        let fixture = Fixture::new()
            .copies([Copy::Ends(0, Some(transfer::Kind::TargetIo))])
            .looks([Look::Is(phase)]);
        fixture.run().await.unwrap_err();
        assert_eq!(fixture.engine.changes(), ["create"]);
    }
}
