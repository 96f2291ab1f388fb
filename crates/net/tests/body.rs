//! Bodies of the data path: every framing, every way to end early, byte for byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;

use common::{answers, assert_kind, connect, pattern, pki, plain, trusting, url};
use http::HeaderMap;
use net::{Connection, Error, Kind, Settings};
use testkit::{Cut, Fault, Server, When};

/// A plain and a TLS server of the same object, with the settings for each.
fn both(bytes: &Arc<Vec<u8>>) -> [(Server, Settings); 2] {
    let (authority, identity) = pki();
    let object = || testkit::Object::from(Arc::clone(bytes));
    [
        (Server::builder().object("/x", object()).start(), plain()),
        (
            Server::builder()
                .tls(identity.server_config())
                .object("/x", object())
                .start(),
            trusting(&authority.pem()),
        ),
    ]
}

fn open(server: &Server, settings: &Settings) -> Connection {
    connect(settings, &server.url("/x")).unwrap()
}

fn get(connection: &mut Connection, server: &Server) -> Result<net::ResponseHead, Error> {
    connection.get(&url(&server.url("/x")), &HeaderMap::new())
}

/// Reads to the end with buffers of these sizes in turn.
fn read_all(connection: &mut Connection, sizes: &[usize]) -> Result<Vec<u8>, (Vec<u8>, Error)> {
    let mut whole = Vec::new();
    for size in sizes.iter().cycle() {
        let mut buf = vec![0; *size];
        match connection.read(&mut buf) {
            Ok(count) => {
                whole.extend_from_slice(&buf[..count]);
                if count < *size {
                    return Ok(whole);
                }
            }
            Err((count, error)) => {
                whole.extend_from_slice(&buf[..count]);
                return Err((whole, error));
            }
        }
    }
    unreachable!("the sizes go on for ever")
}

#[test]
fn a_large_body_in_odd_pieces_is_equal() {
    let bytes = Arc::new(pattern((64 << 20) + 12_345));
    for (server, settings) in both(&bytes) {
        let mut connection = open(&server, &settings);
        for sizes in [&[1 << 20][..], &[4097, 1, 16_384, 999_983, 17], &[300_001]] {
            let head = get(&mut connection, &server).unwrap();
            assert_eq!(head.content_length, Some(bytes.len() as u64));
            let whole = read_all(&mut connection, sizes).unwrap();
            assert!(whole == *bytes, "{server:?} {sizes:?}");
            assert!(connection.is_reusable());
        }
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn chunked_bodies_are_equal() {
    let bytes = Arc::new(pattern(3_000_001));
    for (server, settings) in both(&bytes) {
        let mut connection = open(&server, &settings);
        for chunk in [300, 65_536, 1_000_000, 5_000_000] {
            server.fault(When::any(), Fault::Chunked(chunk));
            let head = get(&mut connection, &server).unwrap();
            assert_eq!(head.content_length, None);
            let whole = read_all(&mut connection, &[100_003, 1, 50]).unwrap();
            assert!(whole == *bytes, "{server:?} {chunk}");
            assert!(connection.is_reusable());
            server.clear_faults();
        }
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn chunk_extensions_trailers_and_interim_answers() {
    let port = answers(
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
          HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          3;a=b\r\nabc\r\n00A \r\n0123456789\r\n0\r\nDigest: x\r\nOther: y\r\n\r\n",
    );
    let to = format!("http://127.0.0.1:{port}/");
    let mut connection = connect(&plain(), &to).unwrap();
    connection.get(&url(&to), &HeaderMap::new()).unwrap();
    assert_eq!(connection.read_to_end(13).unwrap(), b"abc0123456789");
}

#[test]
fn a_body_until_close() {
    let bytes = Arc::new(pattern(700_000));
    for (server, settings) in both(&bytes) {
        server.fault(When::any(), Fault::UntilClose);
        let mut connection = open(&server, &settings);
        assert_eq!(get(&mut connection, &server).unwrap().content_length, None);
        assert!(read_all(&mut connection, &[9_999]).unwrap() == *bytes);
        assert!(!connection.is_reusable());
    }
}

#[test]
fn a_body_until_close_is_not_ended_by_a_cut_of_tls() {
    let bytes = Arc::new(pattern(700_000));
    let [_, (server, settings)] = both(&bytes);
    server.fault(When::any(), Fault::UntilClose);
    server.fault(When::any(), Fault::cut(500_000, Cut::Fin));
    let mut connection = open(&server, &settings);
    get(&mut connection, &server).unwrap();
    let (whole, error) = read_all(&mut connection, &[65_536]).unwrap_err();
    assert_eq!(error.kind(), Kind::Closed);
    assert!(error.to_string().contains("closing alert"), "{error}");
    assert!(whole == bytes[..500_000]);
}

#[test]
fn early_ends_give_every_byte_before_them() {
    let bytes = Arc::new(pattern(2_000_000));
    for (server, settings) in both(&bytes) {
        for cut in [Cut::Fin, Cut::Orderly] {
            for (after, chunked) in [
                (0, false),
                (1, false),
                (1_234_567, false),
                (1_234_567, true),
            ] {
                server.clear_faults();
                server.fault(When::any(), Fault::cut(after, cut));
                if chunked {
                    server.fault(When::any(), Fault::Chunked(70_000));
                }
                let mut connection = open(&server, &settings);
                get(&mut connection, &server).unwrap();
                let (whole, error) = read_all(&mut connection, &[1 << 20]).unwrap_err();
                assert_eq!(error.kind(), Kind::Closed, "{error}");
                assert!(error.was_sent());
                assert_eq!(whole.len() as u64, after, "{server:?} {cut:?}");
                assert!(whole == bytes[..whole.len()]);
                assert!(!connection.is_reusable());
                let again = connection.read(&mut [0; 10]).unwrap_err();
                assert_eq!((again.0, again.1.kind()), (0, Kind::Closed));
            }
        }
    }
}

#[test]
fn a_reset_gives_only_right_bytes() {
    let bytes = Arc::new(pattern(2_000_000));
    for (server, settings) in both(&bytes) {
        server.fault(When::any(), Fault::cut(1_500_000, Cut::Reset));
        let mut connection = open(&server, &settings);
        get(&mut connection, &server).unwrap();
        let (whole, error) = read_all(&mut connection, &[1 << 20]).unwrap_err();
        assert_eq!(error.kind(), Kind::Closed, "{error}");
        assert!(whole == bytes[..whole.len()]);
    }
}

#[test]
fn no_answer_at_all() {
    for (server, settings) in both(&Arc::new(vec![1])) {
        for cut in [Cut::Fin, Cut::Orderly, Cut::Reset] {
            server.clear_faults();
            server.fault(When::any(), Fault::NoAnswer(cut));
            let mut connection = open(&server, &settings);
            let error = assert_kind(get(&mut connection, &server), Kind::Closed);
            assert!(error.was_sent());
        }
    }
}

#[test]
fn connections_are_kept_as_long_as_the_server_keeps_them() {
    let bytes = Arc::new(pattern(100_000));
    for (server, settings) in both(&bytes) {
        let mut connection = open(&server, &settings);
        get(&mut connection, &server).unwrap();
        assert!(!connection.is_reusable(), "the body is not read");
        let error = assert_kind(get(&mut connection, &server), Kind::Closed);
        assert!(!error.was_sent());

        let mut connection = open(&server, &settings);
        for _ in 0..3 {
            get(&mut connection, &server).unwrap();
            read_all(&mut connection, &[7_000]).unwrap();
            assert!(connection.is_reusable());
        }
        server.fault(When::any(), Fault::Close);
        get(&mut connection, &server).unwrap();
        read_all(&mut connection, &[7_000]).unwrap();
        assert!(!connection.is_reusable(), "Connection: close");

        server.fault(When::any(), Fault::CloseSilently);
        let mut connection = open(&server, &settings);
        get(&mut connection, &server).unwrap();
        read_all(&mut connection, &[7_000]).unwrap();
        // The server's end arrives a moment after its answer.
        let begun = std::time::Instant::now();
        while connection.is_reusable() && begun.elapsed() < testkit::DEADLINE {
            std::thread::yield_now();
        }
        assert!(!connection.is_reusable(), "the server has closed");
        let error = assert_kind(get(&mut connection, &server), Kind::Closed);
        assert!(!error.was_sent());
    }
}

#[test]
fn bytes_beyond_the_answer_are_never_part_of_the_next() {
    let bytes = Arc::new(pattern(1000));
    for (server, settings) in both(&bytes) {
        server.fault(When::any(), Fault::Extra(10));
        let mut connection = open(&server, &settings);
        get(&mut connection, &server).unwrap();
        assert!(read_all(&mut connection, &[300]).unwrap() == *bytes);
        let answered = |events: &[testkit::Event]| {
            let found = |event: &testkit::Event| matches!(event, testkit::Event::Answered { .. });
            events.iter().any(found).then_some(())
        };
        server.wait_for("the extra bytes", answered);
        if let Ok(head) = get(&mut connection, &server) {
            panic!("{head:?}");
        }
    }
}

#[test]
fn malformed_answers() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: None\r\n\r\nrejected"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ] {
        let to = format!("http://127.0.0.1:{}/", answers(answer));
        let mut connection = connect(&plain(), &to).unwrap();
        let outcome = connection.get(&url(&to), &HeaderMap::new());
        assert_kind(outcome, Kind::Protocol);
        assert!(!connection.is_reusable());
    }
}

#[test]
fn malformed_chunks() {
    for body in [
        "x\r\n",
        "-1\r\n",
        "3\r\nabcd\r\n",
        "3\nabc\r\n",
        "11111111111111111\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let to = format!("http://127.0.0.1:{}/", answers(text.leak().as_bytes()));
        let mut connection = connect(&plain(), &to).unwrap();
        connection.get(&url(&to), &HeaderMap::new()).unwrap();
        assert_kind(connection.read_to_end(100), Kind::Protocol);
    }
}

#[test]
fn heads_without_end_are_bounded() {
    let (authority, _) = pki();
    let settings = trusting(&authority.pem());
    let port = common::raw(|mut stream| {
        use std::io::Write;
        // After the request: a connection on which bytes come before it is not used.
        common::read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-Field: value\r\n").is_ok() {}
    });
    let to = format!("http://127.0.0.1:{port}/");
    let mut connection = connect(&settings, &to).unwrap();
    let outcome = connection.get(&url(&to), &HeaderMap::new());
    assert_kind(outcome, Kind::Protocol);
}

#[test]
fn what_is_sent() {
    let [(server, settings), _] = both(&Arc::new(vec![1]));
    let mut connection = open(&server, &settings);
    let mut headers = HeaderMap::new();
    headers.insert("range", "bytes=0-0".parse().unwrap());
    let to = server
        .url("/x/images/ticket?a=b%20c#fragment")
        .replace("http://", "http://u:p@");
    let head = connection.get(&url(&to), &headers).unwrap();
    assert_eq!(head.status, 206);
    let request = server.requests().remove(0);
    assert_eq!(request.target, "/x/images/ticket?a=b%20c");
    let host = server.address().to_string();
    for (name, value) in [
        ("host", Some(host.as_str())),
        ("accept-encoding", Some("identity")),
        ("user-agent", Some("net-test/1")),
        ("range", Some("bytes=0-0")),
        ("authorization", None),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    assert!(!format!("{connection:?}").contains("ticket"));
}

#[test]
fn errors_never_show_the_path() {
    let bytes = Arc::new(pattern(1000));
    for (server, settings) in both(&bytes) {
        server.fault(When::any(), Fault::cut(10, Cut::Fin));
        let to = server.url("/x/secret-ticket?secret");
        let mut connection = connect(&settings, &to).unwrap();
        connection.get(&url(&to), &HeaderMap::new()).unwrap();
        let error = connection.read_to_end(5000).unwrap_err();
        let text = common::texts(&error);
        assert!(
            text.contains("127.0.0.1") && !text.contains("secret"),
            "{text}"
        );
    }
}

#[test]
fn bytes_that_come_after_the_answer_end_the_use_of_the_connection() {
    let (say, said) = std::sync::mpsc::channel::<()>();
    let (written, wait) = std::sync::mpsc::channel();
    let port = common::raw(move |mut stream| {
        common::read_head(&mut stream);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        std::io::Write::write_all(&mut stream, answer).unwrap();
        said.recv().unwrap();
        std::io::Write::write_all(&mut stream, b"more").unwrap();
        written.send(stream).unwrap();
    });
    let to = format!("http://127.0.0.1:{port}/");
    let mut connection = connect(&plain(), &to).unwrap();
    let (target, none) = (url(&to), HeaderMap::new());
    connection.get(&target, &none).unwrap();
    assert_eq!(connection.read_to_end(9).unwrap(), b"ok");
    assert!(connection.is_reusable());
    say.send(()).unwrap();
    let _open = wait.recv().unwrap();
    assert!(!connection.is_reusable());
}
