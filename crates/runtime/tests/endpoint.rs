//! The endpoint as a client sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use runtime::{Endpoint, HealthEndpoint, Transport};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

const NAME: &str = "some-process";

struct Server {
    address: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
    linger: runtime::Linger,
    gauge: Gauge,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

fn start(transport: Transport) -> Server {
    let gauge = Gauge::default();
    let mut registry = Registry::default();
    registry.register("some_gauge", "A gauge", gauge.clone());
    let endpoint = Endpoint::bind(
        "127.0.0.1:0".parse().unwrap(),
        transport,
        Arc::new(registry),
    )
    .unwrap();
    let (stop, stopped) = oneshot::channel();
    let mut server = Server {
        address: endpoint.local_addr().unwrap(),
        certificate: endpoint.certificate().cloned(),
        linger: endpoint.linger(),
        gauge,
        stop,
        tasks: JoinSet::new(),
    };
    server.tasks.spawn(endpoint.serve(async {
        let _ = stopped.await;
    }));
    server
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

fn get_as(accept: &str) -> String {
    get("/metrics").replace("\r\n\r\n", &format!("\r\nAccept: {accept}\r\n\r\n"))
}

async fn tls(
    server: &Server,
    name: &'static str,
) -> std::io::Result<impl AsyncRead + AsyncWrite + use<>> {
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone().unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
        .connect(
            ServerName::try_from(name).unwrap(),
            TcpStream::connect(server.address).await?,
        )
        .await
}

#[tokio::test]
async fn metrics_over_verified_https() {
    let server = start(Transport::Tls { name: NAME });
    server.gauge.set(42);
    for name in [NAME, "localhost"] {
        let stream = tls(&server, name).await.unwrap();
        let answer = exchange(Box::pin(stream), &get("/metrics")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{head}"
        );
        assert_eq!(
            body,
            "# HELP some_gauge A gauge.\n# TYPE some_gauge gauge\nsome_gauge 42\n# EOF\n"
        );
    }
    assert!(tls(&server, "elsewhere").await.is_err());
}

#[tokio::test]
async fn paths_and_methods_over_plain_http() {
    let server = start(Transport::Plain);
    for (request, status) in [
        (get("/metrics"), "200 OK"),
        (get("/metrics?x=1"), "200 OK"),
        (get("/healthz"), "200 OK"),
        (get("/"), "404 Not Found"),
        (get("/metrics").replace("GET", "HEAD"), "200 OK"),
        (
            get("/metrics").replace("GET", "DELETE"),
            "405 Method Not Allowed",
        ),
    ] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let answer = exchange(stream, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{request}: {answer}"
        );
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    let answer = exchange(stream, &get("/readyz")).await;
    let body = answer.split("\r\n\r\n").nth(1);
    assert_eq!(body, Some("there is /healthz, /metrics\n"));
}

#[tokio::test]
async fn health_without_metrics() {
    let (ready, is_ready) = tokio::sync::watch::channel(false);
    let endpoint = HealthEndpoint::bind("127.0.0.1:0".parse().unwrap(), is_ready).unwrap();
    let address = endpoint.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(endpoint.serve(async {
        let _ = stopped.await;
    }));
    let answer = async |path: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        exchange(stream, &get(path)).await
    };
    assert!(answer("/readyz").await.contains(" 503 "));
    ready.send_replace(true);
    assert!(answer("/readyz").await.contains(" 200 "));
    assert!(answer("/healthz").await.contains(" 200 "));
    let metrics = answer("/metrics").await;
    assert!(metrics.contains(" 404 "), "{metrics}");
    assert!(
        metrics.ends_with("there is /healthz, /readyz\n"),
        "{metrics}"
    );
    stop.send(()).unwrap();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn readiness_and_another_path_for_the_metrics() {
    let (ready, is_ready) = tokio::sync::watch::channel(false);
    let address = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::bind(address, Transport::Plain, Arc::new(Registry::default()))
        .unwrap()
        .with_metrics_path("/deep/metrics")
        .with_readiness(is_ready);
    let address = endpoint.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(endpoint.serve(std::future::pending()));
    let status = async |path: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(stream, &get(path)).await;
        answer[9..12].to_owned()
    };
    assert_eq!(status("/readyz").await, "503");
    ready.send_replace(true);
    assert_eq!(status("/readyz").await, "200");
    ready.send_replace(false);
    assert_eq!(status("/readyz").await, "503");
    assert_eq!(status("/healthz").await, "200");
    assert_eq!(status("/deep/metrics").await, "200");
    assert_eq!(status("/metrics").await, "404");
}

#[tokio::test]
async fn a_scrape_ends_the_linger_and_is_answered_although_the_endpoint_stops() {
    let mut server = start(Transport::Tls { name: NAME });
    server.gauge.set(100);
    server.linger.begin();
    let stream = tls(&server, NAME).await.unwrap();
    let (linger, stop) = (server.linger, server.stop);
    server.tasks.spawn(async move {
        assert!(linger.wait(Duration::from_hours(1)).await);
        stop.send(()).unwrap();
    });
    // Kept alive by the client: the answer arrives, then the endpoint closes.
    let request = get("/metrics").replace("close", "keep-alive");
    let answer = exchange(Box::pin(stream), &request).await;
    assert!(answer.contains("some_gauge 100\n"), "{answer}");
    while let Some(ended) = server.tasks.join_next().await {
        ended.unwrap();
    }
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn idle_connections_do_not_keep_it_from_stopping() {
    let mut server = start(Transport::Plain);
    let mut idle = Vec::new();
    // More than are served at a time.
    for _ in 0..20 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    server.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(1), server.tasks.join_next()).await;
    ended.expect("it stops").unwrap().unwrap();
}

#[tokio::test]
async fn the_client_chooses_the_form_of_the_metrics() {
    let server = start(Transport::Plain);
    for (accept, status, content_type, end) in [
        (
            "text/plain;version=0.0.4",
            "200",
            "text/plain; version=0.0.4; charset=utf-8",
            "some_gauge 0\n",
        ),
        (
            "*/*",
            "200",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF\n",
        ),
        (
            "application/json",
            "406",
            "text/plain; charset=utf-8",
            "text/plain (0.0.4)\n",
        ),
    ] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let answer = exchange(stream, &get_as(accept)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        let line = format!("content-type: {content_type}\r\n");
        assert!(answer.contains(&line), "{answer}");
        assert!(answer.ends_with(end), "{answer}");
    }
}
