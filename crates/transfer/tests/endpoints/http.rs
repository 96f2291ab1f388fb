//! [`transfer::source::HttpSource`] against a scripted server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use ::http::{HeaderMap, HeaderValue};
use backoff::Backoff;
use net::Cancel;
use testkit::{Cut, Fault, Gate, Reply, Request, Server, When, image::Disk};
use transfer::{
    Access, ByteRange, Controls, Error, Kind, Options, RetryPolicy, Source,
    sink::MemorySink,
    source::{Authorization, Changes, HttpSource, NoAuthorization},
};

use crate::support::{assert_fails, connector, four, read_all, read_range};

pub(crate) const SIZE: usize = 100_000;

pub(crate) fn disk() -> Disk {
    Disk::random(1, SIZE)
}

pub(crate) fn serve(disk: &Disk) -> Server {
    Server::builder().object("/disk", disk.object()).start()
}

pub(crate) fn probe_url(
    url: &str,
    size: u64,
    authorization: Arc<dyn Authorization>,
) -> Result<HttpSource, Error> {
    HttpSource::probe(
        connector(&Cancel::new()),
        url.parse().unwrap(),
        authorization,
        size,
        four(),
        Changes::Refused,
    )
}

pub(crate) fn probe(server: &Server, size: u64) -> Result<HttpSource, Error> {
    probe_url(&server.url("/disk"), size, Arc::new(NoAuthorization))
}

/// A source that has been probed, so that the faults of a test hit its readers.
pub(crate) fn open(server: &Server) -> HttpSource {
    probe(server, SIZE as u64).unwrap()
}

fn controls() -> Controls {
    Controls {
        clock: Arc::new(net::SystemClock::default()),
        cancel: Cancel::new(),
        seed: 1,
        progress: Arc::default(),
    }
}

/// The second byte on: the probe asks for the first.
fn read_error(server: &Server, fault: Fault, kind: Kind, words: &[&str]) -> Error {
    let source = open(server);
    server.fault(When::ranged(), fault);
    let (bytes, error) = read_range(&source, 1000, 2000).unwrap_err();
    assert!(bytes.is_empty(), "bytes of a wrong answer were handed on");
    assert_fails::<()>(Err(error), kind, words)
}

/// A token that is renewed by counting.
#[derive(Debug, Default)]
pub(crate) struct Tokens(AtomicUsize);

impl Tokens {
    fn renewals(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Authorization for Tokens {
    fn headers(&self) -> Result<HeaderMap, Error> {
        let mut value = HeaderValue::try_from(format!("token-{}", self.renewals())).unwrap();
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(
            ::http::HeaderName::from_static("x-auth-token"),
            value,
        )]))
    }

    fn renew(&self, refused: &HeaderMap) -> Result<(), Error> {
        assert_eq!(refused, &self.headers().unwrap());
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

pub(crate) fn token(request: &Request) -> Option<&str> {
    request.header("x-auth-token")
}

#[test]
fn an_object_with_ranges_is_read_by_ranges_on_one_connection() {
    let disk = disk();
    let server = serve(&disk);
    let source = open(&server);
    assert_eq!(source.size(), SIZE as u64);
    assert_eq!(
        source.access(),
        Access::Ranged {
            connections: four()
        }
    );
    assert_eq!(server.requests()[0].header("range"), Some("bytes=0-0"));
    assert_eq!(read_all(&source, 7777).unwrap(), disk.bytes());
    let requests = server.requests();
    let first = requests[1].connection;
    assert!(
        requests[1..]
            .iter()
            .all(|request| request.connection == first)
    );
    assert_eq!(requests.len(), 1 + SIZE.div_ceil(7777));
    assert!(requests.iter().all(|request| {
        request.method == "GET" && request.header("accept-encoding") == Some("identity")
    }));
}

#[test]
fn ranges_are_read_in_any_order_and_given_up_at_will() {
    let disk = disk();
    let server = serve(&disk);
    let source = open(&server);
    let mut reader = source.reader(&Cancel::new()).unwrap();
    let mut bytes = [0; 100];
    for start in [50_000, 0, 99_900, 1] {
        reader.begin(ByteRange::new(start, SIZE as u64)).unwrap();
        reader.fill(&mut bytes).unwrap();
        let at = usize::try_from(start).unwrap();
        assert_eq!(bytes, disk.bytes()[at..at + 100]);
    }
    let (count, error) = reader.fill(&mut vec![0; SIZE]).unwrap_err();
    assert_eq!((count, error.kind()), (0, Kind::Internal));
    let beyond = reader.begin(ByteRange::new(1, SIZE as u64 + 1));
    assert_fails(beyond, Kind::Internal, &[]);
    reader.begin(ByteRange::new(5, 5)).unwrap();
    reader.fill(&mut []).unwrap();
}

#[test]
fn an_object_without_ranges_is_one_stream() {
    for fault in [None, Some(Fault::Chunked(1000)), Some(Fault::UntilClose)] {
        let disk = disk();
        let server = serve(&disk);
        server.fault(When::ranged().always(), Fault::IgnoreRange);
        let source = open(&server);
        assert_eq!(source.access(), Access::Ordered);
        if let Some(fault) = fault {
            server.fault(When::any().always(), fault);
        }
        assert_eq!(read_all(&source, 7777).unwrap(), disk.bytes());
        assert_eq!(server.requests()[1].header("range"), None);
        // Over again, and not elsewhere.
        assert_eq!(read_all(&source, SIZE as u64).unwrap(), disk.bytes());
        let mut reader = source.reader(&Cancel::new()).unwrap();
        assert_fails(
            reader.begin(ByteRange::new(10, 20)),
            Kind::Internal,
            &["stream"],
        );
    }
}

/// Glance with a store that cannot read parts of an image.
#[test]
fn a_server_that_refuses_ranges_is_read_as_one_stream() {
    for status in [400, 501] {
        let disk = disk();
        let server = serve(&disk);
        server.fault(When::ranged().always(), Fault::status(status));
        let source = open(&server);
        assert_eq!(source.access(), Access::Ordered);
        assert_eq!(read_all(&source, 30_000).unwrap(), disk.bytes());
        // The request itself is wrong.
        server.fault(When::any().always(), Fault::status(status));
        assert_fails(probe(&server, SIZE as u64), Kind::Protocol, &[]);
    }
}

#[test]
fn an_empty_object_is_never_copied() {
    let unsatisfied = Reply::status(416).header("Content-Range", "bytes */0");
    for (reply, kind) in [
        (Reply::status(200), Kind::Unusable),
        (Reply::status(416), Kind::Protocol),
        (unsatisfied, Kind::Protocol),
    ] {
        let server = Server::builder()
            .route("/disk", move |_| reply.clone())
            .start();
        let copied = probe(&server, 0).and_then(|source| {
            transfer::copy(
                &source,
                &MemorySink::file(),
                &Options::default(),
                &controls(),
            )
        });
        assert_fails(copied, kind, &[]);
    }
    let server = serve(&disk());
    assert_fails(probe(&server, 0), Kind::Protocol, &["/100000"]);
    server.fault(When::any(), Fault::IgnoreRange);
    assert_fails(
        probe(&server, 0),
        Kind::Protocol,
        &["Content-Length 100000"],
    );
    server.fault(When::any(), Fault::status(204));
    assert_fails(probe(&server, 0), Kind::Unusable, &["no data"]);
}

#[test]
fn a_probe_that_tells_of_another_size_is_refused() {
    let server = serve(&disk());
    let size = SIZE as u64;
    assert_fails(probe(&server, size - 1), Kind::Protocol, &["/100000"]);
    assert_fails(probe(&server, size + 1), Kind::Protocol, &["/100000"]);
    server.fault(When::any(), Fault::Total(7));
    assert_fails(probe(&server, size), Kind::Protocol, &["/7"]);
    server.fault(When::any(), Fault::IgnoreRange);
    assert_fails(
        probe(&server, size - 1),
        Kind::Protocol,
        &["Content-Length 100000", "99999"],
    );
}

#[test]
fn refusals_have_their_kinds() {
    for (status, kind) in [
        (204, Kind::Unusable),
        (405, Kind::Protocol),
        (401, Kind::Credentials),
        (403, Kind::Permission),
        (404, Kind::Missing),
        (408, Kind::Busy),
        (410, Kind::Missing),
        (416, Kind::Protocol),
        (429, Kind::Busy),
        (500, Kind::Busy),
        (502, Kind::Busy),
        (503, Kind::Busy),
        (304, Kind::Protocol),
        (302, Kind::Protocol),
    ] {
        let server = serve(&disk());
        server.fault(When::any(), Fault::status(status));
        let error = probe(&server, SIZE as u64).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {}", error.chain());
        read_error(&server, Fault::status(status), kind, &[]);
    }
}

#[test]
fn retry_after_is_handed_on() {
    let server = serve(&disk());
    for status in [429, 503] {
        let error = read_error(&server, Fault::retry_after(status, 17), Kind::Busy, &[]);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
    }
}

#[test]
fn nothing_of_a_wrong_answer_is_handed_on() {
    for fault in [
        Fault::IgnoreRange,
        Fault::Shift(1),
        Fault::Shift(-1),
        Fault::Total(100_001),
        Fault::Header("Content-Range", "bytes 1000-1999/*".to_owned()),
        Fault::Header("Content-Range", "rubbish".to_owned()),
        Fault::Header("Content-Range", "bytes 1000-1998/100000".to_owned()),
        Fault::Header("Content-Encoding", "gzip".to_owned()),
        Fault::ContentLength(999),
        Fault::ContentLength(1001),
        Fault::Answer(Reply::bytes(206, vec![0; 1000])),
        Fault::Raw(b"rubbish\r\n\r\n".to_vec()),
    ] {
        read_error(&serve(&disk()), fault, Kind::Protocol, &[]);
    }
}

#[test]
fn an_md5_of_the_whole_and_interim_answers_do_not_matter() {
    let disk = disk();
    let server = serve(&disk);
    let md5 = Fault::Header("Content-MD5", "0123456789abcdef0123456789abcdef".to_owned());
    server.fault(When::any().always(), md5);
    server.fault(
        When::any().always(),
        Fault::Before(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
    );
    assert_eq!(read_all(&open(&server), 30_000).unwrap(), disk.bytes());
}

#[test]
fn chunks_and_single_bytes_are_read_on_one_connection() {
    for fault in [Fault::Chunked(777), Fault::Drip(100)] {
        let disk = disk();
        let server = serve(&disk);
        server.fault(When::any().always(), fault);
        assert_eq!(read_all(&open(&server), 50_000).unwrap(), disk.bytes());
        let requests = server.requests();
        assert_eq!(requests[1].connection, requests[2].connection);
    }
}

#[test]
fn a_body_that_is_longer_than_it_may_be_is_refused() {
    // One byte more than asked in chunks, which state no length.
    let server = Server::builder()
        .route("/disk", |request| {
            let (first, last) = request.range().unwrap();
            let last = last.unwrap();
            let length = usize::try_from(last - first + 1).unwrap();
            let extra = usize::from(first > 0);
            Reply::bytes(206, vec![0; length + extra])
                .header("Content-Range", &format!("bytes {first}-{last}/100000"))
                .fault(Fault::Chunked(100))
        })
        .start();
    let source = open(&server);
    let (_, error) = read_range(&source, 1000, 2000).unwrap_err();
    assert_fails::<()>(Err(error), Kind::Protocol, &["longer"]);
}

#[test]
fn a_stream_of_another_length_is_refused() {
    for (extra, kind) in [(1, Kind::Protocol), (-1, Kind::Network)] {
        let server = Server::builder()
            .route("/disk", move |request| {
                if request.header("range").is_some() {
                    return Reply::bytes(200, vec![7; SIZE]);
                }
                let length = SIZE.checked_add_signed(extra).unwrap();
                Reply::bytes(200, vec![7; length]).fault(Fault::Chunked(1000))
            })
            .start();
        let source = open(&server);
        assert_eq!(source.access(), Access::Ordered);
        assert_fails(read_all(&source, 50_000), kind, &[]);
    }
}

#[test]
fn a_body_that_ends_early_hands_on_what_came() {
    for how in [Cut::Fin, Cut::Orderly, Cut::Reset] {
        let disk = disk();
        let server = serve(&disk);
        let source = open(&server);
        server.fault(When::ranged(), Fault::cut(300, how));
        let (bytes, error) = read_range(&source, 1000, 2000).unwrap_err();
        assert_eq!(error.kind(), Kind::Network, "{}", error.chain());
        // A reset may lose what was not read yet.
        assert!(bytes.len() == 300 || how == Cut::Reset && bytes.len() < 300);
        assert_eq!(bytes, disk.bytes()[1000..1000 + bytes.len()]);
        assert_eq!(
            read_range(&source, 1300, 2000).unwrap(),
            disk.bytes()[1300..2000]
        );
    }
}

#[test]
fn an_object_that_is_cut_short_in_its_store_is_named() {
    for how in [Cut::Fin, Cut::Orderly] {
        let server = serve(&disk());
        let source = open(&server);
        server.fault(When::ranged(), Fault::cut(70_000, how));
        let lost = When::ranged().overlapping(70_000..100_000);
        server.fault(lost.skip(1).always(), Fault::cut(0, how));
        let options = Options {
            retry: RetryPolicy {
                cut_short: 3,
                backoff: Backoff {
                    longest: Duration::ZERO,
                    ..Backoff::default()
                },
                ..RetryPolicy::default()
            },
            ..Options::default()
        };
        let copied = transfer::copy(&source, &MemorySink::file(), &options, &controls());
        assert_fails(copied, Kind::Unusable, &["answers in a row", "70000"]);
    }
}

#[test]
fn an_answer_that_never_comes_is_transient() {
    for how in [Cut::Fin, Cut::Orderly, Cut::Reset] {
        let server = serve(&disk());
        let source = open(&server);
        server.fault(When::ranged().always(), Fault::NoAnswer(how));
        let (_, error) = read_range(&source, 1000, 2000).unwrap_err();
        assert_eq!(error.kind(), Kind::Network);
    }
    let server = serve(&disk());
    let source = open(&server);
    server.refuse();
    let (_, error) = read_range(&source, 1000, 2000).unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
}

#[test]
fn servers_that_close_after_an_answer_are_asked_on_a_new_connection() {
    for fault in [Fault::Close, Fault::CloseSilently, Fault::UntilClose] {
        let disk = disk();
        let server = serve(&disk);
        server.fault(When::any().always(), fault);
        assert_eq!(read_all(&open(&server), 30_000).unwrap(), disk.bytes());
        assert_eq!(server.requests().len(), 5);
    }
}

#[test]
fn a_connection_that_was_closed_while_idle_is_replaced() {
    let disk = disk();
    let server = serve(&disk);
    let source = open(&server);
    let mut reader = source.reader(&Cancel::new()).unwrap();
    let mut bytes = [0; 10];
    for at in 0..3 {
        reader.begin(ByteRange::new(at * 10, at * 10 + 10)).unwrap();
        reader.fill(&mut bytes).unwrap();
        let start = usize::try_from(at).unwrap() * 10;
        assert_eq!(bytes, disk.bytes()[start..start + 10]);
        server.drop_connections();
        server.wait_for_idle();
    }
}

#[test]
fn an_object_that_changes_is_not_read_on() {
    for (name, first, then) in [
        ("ETag", "\"a\"", "\"b\""),
        (
            "Last-Modified",
            "Mon, 01 Jan 2024 00:00:00 GMT",
            "Tue, 02 Jan 2024 00:00:00 GMT",
        ),
    ] {
        let disk = disk();
        let server = serve(&disk);
        let mark = |when: When, value: &str| {
            server.fault(when, Fault::Header(name, value.to_owned()));
        };
        mark(When::any().times(2), first);
        let source = open(&server);
        assert_eq!(read_range(&source, 0, 10).unwrap(), disk.bytes()[..10]);
        // Silence is no change.
        assert_eq!(read_range(&source, 0, 10).unwrap(), disk.bytes()[..10]);
        mark(When::any(), then);
        let (bytes, error) = read_range(&source, 10, 20).unwrap_err();
        assert!(bytes.is_empty());
        assert_fails::<()>(Err(error), Kind::Protocol, &["changed", name]);
    }
}

#[test]
fn marks_of_another_node_do_not_matter_where_a_hash_decides() {
    let disk = disk();
    let server = serve(&disk);
    let mark = |when: When, value: &str| {
        server.fault(when, Fault::Header("ETag", value.to_owned()));
    };
    mark(When::any().times(1), "\"a\"");
    mark(When::any().skip(1).always(), "\"b\"");
    let source = HttpSource::probe(
        connector(&Cancel::new()),
        server.url("/disk").parse().unwrap(),
        Arc::new(NoAuthorization),
        SIZE as u64,
        four(),
        Changes::Verified,
    );
    assert_eq!(read_all(&source.unwrap(), 7777).unwrap(), disk.bytes());
}

#[test]
fn a_401_renews_the_credentials() {
    let disk = disk();
    let server = serve(&disk);
    let tokens = Arc::new(Tokens::default());
    server.fault(When::any(), Fault::status(401));
    let authorization = Arc::clone(&tokens) as Arc<dyn Authorization>;
    let source = probe_url(&server.url("/disk"), SIZE as u64, authorization).unwrap();
    assert_eq!(tokens.renewals(), 1);
    server.fault(When::ranged(), Fault::status(401));
    assert_eq!(read_all(&source, SIZE as u64).unwrap(), disk.bytes());
    assert_eq!(tokens.renewals(), 2);
    let seen: Vec<_> = server
        .requests()
        .iter()
        .map(|request| token(request).unwrap().to_owned())
        .collect();
    assert_eq!(seen, ["token-0", "token-1", "token-1", "token-2"]);
    // A server that refuses every token refuses the user.
    server.fault(When::any().always(), Fault::status(401));
    assert_fails(read_all(&source, 1000), Kind::Credentials, &["401"]);
    assert_eq!(tokens.renewals(), 4);
}

#[test]
fn a_reader_that_waits_ends_when_it_is_cancelled() {
    let server = serve(&disk());
    let source = open(&server);
    let gate = Gate::new();
    server.fault(When::ranged(), Fault::stall(500, &gate));
    let cancel = Cancel::new();
    // All that the server has sent is read before the cancellation, whose moment is then no matter.
    let mut reader = source.reader(&cancel).unwrap();
    reader.begin(ByteRange::new(1000, 2000)).unwrap();
    reader.fill(&mut [0; 500]).unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(|| reader.fill(&mut [0; 500]));
        server.wait_for_held(1);
        cancel.cancel();
        let (count, error) = reading.join().unwrap().unwrap_err();
        assert_eq!((count, error.kind()), (0, Kind::Cancelled));
    });
    drop(reader);
    gate.open();
    // Its connection is closed with it.
    server.wait_for_idle();
}
