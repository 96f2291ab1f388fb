//! What an HTTP connection runs over.

use std::time::Duration;

use crate::{
    Error,
    tcp::{Socket, low_water},
    tls::TlsStream,
};

pub(crate) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Reads at least one byte, or 0 at an orderly end. `to_come` is a lower bound of the bytes
    /// that the peer still will send: receives wait for many at a time, but for none that may not
    /// come.
    pub(crate) fn read(&mut self, buf: &mut [u8], to_come: u64) -> Result<usize, Error> {
        match self {
            Self::Plain(socket) => socket.read(buf, low_water(to_come, 0)),
            Self::Tls(tls) => tls.read(buf, to_come),
        }
    }

    pub(crate) fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Plain(socket) => socket.write_all(data),
            Self::Tls(tls) => tls.write_all(data),
        }
    }

    pub(crate) fn peer(&self) -> &str {
        match self {
            Self::Plain(socket) => socket.peer(),
            Self::Tls(tls) => tls.socket().peer(),
        }
    }

    /// Whether another request can be sent now. A server that closes at this very moment is seen
    /// only later.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_open(true),
            // Session tickets may arrive at any time.
            Self::Tls(tls) => !tls.has_leftover() && tls.socket().is_open(false),
        }
    }

    pub(crate) fn set_stall(&mut self, stall: Duration) {
        self.socket().set_stall(stall);
    }

    pub(crate) fn lift_deadline(&mut self) {
        self.socket().lift_deadline();
    }

    /// What comes next is the first byte of an answer.
    pub(crate) fn begin_wait(&mut self) {
        self.socket().begin_wait();
    }

    /// What comes next is the rest of the head of an answer.
    pub(crate) fn begin_head(&mut self) {
        self.socket().begin_head();
    }

    /// What comes next is the body of an answer.
    pub(crate) fn begin_body(&mut self) {
        self.socket().begin_body();
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket_mut(),
        }
    }
}
