//! Requests to the API server: who we say we are, how long an answer may take, and no retry inside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/api.rs"]
mod api;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use populator_controller::client::{CALL, Clients, within};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
    time::Instant,
};

use api::{Api, SILENCE};

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_fails_soon() {
    let client = Api::default().client(|_| (SILENCE, Value::Null));
    let pods = kube::Api::<Pod>::default_namespaced(within(CALL, client, "vms"));
    let start = Instant::now();
    let error = pods.get("a").await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert!(
        error.to_string().contains("has not answered for 10 s"),
        "{error}"
    );
}

/// Answers every request of a connection with 503, and passes its head on.
async fn serve(listener: TcpListener, heads: mpsc::UnboundedSender<String>) {
    loop {
        let (mut connection, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = connection.split();
        let mut lines = BufReader::new(reader).lines();
        let mut head = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.is_empty() {
                break;
            }
            head.push_str(&line.to_lowercase());
            head.push('\n');
        }
        let answer =
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        writer.write_all(answer.as_bytes()).await.unwrap();
        heads.send(head).unwrap();
        // The client closes, too.
        let mut rest = Vec::new();
        let _ = lines.into_inner().read_to_end(&mut rest).await;
    }
}

/// kube takes a proxy from the environment too, and shows it in its error.
#[tokio::test]
async fn a_proxy_with_a_password_is_neither_used_nor_shown() {
    runtime::crypto::install();
    let mut config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    config.proxy_url = Some("http://user:secret-word@127.0.0.1:9".parse().unwrap());
    let clients = Clients::new(&config).unwrap();
    let pods = kube::Api::<Pod>::default_namespaced(clients.calls);
    let error = pods.get("a").await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("secret-word"), "{text}");
}

#[tokio::test]
async fn every_request_says_who_we_are_and_is_sent_once() {
    runtime::crypto::install();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let clients = Clients::new(&kube::Config::new(url.parse().unwrap())).unwrap();
    let (sender, mut heads) = mpsc::unbounded_channel();
    let calls = async {
        for client in [clients.calls, clients.watches] {
            let pods = kube::Api::<Pod>::default_namespaced(client);
            pods.get("a").await.unwrap_err();
        }
    };
    tokio::select! {
        () = serve(listener, sender) => {}
        () = calls => {}
    }
    for _ in 0..2 {
        let head = heads.recv().await.unwrap();
        let agent = concat!(
            "\nuser-agent: populator-controller/",
            env!("CARGO_PKG_VERSION"),
            "\n"
        );
        assert!(head.contains(agent), "{head}");
    }
    assert_eq!(
        heads.recv().await,
        None,
        "there is one retry loop, and it is ours"
    );
}
