//! The answer that shows how an object can be read is what the copy reads first.

use std::{sync::Arc, thread};

use net::Cancel;
use testkit::{Cut, Fault, Gate, Server, When};
use transfer::{
    Access, ByteRange, Kind, Source,
    source::{Changes, HttpSource, NoAuthorization},
};

use crate::{
    http::{SIZE, disk, serve},
    support::{assert_fails, connector, four, read_all},
};

const FIRST: u64 = 30_000;

fn open(server: &Server, cancel: &Cancel) -> HttpSource {
    HttpSource::open(
        connector(cancel),
        server.url("/disk").parse().unwrap(),
        Arc::new(NoAuthorization),
        SIZE as u64,
        four(),
        Changes::Refused,
        FIRST,
    )
    .unwrap()
}

#[test]
fn a_copy_asks_for_nothing_twice() {
    let disk = disk();
    for chunked in [false, true] {
        let server = serve(&disk);
        if chunked {
            server.fault(When::any().always(), Fault::Chunked(1000));
        }
        let source = open(&server, &Cancel::new());
        for length in [0, 10, 1024, 100] {
            assert_eq!(source.head(length).unwrap(), disk.bytes()[..length]);
        }
        assert_eq!(read_all(&source, FIRST).unwrap(), disk.bytes());
        let requests = server.requests();
        assert_eq!(requests.len(), SIZE.div_ceil(30_000));
        // On the connection of the first answer.
        assert!(requests.iter().all(|request| request.connection == 0));
        // It is given out once.
        assert_eq!(read_all(&source, FIRST).unwrap(), disk.bytes());
        assert_eq!(server.requests().len(), 2 * requests.len());
    }
}

#[test]
fn an_object_without_ranges_is_asked_for_once() {
    for (fault, requests) in [
        (vec![Fault::IgnoreRange], 1),
        (vec![Fault::IgnoreRange, Fault::UntilClose], 1),
        (vec![Fault::status(400)], 2),
        (vec![Fault::status(501)], 2),
    ] {
        let disk = disk();
        let server = serve(&disk);
        for fault in fault {
            server.fault(When::ranged(), fault);
        }
        let source = open(&server, &Cancel::new());
        assert_eq!(source.access(), Access::Ordered);
        assert_eq!(source.head(1024).unwrap(), disk.bytes()[..1024]);
        assert_eq!(read_all(&source, 7777).unwrap(), disk.bytes());
        assert_eq!(server.requests().len(), requests);
    }
}

/// The whole object fits into what is looked at before the copy.
#[test]
fn all_of_an_object_may_be_read_before_the_copy() {
    let disk = disk();
    let server = serve(&disk);
    server.fault(When::any(), Fault::IgnoreRange);
    server.fault(When::any(), Fault::UntilClose);
    let source = open(&server, &Cancel::new());
    assert_eq!(source.head(SIZE).unwrap(), disk.bytes());
    assert_eq!(read_all(&source, SIZE as u64).unwrap(), disk.bytes());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_reader_of_another_range_asks_by_itself() {
    let disk = disk();
    let server = serve(&disk);
    let source = open(&server, &Cancel::new());
    assert_eq!(read_all(&source, FIRST / 2).unwrap(), disk.bytes());
    let asked = SIZE.div_ceil(15_000);
    assert_eq!(server.requests().len(), 1 + asked);
}

#[test]
fn a_first_answer_that_is_cut_hands_on_what_came() {
    let disk = disk();
    for (cut, came) in [(2000, 2000), (1024, 1024)] {
        let server = serve(&disk);
        server.fault(When::any(), Fault::cut(cut, Cut::Orderly));
        let source = open(&server, &Cancel::new());
        source.head(1024).unwrap();
        let mut reader = source.reader(&Cancel::new()).unwrap();
        reader.begin(ByteRange::new(0, FIRST)).unwrap();
        let mut bytes = vec![0; 30_000];
        let (count, error) = reader.fill(&mut bytes).unwrap_err();
        assert_eq!((count, error.kind()), (came, Kind::Network));
        assert_eq!(bytes[..count], disk.bytes()[..count]);
        // The missing part comes by a request of its own.
        let left = ByteRange::new(count as u64, FIRST);
        let mut reader = source.reader(&Cancel::new()).unwrap();
        reader.begin(left).unwrap();
        reader.fill(&mut bytes[count..]).unwrap();
        assert_eq!(bytes, disk.bytes()[..30_000]);
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn a_beginning_that_is_cut_is_asked_for_again() {
    let disk = disk();
    let server = serve(&disk);
    server.fault(When::any(), Fault::cut(1000, Cut::Reset));
    let source = open(&server, &Cancel::new());
    assert_fails(source.head(1024), Kind::Network, &[]);
    assert_eq!(source.head(1024).unwrap(), disk.bytes()[..1024]);
    assert_eq!(read_all(&source, FIRST).unwrap(), disk.bytes());
    assert_eq!(server.requests().len(), 1 + SIZE.div_ceil(30_000));
}

/// Of the source, while nothing reads it, or of the reader that goes on with the answer.
#[test]
fn a_first_answer_that_stalls_ends_when_it_is_cancelled() {
    for is_reader in [false, true] {
        let server = serve(&disk());
        let gate = Gate::new();
        server.fault(When::any(), Fault::stall(500, &gate));
        let (of_source, of_reader) = (Cancel::new(), Cancel::new());
        let source = open(&server, &of_source);
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                if !is_reader {
                    return source.head(1024).unwrap_err();
                }
                let mut reader = source.reader(&of_reader).unwrap();
                reader.begin(ByteRange::new(0, FIRST)).unwrap();
                reader.fill(&mut [0; 1000]).unwrap_err().1
            });
            server.wait_for_held(1);
            if is_reader {
                of_reader.cancel();
            } else {
                of_source.cancel();
            }
            assert_eq!(reading.join().unwrap().kind(), Kind::Cancelled);
        });
        gate.open();
        server.wait_for_idle();
    }
}

/// A copy that never comes to its first byte leaves no connection.
#[test]
fn an_answer_that_is_not_used_ends_with_the_source() {
    let server = serve(&disk());
    drop(open(&server, &Cancel::new()));
    server.wait_for_idle();
}
