//! The REST client: bounds, redirects, repetition, errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{answers, assert_kind, pki, plain, texts, trusting, url};
use http::{HeaderMap, HeaderValue, Method};
use net::{Answer, Error, Kind, Repeat, Request, Rest, Settings};
use testkit::{Cut, Fault, Gate, Reply, Server, When};

fn request(method: Method, to: &str) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer hush"));
    headers.insert("x-auth-token", HeaderValue::from_static("hush"));
    headers.insert("x-plain", HeaderValue::from_static("open"));
    let mut secret = HeaderValue::from_static("hush");
    secret.set_sensitive(true);
    headers.insert("x-secret", secret);
    Request {
        method,
        url: url(to),
        headers,
        body: Bytes::new(),
        timeout: Duration::from_mins(1),
        retry: Repeat::Never,
    }
}

async fn get(settings: &Settings, to: &str) -> Result<Answer, Error> {
    Rest::new(settings)?.send(request(Method::GET, to)).await
}

#[tokio::test]
async fn answers_are_whole_whatever_their_status() {
    let server = Server::builder()
        .route("/", |request| {
            Reply::bytes(418, request.body.clone()).header("X-Method", &request.method)
        })
        .start();
    let rest = Rest::new(&plain()).unwrap();
    for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT] {
        let mut request = request(method.clone(), &server.url("/x?a=b"));
        request.body = Bytes::from_static(b"payload");
        let answer = rest.send(request).await.unwrap();
        assert_eq!(answer.status, 418);
        assert_eq!(answer.headers["x-method"], method.as_str());
        assert_eq!(answer.body, "payload");
    }
    let seen = server.requests();
    assert_eq!(seen[0].header("user-agent"), Some("net-test/1"));
    assert_eq!(seen[0].header("x-auth-token"), Some("hush"));
    assert_eq!(seen[0].target, "/x?a=b");
    assert_eq!(server.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn a_large_answer_is_refused_before_it_is_read() {
    let server = Server::builder()
        .object("/exact", vec![1; Rest::MAX_BODY])
        .object("/more", vec![1; Rest::MAX_BODY + 1])
        .start();
    let whole = get(&plain(), &server.url("/exact")).await.unwrap();
    assert_eq!(whole.body.len(), Rest::MAX_BODY);
    for fault in [None, Some(Fault::Chunked(1 << 20))] {
        if let Some(fault) = fault {
            server.fault(When::any(), fault);
        }
        assert_kind(get(&plain(), &server.url("/more")).await, Kind::TooLarge);
    }
    let rest = Rest::new(&plain()).unwrap();
    let head = rest.send(request(Method::HEAD, &server.url("/more"))).await;
    assert_eq!(head.unwrap().status, 200);
}

#[tokio::test]
async fn redirects_within_the_origin_keep_everything() {
    let server = Server::builder()
        .route("/a", |_| Reply::redirect(302, "/b/c?d=e"))
        .route("/b", |_| Reply::redirect(308, "./end"))
        .route("/b/end", |_| Reply::text(200, "here"))
        .start();
    let answer = get(&plain(), &server.url("/a")).await.unwrap();
    assert_eq!(answer.body, "here");
    assert_eq!(answer.url.as_str(), server.url("/b/end"));
    for seen in server.requests() {
        for name in ["authorization", "x-auth-token", "x-secret", "x-plain"] {
            assert!(seen.header(name).is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn redirects_to_another_origin_carry_no_credentials() {
    let other = Server::builder()
        .address("127.0.0.2".parse().unwrap())
        .route("/", |_| Reply::text(200, "there"))
        .start();
    let location = other.url("/x");
    let server = Server::builder()
        .route("/", move |_| Reply::redirect(307, &location))
        .start();
    let answer = get(&plain(), &server.url("/a")).await.unwrap();
    assert_eq!(answer.body, "there");
    let seen = other.requests().remove(0);
    assert_eq!(seen.header("x-plain"), Some("open"));
    for name in ["authorization", "x-auth-token", "x-secret", "cookie"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    // Another port of the same host is another origin too.
    let back = Server::builder().route("/", |_| Reply::status(200)).start();
    let location = back.url("/");
    server.route("/", move |_| Reply::redirect(301, &location));
    get(&plain(), &server.url("/a")).await.unwrap();
    assert_eq!(back.requests().remove(0).header("x-auth-token"), None);
}

#[tokio::test]
async fn redirects_that_are_not_followed() {
    let (authority, identity) = pki();
    let open = Server::builder().route("/", |_| Reply::status(200)).start();
    let location = open.url("/secret-path");
    let safe = Server::builder()
        .tls(identity.server_config())
        .route("/down", move |_| Reply::redirect(302, &location))
        .route("/ftp", |_| Reply::redirect(302, "ftp://x/"))
        .route("/loop", |_| Reply::redirect(302, "/loop"))
        .route("/post", |_| Reply::redirect(307, "/other"))
        .start();
    let settings = trusting(&authority.pem());
    for path in ["/down", "/ftp", "/loop"] {
        let error = assert_kind(get(&settings, &safe.url(path)).await, Kind::Redirect);
        assert!(!texts(&error).contains("secret-path"), "{error}");
    }
    let rest = Rest::new(&settings).unwrap();
    let posted = rest.send(request(Method::POST, &safe.url("/post"))).await;
    assert_kind(posted, Kind::Redirect);
    assert!(open.requests().is_empty());
    let looped = safe.requests();
    let looped = looped.iter().filter(|seen| seen.target == "/loop").count();
    assert_eq!(looped, 6, "the first request and five redirects");
    assert!(!safe.requests().iter().any(|seen| seen.target == "/other"));
}

#[tokio::test]
async fn multiple_choices_are_an_answer() {
    let server = Server::builder()
        .route("/", |_| {
            Reply::text(300, "versions").header("Location", "/v3")
        })
        .start();
    let answer = get(&plain(), &server.url("/")).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (300, &b"versions"[..])
    );
}

#[tokio::test]
async fn errors_say_what_and_whether_it_was_sent() {
    let server = Server::builder().object("/x", vec![0; 1000]).start();
    let rest = Rest::new(&plain()).unwrap();
    let try_post = async |fault: Option<Fault>| {
        let fresh = Rest::new(&plain()).unwrap();
        if let Some(fault) = fault {
            server.fault(When::any(), fault);
        }
        fresh
            .send(request(Method::POST, &server.url("/x/secret-path")))
            .await
    };
    for fault in [
        Fault::NoAnswer(Cut::Fin),
        Fault::NoAnswer(Cut::Reset),
        Fault::cut(10, Cut::Fin),
    ] {
        let error = assert_kind(try_post(Some(fault)).await, Kind::Closed);
        assert!(
            error.was_sent() && !texts(&error).contains("secret-path"),
            "{}",
            texts(&error)
        );
    }
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: None\r\n\r\n",
        "SSH-2.0\r\n\r\n",
    ] {
        let error = assert_kind(try_post(Some(Fault::Raw(raw.into()))).await, Kind::Protocol);
        assert!(error.was_sent());
    }
    server.refuse();
    let error = assert_kind(try_post(None).await, Kind::Connect);
    assert!(
        !error.was_sent() && !texts(&error).contains("secret-path"),
        "{}",
        texts(&error)
    );

    let unknown = rest
        .send(request(Method::POST, "http://name.invalid/x"))
        .await;
    let error = assert_kind(unknown, Kind::Resolve);
    assert!(
        !error.was_sent() && error.to_string().contains("name.invalid"),
        "{error}"
    );
}

#[tokio::test]
async fn debug_shows_neither_path_nor_body_nor_headers() {
    let server = Server::builder()
        .route("/", |_| {
            Reply::text(200, "hush").header("X-Subject-Token", "hush")
        })
        .start();
    let mut request = request(Method::POST, &server.url("/hush"));
    request.body = Bytes::from_static(b"hush");
    let shown = format!("{request:?}");
    let answer = Rest::new(&plain()).unwrap().send(request).await.unwrap();
    for shown in [shown, format!("{answer:?}")] {
        assert!(
            shown.contains("127.0.0.1") && !shown.contains("hush"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_takes_too_long() {
    let server = Server::builder().object("/x", vec![0; 1000]).start();
    for fault in [Fault::HoldHead as fn(Gate) -> Fault, |gate| {
        Fault::stall(10, &gate)
    }] {
        let gate = Gate::new();
        server.fault(When::any(), fault(gate.clone()));
        let mut slow = request(Method::GET, &server.url("/x"));
        slow.timeout = Duration::from_millis(200);
        let error = assert_kind(Rest::new(&plain()).unwrap().send(slow).await, Kind::Stalled);
        assert!(
            error.was_sent() && error.to_string().contains("200ms"),
            "{error}"
        );
        gate.open();
    }
}

#[tokio::test]
async fn busy_servers_are_asked_again() {
    let server = Server::builder().object("/x", b"body".to_vec()).start();
    server.fault(When::any(), Fault::retry_after(429, 0));
    let mut patient = request(Method::GET, &server.url("/x"));
    patient.retry = Repeat::Safe(Duration::from_mins(1));
    let answer = Rest::new(&plain()).unwrap().send(patient).await.unwrap();
    assert_eq!(answer.body, "body");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_plain_server_asked_for_https() {
    let to = format!(
        "https://127.0.0.1:{}/",
        answers(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    );
    let error = assert_kind(get(&plain(), &to).await, Kind::Tls);
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}
