//! What the node's probes see of the running program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::json;
use testkit::{Command, Reply, Running, Server};

struct Program {
    health: SocketAddr,
    metrics: SocketAddr,
    running: Running,
}

fn start(api_server: &Server) -> Program {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": api_server.url("")}}],
        "users": [{"name": "test", "user": {}}],
    });
    let port = api_server.address().port();
    let file = format!("{}/kubeconfig-{port}", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&file, kubeconfig.to_string()).unwrap();
    let running = Command::new(env!("CARGO_BIN_EXE_populator-controller"))
        .flag("kubeconfig", &file)
        .flag("health-address", "127.0.0.1:0")
        .flag("metrics-address", "127.0.0.1:0")
        .flag("metrics-path", "/deep/metrics")
        .spawn();
    let address = |what: &str, path: &str| {
        let line = running.wait_for_line(&format!("{what}: http://"));
        let (_, url) = line.split_once("http://").unwrap();
        url.strip_suffix(path).unwrap().parse().unwrap()
    };
    Program {
        health: address("health", "/healthz"),
        metrics: address("metrics", "/deep/metrics"),
        running,
    }
}

/// Status of the answer; empty without one.
fn status(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(testkit::DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.get(9..12).unwrap_or_default().to_owned()
}

#[test]
fn half_requests_for_metrics_keep_no_probe_from_being_answered() {
    let api_server = Server::builder().start();
    let program = start(&api_server);
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(program.metrics).unwrap();
        stream
            .write_all(b"GET /deep/metrics HTTP/1.1\r\nHost:")
            .unwrap();
        held.push(stream);
    }
    assert_eq!(status(program.health, "/healthz"), "200");
    assert_eq!(status(program.metrics, "/deep/metrics"), "200");
    // Old installations probe here.
    assert_eq!(status(program.metrics, "/healthz"), "200");
    assert_eq!(status(program.health, "/deep/metrics"), "404");
    drop(held);
}

#[test]
fn it_is_ready_when_the_api_server_has_answered() {
    let api_server = Server::builder().start();
    let program = start(&api_server);
    // Whatever it asks, there is no such path: the process waits.
    program.running.wait_for_line("WARN");
    assert_eq!(status(program.health, "/readyz"), "503");
    assert_eq!(status(program.metrics, "/readyz"), "503");
    assert_eq!(status(program.health, "/healthz"), "200");
    api_server.route("/apis/coordination.k8s.io", |_| Reply::status(503));
    api_server.route("/apis/authorization.k8s.io", |_| {
        let kind = "SelfSubjectAccessReview";
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": {}, "status": {"allowed": false},
        });
        Reply::json(201, &review)
    });
    // It has learned what it may, and stands by.
    let lease = "the lease populator-controller cannot be acquired";
    program.running.wait_for_line(lease);
    assert_eq!(status(program.health, "/readyz"), "200");
    assert_eq!(status(program.metrics, "/readyz"), "200");
}
