//! A blocking TCP socket that sees cancellation and stalls.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::sockopt::set_socket_linger,
};

use crate::{Cancel, Clock, Error, Kind, sockopt::set_receive_low_water};

/// How long one system call blocks at most, and so how soon a cancellation is seen.
pub(crate) const SLICE: Duration = Duration::from_millis(250);

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
    low_water: u32,
}

impl Socket {
    /// Takes over a connected, blocking stream.
    pub(crate) fn new(
        stream: TcpStream,
        peer: String,
        clock: Arc<dyn Clock>,
        cancel: Cancel,
        stall: Duration,
        deadline: Duration,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // To be closed by a reset. A pod's address goes with the pod: a server that still has bytes to send would get
        // no answer any more, and hold the disk until TCP gives up, a quarter of an hour later.
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        Ok(Self {
            stream,
            peer,
            clock,
            cancel,
            stall,
            deadline: Some(deadline),
            low_water: 1,
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

    /// Receives at least one byte, or 0 at the end of the stream. Waits for `low_water` bytes, but
    /// never longer than [`SLICE`] for more than the first.
    pub(crate) fn read(&mut self, buf: &mut [u8], low_water: u32) -> Result<usize, Error> {
        let low_water = low_water.max(1);
        if low_water != self.low_water {
            set_receive_low_water(&self.stream, low_water).map_err(|error| self.broken(error))?;
            self.low_water = low_water;
        }
        let since = self.clock.now();
        loop {
            self.check(since)?;
            match self.stream.read(buf) {
                Ok(count) => return Ok(count),
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(self.broken(error)),
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

    /// Whether the peer still holds its side open; with `quiet`, also that it has sent nothing more.
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
        Ok(())
    }

    fn broken(&self, error: io::Error) -> Error {
        let text = format!("{}: the connection broke", self.peer);
        Error::with_source(Kind::Closed, text, error)
    }
}

/// The end of a [`SLICE`], or a signal.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    ) && error.raw_os_error() != Some(Errno::TIMEDOUT.raw_os_error())
}
