//! Pods that are asked how far they are, and how they may answer.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/api.rs"]
mod api;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use population::progress::Measured;
use populator_controller::{
    permissions::Permissions,
    progress::{LogReader, Poller, ScrapeTarget, Scraper, ScraperError},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use runtime::{Endpoint, Transport};
use testkit::{Object, Reply, Server, pki::Identity};
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinSet};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(non_snake_case, reason = "the label's name is a contract")]
struct Owner {
    ownerUID: String,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    silent(Ipv4Addr::LOCALHOST).1
}

/// A client that connects there waits, for as long as the listener lives.
fn silent(address: Ipv4Addr) -> (std::net::TcpListener, u16) {
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A pod that is so far.
struct Pod {
    port: u16,
    percent: Gauge,
    _tasks: JoinSet<()>,
}

fn pod(ip: IpAddr) -> Pod {
    pod_at((ip, 0).into())
}

fn pod_at(address: SocketAddr) -> Pod {
    runtime::crypto::install();
    let family = Family::<Owner, Gauge>::default();
    let owner = Owner {
        ownerUID: "c".to_owned(),
    };
    let percent = family.get_or_create_owned(&owner);
    let mut registry = Registry::default();
    registry.register("ovirt_progress", "How far", family);
    let transport = Transport::Tls {
        name: "ovirt-populator",
    };
    let endpoint = Endpoint::bind(address, transport, Arc::new(registry)).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(endpoint.serve(std::future::pending()));
    Pod {
        port,
        percent,
        _tasks: tasks,
    }
}

fn target(address: impl Into<IpAddr>) -> ScrapeTarget {
    ScrapeTarget {
        claim_uid: "c".into(),
        pod_uid: "p".into(),
        namespace: "vms".to_owned(),
        pod: "populate-c".to_owned(),
        address: address.into(),
        created: Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn both_families_are_polled_over_https_with_a_self_signed_certificate() {
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        let pod = pod(ip);
        pod.percent.set(42);
        let scraper = Scraper::for_port(pod.port).unwrap();
        let measured = scraper.measure(&target(ip)).await.unwrap();
        assert_eq!(measured.percent, 42);
        let mut other = target(ip);
        other.claim_uid = "d".into();
        let error = scraper.measure(&other).await.unwrap_err();
        assert!(matches!(error, ScraperError::Silent), "{error}");
    }
}

#[tokio::test]
async fn no_pod_is_an_error_and_not_a_number() {
    runtime::crypto::install();
    let error = measure(free_port()).await;
    assert!(matches!(error, ScraperError::Unreachable(_)), "{error}");
}

/// The error for a pod at this port that reports no progress.
async fn measure(port: u16) -> ScraperError {
    let scraper = Scraper::for_port(port).unwrap();
    let measured = scraper.measure(&target(Ipv4Addr::LOCALHOST)).await;
    measured.unwrap_err()
}

#[tokio::test]
async fn whatever_else_answers_there_is_not_believed() {
    runtime::crypto::install();
    let tls = || Server::builder().tls(Identity::self_signed(&["localhost"]).server_config());
    let elsewhere = tls().route("", |_| Reply::status(200)).start();

    let refuses = tls().route("", |_| Reply::status(503)).start();
    let error = measure(refuses.address().port()).await;
    assert!(matches!(error, ScraperError::Status(503)), "{error}");

    let location = elsewhere.url("/metrics");
    let redirects = tls().route("", move |_| Reply::redirect(302, &location));
    let redirects = redirects.start();
    let error = measure(redirects.address().port()).await;
    assert!(matches!(error, ScraperError::Status(302)), "{error}");
    assert_eq!(elsewhere.connections(), 0, "the redirect was followed");

    let endless = tls().object("", Object::new(1 << 40, |_, buffer| buffer.fill(b'#')));
    let endless = endless.start();
    let error = measure(endless.address().port()).await;
    assert!(matches!(error, ScraperError::TooLong), "{error}");

    let other = tls().route("", |_| Reply::text(200, "up 1\n")).start();
    let error = measure(other.address().port()).await;
    assert!(matches!(error, ScraperError::Silent), "{error}");
}

/// A proxy, if it were used, would be seen.
#[tokio::test]
async fn no_proxy_is_used() {
    runtime::crypto::install();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let count = Arc::clone(&asked);
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    // Only a process of its own may have its environment changed: this very test, once more.
    if !std::env::vars_os().any(|(name, _)| name == "PROXY_TEST") {
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "no_proxy_is_used"])
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env("PROXY_TEST", "1")
            .env("HTTPS_PROXY", &proxy)
            .env("https_proxy", &proxy)
            .env("ALL_PROXY", &proxy)
            .output();
        let output = String::from_utf8(output.await.unwrap().stdout).unwrap();
        // Another name would run no test, and end well.
        assert!(output.contains("1 passed; 0 failed"), "{output}");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        return;
    }
    let pod = pod(Ipv4Addr::LOCALHOST.into());
    pod.percent.set(7);
    let scraper = Scraper::for_port(pod.port).unwrap();
    let measured = scraper.measure(&target(Ipv4Addr::LOCALHOST)).await.unwrap();
    assert_eq!(measured.percent, 7);
}

/// What a poller delivered, in order.
type Delivered = Arc<Mutex<Vec<Option<Measured>>>>;

/// Polls until so many answers were delivered.
async fn poll(poller: Poller, target: ScrapeTarget, answers: usize) -> Vec<Option<Measured>> {
    let delivered = Delivered::default();
    let (done, is_done) = tokio::sync::watch::channel(0);
    let deliver = |_: &ScrapeTarget, measured| {
        let mut delivered = delivered.lock().unwrap();
        delivered.push(measured);
        done.send_replace(delivered.len());
    };
    let mut is_done = is_done;
    let run = poller.run(move || vec![target.clone()], deliver);
    tokio::select! {
        () = run => {}
        _ = is_done.wait_for(|count| *count >= answers) => {}
    }
    let delivered = delivered.lock().unwrap();
    delivered.clone()
}

#[tokio::test]
async fn a_pod_that_does_not_answer_is_unknown() {
    runtime::crypto::install();
    let poller = Poller::new(Scraper::for_port(free_port()).unwrap(), None);
    let answers = poll(poller, target(Ipv4Addr::LOCALHOST), 1).await;
    assert_eq!(answers, [None]);
}

#[tokio::test]
async fn a_pod_that_answers_is_known() {
    let pod = pod(Ipv4Addr::LOCALHOST.into());
    pod.percent.set(42);
    let poller = Poller::new(Scraper::for_port(pod.port).unwrap(), None);
    let answers = poll(poller, target(Ipv4Addr::LOCALHOST), 1).await;
    assert_eq!(answers[0].unwrap().percent, 42);
}

/// Where the network keeps us from the pod, the API server has its log, which is not asked for
/// often.
#[tokio::test(start_paused = true)]
async fn the_log_of_a_pod_that_does_not_answer_is_read_now_and_then() {
    runtime::crypto::install();
    let (_listener, port) = silent(Ipv4Addr::LOCALHOST);
    let server = api::Api::default();
    let log = "INFO copying 42.1 % of 10.0 GiB: 4.2 GiB data, 0 B zero";
    let client = server.client(move |_| (200, log.into()));
    let poller = Poller::new(
        Scraper::for_port(port).unwrap(),
        Some(LogReader::new(client, allowed(true))),
    );
    let start = tokio::time::Instant::now();
    let answers = poll(poller, target(Ipv4Addr::LOCALHOST), 3).await;
    assert!(
        answers.iter().all(|answer| answer.unwrap().percent == 42),
        "{answers:?}"
    );
    assert_eq!(
        server.lines(),
        ["GET /api/v1/namespaces/vms/pods/populate-c/log"; 3]
    );
    assert!(
        start.elapsed() >= Duration::from_mins(2),
        "{:?}",
        start.elapsed()
    );
}

/// Between two reads of its log a pod's last value may come from its metrics, and is old then.
#[tokio::test]
async fn what_the_metrics_said_does_not_stand_when_they_are_silent_again() {
    runtime::crypto::install();
    let port = free_port();
    let log = "INFO copying 42.1 % of 10.0 GiB: 4.2 GiB data, 0 B zero";
    let client = api::Api::default().client(move |_| (200, log.into()));
    let scraper = Scraper::for_port(port).unwrap();
    let poller = Poller::new(scraper, Some(LogReader::new(client, allowed(true))));
    let (values, mut delivered) = tokio::sync::mpsc::unbounded_channel();
    let deliver = |_: &ScrapeTarget, measured: Option<Measured>| {
        values
            .send(measured.map(|measured| measured.percent))
            .unwrap();
    };
    let run = poller.run(|| vec![target(Ipv4Addr::LOCALHOST)], deliver);
    let story = async {
        assert_eq!(delivered.recv().await, Some(Some(42)), "the log");
        let pod = pod_at((Ipv4Addr::LOCALHOST, port).into());
        pod.percent.set(50);
        while delivered.recv().await != Some(Some(50)) {}
        drop(pod);
        let next = loop {
            match delivered.recv().await {
                Some(Some(50)) => {}
                next => break next,
            }
        };
        assert_eq!(next, Some(None), "neither it nor the log is new");
    };
    tokio::select! {
        () = run => {}
        outcome = tokio::time::timeout(Duration::from_mins(1), story) => outcome.unwrap(),
    }
}

/// The permission to read logs, or none.
fn allowed(logs: bool) -> tokio::sync::watch::Receiver<Permissions> {
    let permissions = Permissions {
        nodes: true,
        logs,
        grants: true,
    };
    tokio::sync::watch::channel(permissions).1
}

#[tokio::test]
async fn a_log_is_not_asked_for_without_the_permission() {
    let server = api::Api::default();
    let client = server.client(|_| (200, "INFO copying 42.1 % of 10.0 GiB".into()));
    let reader = LogReader::new(client, allowed(false));
    assert_eq!(reader.measure(&target(Ipv4Addr::LOCALHOST)).await, None);
    assert_eq!(server.lines(), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_may_not_be_read_says_nothing() {
    runtime::crypto::install();
    let (_listener, port) = silent(Ipv4Addr::LOCALHOST);
    let client = api::Api::default().client(|_| api::refusal(403, "Forbidden", "no logs"));
    let poller = Poller::new(
        Scraper::for_port(port).unwrap(),
        Some(LogReader::new(client, allowed(true))),
    );
    assert_eq!(poll(poller, target(Ipv4Addr::LOCALHOST), 1).await, [None]);
}

/// A server that takes the connection and never answers is given up. The clock moves by itself
/// while nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_pod_that_hangs_is_given_up_and_asked_less_and_less_often() {
    runtime::crypto::install();
    let (_listener, port) = silent(Ipv4Addr::LOCALHOST);
    let poller = Poller::new(Scraper::for_port(port).unwrap(), None);
    let start = tokio::time::Instant::now();
    let answers = poll(poller, target(Ipv4Addr::LOCALHOST), 9).await;
    assert!(answers.iter().all(Option::is_none));
    // 1, 2, 4, 8, 16, 32, 60 and 60 s, a tenth less or more, instead of 5 each.
    assert!(
        start.elapsed() > Duration::from_secs(150),
        "{:?}",
        start.elapsed()
    );
}

/// No process listens at the address of the other one, so its connections are refused at once. On a
/// clock that runs: one that jumps while nothing happens here would outrun the refusals.
#[tokio::test]
async fn a_pod_that_hangs_delays_no_other_one() {
    runtime::crypto::install();
    let (_listener, port) = silent(Ipv4Addr::new(127, 0, 0, 2));
    let mut hangs = target(Ipv4Addr::new(127, 0, 0, 2));
    hangs.pod_uid = "hangs".into();
    let targets = vec![hangs, target(Ipv4Addr::new(127, 0, 0, 3))];
    let (sender, mut names) = tokio::sync::mpsc::unbounded_channel();
    let poller = Poller::new(Scraper::for_port(port).unwrap(), None);
    let run = poller.run(
        move || targets.clone(),
        move |target, _| sender.send(target.pod_uid.clone()).unwrap(),
    );
    let before = async {
        let mut count = 0;
        while names.recv().await.unwrap() != "hangs".into() {
            count += 1;
        }
        count
    };
    let before = tokio::select! {
        () = run => 0,
        before = before => before,
    };
    assert!(
        before >= 2,
        "the other one was asked {before} times meanwhile"
    );
}
