//! What goes wrong while the data passes.

use contract::Exit;
use testkit::{Cut, Fault, Gate, Reply, Volume, When, fake::engine::IMAGES};

use crate::bench::{Bench, request};

#[test]
fn nothing_wrong() {
    let bench = Bench::new();
    let termination = bench.copies();
    assert_eq!(termination.retries, 0);
    assert_eq!(termination.copied_bytes, bench.disk.size());
    let asked: u64 = bench
        .ranges()
        .iter()
        .map(|(first, last)| last - first + 1)
        .sum();
    assert!(asked <= bench.disk.data_bytes() + (1 << 20), "{asked}");
    assert!(
        testkit::image::allocated_bytes(&bench.target()) <= bench.disk.data_bytes() + (64 << 10)
    );
}

#[test]
fn a_device_that_held_other_data() {
    let bench = Bench::new();
    let device = bench.device();
    let server = bench.engine.data();
    server.fault(request(1), Fault::cut(4097, Cut::Reset));
    let run = bench.command_to(device.path()).run();
    bench.ended(&run, Exit::Success);
    bench.disk.assert_on(device.path());
}

#[test]
fn a_cut_body_is_continued_where_it_ended() {
    let bench = Bench::new();
    let server = bench.engine.data();
    server.fault(request(0), Fault::cut(1000, Cut::Fin));
    server.fault(request(1), Fault::cut(513, Cut::Orderly));
    server.fault(request(3), Fault::cut(0, Cut::Fin));
    assert_eq!(bench.copies().retries, 3);
    let ranges = bench.ranges();
    assert_eq!((ranges[0].0, ranges[1].0, ranges[2].0), (0, 1000, 1513));
    assert_eq!(ranges[4], ranges[3]);
}

#[test]
fn resets_and_answers_that_never_come() {
    let bench = Bench::new();
    let server = bench.engine.data();
    server.fault(request(0), Fault::cut(100_000, Cut::Reset));
    server.fault(request(1), Fault::NoAnswer(Cut::Fin));
    server.fault(request(2), Fault::NoAnswer(Cut::Reset));
    assert_eq!(bench.copies().retries, 3);
}

#[test]
fn a_stall_is_ended_and_the_rest_asked_for_again() {
    let bench = Bench::new();
    let server = bench.engine.data();
    server.fault(request(0), Fault::stall(70_000, &Gate::new()));
    server.fault(request(2), Fault::HoldHead(Gate::new()));
    let command = bench.command().flag("stall-timeout", "1s");
    assert_eq!(bench.copies_with(&command).retries, 2);
    assert_eq!(bench.ranges()[1].0, 70_000);
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
        let bench = Bench::new();
        bench.engine.data().fault(request(1).always(), lie.clone());
        let run = bench.command().run();
        let protocol = Some(Exit::SourceProtocol.code().into());
        assert_eq!(run.code(), protocol, "{lie:?}: {}", run.output());
        bench.ended(&run, Exit::SourceProtocol);
    }
}

#[test]
fn a_daemon_that_fails_is_given_time() {
    let bench = Bench::new();
    let server = bench.engine.data();
    server.fault(request(0), Fault::retry_after(503, 1));
    server.fault(request(1), Fault::status(500));
    server.fault(
        When::path(IMAGES).method("OPTIONS"),
        Fault::NoAnswer(Cut::Fin),
    );
    bench.copies();
}

#[test]
fn a_daemon_that_stays_busy_exhausts_the_patience() {
    let bench = Bench::new();
    bench
        .engine
        .data()
        .fault(request(1).always(), Fault::status(503));
    let command = bench.command().flag("patience", "2s");
    bench.fails_with(&command, Exit::SourceUnavailable, &["503"]);
}

#[test]
fn extents_that_take_long_and_extents_that_are_cut() {
    let bench = Bench::new();
    let server = bench.engine.data();
    let gate = Gate::new();
    let extents = || When::path(IMAGES).method("GET");
    server.fault(extents(), Fault::cut(20, Cut::Orderly));
    server.fault(extents().skip(1), Fault::HoldHead(gate.clone()));
    // The stall time of the data is not that of the extents.
    let running = bench.command().flag("stall-timeout", "1s").spawn();
    server.wait_for_held(1);
    // Nothing else is open meanwhile that could go idle.
    assert!(bench.ranges().is_empty());
    gate.open();
    bench.has_copied(&running.wait());
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
        let bench = Bench::new();
        let answer = Reply::bytes(200, extents).header("Content-Type", "application/json");
        let when = When::path(IMAGES).method("GET").always();
        bench.engine.data().fault(when, Fault::Answer(answer));
        let run = bench.command().run();
        let protocol = Some(Exit::SourceProtocol.code().into());
        assert_eq!(run.code(), protocol, "{extents}: {}", run.output());
        bench.ended(&run, Exit::SourceProtocol);
    }
}

#[test]
fn old_daemons() {
    for (options, extents) in [
        (None, false),
        (Some(serde_json::json!({"features": []})), false),
        (Some(serde_json::json!({"features": ["extents"]})), true),
    ] {
        let bench = Bench::new();
        bench.engine.change(|knobs| {
            knobs.options = options;
            knobs.extents = extents;
        });
        let command = bench.command_to(&bench.target()).flag("connections", "4");
        bench.copies_with(&command);
    }
}

#[test]
fn a_checksum_of_the_daemon_that_is_right_and_one_that_is_wrong() {
    let bench = Bench::new();
    let full = || bench.command().flag("verify", "full");
    let verified = bench.copies_with(&full()).verified.unwrap();
    assert!(
        verified.starts_with("blkhash") || verified.contains("blake2b"),
        "{verified}"
    );
    bench
        .engine
        .change(|knobs| knobs.checksum = Some("ab".repeat(32)));
    let wrong = "ab".repeat(32);
    bench.fails_with(&full().arg("--force"), Exit::HashMismatch, &[&wrong]);
}

#[test]
fn corrupt_bytes_do_not_pass_the_checksum() {
    let bench = Bench::new();
    bench
        .engine
        .data()
        .fault(request(0).always(), Fault::Corrupt(13_000_000));
    let full = bench.command().flag("verify", "full");
    bench.fails_with(
        &full,
        Exit::HashMismatch,
        &["the source states blkhash:", "what was copied has blkhash:"],
    );
}

#[test]
fn a_checksum_that_cannot_be_had_is_no_success() {
    for status in [403, 404] {
        let bench = Bench::new();
        let server = bench.engine.data();
        let data = bench.disk.object();
        // The last GET of a run is the checksum's; the data is served as ever.
        server.route(IMAGES, move |request| match request.method.as_str() {
            "OPTIONS" => Reply::json(
                200,
                &serde_json::json!({"features": ["checksum"], "max_readers": 8}),
            ),
            _ if request.path().ends_with("/checksum") => Reply::text(status, "no\n"),
            _ => Reply::object(request, &data),
        });
        let run = bench.command().flag("verify", "full").run();
        assert_ne!(run.code(), Some(0), "{status}: {}", run.output());
        assert!(run.output().contains("checksum"), "{}", run.output());
    }
}

#[test]
fn a_daemon_that_is_gone_for_a_while() {
    let bench = Bench::new();
    let server = bench.engine.data();
    let gate = Gate::new();
    server.fault(request(1), Fault::stall(10, &gate));
    let running = bench.command().flag("log-level", "debug").spawn();
    server.wait_for_held(1);
    server.refuse();
    server.drop_connections();
    gate.open();
    running.wait_for_line("refused");
    server.listen();
    bench.has_copied(&running.wait());
}

#[test]
fn a_full_file_system() {
    let bench = Bench::new();
    let volume = Volume::ext4(8 << 20);
    let command = bench.command_to(&volume.path("disk.img"));
    bench.fails_with(&command, Exit::TargetFull, &[]);
}

#[test]
fn every_fault_at_once_on_several_connections() {
    let bench = Bench::new();
    let server = bench.engine.data();
    server.fault(request(0), Fault::cut(77, Cut::Fin));
    server.fault(request(1), Fault::cut(1_048_576, Cut::Reset));
    server.fault(request(2), Fault::status(502));
    server.fault(request(3), Fault::NoAnswer(Cut::Orderly));
    server.fault(request(4), Fault::Close);
    server.fault(request(5), Fault::Chunked(10_000));
    let command = bench.command_to(&bench.target()).flag("connections", "4");
    bench.copies_with(&command);
}
