//! Our record layer behind rustls' handshake, against rustls' server in memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod memory;

use memory::{ALERT, DATA, HANDSHAKE, Inner, Server, World, pattern, script::Script};
use net::{Error, Kind, testing::Tls};
use proptest::{collection::vec, prelude::*};
use rustls::{
    AlertDescription,
    crypto::aws_lc_rs::cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    },
    version::{TLS12, TLS13},
};

const CLOSE: [u8; 2] = [1, 0];

/// A connection whose server makes its records by hand.
fn crafted(world: &World) -> (Server, Tls<Server>) {
    let (server, tls) = world.connect(&world.client(true));
    assert!(tls.has_own_records());
    server.borrow_mut().take_keys();
    (server, tls)
}

/// All content up to the end or an error, read into `room` bytes at a time.
fn read(tls: &mut Tls<Server>, room: usize) -> (Vec<u8>, Option<Error>) {
    let mut content = Vec::new();
    let mut out = vec![0; room];
    loop {
        match tls.read(&mut out, 1) {
            Ok(0) => return (content, None),
            Ok(count) => content.extend_from_slice(&out[..count]),
            Err(error) => return (content, Some(error)),
        }
    }
}

#[test]
fn aes_gcm_of_tls_1_3_is_opened_by_us_and_all_else_by_rustls() {
    let content = pattern(100_000);
    for (suite, version, own) in [
        (TLS13_AES_128_GCM_SHA256, &TLS13, true),
        (TLS13_AES_256_GCM_SHA384, &TLS13, true),
        (TLS13_CHACHA20_POLY1305_SHA256, &TLS13, false),
        (TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, &TLS12, false),
    ] {
        let world = World::with(suite, version);
        let (server, mut tls) = world.connect(&world.client(true));
        assert_eq!(tls.has_own_records(), own, "{suite:?}");
        tls.write_all(b"a request").unwrap();
        assert_eq!(server.borrow().received, b"a request");
        server.borrow_mut().send(&content);
        let mut seen = Vec::new();
        let mut out = vec![0; 30_000];
        while seen.len() < content.len() {
            let count = tls.read(&mut out, 1).unwrap();
            seen.extend_from_slice(&out[..count]);
        }
        assert!(seen == content, "{suite:?}");
        let (_, tls) = world.connect(&world.client(false));
        assert!(!tls.has_own_records());
    }
}

#[test]
fn rustls_server_takes_a_new_key_after_every_record() {
    let world = World::new();
    let (server, mut tls) = world.connect(&world.client(true));
    let mut out = vec![0; 40_000];
    for round in 0..300_usize {
        let content = pattern(1 + round * 50);
        server.borrow_mut().send(&content);
        // Its message wants a new key of ours too. rustls follows when it opens the next request.
        server.borrow_mut().refresh();
        let mut seen = 0;
        while seen < content.len() {
            seen += tls.read(&mut out[seen..], 1).unwrap();
        }
        assert!(out[..seen] == content, "{round}");
        tls.write_all(b"x").unwrap();
        assert_eq!(server.borrow().received.len(), round + 1);
    }
}

#[test]
fn what_comes_together_with_the_handshake_is_opened_by_us() {
    let world = World::new();
    let client = world.client(true);
    let content = pattern(20_000);
    for piece in [1, 700, 1000, 2000, 10_000, usize::MAX] {
        let (server, mut tls) = world.connect_early(&client, &content, piece);
        assert!(tls.has_own_records());
        server.borrow_mut().take_keys();
        server.borrow_mut().record(ALERT, &CLOSE, 0);
        let (seen, error) = read(&mut tls, 5000);
        assert!(seen == content && error.is_none(), "{piece}: {error:?}");
    }
}

#[test]
fn a_ticket_that_our_layer_read_resumes_the_session() {
    let world = World::new();
    let client = world.client(true);
    let (server, mut tls) = world.connect(&client);
    assert!(!server.borrow().is_resumed());
    // The tickets came behind the handshake.
    server.borrow_mut().send(b"content");
    assert_eq!(tls.read(&mut [0; 100], 7).unwrap(), 7);
    for _ in 0..2 {
        let (server, mut tls) = world.connect(&client);
        assert!(server.borrow().is_resumed());
        assert!(tls.has_own_records());
        server.borrow_mut().send(b"content");
        assert_eq!(tls.read(&mut [0; 100], 7).unwrap(), 7);
    }
}

/// A stream with each kind of record; the places where records with content end, and the content
/// sent by then.
fn stream(server: &Server) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut server = server.borrow_mut();
    let content = pattern(150);
    let mut marks = Vec::new();
    server.record(DATA, &content[..100], 0);
    marks.push((server.outgoing.len(), 100));
    server.record(DATA, &[], 3);
    server.ticket(20, 30);
    server.key_update(true, 3);
    server.record(DATA, &content[100..101], 20);
    marks.push((server.outgoing.len(), 101));
    server.record(ALERT, &[1, 90], 0);
    server.record(DATA, &content[101..], 0);
    marks.push((server.outgoing.len(), 150));
    server.record(ALERT, &CLOSE, 0);
    (content, marks)
}

/// What was sent in records that end at `intact` at the latest.
fn whole<'c>(content: &'c [u8], marks: &[(usize, usize)], intact: usize) -> &'c [u8] {
    let mark = marks.iter().rfind(|(end, _)| *end <= intact);
    &content[..mark.map_or(0, |(_, length)| *length)]
}

/// Where in `stream` the client goes on, and how long it is.
fn range(server: &Server) -> std::ops::Range<usize> {
    let server = server.borrow();
    server.sent()..server.outgoing.len()
}

#[test]
fn a_stream_that_is_cut_at_any_byte_ends_in_an_error() {
    let world = World::new();
    let (server, _) = crafted(&world);
    let start = server.borrow().outgoing.len();
    stream(&server);
    for back in 0..=server.borrow().outgoing.len() - start {
        let (server, mut tls) = crafted(&world);
        let (content, marks) = stream(&server);
        let end = server.borrow().outgoing.len() - back;
        server.borrow_mut().outgoing.truncate(end);
        let (seen, error) = read(&mut tls, [1, 60, 1000][back % 3]);
        assert_eq!(seen, whole(&content, &marks, end), "{back}");
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, (back > 0).then_some(Kind::Closed), "{back}");
    }
}

#[test]
fn damage_at_any_byte_is_seen_before_its_record_counts() {
    let world = World::new();
    let (server, _) = crafted(&world);
    stream(&server);
    let range = range(&server);
    for at in 0..range.len() {
        let (server, mut tls) = crafted(&world);
        let (content, marks) = stream(&server);
        let at = self::range(&server).start + at;
        server.borrow_mut().outgoing[at] ^= 1 << (at % 8);
        let (seen, error) = read(&mut tls, [7, 1000][at % 2]);
        assert_eq!(seen, whole(&content, &marks, at), "{at}");
        assert_eq!(error.unwrap().kind(), Kind::Closed, "{at}");
    }
}

/// Sends with a fault, and says which alert the client sent for it.
fn alert_for(send: impl FnOnce(&mut Inner)) -> (Vec<u8>, Option<AlertDescription>, Error) {
    let (server, mut tls) = crafted(&World::new());
    send(&mut server.borrow_mut());
    let (content, error) = read(&mut tls, 20_000);
    let alert = server.borrow().alerts.first().copied();
    (content, alert.map(Into::into), error.unwrap())
}

#[test]
#[allow(clippy::too_many_lines, reason = "one row for each rule")]
fn what_the_standard_forbids_ends_the_connection_by_the_alert_that_it_names() {
    use AlertDescription as A;
    type Fault = fn(&mut Inner);
    let table: [(&str, Fault, A); 21] = [
        (
            "a header that states too much",
            |to| to.outgoing.extend([23, 3, 3, 0x41, 1]),
            A::RecordOverflow,
        ),
        (
            "more content than a record may have",
            |to| to.record(DATA, &pattern((1 << 14) + 1), 0),
            A::RecordOverflow,
        ),
        (
            "more padding than a record may have",
            |to| to.record(DATA, &pattern(1 << 14), 1),
            A::RecordOverflow,
        ),
        (
            "a record that is shorter than a tag",
            |to| to.outgoing.extend([23, 3, 3, 0, 15]),
            A::BadRecordMac,
        ),
        (
            "nothing but padding",
            |to| to.seal(vec![0; 9]),
            A::UnexpectedMessage,
        ),
        (
            "nothing at all",
            |to| to.seal(Vec::new()),
            A::UnexpectedMessage,
        ),
        (
            "an alert that is not protected",
            |to| to.outgoing.extend([21, 3, 3, 0, 2, 1, 0]),
            A::UnexpectedMessage,
        ),
        (
            "a change of the cipher that is not protected",
            |to| to.outgoing.extend([20, 3, 3, 0, 1, 1]),
            A::UnexpectedMessage,
        ),
        (
            "a change of the cipher",
            |to| to.record(20, &[1], 0),
            A::UnexpectedMessage,
        ),
        (
            "an unknown type",
            |to| to.record(99, &[1], 0),
            A::UnexpectedMessage,
        ),
        (
            "a handshake record without content",
            |to| to.record(HANDSHAKE, &[], 2),
            A::UnexpectedMessage,
        ),
        (
            "a handshake message that has no place here",
            |to| to.message(1, &[1, 2, 3], 100),
            A::UnexpectedMessage,
        ),
        (
            "a handshake message that is too long",
            |to| to.record(HANDSHAKE, &[4, 1, 0, 0], 0),
            A::DecodeError,
        ),
        (
            "a ticket that is none",
            |to| to.message(4, &[1, 2, 3], 100),
            A::DecodeError,
        ),
        (
            "a key update with an unknown wish",
            |to| to.message(24, &[2], 100),
            A::IllegalParameter,
        ),
        (
            "a key update that is too long",
            |to| to.message(24, &[0, 0], 100),
            A::IllegalParameter,
        ),
        (
            "something behind a key update in its record",
            |to| {
                to.record(HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0], 0);
            },
            A::UnexpectedMessage,
        ),
        (
            "content within a handshake message",
            |to| {
                to.record(HANDSHAKE, &[4, 0, 0], 0);
                to.record(DATA, &[1], 0);
            },
            A::UnexpectedMessage,
        ),
        (
            "the end within a handshake message",
            |to| {
                to.record(HANDSHAKE, &[4, 0, 0], 0);
                to.record(ALERT, &CLOSE, 0);
            },
            A::UnexpectedMessage,
        ),
        (
            "an alert of three bytes",
            |to| to.record(ALERT, &[1, 0, 0], 0),
            A::DecodeError,
        ),
        (
            "a record that comes twice",
            |to| {
                let start = to.outgoing.len();
                to.record(DATA, &[], 0);
                let record = to.outgoing[start..].to_vec();
                to.outgoing.extend(record);
            },
            A::BadRecordMac,
        ),
    ];
    for (what, send, alert) in table {
        let (content, sent, error) = alert_for(send);
        assert!(content.is_empty(), "{what}");
        assert_eq!(sent, Some(alert), "{what}: {error}");
        assert_eq!(error.kind(), Kind::Closed, "{what}");
    }
}

#[test]
fn an_alert_of_the_server_is_named_and_not_answered() {
    let (content, sent, error) = alert_for(|to| {
        to.record(DATA, b"content", 0);
        to.record(ALERT, &[2, 80], 0);
    });
    assert_eq!((content.as_slice(), sent), (&b"content"[..], None));
    assert_eq!(error.kind(), Kind::Closed);
    assert!(error.to_string().contains("alert 80"), "{error}");
    // The server misses a client's certificate after the handshake.
    let (_, _, error) = alert_for(|to| to.record(ALERT, &[2, 116], 0));
    assert_eq!(error.kind(), Kind::Tls);
}

#[test]
fn records_that_bring_nothing_are_bounded() {
    type Nothing = fn(&mut Inner);
    let kinds: [Nothing; 4] = [
        |to| to.record(DATA, &[], 5),
        |to| to.record(ALERT, &[1, 90], 0),
        |to| to.key_update(true, 100),
        |to| to.ticket(100, 1000),
    ];
    for send in kinds {
        // The tickets of the handshake are read before.
        let most = |to: &mut Inner| {
            to.record(DATA, b"content", 0);
            for _ in 0..256 {
                send(to);
            }
        };
        let (content, _, error) = alert_for(|to| {
            most(to);
            send(to);
        });
        assert_eq!(content, b"content");
        assert!(error.to_string().contains("too many"), "{error}");
        let (server, mut tls) = crafted(&World::new());
        most(&mut server.borrow_mut());
        most(&mut server.borrow_mut());
        server.borrow_mut().record(ALERT, &CLOSE, 0);
        let (content, error) = read(&mut tls, 100);
        assert_eq!(
            (content, error.is_none()),
            (b"contentcontent".to_vec(), true)
        );
    }
}

#[test]
fn what_follows_the_closing_alert_does_not_count() {
    let (server, mut tls) = crafted(&World::new());
    server.borrow_mut().record(DATA, b"content", 0);
    server.borrow_mut().record(ALERT, &CLOSE, 0);
    server.borrow_mut().record(DATA, b"more", 0);
    assert_eq!(read(&mut tls, 100).0, b"content");
    assert_eq!(tls.read(&mut [0; 9], 1).unwrap(), 0);
}

#[test]
fn a_request_is_not_sent_behind_content_that_was_not_asked_for_or_an_end() {
    let table: [(&[u8], u8, &[u8]); 3] = [
        (b"x", DATA, b"content"),
        (b"x", ALERT, &CLOSE),
        // Of the same record.
        (b"xy", ALERT, &[1, 90]),
    ];
    for (first, kind, content) in table {
        let (server, mut tls) = crafted(&World::new());
        server.borrow_mut().record(DATA, first, 0);
        server.borrow_mut().record(kind, content, 0);
        // Both are received at once.
        assert_eq!(tls.read(&mut [0], 1).unwrap(), 1);
        let error = tls.write_all(b"a request").unwrap_err();
        assert_eq!((error.kind(), error.was_sent()), (Kind::Closed, false));
        assert_eq!(server.borrow().received, b"");
    }
}

#[test]
fn what_is_sent_is_cut_into_records_and_protected_by_fresh_keys() {
    let (server, mut tls) = crafted(&World::new());
    let content = pattern(100_000);
    tls.write_all(&content).unwrap();
    assert!(server.borrow().received == content);
    assert_eq!(server.borrow().key_updates, 0);
    // As if a key were used up by ten records.
    tls.replace_keys_after(10);
    for sent in 1..=25 {
        tls.write_all(b"x").unwrap();
        assert_eq!(server.borrow().received.len(), content.len() + sent);
    }
    // Seven records of the first key were sent, so 3 are left of it.
    assert_eq!(server.borrow().key_updates, 3);
}

#[test]
fn any_script_is_read_as_far_as_it_is_in_order() {
    let world = World::new();
    proptest!(ProptestConfig::with_cases(400), |(input in vec(any::<u8>(), 0..120))| {
        Script::decode(&input).run(&world);
    });
}
