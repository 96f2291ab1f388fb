//! From the request for a transfer to one that can be read.

use contract::Exit;
use ovirt_populator::engine::{DiskStatus, Kind, Phase};

use crate::fakes::{Create, Fixture, Look};

#[tokio::test(start_paused = true)]
async fn one_transfer_is_made_read_and_finalized() {
    let fixture = Fixture::new();
    fixture.run().await.unwrap();
    assert_eq!(fixture.engine.changes(), ["create", "finalize t0"]);
    assert_eq!(fixture.engine.phase(0), Phase::FinishedSuccess);
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_is_waited_for() {
    let looks = [
        Look::Is(Phase::Initializing),
        Look::Silent(Kind::Unreachable),
        Look::Is(Phase::Unknown),
        Look::Is(Phase::Resuming),
        Look::Is(Phase::Other("preparing".into())),
        Look::Is(Phase::Transferring),
    ];
    let fixture = Fixture::new()
        .creates([Create::Makes(Phase::Initializing, 100)])
        .looks(looks);
    fixture.run().await.unwrap();
    assert_eq!(fixture.engine.changes(), ["create", "finalize t0"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_end_is_given_up_and_cancelled() {
    let fixture = Fixture::new().creates([Create::Makes(Phase::Initializing, 0)]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnavailable);
    assert!(failure.message().contains("initializing"), "{failure}");
    assert_eq!(fixture.engine.changes(), ["create", "cancel t0"]);
    assert!((300..320).contains(&fixture.engine.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_start_makes_a_new_transfer() {
    for (phase, cancelled) in [
        (Phase::PausedSystem, true),
        (Phase::CancelledSystem, false),
        (Phase::FinishedFailure, false),
    ] {
        let fixture = Fixture::new().creates([Create::Makes(phase.clone(), 0)]);
        fixture.run().await.unwrap();
        let mut expected = vec!["create", "create", "finalize t1"];
        if cancelled {
            expected.insert(1, "cancel t0");
        }
        assert_eq!(fixture.engine.changes(), expected, "{phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_locked_disk_is_waited_for_and_nobody_is_cancelled() {
    let busy = Create::Refuses(Kind::Busy, "The following disks are locked: disk1");
    let fixture = Fixture::new().creates(vec![busy; 8]);
    fixture.engine.foreign(
        Phase::Transferring,
        "download",
        fixture.timers.inactivity.as_secs(),
    );
    fixture.run().await.unwrap();
    assert_eq!(fixture.engine.count("create"), 9);
    assert_eq!(fixture.engine.count("cancel t0"), 0);
    assert_eq!(fixture.engine.phase(0), Phase::Transferring);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stays_locked_fails_with_the_engines_words() {
    let busy = Create::Refuses(Kind::Busy, "The following disks are locked: disk1");
    let fixture = Fixture::new().creates(vec![busy; 1000]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceBusy);
    assert!(
        failure.message().contains("disks are locked: disk1"),
        "{failure}"
    );
    let waited = fixture.engine.elapsed();
    assert!((300..320).contains(&waited), "{waited}");
    assert!(fixture.engine.count("create") < 40, "hammers the engine");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_heal_is_asked_once() {
    for (kind, exit) in [
        (Kind::Unusable, Exit::SourceUnusable),
        (Kind::Missing, Exit::SourceMissing),
        (Kind::Permission, Exit::Permission),
        (Kind::Credentials, Exit::Credentials),
        (Kind::Protocol, Exit::SourceProtocol),
        (Kind::Tls, Exit::Tls),
    ] {
        let fixture = Fixture::new().creates([Create::Refuses(kind, "no")]);
        assert_eq!(fixture.run().await.unwrap_err().exit(), exit);
        assert_eq!(fixture.engine.changes(), ["create"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_restarts_is_waited_for_within_the_retry_budget() {
    let away = Create::Refuses(Kind::Unreachable, "connection refused");
    let fixture = Fixture::new().creates(vec![away.clone(); 5]);
    fixture.run().await.unwrap();

    let fixture = Fixture::new().creates(vec![away; 1000]);
    assert_eq!(
        fixture.run().await.unwrap_err().exit(),
        Exit::SourceUnavailable
    );
    assert!((600..630).contains(&fixture.engine.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_whose_answer_was_lost_is_found() {
    let fixture = Fixture::new().creates([Create::MakesButLoses]);
    fixture.run().await.unwrap();
    assert_eq!(fixture.engine.changes(), ["create", "finalize t0"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_lost_is_sent_again_once_the_disk_is_seen_free() {
    let fixture = Fixture::new().creates([Create::Loses]);
    fixture.run().await.unwrap();
    assert_eq!(
        fixture.engine.changes(),
        ["create", "create", "finalize t0"]
    );
    let log = fixture.engine.state().log.clone();
    let first = log.iter().position(|call| call == "create").unwrap();
    assert_eq!(log[first + 1..first + 4], ["list", "disk", "create"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_list_from_before_nothing_is_taken_for_ours() {
    let fixture = Fixture::new().creates([Create::MakesButLoses]);
    fixture.engine.state().lists.extend([Kind::Unreachable]);
    fixture
        .engine
        .state()
        .disks
        .extend(vec![DiskStatus::Locked; 3]);
    let failure = fixture.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceBusy);
    assert_eq!(fixture.engine.changes(), ["create"]);
}

#[tokio::test(start_paused = true)]
async fn transfers_of_others_are_never_taken_for_ours() {
    for (before, direction, inactivity) in [
        (true, "download", 120),
        (false, "upload", 120),
        (false, "download", 60),
    ] {
        let fixture = Fixture::new().creates([Create::Loses]);
        if before {
            fixture
                .engine
                .foreign(Phase::Transferring, direction, inactivity);
        }
        let session = fixture.session();
        let mut run = std::pin::pin!(session.run());
        if !before {
            // Appears between the list and the look for ours.
            let second = std::time::Duration::from_millis(500);
            assert!(tokio::time::timeout(second, &mut run).await.is_err());
            fixture
                .engine
                .foreign(Phase::Transferring, direction, inactivity);
        }
        let failure = run.await.unwrap_err();
        assert_eq!(failure.exit(), Exit::SourceBusy);
        assert!(failure.message().contains("t0"), "{failure}");
        assert_eq!(fixture.engine.changes(), ["create"]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_list_the_disk_tells() {
    let fixture = Fixture::new().creates([Create::MakesButLoses]);
    fixture
        .engine
        .state()
        .lists
        .extend(vec![Kind::Permission; 100]);
    fixture
        .engine
        .state()
        .disks
        .extend([DiskStatus::Locked, DiskStatus::Locked, DiskStatus::Ok]);
    fixture.run().await.unwrap();
    assert_eq!(
        fixture.engine.changes(),
        ["create", "create", "finalize t1"]
    );
}
