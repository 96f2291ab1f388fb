//! What goes wrong while the data passes.

use contract::Exit;
use testkit::{Cut, Fault, Gate, LoopDevice, Reply, When, fake::engine::IMAGES};

use crate::fixture::{request, start};

#[test]
fn nothing_wrong() {
    let fixture = start();
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
    let fixture = start();
    let device = LoopDevice::new(fixture.disk.size().next_multiple_of(4096), 512);
    let server = fixture.source.data();
    server.fault(request(1), Fault::cut(4097, Cut::Reset));
    let run = fixture.command_to(device.path()).run();
    fixture.ended(&run, Exit::Success);
    fixture.disk.assert_on(device.path());
}

#[test]
fn a_daemon_that_fails_is_given_time() {
    let fixture = start();
    let server = fixture.source.data();
    server.fault(request(0), Fault::retry_after(503, 1));
    server.fault(request(1), Fault::status(500));
    server.fault(
        When::path(IMAGES).method("OPTIONS"),
        Fault::NoAnswer(Cut::Fin),
    );
    fixture.copies();
}

#[test]
fn extents_that_take_long_and_extents_that_are_cut() {
    let fixture = start();
    let server = fixture.source.data();
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
        let fixture = start();
        let answer = Reply::bytes(200, extents).header("Content-Type", "application/json");
        let when = When::path(IMAGES).method("GET").always();
        fixture.source.data().fault(when, Fault::Answer(answer));
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
        let fixture = start();
        fixture.source.change(|knobs| {
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
    let fixture = start();
    let full = || fixture.command().flag("verify", "full");
    let verified = fixture.copies_with(&full()).verified.unwrap();
    assert!(
        verified.starts_with("blkhash") || verified.contains("blake2b"),
        "{verified}"
    );
    fixture
        .source
        .change(|knobs| knobs.checksum = Some("ab".repeat(32)));
    let wrong = "ab".repeat(32);
    fixture.fails_with(&full().arg("--force"), Exit::HashMismatch, &[&wrong]);
}

#[test]
fn corrupt_bytes_do_not_pass_the_checksum() {
    let fixture = start();
    fixture
        .source
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
        let fixture = start();
        let server = fixture.source.data();
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
        // Each is another transfer, until they are too many.
        let message = fixture.ended(&run, Exit::SourceUnavailable).message;
        assert!(message.contains("checksum"), "{status}: {message}");
    }
}
