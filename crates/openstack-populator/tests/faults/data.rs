//! What goes wrong while the data passes.

use contract::Exit;
use testkit::{Cut, Fault, Gate, When, fake::glance::FILE};

use crate::fixture::{request, start};

#[test]
fn nothing_wrong() {
    let fixture = start();
    let termination = fixture.copies();
    assert!(termination.verified.unwrap().starts_with("sha512:"));
    assert_eq!(termination.retries, 0);
    // One connection needs one request.
    assert_eq!(fixture.ranges(), [(0, fixture.disk.size() - 1)]);
}

#[test]
fn a_server_without_ranges_is_read_as_one_stream() {
    let fixture = start();
    let server = fixture.source.server();
    server.fault(When::path(FILE).always(), Fault::IgnoreRange);
    assert!(fixture.copies().verified.is_some());
    // What shows that there are no ranges is the image itself.
    assert_eq!(fixture.source.data_requests().len(), 1);
}

#[test]
fn a_store_that_refuses_ranges_is_asked_for_the_image_once() {
    let fixture = start();
    fixture
        .source
        .server()
        .fault(request(0), Fault::status(400));
    assert!(fixture.copies().verified.is_some());
    let ranges: Vec<_> = fixture
        .source
        .data_requests()
        .iter()
        .map(|request| request.header("range").is_some())
        .collect();
    assert_eq!(ranges, [true, false]);
}

#[test]
fn a_stream_that_is_cut_starts_over() {
    let fixture = start();
    let server = fixture.source.server();
    server.fault(When::path(FILE).always(), Fault::IgnoreRange);
    server.fault(request(0), Fault::cut(2_000_000, Cut::Fin));
    fixture.copies();
}

#[test]
fn a_busy_server_is_given_time() {
    let fixture = start();
    let server = fixture.source.server();
    server.fault(request(0), Fault::cut(100_000, Cut::Orderly));
    server.fault(request(1), Fault::retry_after(429, 1));
    server.fault(request(2), Fault::retry_after(503, 0));
    server.fault(request(3), Fault::status(500));
    assert_eq!(fixture.copies().retries, 4);
}

#[test]
fn ways_to_frame_a_body() {
    let continues = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    for faults in [
        vec![Fault::Before(continues.to_vec()), Fault::Drip(1000)],
        vec![Fault::Chunked(3000)],
        vec![Fault::Close],
        vec![Fault::CloseSilently],
    ] {
        let fixture = start();
        for fault in faults {
            fixture.source.server().fault(request(0), fault);
        }
        fixture.copies();
    }
}

#[test]
fn bytes_beyond_the_body_are_never_written() {
    let fixture = start();
    fixture
        .source
        .server()
        .fault(request(0), Fault::Extra(5000));
    // The connection is of no more use; the bytes on it that were asked for are.
    fixture.copies();
}

#[test]
fn rubbish_in_place_of_an_answer() {
    let fixture = start();
    let rubbish = b"SMTP? 250 no\r\n\r\n".to_vec();
    let server = fixture.source.server();
    server.fault(request(0), Fault::cut(100_000, Cut::Reset));
    server.fault(request(1).always(), Fault::Raw(rubbish));
    let command = fixture.command().flag("no-progress-timeout", "1s");
    fixture.fails_with(&command, Exit::SourceProtocol, &[]);
}

#[test]
fn corrupt_bytes_do_not_pass_the_hash() {
    let fixture = start();
    fixture
        .source
        .server()
        .fault(When::path(FILE).always(), Fault::Corrupt(3_000_000));
    let stated = fixture.source.image().hash.unwrap().1;
    fixture.fails(
        Exit::HashMismatch,
        &[&stated, "what was copied has sha512:"],
    );
}

#[test]
fn without_verification_the_same_bytes_pass() {
    let fixture = start();
    fixture
        .source
        .server()
        .fault(When::path(FILE).always(), Fault::Corrupt(3_000_000));
    let run = fixture.command().flag("verify", "off").run();
    assert_eq!(fixture.ended(&run, Exit::Success).verified, None);
    let wrong = fixture.disk.first_difference(&fixture.target()).unwrap();
    assert_eq!(wrong.0, 3_000_000);
}

#[test]
fn a_server_that_does_not_come_back() {
    let fixture = start();
    let server = fixture.source.server();
    let gate = Gate::new();
    server.fault(request(0), Fault::cut(100_000, Cut::Reset));
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
