//! What goes wrong while the data passes.

use contract::Exit;
use testkit::{Cut, Fault, Gate, Reply, Volume, When, fake::engine::IMAGES};

use crate::fixture::{Fixture, request};

#[test]
fn nothing_wrong() {
    let fixture = Fixture::new();
    let termination = fixture.copies();
    assert_eq!(termination.retries, 0);
    assert_eq!(termination.copied_bytes, fixture.disk.size());
    let asked: u64 = fixture
        .ranges()
        .iter()
        .map(|(first, last)| last - first + 1)
        .sum();
    assert!(asked <= fixture.disk.data_bytes() + (1 << 20), "{asked}");
    assert!(
        testkit::image::allocated_bytes(&fixture.target())
            <= fixture.disk.data_bytes() + (64 << 10)
    );
}

#[test]
fn a_device_that_held_other_data() {
    let fixture = Fixture::new();
    let device = fixture.device();
    let server = fixture.engine.data();
    server.fault(request(1), Fault::cut(4097, Cut::Reset));
    let run = fixture.command_to(device.path()).run();
    fixture.ended(&run, Exit::Success);
    fixture.disk.assert_on(device.path());
}

#[test]
fn a_cut_body_is_continued_where_it_ended() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    server.fault(request(0), Fault::cut(1000, Cut::Fin));
    server.fault(request(1), Fault::cut(513, Cut::Orderly));
    server.fault(request(3), Fault::cut(0, Cut::Fin));
    assert_eq!(fixture.copies().retries, 3);
    let ranges = fixture.ranges();
    assert_eq!((ranges[0].0, ranges[1].0, ranges[2].0), (0, 1000, 1513));
    assert_eq!(ranges[4], ranges[3]);
}

#[test]
fn resets_and_answers_that_never_come() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    server.fault(request(0), Fault::cut(100_000, Cut::Reset));
    server.fault(request(1), Fault::NoAnswer(Cut::Fin));
    server.fault(request(2), Fault::NoAnswer(Cut::Reset));
    assert_eq!(fixture.copies().retries, 3);
}

#[test]
fn a_stall_is_ended_and_the_rest_asked_for_again() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    server.fault(request(0), Fault::stall(70_000, &Gate::new()));
    server.fault(request(2), Fault::HoldHead(Gate::new()));
    let command = fixture.command().flag("stall-timeout", "1s");
    assert_eq!(fixture.copies_with(&command).retries, 2);
    assert_eq!(fixture.ranges()[1].0, 70_000);
}

#[test]
fn a_range_that_is_not_the_one_asked_for_is_never_written() {
    for lie in [
        Fault::Shift(512),
        Fault::Header("Content-Range", "bytes 0-99/1000000".to_owned()),
        Fault::Header("Content-Range", "nonsense".to_owned()),
        Fault::Total(10 << 20),
        Fault::ContentLength(512),
        Fault::IgnoreRange,
    ] {
        let fixture = Fixture::new();
        fixture
            .engine
            .data()
            .fault(request(1).always(), lie.clone());
        let run = fixture.command().run();
        let protocol = Some(Exit::SourceProtocol.code().into());
        assert_eq!(run.code(), protocol, "{lie:?}: {}", run.output());
        fixture.ended(&run, Exit::SourceProtocol);
    }
}

#[test]
fn a_daemon_that_fails_is_given_time() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    server.fault(request(0), Fault::retry_after(503, 1));
    server.fault(request(1), Fault::status(500));
    server.fault(
        When::path(IMAGES).method("OPTIONS"),
        Fault::NoAnswer(Cut::Fin),
    );
    fixture.copies();
}

#[test]
fn a_daemon_that_stays_busy_exhausts_the_retry_budget() {
    let fixture = Fixture::new();
    fixture
        .engine
        .data()
        .fault(request(1).always(), Fault::status(503));
    let command = fixture.command().flag("no-progress-timeout", "2s");
    fixture.fails_with(&command, Exit::SourceUnavailable, &["503"]);
}

#[test]
fn extents_that_take_long_and_extents_that_are_cut() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    let gate = Gate::new();
    let extents = || When::path(IMAGES).method("GET");
    server.fault(extents(), Fault::cut(20, Cut::Orderly));
    server.fault(extents().skip(1), Fault::HoldHead(gate.clone()));
    // The stall time of the data is not that of the extents.
    let running = fixture.command().flag("stall-timeout", "1s").spawn();
    server.wait_for_held(1);
    // Nothing else is open meanwhile that could go idle.
    assert!(fixture.ranges().is_empty());
    gate.open();
    fixture.has_copied(&running.wait());
}

#[test]
fn extents_that_lie() {
    for extents in [
        r#"[{"start":0,"length":512,"zero":false,"hole":false}]"#,
        r#"[{"start":512,"length":20971520,"zero":true,"hole":true}]"#,
        r#"[{"start":0,"length":20972032,"zero":false},{"start":0,"length":512,"zero":true}]"#,
        r#"[{"start":0,"length":18446744073709551615,"zero":true}]"#,
        r#"{"error":"no"}"#,
        "not json",
        "[]",
    ] {
        let fixture = Fixture::new();
        let answer = Reply::bytes(200, extents).header("Content-Type", "application/json");
        let when = When::path(IMAGES).method("GET").always();
        fixture.engine.data().fault(when, Fault::Answer(answer));
        let run = fixture.command().run();
        let protocol = Some(Exit::SourceProtocol.code().into());
        assert_eq!(run.code(), protocol, "{extents}: {}", run.output());
        fixture.ended(&run, Exit::SourceProtocol);
    }
}

#[test]
fn old_daemons() {
    for (options, extents) in [
        (None, false),
        (Some(serde_json::json!({"features": []})), false),
        (Some(serde_json::json!({"features": ["extents"]})), true),
    ] {
        let fixture = Fixture::new();
        fixture.engine.change(|knobs| {
            knobs.options = options;
            knobs.extents = extents;
        });
        let command = fixture
            .command_to(&fixture.target())
            .flag("connections", "4");
        fixture.copies_with(&command);
    }
}

#[test]
fn a_checksum_of_the_daemon_that_is_right_and_one_that_is_wrong() {
    let fixture = Fixture::new();
    let full = || fixture.command().flag("verify", "full");
    let verified = fixture.copies_with(&full()).verified.unwrap();
    assert!(
        verified.starts_with("blkhash") || verified.contains("blake2b"),
        "{verified}"
    );
    fixture
        .engine
        .change(|knobs| knobs.checksum = Some("ab".repeat(32)));
    let wrong = "ab".repeat(32);
    fixture.fails_with(&full().arg("--force"), Exit::HashMismatch, &[&wrong]);
}

#[test]
fn corrupt_bytes_do_not_pass_the_checksum() {
    let fixture = Fixture::new();
    fixture
        .engine
        .data()
        .fault(request(0).always(), Fault::Corrupt(13_000_000));
    let full = fixture.command().flag("verify", "full");
    fixture.fails_with(
        &full,
        Exit::HashMismatch,
        &["the source states blkhash:", "what was copied has blkhash:"],
    );
}

#[test]
fn a_checksum_that_cannot_be_had_is_no_success() {
    for status in [403, 404] {
        let fixture = Fixture::new();
        let server = fixture.engine.data();
        let data = fixture.disk.object();
        // The last GET of a run is the checksum's; the data is served as ever.
        server.route(IMAGES, move |request| match request.method.as_str() {
            "OPTIONS" => Reply::json(
                200,
                &serde_json::json!({"features": ["checksum"], "max_readers": 8}),
            ),
            _ if request.path().ends_with("/checksum") => Reply::text(status, "no\n"),
            _ => Reply::object(request, &data),
        });
        let run = fixture.command().flag("verify", "full").run();
        assert_ne!(run.code(), Some(0), "{status}: {}", run.output());
        assert!(run.output().contains("checksum"), "{}", run.output());
    }
}

#[test]
fn a_daemon_that_is_gone_for_a_while() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    let gate = Gate::new();
    server.fault(request(1), Fault::stall(10, &gate));
    let running = fixture.command().flag("log-level", "debug").spawn();
    server.wait_for_held(1);
    server.refuse();
    server.drop_connections();
    gate.open();
    running.wait_for_line("refused");
    server.listen();
    fixture.has_copied(&running.wait());
}

#[test]
fn a_full_file_system() {
    let fixture = Fixture::new();
    let volume = Volume::ext4(8 << 20);
    let command = fixture.command_to(&volume.path("disk.img"));
    fixture.fails_with(&command, Exit::TargetFull, &[]);
}

#[test]
fn every_fault_at_once_on_several_connections() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    server.fault(request(0), Fault::cut(77, Cut::Fin));
    server.fault(request(1), Fault::cut(1_048_576, Cut::Reset));
    server.fault(request(2), Fault::status(502));
    server.fault(request(3), Fault::NoAnswer(Cut::Orderly));
    server.fault(request(4), Fault::Close);
    server.fault(request(5), Fault::Chunked(10_000));
    let command = fixture
        .command_to(&fixture.target())
        .flag("connections", "4");
    fixture.copies_with(&command);
}
