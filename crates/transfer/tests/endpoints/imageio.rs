//! [`transfer::source::ImageioSource`] against a scripted daemon.

use std::{num::NonZeroUsize, sync::Arc, thread, time::Duration};

use net::{Cancel, Clock};
use serde_json::json;
use testkit::{Fault, Gate, Object, Reply, Request, Server, When, image::Disk};
use transfer::{
    Access, Algorithm, ByteRange, Content, Error, Kind, Source,
    source::{ImageioSource, Ticket},
};
use url::Url;

use crate::{
    clocks::{Still, until},
    support::{assert_fails, connector, connector_on, four, read_all, read_range},
};

const TICKET: &str = "3f0a8b1e-secret";
pub(crate) const IMAGE: &str = "/images/3f0a8b1e-secret";
pub(crate) const CHECKSUM: &str = "/images/3f0a8b1e-secret/checksum";
const BLOCK: usize = 256 << 10;
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(20);

fn disk() -> Disk {
    Disk::picture("A0-B--CD00E", BLOCK)
}

fn extents(disk: &Disk) -> serde_json::Value {
    disk.extents()
        .iter()
        .map(|extent| {
            json!({"start": extent.start, "length": extent.length,
                   "zero": extent.zero, "hole": extent.hole})
        })
        .collect()
}

fn image(request: &Request, object: &Object, options: &Reply) -> Reply {
    match request.method.as_str() {
        "OPTIONS" => options.clone(),
        _ => Reply::object(request, object),
    }
}

pub(crate) fn daemon_with(disk: &Disk, options: Reply) -> Server {
    let (object, map) = (disk.object(), extents(disk));
    let path = format!("/images/{TICKET}");
    Server::builder()
        .route(&path, move |request| image(request, &object, &options))
        .route(&format!("{path}/extents"), move |request| {
            assert_eq!(request.query(), "context=zero");
            Reply::json(200, &map)
        })
        .start()
}

pub(crate) fn daemon(disk: &Disk) -> Server {
    let options = json!({"features": ["checksum", "extents"], "max_readers": 8, "max_writers": 8});
    daemon_with(disk, Reply::json(200, &options))
}

fn ticket(server: &Server) -> Url {
    let url = server.url(&format!("/images/{TICKET}"));
    url.parse().unwrap()
}

fn open_size(
    server: &Server,
    size: u64,
    connections: NonZeroUsize,
) -> Result<ImageioSource, Error> {
    ImageioSource::open(
        connector(&Cancel::new()),
        Ticket::new(ticket(server)),
        size,
        connections,
        KEEP_ALIVE,
    )
}

pub(crate) fn open_on(
    clock: Arc<dyn Clock>,
    server: &Server,
    disk: &Disk,
) -> Result<ImageioSource, Error> {
    ImageioSource::open(
        connector_on(clock, &Cancel::new()),
        Ticket::new(ticket(server)),
        disk.size(),
        four(),
        KEEP_ALIVE,
    )
}

pub(crate) fn open(server: &Server, disk: &Disk) -> Result<ImageioSource, Error> {
    open_size(server, disk.size(), four())
}

fn readers(source: &ImageioSource) -> usize {
    match source.access() {
        Access::Ranged { connections } => connections.get(),
        Access::Ordered => 0,
    }
}

#[test]
fn abilities_and_extents_are_asked_on_one_connection_before_any_data() {
    let disk = disk();
    let server = daemon(&disk);
    let source = open(&server, &disk).unwrap();
    assert_eq!(server.connections(), 1);
    server.wait_for_idle();
    let asked: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| (request.method, request.target))
        .collect();
    let path = format!("/images/{TICKET}");
    assert_eq!(
        asked,
        [
            ("OPTIONS".to_owned(), path.clone()),
            ("GET".to_owned(), format!("{path}/extents?context=zero")),
        ]
    );
    assert_eq!(source.size(), disk.size());
    assert_eq!(readers(&source), 4);

    let whole = source.extents(ByteRange::new(0, disk.size())).unwrap();
    let picture: String = whole
        .iter()
        .flat_map(|extent| {
            let mark = match extent.content {
                Content::Data => 'x',
                Content::Zero => '-',
            };
            (0..extent.range.len() / BLOCK as u64).map(move |_| mark)
        })
        .collect();
    assert_eq!(picture, "x--x--xx--x");
    assert_eq!(read_all(&source, 10_000).unwrap(), disk.bytes());
}

#[test]
fn readers_are_limited_by_the_daemon_and_by_the_user() {
    let disk = disk();
    let many = NonZeroUsize::new(100).unwrap();
    for (max_readers, wanted) in [(8, 7), (2, 1), (1, 1), (0, 1), (5, 4)] {
        let options = json!({"features": [], "max_readers": max_readers});
        let server = daemon_with(&disk, Reply::json(200, &options));
        let source = open_size(&server, disk.size(), many).unwrap();
        assert_eq!(readers(&source), wanted, "{max_readers}");
    }
}

#[test]
fn old_daemons_give_data_to_one_reader() {
    let disk = disk();
    let json = |text: &str| Reply::bytes(200, text);
    for options in [
        Reply::text(405, "no\n"),
        Reply::status(204),
        json("{}"),
        json(r#"{"unix_socket": "\u0000/run/socket"}"#),
    ] {
        let server = daemon_with(&disk, options);
        let source = open(&server, &disk).unwrap();
        assert_eq!(readers(&source), 1);
        let all = source
            .extents(ByteRange::new(5, 50_000.min(disk.size())))
            .unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].content, Content::Data);
        assert_eq!(read_all(&source, 10_000).unwrap(), disk.bytes());
        source.keep_alive(&Cancel::new()).unwrap();
        assert_fails(
            source.checksum(Algorithm::Blkhash, &Cancel::new()),
            Kind::Unusable,
            &["no blkhash checksum"],
        );
        assert!(
            server
                .requests()
                .iter()
                .all(|request| !request.target.contains("extents"))
        );
    }
}

#[test]
fn extents_of_another_disk_are_refused() {
    let disk = disk();
    let server = daemon(&disk);
    let error = assert_fails(
        open_size(&server, disk.size() + 512, four()),
        Kind::Protocol,
        &["unusable extents"],
    );
    assert!(!error.chain().contains(TICKET));
    for body in [
        "[",
        "{}",
        "null",
        r#"[{"start": 1, "length": 1, "zero": true}]"#,
    ] {
        let reply = Reply::bytes(200, body);
        server.fault(
            When::path(&format!("/images/{TICKET}/extents")),
            Fault::Answer(reply),
        );
        assert_fails(open(&server, &disk), Kind::Protocol, &["unusable extents"]);
    }
}

/// A logical volume is larger than the disk in it, and its extents are the volume's.
#[test]
fn extents_beyond_the_disk_are_left_out() {
    let disk = disk();
    let source = open_size(&daemon(&disk), disk.size() - 512, four()).unwrap();
    let end = ByteRange::new(disk.size() - BLOCK as u64, disk.size());
    let last = source.extents(end).unwrap().pop().unwrap();
    assert_eq!(last.range.end(), disk.size() - 512);
}

#[test]
fn extents_that_are_cut_are_asked_again_later() {
    let disk = disk();
    let server = daemon(&disk);
    let path = format!("/images/{TICKET}/extents");
    server.fault(When::path(&path), Fault::cut(20, testkit::Cut::Fin));
    let error = open(&server, &disk).unwrap_err();
    assert!(error.kind().is_transient(), "{}", error.chain());
    server.fault(When::path(&path), Fault::status(500));
    assert_eq!(open(&server, &disk).unwrap_err().kind(), Kind::Busy);
    open(&server, &disk).unwrap();
}

#[test]
fn waiting_for_extents_ends_when_it_is_cancelled() {
    let disk = disk();
    let server = daemon(&disk);
    let gate = Gate::new();
    server.fault(
        When::path(&format!("/images/{TICKET}/extents")),
        Fault::HoldHead(gate.clone()),
    );
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let ticket = Ticket::new(ticket(&server));
            ImageioSource::open(connector(&cancel), ticket, disk.size(), four(), KEEP_ALIVE)
        });
        server.wait_for_held(1);
        cancel.cancel();
        let error = opening.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled, "{}", error.chain());
    });
    gate.open();
}

#[test]
fn a_ticket_stays_alive_while_the_daemon_walks_the_disk() {
    let disk = disk();
    let server = daemon(&disk);
    let gate = Gate::new();
    server.fault(
        When::path(&format!("/images/{TICKET}/extents")),
        Fault::HoldHead(gate.clone()),
    );
    let clock = Arc::new(Still::default());
    let connector = connector_on(clock.clone(), &Cancel::new());
    let signs = |server: &Server| {
        let requests = server.requests();
        requests.iter().filter(|it| it.method == "OPTIONS").count() - 1
    };
    thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let ticket = Ticket::new(ticket(&server));
            ImageioSource::open(connector, ticket, disk.size(), four(), KEEP_ALIVE)
        });
        server.wait_for_held(1);
        // For as long as three of the shortest lives of a ticket.
        for count in 1..=9 {
            clock.pass(KEEP_ALIVE);
            until("sign of life", || signs(&server) >= count);
        }
        gate.open();
        opening.join().unwrap().unwrap();
    });
    // It ends with the wait.
    server.wait_for_idle();
    assert_eq!(signs(&server), 9);
}

#[test]
fn a_daemon_without_options_is_kept_alive_by_a_byte() {
    let disk = disk();
    let server = daemon_with(&disk, Reply::text(405, "no\n"));
    let source = open(&server, &disk).unwrap();
    source.keep_alive(&Cancel::new()).unwrap();
    let sign = server.requests().pop().unwrap();
    assert_eq!(sign.header("range"), Some("bytes=0-0"));
    server.wait_for_idle();
}

#[test]
fn a_refused_ticket_is_lost_wherever_it_is_refused_and_never_shown() {
    let disk = disk();
    let server = daemon(&disk);
    let text = format!("You are not allowed to access this resource: No such ticket {TICKET}\n");
    for status in [401, 403, 404] {
        let refusal = Fault::Answer(Reply::text(status, &text));
        let lost = |error: Error| {
            let shown = format!("{error:?} {}", error.chain());
            assert_eq!(error.kind(), Kind::Lost, "{shown}");
            assert!(!shown.contains(TICKET), "{shown}");
        };
        server.fault(When::any(), refusal.clone());
        lost(open(&server, &disk).unwrap_err());
        server.fault(When::any().skip(1), refusal.clone());
        lost(open(&server, &disk).unwrap_err());
        server.clear_faults();

        let source = open(&server, &disk).unwrap();
        assert!(!format!("{source:?}").contains(TICKET));
        server.fault(When::any(), refusal.clone());
        lost(read_range(&source, 0, 100).unwrap_err().1);
        server.fault(When::any(), refusal.clone());
        lost(source.keep_alive(&Cancel::new()).unwrap_err());
        server.clear_faults();
    }
}

#[test]
fn what_else_a_daemon_may_answer() {
    let disk = disk();
    let server = daemon(&disk);
    let source = open(&server, &disk).unwrap();
    for (fault, kind) in [
        (Fault::status(500), Kind::Busy),
        (Fault::status(503), Kind::Busy),
        (Fault::status(416), Kind::Protocol),
        (Fault::status(204), Kind::Protocol),
        (Fault::IgnoreRange, Kind::Protocol),
        (Fault::Shift(512), Kind::Protocol),
        (Fault::Total(512), Kind::Protocol),
        // A ticket goes nowhere else.
        (
            Fault::Answer(Reply::redirect(302, "/elsewhere")),
            Kind::Protocol,
        ),
    ] {
        server.fault(When::ranged(), fault);
        let (bytes, error) = read_range(&source, 0, 100).unwrap_err();
        assert!(bytes.is_empty());
        assert_eq!(error.kind(), kind, "{}", error.chain());
        assert!(!error.chain().contains(TICKET));
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.target != "/elsewhere")
    );
}

#[test]
fn a_keep_alive_is_an_options_on_a_connection_that_does_not_stay() {
    let disk = disk();
    let server = daemon(&disk);
    let source = open(&server, &disk).unwrap();
    let mut reader = source.reader(&Cancel::new()).unwrap();
    reader.begin(ByteRange::new(0, 10)).unwrap();
    reader.fill(&mut [0; 10]).unwrap();
    source.keep_alive(&Cancel::new()).unwrap();
    let requests = server.requests();
    let (read, kept) = (&requests[2], &requests[3]);
    assert_eq!(kept.method, "OPTIONS");
    assert_ne!(read.connection, kept.connection);
    drop(reader);
    server.wait_for_idle();
}

fn checksum_with(reply: Reply) -> (Server, Result<String, Error>) {
    let disk = disk();
    let server = daemon(&disk);
    server.route(CHECKSUM, move |_| reply.clone());
    let source = open(&server, &disk).unwrap();
    let checksum = source.checksum(Algorithm::Blkhash, &Cancel::new());
    (server, checksum)
}

#[test]
fn the_checksum_is_the_one_that_was_asked_for() {
    let hex = "62a3".repeat(16);
    let answer = |algorithm: &str, block_size: u64, checksum: &str| {
        let json = json!({"algorithm": algorithm, "block_size": block_size, "checksum": checksum});
        Reply::json(200, &json)
    };
    let (server, checksum) = checksum_with(answer("blake2b", 4 << 20, &hex.to_uppercase()));
    assert_eq!(checksum.unwrap(), hex);
    let request = server.requests().pop().unwrap();
    assert_eq!(request.query(), "algorithm=blake2b&block_size=4194304");
    for reply in [
        answer("sha256", 4 << 20, &hex),
        answer("blake2b", 1 << 20, &hex),
        answer("blake2b", 4 << 20, "62a3"),
        answer("blake2b", 4 << 20, &"x".repeat(64)),
        Reply::bytes(200, "{}"),
        Reply::bytes(200, ""),
    ] {
        assert_fails(checksum_with(reply).1, Kind::Protocol, &[]);
    }
}

#[test]
fn a_refused_checksum_is_no_success() {
    for status in [403, 404] {
        assert_fails(
            checksum_with(Reply::status(status)).1,
            Kind::Lost,
            &["checksum refused", "the ticket has ended"],
        );
    }
    assert_fails(checksum_with(Reply::status(500)).1, Kind::Busy, &[]);
    let disk = disk();
    let source = open(&daemon(&disk), &disk).unwrap();
    assert_fails(
        source.checksum(Algorithm::Sha512, &Cancel::new()),
        Kind::Unusable,
        &["sha512"],
    );
}

/// A proxy asks the host's daemon piece by piece, whose ticket nothing keeps in use then.
#[test]
fn a_checksum_through_the_proxy_waits_for_the_copy() {
    let disk = disk();
    let server = daemon(&disk);
    let open = |ticket| {
        ImageioSource::open(
            connector(&Cancel::new()),
            ticket,
            disk.size(),
            four(),
            KEEP_ALIVE,
        )
        .unwrap()
    };
    let direct = open(Ticket::new(ticket(&server)));
    assert_eq!(direct.readers_beside_checksum(), NonZeroUsize::new(6));
    let proxied = open(Ticket::proxied(ticket(&server)));
    assert_eq!(proxied.readers_beside_checksum(), None);
}
