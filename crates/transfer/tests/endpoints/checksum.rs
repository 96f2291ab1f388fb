//! Copies from a scripted daemon that are compared with its checksum.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ScopedJoinHandle},
};

use net::Clock;
use serde_json::json;
use testkit::{Event, Fault, Gate, Reply, Request, Server, When, image::Disk};
use transfer::{
    Algorithm, Controls, Digest, Error, Kind, Options, Phase, Report, Source, Verification, copy,
    sink::MemorySink, source::ImageioSource,
};

use crate::{
    clocks::{Leap, Still, controls, options, until},
    imageio::{CHECKSUM, IMAGE, KEEP_ALIVE, daemon_with, open, open_on},
};

fn disk() -> Disk {
    Disk::picture("A0-B--CD00E", 256 << 10)
}

/// A daemon that serves so many readers, and computes this checksum, or the right one.
fn daemon(disk: &Disk, readers: usize, hex: Option<&str>) -> Server {
    let options = json!({"features": ["checksum", "extents"], "max_readers": readers});
    let server = daemon_with(disk, Reply::json(200, &options));
    let truth = Digest::of(Algorithm::Blkhash, disk.bytes()).hex;
    let hex = hex.unwrap_or(&truth);
    let answer = json!({"algorithm": "blake2b", "block_size": 4 << 20, "checksum": hex});
    server.route(CHECKSUM, move |_| Reply::json(200, &answer));
    server
}

fn full() -> Options {
    Options {
        verification: Verification::Asked(Algorithm::Blkhash),
        ..options(4)
    }
}

fn is_for_checksum(request: &Request) -> bool {
    request.path() == CHECKSUM
}

fn asked(server: &Server) -> usize {
    let requests = server.requests();
    requests.iter().filter(|it| is_for_checksum(it)).count()
}

/// The request that keeps the ticket in use: the only one for the whole disk.
fn is_hold(request: &Request, disk: &Disk) -> bool {
    request.header("range") == Some(&format!("bytes=0-{}", disk.size() - 1))
}

/// Ends the program in place of waiting for a copy that hangs.
fn ended(copying: ScopedJoinHandle<'_, Result<Report, Error>>) -> Result<Report, Error> {
    until("end of the copy", || copying.is_finished());
    copying.join().unwrap()
}

#[test]
fn the_daemon_computes_its_checksum_while_the_data_streams() {
    let disk = disk();
    let server = daemon(&disk, 8, None);
    let source = open(&server, &disk).unwrap();
    let gate = Gate::new();
    let last = disk.size() - 1..disk.size();
    server.fault(When::any().overlapping(last), Fault::HoldHead(gate.clone()));
    let (sink, controls) = (MemorySink::file(), controls(Arc::new(Leap::default())));
    let report = thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&source, &sink, &full(), &controls));
        until("request for the checksum", || asked(&server) == 1);
        assert_eq!(controls.progress.snapshot().phase, Phase::Copying);
        gate.open();
        ended(copying).unwrap()
    });
    assert!(sink.content() == disk.bytes());
    assert_eq!(report.verified.unwrap().algorithm, Algorithm::Blkhash);
    assert_eq!(asked(&server), 1);
    // The engine cannot take a ticket away that is in use.
    server.wait_for_idle();
}

#[test]
fn a_wrong_checksum_fails_the_copy_whenever_it_was_asked_for() {
    let disk = disk();
    let (wrong, truth) = (
        "ab".repeat(32),
        Digest::of(Algorithm::Blkhash, disk.bytes()).hex,
    );
    for readers in [8, 1] {
        let server = daemon(&disk, readers, Some(&wrong));
        let source = open(&server, &disk).unwrap();
        let controls = controls(Arc::new(Leap::default()));
        let error = copy(&source, &MemorySink::file(), &full(), &controls).unwrap_err();
        assert_eq!(error.kind(), Kind::Hash);
        let text = error.to_string();
        assert!(text.contains(&wrong) && text.contains(&truth), "{text}");
    }
}

/// Waits until the daemon computes, and all data waits too; then something ends the copy.
fn ends_while_the_daemon_computes(
    end: impl FnOnce(&Controls, &Gate),
    data: Option<Fault>,
) -> Result<Report, Error> {
    let disk = disk();
    let server = daemon(&disk, 8, None);
    let source = open(&server, &disk).unwrap();
    let (computing, reading) = (Gate::new(), Gate::new());
    server.fault(When::path(CHECKSUM), Fault::HoldHead(computing.clone()));
    server.fault(When::ranged().always(), Fault::HoldHead(reading.clone()));
    if let Some(data) = data {
        server.fault(When::ranged().always(), data);
    }
    let controls = controls(Arc::new(Leap::default()));
    let result = thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&source, &MemorySink::file(), &full(), &controls));
        until("request for the checksum", || asked(&server) == 1);
        end(&controls, &reading);
        ended(copying)
    });
    // Nothing has waited for the daemon, and nothing of the copy is left there.
    assert!(!computing.is_open());
    computing.open();
    reading.open();
    server.wait_for_idle();
    result
}

#[test]
fn a_copy_that_fails_does_not_wait_for_the_checksum() {
    let error =
        ends_while_the_daemon_computes(|_, reading| reading.open(), Some(Fault::status(403)))
            .unwrap_err();
    assert_eq!(error.kind(), Kind::Lost, "{}", error.chain());
    assert!(!error.chain().contains("checksum"), "{}", error.chain());
}

#[test]
fn a_copy_that_is_stopped_does_not_wait_for_the_checksum() {
    let error =
        ends_while_the_daemon_computes(|controls, _| controls.cancel.cancel(), None).unwrap_err();
    assert_eq!(error.kind(), Kind::Cancelled, "{}", error.chain());
}

#[test]
fn a_refused_checksum_ends_the_copy_at_once() {
    let disk = disk();
    let server = daemon(&disk, 8, None);
    let source = open(&server, &disk).unwrap();
    let reading = Gate::new();
    server.fault(When::ranged().always(), Fault::HoldHead(reading.clone()));
    server.fault(When::path(CHECKSUM), Fault::status(400));
    let controls = controls(Arc::new(Leap::default()));
    let error = thread::scope(|scope| {
        ended(scope.spawn(|| copy(&source, &MemorySink::file(), &full(), &controls)))
    })
    .unwrap_err();
    reading.open();
    assert_eq!(error.kind(), Kind::Protocol, "{}", error.chain());
    assert!(error.chain().contains("400"));
}

/// A daemon without room for one reader more is asked when no other reads.
#[test]
fn a_daemon_that_is_full_is_asked_after_the_copy() {
    let disk = disk();
    for readers in [1, 2] {
        let server = daemon(&disk, readers, None);
        let source = open(&server, &disk).unwrap();
        let (sink, controls) = (MemorySink::file(), controls(Arc::new(Leap::default())));
        copy(&source, &sink, &full(), &controls).unwrap();
        assert!(sink.content() == disk.bytes());
        let requests = server.requests();
        assert!(requests.last().is_some_and(is_for_checksum), "{readers}");
        assert_eq!(asked(&server), 1);
    }
    // Of three, one is the checksum's, one the keep-alive's.
    let server = daemon(&disk, 3, None);
    let source = open(&server, &disk).unwrap();
    assert_eq!(source.readers_beside_checksum(), NonZeroUsize::new(1));
}

/// Copies from a daemon that refuses the first question for its checksum with this status, and holds the first data until the
/// answer is `seen`: it is asked once more, when nothing else is read.
fn asks_again_after(status: u16, seen: impl FnOnce(&Server, &Controls)) {
    let disk = disk();
    let server = daemon(&disk, 8, None);
    let source = open(&server, &disk).unwrap();
    server.fault(When::path(CHECKSUM), Fault::status(status));
    let reading = Gate::new();
    server.fault(
        When::any().overlapping(0..1),
        Fault::HoldHead(reading.clone()),
    );
    let controls = controls(Arc::new(Leap::default()));
    thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&source, &MemorySink::file(), &full(), &controls));
        seen(&server, &controls);
        assert_eq!(asked(&server), 1);
        reading.open();
        ended(copying).unwrap();
    });
    let requests = server.requests();
    assert!(requests.last().is_some_and(is_for_checksum), "{status}");
    assert_eq!(asked(&server), 2, "{status}");
}

#[test]
fn a_checksum_that_fails_during_the_copy_is_asked_for_after_it() {
    asks_again_after(503, |_, controls| {
        until("retry", || controls.progress.snapshot().retries.sum() == 1);
    });
}

/// The readers find out whether the ticket has ended. If the session did, it would make new transfers from which no byte came, which
/// it does for longer than when each gave some.
#[test]
fn a_ticket_that_only_the_checksum_finds_ended_is_read_on() {
    for status in [403, 404] {
        asks_again_after(status, |server, _| {
            until("question", || asked(server) == 1);
        });
    }
}

/// Copies, and holds the first data until the checksum has come and the ticket is kept in use.
fn held(
    server: &Server,
    disk: &Disk,
    clock: Arc<dyn Clock>,
    source: &ImageioSource,
    meanwhile: impl FnOnce(),
) -> Result<Report, Error> {
    let (computing, reading) = (Gate::new(), Gate::new());
    server.fault(When::path(CHECKSUM), Fault::HoldHead(computing.clone()));
    server.fault(
        When::any().overlapping(0..1),
        Fault::HoldHead(reading.clone()),
    );
    let controls = controls(clock);
    thread::scope(|scope| {
        let copying = scope.spawn(|| copy(source, &MemorySink::file(), &full(), &controls));
        server.wait_for_held(2);
        computing.open();
        until("request that stays", || holds(server, disk) == 1);
        meanwhile();
        reading.open();
        ended(copying)
    })
}

fn holds(server: &Server, disk: &Disk) -> usize {
    let requests = server.requests();
    requests.iter().filter(|it| is_hold(it, disk)).count()
}

/// With its checksum the daemon counts the disk as read, which the engine takes for the end when no request is
/// under way.
#[test]
fn a_disk_that_counts_as_read_stays_in_use_until_it_is() {
    // More than sockets hold back.
    let disk = Disk::random(3, 48 << 20);
    let server = daemon(&disk, 8, None);
    let clock = Arc::new(Still::default());
    let source = open_on(clock.clone(), &server, &disk).unwrap();
    let report = held(&server, &disk, clock, &source, || {}).unwrap();
    assert!(report.verified.is_some());
    server.wait_for_idle();
    let requests = server.requests();
    let hold = requests.iter().find(|it| is_hold(it, &disk)).unwrap();
    let asked = requests.iter().find(|it| is_for_checksum(it)).unwrap();
    assert_eq!(hold.connection, asked.connection);
    let sent = server.events().into_iter().find_map(|event| match event {
        Event::Answered { seq, sent, .. } if seq == hold.seq => Some(sent),
        _ => None,
    });
    // It was under way until the copy ended.
    assert!(sent.unwrap() < disk.bytes().len() as u64, "{sent:?}");
}

#[test]
fn a_request_that_has_ended_is_made_again() {
    let disk = disk();
    let server = daemon(&disk, 8, None);
    let clock = Arc::new(Still::default());
    let source = open_on(clock.clone(), &server, &disk).unwrap();
    let (known, seen) = (disk.clone(), AtomicUsize::new(0));
    server.route(IMAGE, move |request| {
        if is_hold(request, &known) && seen.fetch_add(1, Ordering::SeqCst) == 1 {
            return Reply::status(500);
        }
        Reply::object(request, &known.object())
    });
    held(&server, &disk, clock.clone(), &source, || {
        // The keep-alive and the request that stays.
        clock.wait_for_waits(2);
        // Small enough to come to its end by one step.
        clock.pass(KEEP_ALIVE);
        until("second request that stays", || holds(&server, &disk) == 2);
        clock.wait_for_waits(2);
        clock.pass(KEEP_ALIVE);
        until("third request that stays", || holds(&server, &disk) == 3);
    })
    .unwrap();
    server.wait_for_idle();
}
