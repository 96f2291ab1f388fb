//! What goes wrong while the data passes.

use contract::Exit;
use testkit::{Cut, Fault, Gate, When, fake::glance::FILE};

use crate::fixture::Fixture;

/// The requests before the first one of the copy: the probe, and the look at the head.
const BEFORE: usize = 2;

/// The copy's request number `n`.
fn request(n: usize) -> When {
    When::path(FILE).skip(BEFORE + n)
}

#[test]
fn nothing_wrong() {
    let fixture = Fixture::new();
    let termination = fixture.copies();
    assert!(termination.verified.unwrap().starts_with("sha512:"));
    assert_eq!(termination.retries, 0);
    let ranges = fixture.ranges(BEFORE);
    assert!(ranges.len() >= 3, "{ranges:?}");
    assert_eq!(ranges[0].0, 0);
}

#[test]
fn a_cut_body_is_continued_where_it_ended() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    server.fault(request(0), Fault::cut(1000, Cut::Fin));
    server.fault(request(1), Fault::cut(500, Cut::Orderly));
    server.fault(request(3), Fault::cut(0, Cut::Fin));
    let termination = fixture.copies();
    assert_eq!(termination.retries, 3);
    let ranges = fixture.ranges(BEFORE);
    assert_eq!((ranges[0].0, ranges[1].0, ranges[2].0), (0, 1000, 1500));
    assert_eq!(ranges[4], ranges[3]);
}

#[test]
fn resets_and_answers_that_never_come() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    server.fault(request(0), Fault::cut(100_000, Cut::Reset));
    server.fault(request(1), Fault::NoAnswer(Cut::Fin));
    server.fault(request(3), Fault::NoAnswer(Cut::Reset));
    fixture.copies();
}

#[test]
fn a_stall_is_ended_and_the_rest_asked_for_again() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    server.fault(request(0), Fault::stall(70_000, &Gate::new()));
    server.fault(request(2), Fault::HoldHead(Gate::new()));
    let command = fixture.command().flag("stall-timeout", "1s");
    let termination = fixture.copies_with(&command);
    assert_eq!(termination.retries, 2);
    assert_eq!(fixture.ranges(BEFORE)[1].0, 70_000);
}

#[test]
fn a_range_that_is_not_the_one_asked_for_is_never_written() {
    for lie in [
        Fault::Shift(512),
        Fault::Header("Content-Range", "bytes 0-99/1000000".to_owned()),
        Fault::Header("Content-Range", "nonsense".to_owned()),
        Fault::Total(5 << 20),
        Fault::ContentLength(100),
        Fault::IgnoreRange,
    ] {
        let fixture = Fixture::new();
        fixture
            .glance
            .server()
            .fault(request(1).always(), lie.clone());
        let run = fixture.command().run();
        assert_eq!(
            run.code(),
            Some(Exit::SourceProtocol.code().into()),
            "{lie:?}: {}",
            run.output()
        );
        fixture.ended(&run, Exit::SourceProtocol);
    }
}

#[test]
fn a_server_without_ranges_is_read_as_one_stream() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    server.fault(When::path(FILE).always(), Fault::IgnoreRange);
    assert!(fixture.copies().verified.is_some());
}

#[test]
fn a_stream_that_is_cut_starts_over() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    server.fault(When::path(FILE).always(), Fault::IgnoreRange);
    server.fault(request(0), Fault::cut(2_000_000, Cut::Fin));
    fixture.copies();
}

#[test]
fn a_busy_server_is_given_time() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    server.fault(request(0), Fault::retry_after(429, 1));
    server.fault(request(1), Fault::retry_after(503, 0));
    server.fault(request(3), Fault::status(500));
    assert_eq!(fixture.copies().retries, 3);
}

#[test]
fn a_server_that_stays_busy_exhausts_the_retry_budget() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    server.fault(request(1).always(), Fault::retry_after(503, 1));
    let command = fixture.command().flag("no-progress-timeout", "2s");
    fixture.fails_with(&command, Exit::SourceUnavailable, &["503"]);
}

#[test]
fn ways_to_frame_a_body() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    let continues = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    server.fault(request(0), Fault::Before(continues.to_vec()));
    server.fault(request(0), Fault::Drip(1000));
    server.fault(request(1), Fault::Chunked(3000));
    server.fault(request(2), Fault::Close);
    server.fault(request(3), Fault::CloseSilently);
    fixture.copies();
}

#[test]
fn bytes_beyond_the_body_are_never_written() {
    let fixture = Fixture::new();
    fixture
        .glance
        .server()
        .fault(request(0), Fault::Extra(5000));
    fixture.fails(Exit::SourceProtocol, &["not asked for"]);
}

#[test]
fn rubbish_in_place_of_an_answer() {
    let fixture = Fixture::new();
    let rubbish = b"SMTP? 250 no\r\n\r\n".to_vec();
    fixture
        .glance
        .server()
        .fault(request(1).always(), Fault::Raw(rubbish));
    fixture.fails(Exit::SourceProtocol, &[]);
}

#[test]
fn corrupt_bytes_do_not_pass_the_hash() {
    let fixture = Fixture::new();
    fixture
        .glance
        .server()
        .fault(When::path(FILE).always(), Fault::Corrupt(3_000_000));
    let stated = fixture.glance.image().hash.unwrap().1;
    fixture.fails(
        Exit::HashMismatch,
        &[&stated, "what was copied has sha512:"],
    );
}

#[test]
fn without_verification_the_same_bytes_pass() {
    let fixture = Fixture::new();
    fixture
        .glance
        .server()
        .fault(When::path(FILE).always(), Fault::Corrupt(3_000_000));
    let run = fixture.command().flag("verify", "off").run();
    assert_eq!(fixture.ended(&run, Exit::Success).verified, None);
    let wrong = fixture.disk.first_difference(&fixture.target()).unwrap();
    assert_eq!(wrong.0, 3_000_000);
}

#[test]
fn a_server_that_is_gone_for_a_while() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
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
fn a_server_that_does_not_come_back() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    let gate = Gate::new();
    server.fault(request(1), Fault::stall(10, &gate));
    let running = fixture.command().flag("no-progress-timeout", "2s").spawn();
    server.wait_for_held(1);
    server.refuse();
    server.drop_connections();
    gate.open();
    let message = fixture
        .ended(&running.wait(), Exit::SourceUnavailable)
        .message;
    assert!(message.contains("refused"), "{message}");
}

#[test]
fn every_fault_at_once_on_several_connections() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    let at = |n: usize| When::path(FILE).skip(BEFORE + n);
    server.fault(at(0), Fault::cut(77, Cut::Fin));
    server.fault(at(1), Fault::cut(1_048_576, Cut::Reset));
    server.fault(at(2), Fault::status(502));
    server.fault(at(3), Fault::NoAnswer(Cut::Orderly));
    server.fault(at(4), Fault::Close);
    server.fault(at(5), Fault::retry_after(503, 0));
    let command = fixture
        .command_to(&fixture.target())
        .flag("connections", "4");
    fixture.copies_with(&command);
}
