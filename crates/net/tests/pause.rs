//! Waiting: stalls by a moved clock, cancellation, slow servers, tails shorter than the low-water
//! mark.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{sync::Arc, thread, time::Duration};

use common::{MovedClock, assert_kind, pattern, pki, plain, trusting, url};
use http::HeaderMap;
use net::{Cancel, Connection, Connector, Error, Kind, Settings};
use testkit::{Fault, Gate, Server, When};

struct Fixture {
    server: Server,
    settings: Settings,
    clock: MovedClock,
    cancel: Cancel,
}

impl Fixture {
    fn each(bytes: &Arc<Vec<u8>>) -> [Self; 2] {
        let (authority, identity) = pki();
        let object = || testkit::Object::from(Arc::clone(bytes));
        let tls = Server::builder().tls(identity.server_config());
        [
            (Server::builder(), plain()),
            (tls, trusting(&authority.pem())),
        ]
        .map(|(builder, settings)| Self {
            server: builder.object("/x", object()).start(),
            settings,
            clock: MovedClock::default(),
            cancel: Cancel::new(),
        })
    }

    fn connect(&self) -> Result<Connection, Error> {
        let clock = Arc::new(self.clock.clone());
        Connector::new(&self.settings, clock, self.cancel.clone())
            .unwrap()
            .connect(&url(&self.server.url("/x")))
    }

    fn get(&self) -> Connection {
        let mut connection = self.connect().unwrap();
        connection
            .get(&url(&self.server.url("/x")), &HeaderMap::new())
            .unwrap();
        connection
    }
}

#[test]
fn a_stall_in_the_body() {
    let bytes = Arc::new(pattern(1 << 20));
    for fixture in Fixture::each(&bytes) {
        let gate = Gate::new();
        fixture
            .server
            .fault(When::any(), Fault::stall(100_000, &gate));
        let mut connection = fixture.get();
        let mut buf = vec![0; 1 << 20];
        let (count, error) = thread::scope(|scope| {
            let reader = scope.spawn(|| connection.read(&mut buf).unwrap_err());
            fixture.server.wait_for_held(1);
            // All that has come is taken up, so that the clock moves while nothing comes.
            fixture.clock.wait_for_looks();
            fixture
                .clock
                .pass(Duration::from_secs(30), || reader.is_finished());
            reader.join().unwrap()
        });
        assert_eq!(error.kind(), Kind::Stalled, "{error}");
        assert!(error.to_string().contains("30s"), "{error}");
        assert!(buf[..count] == bytes[..count]);
        gate.open();
    }
}

#[test]
fn bytes_below_the_low_water_mark_come_before_the_stall() {
    let bytes = Arc::new(pattern(40_000));
    for fixture in Fixture::each(&bytes) {
        let (begin, never) = (Gate::new(), Gate::new());
        for (after, gate) in [(0, &begin), (30_000, &never)] {
            fixture.server.fault(When::any(), Fault::stall(after, gate));
        }
        let mut connection = fixture.get();
        begin.open();
        fixture.server.wait_for_held(2);
        let mut buf = vec![0; 40_000];
        let (count, error) = thread::scope(|scope| {
            let reader = scope.spawn(|| connection.read(&mut buf).unwrap_err());
            fixture.clock.wait_for_looks();
            fixture
                .clock
                .pass(Duration::from_secs(30), || reader.is_finished());
            reader.join().unwrap()
        });
        assert_eq!(error.kind(), Kind::Stalled, "{error}");
        assert_eq!(count, 30_000);
        assert!(buf[..count] == bytes[..count]);
        never.open();
    }
}

#[test]
fn no_stall_while_the_clock_stands() {
    let bytes = Arc::new(pattern(1 << 20));
    for fixture in Fixture::each(&bytes) {
        let gate = Gate::new();
        fixture
            .server
            .fault(When::any(), Fault::stall(300_000, &gate));
        let mut connection = fixture.get();
        let mut buf = vec![0; 1 << 20];
        thread::scope(|scope| {
            let reader = scope.spawn(|| connection.read(&mut buf).map_err(|(_, error)| error));
            fixture.server.wait_for_held(1);
            // Shorter than the stall time, however often it is read.
            fixture.clock.advance(Duration::from_secs(29));
            fixture.clock.wait_for_looks();
            gate.open();
            assert_eq!(reader.join().unwrap().unwrap(), 1 << 20);
        });
        assert!(buf == *bytes);
    }
}

#[test]
fn a_slow_drip_is_not_a_stall() {
    let bytes = Arc::new(pattern(40_000));
    for fixture in Fixture::each(&bytes) {
        // Four pieces, 29 s on the clock between them: two minutes in all.
        let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
        for (index, gate) in gates.iter().enumerate() {
            fixture
                .server
                .fault(When::any(), Fault::stall(index as u64 * 10_000, gate));
        }
        let mut connection = fixture.get();
        let mut buf = vec![0; 40_001];
        let count = thread::scope(|scope| {
            let reader = scope.spawn(|| connection.read(&mut buf));
            for (index, gate) in gates.iter().enumerate() {
                fixture.server.wait_for_held(index + 1);
                fixture.clock.wait_for_looks();
                fixture.clock.advance(Duration::from_secs(29));
                gate.open();
            }
            reader.join().unwrap().unwrap()
        });
        assert!(buf[..count] == **bytes);
    }
}

#[test]
fn a_stall_before_the_answer_and_a_longer_wait_for_it() {
    for fixture in Fixture::each(&Arc::new(vec![7; 10])) {
        for patient in [false, true] {
            let gate = Gate::new();
            fixture.server.clear_faults();
            fixture
                .server
                .fault(When::any(), Fault::HoldHead(gate.clone()));
            let mut connection = fixture.connect().unwrap();
            if patient {
                connection.set_stall(Duration::from_mins(10));
            }
            let held = if patient { 2 } else { 1 };
            let to = url(&fixture.server.url("/x"));
            let outcome = thread::scope(|scope| {
                let asker = scope.spawn(|| connection.get(&to, &HeaderMap::new()));
                fixture.server.wait_for_held(held);
                if patient {
                    fixture.clock.wait_for_looks();
                    fixture.clock.advance(Duration::from_mins(1));
                    fixture.clock.wait_for_looks();
                    gate.open();
                } else {
                    fixture
                        .clock
                        .pass(Duration::from_secs(30), || asker.is_finished());
                }
                asker.join().unwrap()
            });
            gate.open();
            if patient {
                assert_eq!(outcome.unwrap().content_length, Some(10));
            } else {
                assert!(assert_kind(outcome, Kind::Stalled).was_sent());
            }
        }
    }
}

#[test]
fn cancelled_in_the_body() {
    let bytes = Arc::new(pattern(1 << 20));
    for fixture in Fixture::each(&bytes) {
        let gate = Gate::new();
        fixture
            .server
            .fault(When::any(), Fault::stall(300_000, &gate));
        let mut connection = fixture.get();
        let mut buf = vec![0; 1 << 20];
        let (count, error) = thread::scope(|scope| {
            let reader = scope.spawn(|| connection.read(&mut buf).unwrap_err());
            fixture.server.wait_for_held(1);
            fixture.cancel.cancel();
            reader.join().unwrap()
        });
        assert_eq!(error.kind(), Kind::Cancelled, "{error}");
        assert!(buf[..count] == bytes[..count]);
        assert!(!assert_kind(fixture.connect(), Kind::Cancelled).was_sent());
        gate.open();
    }
}

#[test]
fn a_handshake_that_never_ends_is_bounded_and_cancelled() {
    for cancelled in [false, true] {
        let [_, fixture] = Fixture::each(&Arc::new(vec![1]));
        let gate = Gate::new();
        fixture
            .server
            .connection_fault(0, testkit::ConnectionFault::HoldHandshake(gate.clone()));
        let error = thread::scope(|scope| {
            let connecting = scope.spawn(|| fixture.connect().unwrap_err());
            fixture.server.wait_for_held(1);
            if cancelled {
                fixture.cancel.cancel();
            } else {
                fixture
                    .clock
                    .pass(Duration::from_secs(20), || connecting.is_finished());
            }
            connecting.join().unwrap()
        });
        gate.open();
        let kind = if cancelled {
            Kind::Cancelled
        } else {
            Kind::Connect
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!error.was_sent());
    }
}

#[test]
fn tails_and_small_bodies_while_the_clock_stands() {
    // Around the low-water mark and the size of a record.
    for fixture in Fixture::each(&Arc::new(pattern(400_000))) {
        let mut connection = fixture.connect().unwrap();
        let to = url(&fixture.server.url("/x"));
        for length in [
            1, 100, 16_383, 16_384, 16_385, 131_071, 131_072, 131_073, 150_000, 3,
        ] {
            let mut headers = HeaderMap::new();
            let range = format!("bytes=5-{}", 4 + length);
            headers.insert("range", range.parse().unwrap());
            connection.get(&to, &headers).unwrap();
            assert_eq!(connection.read_to_end(200_000).unwrap().len(), length);
        }
        assert_eq!(fixture.server.connections(), 1);
    }
}
