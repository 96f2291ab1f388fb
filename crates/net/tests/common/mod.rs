//! What the tests share: settings, a clock that they move, servers of raw bytes.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses a part; a test fails by panicking"
)]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use http::{HeaderMap, Method};
use net::{
    Cancel, Clock, Connection, Connector, Egress, Error, Kind, Proxies, Repeat, Request, Rest,
    Settings, Timeouts, Trust,
};
use testkit::pki::{Authority, Identity, LOCAL};
use url::Url;

/// Settings that trust the PEM text.
pub(crate) fn trusting(pem: &str) -> Settings {
    Settings {
        trust: Trust::from_pem(pem.as_bytes()).unwrap(),
        proxies: Proxies::none(),
        egress: Egress::anywhere(),
        timeouts: Timeouts {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            ..Timeouts::default()
        },
        user_agent: "net-test/1".into(),
    }
}

/// An authority, and a server of it on this machine.
pub(crate) fn pki() -> (Authority, Identity) {
    let authority = Authority::new("an authority");
    let identity = authority.server(LOCAL);
    (authority, identity)
}

/// Settings for plain HTTP.
pub(crate) fn plain() -> Settings {
    Settings {
        trust: Trust::Insecure,
        ..trusting(&Authority::new("unused").pem())
    }
}

pub(crate) fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// What a GET by a client of control calls with these settings brings.
pub(crate) fn by_rest(settings: &Settings, to: &str) -> Result<Vec<u8>, Error> {
    get(&Rest::new(settings)?, to)
}

/// What a GET by this client of control calls brings.
pub(crate) fn get(rest: &Rest, to: &str) -> Result<Vec<u8>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(rest.send(Request {
        method: Method::GET,
        url: url(to),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
        timeout: Duration::from_mins(1),
        retry: Repeat::Never,
    }))?;
    Ok(answer.body.to_vec())
}

/// A connector on the machine's clock.
pub(crate) fn connector(settings: &Settings) -> Connector {
    Connector::new(
        settings,
        Arc::new(net::SystemClock::default()),
        Cancel::new(),
    )
    .unwrap()
}

pub(crate) fn connect(settings: &Settings, to: &str) -> Result<Connection, Error> {
    connector(settings).connect(&url(to))
}

/// The whole chain of an error as text, with its `Debug`.
pub(crate) fn texts(error: &Error) -> String {
    let mut text = vec![format!("{error:?} {error}")];
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push(cause.to_string());
        next = cause.source();
    }
    text.join(" | ")
}

#[track_caller]
pub(crate) fn assert_kind<T: std::fmt::Debug>(outcome: Result<T, Error>, kind: Kind) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{}", texts(&error));
    error
}

/// Bytes that differ at every position, as far as it matters.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A clock that stands still until it is moved, and that knows how often it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct MovedClock(Arc<(Mutex<Moved>, Condvar)>);

#[derive(Debug, Default)]
struct Moved {
    now: Duration,
    looks: usize,
}

impl MovedClock {
    pub(crate) fn advance(&self, period: Duration) {
        self.0.0.lock().unwrap().now += period;
    }

    /// Lets `period` pass again and again until `done`: bytes that a reader takes up late restart
    /// its wait.
    pub(crate) fn pass(&self, period: Duration, done: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !done() && begun.elapsed() < testkit::DEADLINE {
            self.advance(period);
            thread::yield_now();
        }
    }

    /// Waits until a reader has read the clock often enough that it has taken up all that had
    /// arrived before: it reads it once for each wait for bytes, and three times after it received some.
    pub(crate) fn wait_for_looks(&self) {
        let moved = self.0.0.lock().unwrap();
        let enough = moved.looks + 5;
        let waited = self
            .0
            .1
            .wait_timeout_while(moved, testkit::DEADLINE, |moved| moved.looks < enough);
        assert!(!waited.unwrap().1.timed_out(), "no reader reads the clock");
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Duration {
        let mut moved = self.0.0.lock().unwrap();
        moved.looks += 1;
        self.0.1.notify_all();
        moved.now
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        self.advance(period);
        cancel.is_cancelled()
    }
}

/// Accepts one connection and runs `serve` on it; returns the port.
pub(crate) fn raw(serve: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

/// Reads a head, up to its empty line.
pub(crate) fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A server that sends `bytes` after the first bytes of each client, whatever they are, and closes.
pub(crate) fn answers(bytes: &'static [u8]) -> u16 {
    answers_in_turn(std::iter::repeat(bytes))
}

/// The same with other bytes for each client.
pub(crate) fn answers_in_turn(
    answers: impl IntoIterator<Item = &'static [u8], IntoIter: Send + 'static>,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = answers.into_iter();
    thread::spawn(move || {
        for bytes in answers {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // Wait for the client's end, so that nothing is reset before it is read.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    port
}
