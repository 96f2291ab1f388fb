//! A blocking TCP socket that sees cancellation and stalls.

use std::{
    io::{self, ErrorKind, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, recv, sockopt::set_socket_linger},
};

use super::{pace::Pace, sockopt::set_receive_low_water};
use crate::{Cancel, Clock, Error, Kind, Timeouts};

/// How long one system call blocks at most, and so how soon a cancellation is seen.
const SLICE: Duration = Duration::from_millis(250);

/// Highest low-water mark, in bytes: a receive that waits for many of them needs fewer wake-ups and
/// system calls.
const LOW_WATER: u32 = 128 << 10;

/// A connected socket. Its errors name the peer only.
pub(crate) struct Socket {
    stream: TcpStream,
    peer: String,
    clock: Arc<dyn Clock>,
    cancel: Cancel,
    /// Without a byte.
    stall: Duration,
    /// Until when, on the clock, the connection must be made; past that point, `None`.
    deadline: Option<Duration>,
    pace: Pace,
    /// The present mark; `None` where the kernel has none.
    low_water: Option<u32>,
    set_low_water: fn(&TcpStream, u32) -> io::Result<()>,
    /// [`SLICE`] as poll(2) takes it.
    slice: Timespec,
}

impl Socket {
    /// Takes over a connected, blocking stream.
    pub(crate) fn new(
        stream: TcpStream,
        peer: String,
        clock: Arc<dyn Clock>,
        cancel: Cancel,
        timeouts: &Timeouts,
        deadline: Duration,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // To be closed by a reset. A pod's address goes with the pod: a server that still has
        // bytes to send would get no answer any more, and hold the disk until TCP gives up, a
        // quarter of an hour later.
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        stream.set_write_timeout(Some(SLICE))?;
        Ok(Self {
            stream,
            peer,
            clock,
            cancel,
            stall: timeouts.stall,
            deadline: Some(deadline),
            pace: Pace::new(timeouts),
            low_water: Some(1),
            set_low_water: set_receive_low_water,
            slice: SLICE.try_into().map_err(io::Error::other)?,
        })
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn set_stall(&mut self, stall: Duration) {
        self.stall = stall;
    }

    /// The connection is made: from now on only the stall time counts.
    pub(crate) fn lift_deadline(&mut self) {
        self.deadline = None;
    }

    /// What comes next is the first byte of an answer.
    pub(crate) fn begin_wait(&mut self) {
        self.pace.begin_wait(self.clock.now());
    }

    /// What comes next is the rest of the head of an answer.
    pub(crate) fn begin_head(&mut self) {
        self.pace.begin_head(self.clock.now());
    }

    /// What comes next is the body of an answer.
    pub(crate) fn begin_body(&mut self) {
        self.pace.begin_body();
    }

    /// Receives at least one byte, or 0 at the end of the stream. Waits for `low_water` bytes, but
    /// never longer than [`SLICE`] for more than the first.
    pub(crate) fn read(&mut self, buf: &mut [u8], low_water: u32) -> Result<usize, Error> {
        let low_water = low_water.max(1);
        if self.low_water.is_some_and(|present| present != low_water) {
            // The mark saves wake-ups and nothing else.
            self.low_water = match (self.set_low_water)(&self.stream, low_water) {
                Ok(()) => Some(low_water),
                Err(error) => {
                    tracing::debug!(%error, "the kernel takes no low-water mark");
                    None
                }
            };
        }
        let since = self.clock.now();
        loop {
            self.check(since)?;
            // The wait is a call of its own, which leaves the bytes in the queue. A receive that
            // blocks takes out what has come, and is then woken only when as many bytes as the
            // mark lie in the queue once more; at the end of an answer they never do, and it
            // sleeps until its time-out. How the wait ends does not matter: bytes below the mark
            // at the end of the slice, the end of the stream and an error are all seen by the
            // receive.
            match poll(
                &mut [PollFd::new(&self.stream, PollFlags::IN)],
                Some(&self.slice),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(self.broken(error.into())),
            }
            match recv(&self.stream, &mut *buf, RecvFlags::DONTWAIT) {
                Ok((_, count)) => {
                    self.pace.came(count, since, &*self.clock);
                    return Ok(count);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(self.broken(error.into())),
            }
        }
    }

    /// Sends all of `data`.
    pub(crate) fn write_all(&mut self, mut data: &[u8]) -> Result<(), Error> {
        let mut since = self.clock.now();
        while !data.is_empty() {
            self.check(since)?;
            match self.stream.write(data) {
                Ok(count) => {
                    data = data.get(count..).unwrap_or_default();
                    since = self.clock.now();
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(())
    }

    /// Whether the peer still holds its side open; with `quiet`, also that it has sent nothing
    /// more.
    pub(crate) fn is_open(&self, quiet: bool) -> bool {
        let mut events = PollFlags::RDHUP;
        if quiet {
            events |= PollFlags::IN;
        }
        let mut fds = [PollFd::new(&self.stream, events)];
        loop {
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(ready) => return ready == 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn check(&self, since: Duration) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(
                Kind::Cancelled,
                format!("{}: cancelled", self.peer),
            ));
        }
        let now = self.clock.now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Error::new(
                Kind::Connect,
                format!("{}: the connection was not made in time", self.peer),
            ));
        }
        if now.saturating_sub(since) >= self.stall {
            return Err(Error::new(
                Kind::Stalled,
                format!("{}: no byte for {:?}", self.peer, self.stall),
            ));
        }
        self.pace
            .check(now, since, self.stall)
            .map_err(|why| Error::new(Kind::Stalled, format!("{}: {why}", self.peer)))
    }

    fn broken(&self, error: io::Error) -> Error {
        let text = format!("{}: the connection broke", self.peer);
        Error::with_source(Kind::Closed, text, error)
    }
}

/// The low-water mark (low watermark, `SO_RCVLOWAT`) of a receive: how many bytes it may wait for when `to_come`
/// bytes of content are certain to come, of which `received` at most have arrived. Encrypted bytes
/// are never fewer than their content.
pub(crate) fn low_water(to_come: u64, received: usize) -> u32 {
    let certain = to_come.saturating_sub(received as u64).max(1);
    u32::try_from(certain).map_or(LOW_WATER, |certain| certain.min(LOW_WATER))
}

/// The end of a [`SLICE`], or a signal.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    ) && error.raw_os_error() != Some(Errno::TIMEDOUT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, mpsc},
        thread,
    };

    use http::{HeaderMap, HeaderValue};
    use testkit::{Cut, Fault, Gate, Server, When, pki};
    use url::Url;

    use super::*;
    use crate::{Connection, Trust, http1::transport::Transport, origin::Origin, tls::TlsStream};

    const HOUR: Duration = Duration::from_hours(1);

    fn patient() -> Timeouts {
        Timeouts {
            stall: HOUR,
            ..Timeouts::default()
        }
    }

    /// A clock that stands still, and opens a gate when it is read: just before bytes are waited
    /// for.
    #[derive(Debug, Clone, Default)]
    struct Opening(Arc<Mutex<Option<Gate>>>);

    impl Clock for Opening {
        fn now(&self) -> Duration {
            if let Some(gate) = self.0.lock().unwrap().take() {
                gate.open();
            }
            Duration::ZERO
        }

        fn wait(&self, _: Duration, cancel: &Cancel) -> bool {
            cancel.is_cancelled()
        }
    }

    #[test]
    fn a_kernel_without_low_water_marks_is_read_all_the_same() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let clock = Arc::new(Opening::default());
        let mut socket = Socket::new(
            client,
            "peer".into(),
            clock,
            Cancel::new(),
            &patient(),
            HOUR,
        )
        .unwrap();
        socket.set_low_water = |_, _| Err(Errno::NOPROTOOPT.into());
        let mut buf = [0; 9];
        for _ in 0..2 {
            server.write_all(b"abc").unwrap();
            assert_eq!(socket.read(&mut buf, 2).unwrap(), 3);
        }
    }

    /// A server of `bytes`, and a connection to it on which a receive that waits for the end of
    /// its slice waits for an hour.
    struct Fixture {
        server: Server,
        connection: Connection,
        clock: Opening,
    }

    impl Fixture {
        /// Over plain TCP, and over TLS.
        fn each(bytes: &Arc<Vec<u8>>) -> [Self; 2] {
            [false, true].map(|secure| {
                let authority = pki::Authority::new("an authority");
                let identity = authority.server(pki::LOCAL);
                let mut builder =
                    Server::builder().object("/x", testkit::Object::from(Arc::clone(bytes)));
                if secure {
                    builder = builder.tls(identity.server_config());
                }
                let server = builder.start();
                let clock = Opening::default();
                let mut socket = Socket::new(
                    TcpStream::connect(server.address()).unwrap(),
                    "the server".into(),
                    Arc::new(clock.clone()),
                    Cancel::new(),
                    &patient(),
                    HOUR,
                )
                .unwrap();
                socket.slice = HOUR.try_into().unwrap();
                let transport = if secure {
                    let trust = Trust::from_pem(authority.pem().as_bytes()).unwrap();
                    let config = Arc::new(trust.data_config().unwrap());
                    let name = server.address().ip().into();
                    Transport::Tls(Box::new(TlsStream::connect(socket, config, name).unwrap()))
                } else {
                    Transport::Plain(socket)
                };
                let origin = Origin::of(&url(&server)).unwrap();
                let agent = HeaderValue::from_static("net-test/1");
                Self {
                    server,
                    connection: Connection::new(transport, origin, None, agent),
                    clock,
                }
            })
        }

        fn get(&mut self) {
            let to = url(&self.server);
            self.connection.get(&to, &HeaderMap::new()).unwrap();
        }

        /// The content of the answer.
        fn content(self) -> (Self, Result<Vec<u8>, Error>) {
            let (sender, receiver) = mpsc::channel();
            let mut connection = self.connection;
            thread::spawn(move || {
                let content = connection.read_to_end(1 << 30);
                // The test may have given up.
                let _ = sender.send((connection, content));
            });
            let (connection, content) = receiver
                .recv_timeout(testkit::DEADLINE)
                .expect("a receive sleeps although nothing more comes");
            (Self { connection, ..self }, content)
        }
    }

    fn url(server: &Server) -> Url {
        Url::parse(&server.url("/x")).unwrap()
    }

    fn pattern(length: u32) -> Arc<Vec<u8>> {
        Arc::new((0..length).map(|at| (at % 251) as u8).collect())
    }

    #[test]
    fn a_receive_waits_for_nothing_that_may_not_come() {
        let table = [
            (0, 0, 1),
            (1, 0, 1),
            (1000, 0, 1000),
            (1000, 999, 1),
            (1000, 5000, 1),
            (200_000, 100_000, 100_000),
            (200_000, 1, LOW_WATER),
            (u64::MAX, 0, LOW_WATER),
            (1 << 32, 0, LOW_WATER),
        ];
        for (to_come, received, expected) in table {
            assert_eq!(
                low_water(to_come, received),
                expected,
                "{to_come} {received}"
            );
        }
    }

    #[test]
    fn a_receive_that_waits_is_woken_by_the_last_bytes() {
        // Below the low-water mark: one receive could take the whole.
        let bytes = pattern(120_000);
        for mut fixture in Fixture::each(&bytes) {
            let mut held = 0;
            for last in [1, 1000, 20_000, 60_000, 119_999].repeat(3) {
                let (begin, rest) = (Gate::new(), Gate::new());
                for (after, gate) in [(0, &begin), (120_000 - last, &rest)] {
                    fixture.server.fault(When::any(), Fault::stall(after, gate));
                }
                fixture.get();
                begin.open();
                held += 2;
                fixture.server.wait_for_held(held);
                // The first part has come; the last one comes while the receive waits for it.
                *fixture.clock.0.lock().unwrap() = Some(rest);
                let (again, content) = fixture.content();
                assert!(content.unwrap() == *bytes, "{last}");
                fixture = again;
            }
            assert_eq!(fixture.server.connections(), 1);
        }
    }

    #[test]
    fn no_receive_waits_for_more_than_comes() {
        let bytes = pattern(700_000);
        let whole = [
            Fault::Drip(1000),
            Fault::Chunked(300),
            Fault::Chunked(65_536),
            Fault::UntilClose,
        ];
        for fault in whole {
            for mut fixture in Fixture::each(&bytes) {
                fixture.server.fault(When::any(), fault.clone());
                fixture.get();
                assert!(fixture.content().1.unwrap() == *bytes, "{fault:?}");
            }
        }
        for how in [Cut::Fin, Cut::Orderly, Cut::Reset] {
            for mut fixture in Fixture::each(&bytes) {
                fixture.server.fault(When::any(), Fault::cut(600_000, how));
                fixture.get();
                let error = fixture.content().1.unwrap_err();
                assert_eq!(error.kind(), Kind::Closed, "{how:?}");
            }
        }
    }
}
