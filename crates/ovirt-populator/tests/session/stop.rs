//! Asked to stop, in every phase: the end is accepted within 20 seconds, or it is said why not.

use contract::Exit;
use mover::Stop;
use ovirt_populator::engine::{Kind, Phase};

use crate::fakes::{Copy, Create, Fixture, Look};

#[tokio::test(start_paused = true)]
async fn before_the_request_nothing_is_asked() {
    let fixture = Fixture::new();
    fixture.handle.pull();
    assert_eq!(fixture.run().await.unwrap_err().exit(), Exit::Terminated);
    assert!(fixture.engine.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn during_the_request_its_answer_is_waited_for_a_little() {
    let fixture = Fixture::new().creates([Create::Makes(Phase::Transferring, 13)]);
    let (outcome, seconds) = fixture.run_and_stop(10).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    assert_eq!(seconds, 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_answer_is_looked_for_and_otherwise_left_to_the_engine() {
    for (listed, changes) in [(true, &["create", "cancel t0"][..]), (false, &["create"])] {
        let fixture = Fixture::new().creates([Create::Makes(Phase::Initializing, 100)]);
        let session = fixture.session();
        let mut run = std::pin::pin!(session.run());
        let ten = std::time::Duration::from_secs(10);
        assert!(tokio::time::timeout(ten, &mut run).await.is_err());
        if !listed {
            fixture.engine.state().lists.extend([Kind::Unreachable]);
        }
        fixture.handle.pull();
        assert_eq!(run.await.unwrap_err().exit(), Exit::Terminated);
        assert_eq!(fixture.engine.changes(), changes);
        assert_eq!(fixture.engine.elapsed(), 15);
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_answer_was_lost_what_it_made_is_cancelled() {
    let fixture = Fixture::new().creates([Create::MakesButLoses]);
    let session = fixture.session();
    let mut run = std::pin::pin!(session.run());
    // In the pause before the look for it.
    let half = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(half, &mut run).await.is_err());
    fixture.handle.pull();
    assert_eq!(run.await.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_is_locked_there_is_nothing_to_end() {
    let fixture = Fixture::new().creates(vec![Create::Refuses(Kind::Busy, "locked"); 100]);
    let (outcome, seconds) = fixture.run_and_stop(40).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert!(!fixture.engine.changes().iter().any(|call| call != "create"));
    assert_eq!(seconds, 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_transfer_starts_it_is_cancelled() {
    let fixture = Fixture::new().creates([Create::Makes(Phase::Initializing, 0)]);
    let (outcome, seconds) = fixture.run_and_stop(30).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    assert_eq!(seconds, 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_daemon_is_away_the_transfer_is_cancelled() {
    let fixture = Fixture::new().opens([transfer::Kind::Network; 1000]);
    let (outcome, seconds) = fixture.run_and_stop(100).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    assert_eq!(seconds, 0);
}

#[tokio::test(start_paused = true)]
async fn while_copying_the_transfer_is_cancelled() {
    let fixture = Fixture::new().copies([Copy::UntilStopped]);
    let (outcome, seconds) = fixture.run_and_stop(100).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    assert_eq!(seconds, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hung_target_does_not_keep_the_disk_locked() {
    let fixture = Fixture::new().copies([Copy::Hangs]);
    let (outcome, seconds) = fixture.run_and_stop(100).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    assert_eq!(seconds, 5);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_for_a_while_still_hears_of_the_end() {
    let fixture = Fixture::new()
        .copies([Copy::UntilStopped])
        .looks([Look::Hangs(60), Look::Hangs(60)]);
    let (outcome, seconds) = fixture.run_and_stop(10).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    assert!(seconds < Stop::CLEAN_UP.as_secs(), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_for_good_does_not_hold_the_process() {
    for look in [Look::Silent(Kind::Unreachable), Look::Hangs(60)] {
        let fixture = Fixture::new()
            .copies([Copy::UntilStopped])
            .looks(vec![look; 1000]);
        let (outcome, seconds) = fixture.run_and_stop(10).await;
        assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
        assert!(seconds <= Stop::CLEAN_UP.as_secs(), "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_engine_finishes_the_copy_is_a_success() {
    let fixture = Fixture::new().looks(vec![Look::Is(Phase::FinalizingSuccess); 1000]);
    let (outcome, seconds) = fixture.run_and_stop(100).await;
    outcome.unwrap();
    assert_eq!(seconds, 0);
    assert_eq!(fixture.engine.changes(), ["create"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_not_accepted_in_time_is_no_success() {
    let fixture = Fixture::new().looks(vec![Look::Silent(Kind::Unreachable); 1000]);
    let (outcome, seconds) = fixture.run_and_stop(100).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert!(seconds <= Stop::CLEAN_UP.as_secs() + 5, "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn between_two_attempts_no_new_transfer_is_made() {
    let fixture = Fixture::new()
        .copies([Copy::Ends(1, Some(transfer::Kind::Lost))])
        .looks([Look::Hangs(3)]);
    let (outcome, _) = fixture.run_and_stop(2).await;
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
}
