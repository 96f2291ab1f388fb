//! Proxies: tunnels, absolute form, credentials, refusals. Each through both clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    io::{Write, copy},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use common::{by_rest, connect, pki, plain, read_head, texts, trusting, url};
use http::HeaderMap;
use net::{Error, Kind, Proxies, Settings};
use testkit::{Reply, Server, plain::assert_plain};

/// A proxy for tunnels that answers with `status`, and after a 200 connects. Records what it was
/// asked.
fn tunnel_proxy(status: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = read_head(&mut stream);
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            log.lock().unwrap().push(head);
            let answer = format!("HTTP/1.1 {status}\r\nX-Proxy: test\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if status.starts_with("200") {
                let upstream = TcpStream::connect(target).unwrap();
                pump(stream.try_clone().unwrap(), upstream.try_clone().unwrap());
                pump(upstream, stream);
            }
        }
    });
    (port, asked)
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

fn by_connection(settings: &Settings, to: &str) -> Result<Vec<u8>, Error> {
    let mut connection = connect(settings, to)?;
    connection.get(&url(to), &HeaderMap::new())?;
    connection.read_to_end(1000)
}

type Fetch = fn(&Settings, &str) -> Result<Vec<u8>, Error>;
const BOTH: [Fetch; 2] = [by_rest, by_connection];

fn through(settings: Settings, proxy: &str, no_proxy: &str) -> Settings {
    Settings {
        proxies: Proxies::new(Some(proxy), Some(proxy), Some(no_proxy)),
        ..settings
    }
}

#[test]
fn https_goes_through_a_tunnel_with_credentials() {
    let (authority, identity) = pki();
    let server = Server::builder()
        .tls(identity.server_config())
        .object("/x", b"body".to_vec())
        .start();
    for fetch in BOTH {
        let (port, asked) = tunnel_proxy("200 Connection established");
        let proxy = format!("http://user:pass@127.0.0.1:{port}");
        let settings = through(trusting(&authority.pem()), &proxy, "");
        assert_eq!(fetch(&settings, &server.url("/x?secret")).unwrap(), b"body");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 1);
        let head = asked[0].to_lowercase();
        let target = format!("connect {} http/1.1\r\n", server.address());
        assert!(head.starts_with(&target), "{head}");
        assert!(
            head.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
            "{head}"
        );
        assert!(!head.contains("secret"), "{head}");
    }
    for request in server.requests() {
        assert_eq!(request.target, "/x?secret");
        assert_eq!(request.header("proxy-authorization"), None);
    }
}

#[test]
fn plain_http_goes_in_absolute_form() {
    let proxy = Server::builder()
        .object("http://", b"by proxy".to_vec())
        .start();
    let address = proxy.url("").replace("http://", "http://user:pass@");
    let settings = through(plain(), &address, "");
    for fetch in BOTH {
        let body = fetch(&settings, "http://images.example:9292/v2/x?y=z").unwrap();
        assert_eq!(body, b"by proxy");
    }
    for request in proxy.requests() {
        assert_eq!(request.target, "http://images.example:9292/v2/x?y=z");
        assert_eq!(request.header("host"), Some("images.example:9292"));
        assert_eq!(
            request.header("proxy-authorization"),
            Some("Basic dXNlcjpwYXNz")
        );
    }
    assert_eq!(proxy.requests().len(), 2);
}

#[test]
fn refusals_are_the_proxys() {
    for (status, kind) in [
        ("403 Forbidden", Kind::Settings),
        ("404 Not Found", Kind::Settings),
        ("429 Too Many Requests", Kind::Proxy),
        ("503 Service Unavailable", Kind::Proxy),
        ("502 Bad Gateway", Kind::Proxy),
        ("407 Proxy Authentication Required", Kind::Settings),
    ] {
        for fetch in BOTH {
            let (port, _) = tunnel_proxy(status);
            let proxy = format!("http://user:hush@127.0.0.1:{port}");
            let settings = through(plain(), &proxy, "");
            let error = fetch(&settings, "https://engine.example/").unwrap_err();
            assert_eq!(error.kind(), kind, "{}", texts(&error));
            assert!(!error.was_sent());
            assert!(error.to_string().contains(&port.to_string()), "{error}");
            assert!(!texts(&error).contains("hush"), "{}", texts(&error));
            assert_plain(&error.chain());
            let names = error.to_string().contains("no_proxy");
            assert_eq!(
                names,
                status.starts_with("403") || status.starts_with("404")
            );
        }
    }
}

#[test]
fn a_value_that_is_no_proxy_is_an_error_where_it_would_be_used() {
    let server = Server::builder().object("/x", b"body".to_vec()).start();
    for fetch in BOTH {
        for value in ["https://proxy.example:3129", "socks5://127.0.0.1:1080"] {
            let settings = through(plain(), value, "127.0.0.1");
            assert_eq!(fetch(&settings, &server.url("/x")).unwrap(), b"body");
            let error = fetch(&settings, "http://engine.example/").unwrap_err();
            assert_eq!(error.kind(), Kind::Settings, "{}", texts(&error));
            assert!(error.to_string().contains("HTTP_PROXY"), "{error}");
            assert!(!error.was_sent());
        }
    }
}

#[test]
fn a_proxy_for_plain_http_that_wants_credentials() {
    let proxy = Server::builder().route("", |_| Reply::status(407)).start();
    for fetch in BOTH {
        let settings = through(plain(), &proxy.address().to_string(), "");
        let error = fetch(&settings, "http://engine.example/").unwrap_err();
        assert_eq!(error.kind(), Kind::Settings, "{}", texts(&error));
        assert!(error.to_string().contains("HTTP_PROXY"), "{error}");
        // Without a proxy it is an answer like others.
        let direct = fetch(&plain(), &proxy.url("/x"));
        assert_eq!(direct.unwrap(), b"");
    }
}

#[test]
fn a_proxy_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://user:hush@{}", listener.local_addr().unwrap());
    drop(listener);
    for fetch in BOTH {
        let settings = through(plain(), &proxy, "");
        let error = fetch(&settings, "https://engine.example/").unwrap_err();
        assert_eq!(error.kind(), Kind::Connect, "{}", texts(&error));
        assert!(!error.was_sent() && !texts(&error).contains("hush"));
    }
}

#[test]
fn a_proxy_that_closes_or_talks_rubbish() {
    for answer in [
        &b""[..],
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nearly",
    ] {
        let port = common::answers(answer);
        let settings = through(plain(), &format!("127.0.0.1:{port}"), "");
        let error = by_connection(&settings, "https://engine.example/").unwrap_err();
        assert_eq!(error.kind(), Kind::Proxy, "{}", texts(&error));
    }
}

#[test]
fn no_proxy_goes_directly() {
    let server = Server::builder().object("/x", b"body".to_vec()).start();
    for fetch in BOTH {
        let (port, asked) = tunnel_proxy("403 Forbidden");
        let settings = through(
            plain(),
            &format!("127.0.0.1:{port}"),
            "10.0.0.0/8,127.0.0.0/8",
        );
        assert_eq!(fetch(&settings, &server.url("/x")).unwrap(), b"body");
        assert!(asked.lock().unwrap().is_empty());
    }
}
