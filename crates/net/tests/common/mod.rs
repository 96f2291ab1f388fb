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
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use net::{Cancel, Clock, Connection, Connector, Error, Kind, Proxies, Settings, Timeouts, Trust};
use testkit::pki::{Authority, Identity, LOCAL};
use url::Url;

/// Settings that trust the PEM text.
pub fn trusting(pem: &str) -> Settings {
    Settings {
        trust: Trust::from_pem(pem.as_bytes()).unwrap(),
        proxies: Proxies::none(),
        timeouts: Timeouts {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
        },
        user_agent: "net-test/1".into(),
    }
}

/// An authority, and a server of it on this machine.
pub fn pki() -> (Authority, Identity) {
    let authority = Authority::new("an authority");
    let identity = authority.server(LOCAL);
    (authority, identity)
}

/// Settings for plain HTTP.
pub fn plain() -> Settings {
    Settings {
        trust: Trust::Insecure,
        ..trusting(&Authority::new("unused").pem())
    }
}

pub fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// A connector on the machine's clock.
pub fn connector(settings: &Settings) -> Connector {
    Connector::new(
        settings,
        Arc::new(net::SystemClock::default()),
        Cancel::new(),
    )
    .unwrap()
}

pub fn connect(settings: &Settings, to: &str) -> Result<Connection, Error> {
    connector(settings).connect(&url(to))
}

/// The whole chain of an error as text, with its `Debug`.
pub fn texts(error: &Error) -> String {
    let mut text = format!("{error:?} {error}");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text += &format!(" | {cause}");
        next = cause.source();
    }
    text
}

#[track_caller]
pub fn assert_kind<T: std::fmt::Debug>(outcome: Result<T, Error>, kind: Kind) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{}", texts(&error));
    error
}

/// Bytes that differ at every position, as far as it matters.
pub fn pattern(length: usize) -> Vec<u8> {
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

/// A clock that stands still until it is moved.
#[derive(Debug, Clone, Default)]
pub struct MovedClock(Arc<Mutex<Duration>>);

impl MovedClock {
    pub fn advance(&self, period: Duration) {
        *self.0.lock().unwrap() += period;
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        self.advance(period);
        cancel.is_cancelled()
    }
}

/// Accepts one connection and runs `serve` on it; returns the port.
pub fn raw(serve: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

/// Reads a head, up to its empty line.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A server that sends `bytes` after the first bytes of the client, whatever they are, and closes.
pub fn answers(bytes: &'static [u8]) -> u16 {
    raw(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // Wait for the client's end, so that nothing is reset before it is read.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })
}
