use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::*;
use crate::pki::{Authority, Identity, LOCAL};

fn data() -> Vec<u8> {
    (0..=255).cycle().take(1000).collect()
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address()).unwrap()
}

fn ask(stream: &mut impl Write, path: &str, headers: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// Everything until the end of the connection, split into head and body.
fn all(stream: &mut impl Read) -> (String, Vec<u8>, io::Result<usize>) {
    let mut bytes = Vec::new();
    let outcome = stream.read_to_end(&mut bytes);
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(bytes.len(), |at| at + 4);
    let body = bytes.split_off(end);
    (String::from_utf8(bytes).unwrap(), body, outcome)
}

fn get(server: &Server, headers: &str) -> (String, Vec<u8>, io::Result<usize>) {
    let mut stream = connect(server);
    ask(
        &mut stream,
        "/disk",
        &format!("Connection: close\r\n{headers}"),
    );
    all(&mut stream)
}

fn server() -> Server {
    Server::builder().object("/disk", data()).start()
}

#[test]
fn serves_whole_and_ranges_on_one_connection() {
    let server = server();
    let mut stream = connect(&server);
    ask(&mut stream, "/disk", "Range: bytes=10-19\r\n");
    ask(
        &mut stream,
        "/disk?q=1",
        "Range: bytes=990-2000\r\nConnection: close\r\n",
    );
    let (head, rest, _) = all(&mut stream);
    assert!(
        head.starts_with("HTTP/1.1 206 Partial Content\r\n"),
        "{head}"
    );
    assert!(
        head.contains("Content-Range: bytes 10-19/1000\r\n"),
        "{head}"
    );
    assert!(rest.starts_with(&data()[10..20]));
    assert!(rest.ends_with(&data()[990..]));
    let requests = server.requests();
    assert_eq!(requests[1].on_connection, 1);
    assert_eq!((requests[1].path(), requests[1].query()), ("/disk", "q=1"));
    assert_eq!(server.connections(), 1);
    assert_eq!(get(&server, "").1, data());
    assert!(get(&server, "Range: bytes=1000-\r\n").0.contains("416"));
}

#[test]
fn unknown_paths_are_404_and_the_longest_prefix_wins() {
    let server = Server::builder()
        .route("/a", |_| Reply::status(200))
        .route("/a/b", |request| Reply::bytes(201, request.body.clone()))
        .start();
    let mut stream = connect(&server);
    stream
        .write_all(b"POST /a/b/c HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    ask(&mut stream, "/x", "Connection: close\r\n");
    let (head, rest, _) = all(&mut stream);
    assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    assert!(rest.starts_with(b"hiHTTP/1.1 404"));
}

#[test]
fn a_fault_hits_the_requests_it_is_meant_for() {
    let server = server();
    server.fault(When::ranged().skip(1).times(2), Fault::status(500));
    let status = |range: &str| get(&server, range).0[9..12].to_owned();
    assert_eq!(status(""), "200");
    assert_eq!(status("Range: bytes=0-1\r\n"), "206");
    assert_eq!(status("Range: bytes=0-1\r\n"), "500");
    assert_eq!(status("Range: bytes=0-1\r\n"), "500");
    assert_eq!(status("Range: bytes=0-1\r\n"), "206");
    server.fault(When::any().overlapping(100..200), Fault::status(503));
    assert_eq!(status("Range: bytes=0-99\r\n"), "206");
    assert_eq!(status("Range: bytes=0-100\r\n"), "503");
}

#[test]
fn an_answer_stands_in_place_of_the_route() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let server = Server::builder()
        .route("/disk", move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Reply::status(200)
        })
        .start();
    server.fault(When::any(), Fault::retry_after(503, 7));
    assert!(get(&server, "").0.contains("Retry-After: 7\r\n"));
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    server.fault(When::any(), Fault::NoAnswer(Cut::Fin));
    assert_eq!(get(&server, "").0, "");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn cuts_end_the_body_where_they_say() {
    let server = server();
    server.fault(When::any(), Fault::cut(10, Cut::Fin));
    let (head, body, outcome) = get(&server, "");
    assert!(head.contains("Content-Length: 1000"), "{head}");
    assert_eq!((body.len(), outcome.is_ok()), (10, true));
    server.fault(When::any(), Fault::cut(10, Cut::Reset));
    let (_, body, outcome) = get(&server, "");
    assert!(body.len() <= 10);
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    server.fault(When::any(), Fault::NoAnswer(Cut::Fin));
    assert_eq!(get(&server, "").0, "");
}

#[test]
fn a_stall_lasts_until_the_gate_opens() {
    let server = server();
    let gate = Gate::new();
    server.fault(When::any(), Fault::stall(500, &gate));
    let mut stream = connect(&server);
    ask(&mut stream, "/disk", "Connection: close\r\n");
    server.wait_for_held(1);
    gate.open();
    assert_eq!(all(&mut stream).1, data());
    let sent = server.wait_for("the answer", |events| {
        events.iter().find_map(|event| match event {
            Event::Answered { sent, .. } => Some(*sent),
            _ => None,
        })
    });
    assert_eq!(sent, 1000);
}

#[test]
fn lies_in_the_head() {
    let server = server();
    let range = "Range: bytes=100-199\r\n";
    let lie = |fault| {
        server.fault(When::any(), fault);
        get(&server, range)
    };
    assert!(lie(Fault::Total(5)).0.contains("bytes 100-199/5"));
    let (head, body, _) = lie(Fault::Shift(-50));
    assert!(head.contains("bytes 50-149/1000"));
    assert_eq!(body, data()[50..150]);
    let (head, body, _) = lie(Fault::IgnoreRange);
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("Content-Range"));
    assert_eq!(body, data());
    let (head, body, _) = lie(Fault::ContentLength(7));
    assert!(head.contains("Content-Length: 7\r\n"), "{head}");
    assert_eq!(body.len(), 100);
    let (head, _, _) = lie(Fault::Header("Content-Range", "bytes 0-1/2".to_owned()));
    assert!(head.contains("Content-Range: bytes 0-1/2\r\n"));
    let (_, body, _) = lie(Fault::Corrupt(150));
    assert_eq!(body[50], data()[150] ^ 0x55);
    assert_eq!(body[51], data()[151]);
    assert_eq!(lie(Fault::Extra(3)).1.len(), 103);
    assert!(
        lie(Fault::Before(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()))
            .0
            .contains("100 Continue")
    );
    assert_eq!(lie(Fault::Raw(b"rubbish".to_vec())).0, "rubbish");
}

#[test]
fn chunks_and_ends() {
    let server = Server::builder().object("/disk", b"abcde".to_vec()).start();
    server.fault(When::any(), Fault::Chunked(2));
    let (head, body, _) = get(&server, "");
    assert!(head.contains("Transfer-Encoding: chunked") && !head.contains("Content-Length"));
    assert_eq!(body, b"2\r\nab\r\n2\r\ncd\r\n1\r\ne\r\n0\r\n\r\n");
    server.fault(When::any(), Fault::UntilClose);
    server.fault(When::any(), Fault::Drip(1));
    let mut stream = connect(&server);
    ask(&mut stream, "/disk", "");
    let (head, body, _) = all(&mut stream);
    assert!(!head.contains("Content-Length"));
    assert_eq!(body, b"abcde");
}

#[test]
fn refuses_and_listens_again_on_the_same_port() {
    let server = server();
    server.refuse();
    let refused = TcpStream::connect(server.address()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    server.listen();
    assert_eq!(get(&server, "").1, data());
}

#[test]
fn dropping_the_server_ends_a_stall() {
    let server = server();
    server.fault(When::any(), Fault::stall(0, &Gate::new()));
    let mut stream = connect(&server);
    ask(&mut stream, "/disk", "");
    server.wait_for_held(1);
    drop(server);
    let _ = all(&mut stream);
}

fn tls_get(server: &Server, trusted: &str, name: &str) -> Result<Vec<u8>, String> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, connect(server));
    while stream.conn.is_handshaking() {
        let done = stream.conn.complete_io(&mut stream.sock);
        done.map_err(|error| error.to_string())?;
    }
    ask(&mut stream, "/disk", "Connection: close\r\n");
    let (_, body, outcome) = all(&mut stream);
    outcome.map_err(|error| error.to_string())?;
    Ok(body)
}

fn tls_server(identity: &Identity) -> Server {
    let config = identity.server_config();
    Server::builder()
        .tls(config)
        .object("/disk", data())
        .start()
}

#[test]
fn tls_with_every_kind_of_identity() {
    let root = Authority::new("root");
    let ok = |identity: &Identity| tls_get(&tls_server(identity), &root.pem(), "localhost");
    assert_eq!(ok(&root.server(LOCAL)).unwrap(), data());
    let issuing = root.intermediate("issuing");
    assert_eq!(ok(&issuing.server(LOCAL)).unwrap(), data());
    let refused = |identity: &Identity| ok(identity).unwrap_err();
    assert!(refused(&issuing.server(LOCAL).without_intermediates()).contains("UnknownIssuer"));
    assert!(refused(&root.server(&["other"])).contains("not valid for name"));
    assert!(refused(&root.expired(LOCAL)).contains("expired"));
    assert!(refused(&root.not_yet_valid(LOCAL)).contains("not valid yet"));
    assert!(refused(&Identity::self_signed(LOCAL)).contains("UnknownIssuer"));
    let own = Identity::self_signed_authority(LOCAL);
    let outcome = tls_get(&tls_server(&own), &own.pem(), "localhost");
    assert!(outcome.unwrap_err().contains("CaUsedAsEndEntity"));
}

#[test]
fn tls_faults() {
    let identity = Authority::new("root").server(LOCAL);
    let root = Authority::new("trusted");
    let server = tls_server(&root.server(LOCAL));
    let get = || tls_get(&server, &root.pem(), "localhost");
    server.connection_fault(0, ConnectionFault::AbortHandshake(Cut::Reset));
    server.connection_fault(1, ConnectionFault::NotTls);
    server.connection_fault(2, ConnectionFault::Identity(identity.server_config()));
    server.connection_fault(3, ConnectionFault::Drop(Cut::Fin));
    for _ in 0..4 {
        get().unwrap_err();
    }
    let failed = |event: &Event| matches!(event, Event::HandshakeFailed { connection: 2, .. });
    server.wait_for("a failed handshake", |events| {
        events.iter().any(failed).then_some(())
    });
    // Without the closing alert the client notices that the end is not the end.
    server.fault(When::any(), Fault::cut(10, Cut::Fin));
    assert!(get().unwrap_err().contains("close_notify"));
    server.fault(When::any(), Fault::cut(10, Cut::Orderly));
    assert_eq!(get().unwrap().len(), 10);
    assert_eq!(get().unwrap(), data());
}
