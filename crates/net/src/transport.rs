//! What an HTTP connection runs over.

use std::time::Duration;

use crate::{Error, socket::Socket, tls_stream::TlsStream};

/// Bytes for which the kernel is told to wait in a body: fewer wake-ups and system calls.
const LOW_WATER: u32 = 128 << 10;

pub(crate) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Reads at least one byte, or 0 at an orderly end. `to_come` is a lower bound of the bytes that
    /// the peer still will send: receives wait for many at a time, but for none that may not come.
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

    /// Whether nothing speaks against another request now. A server that closes at this very moment
    /// is seen only later.
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

    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket_mut(),
        }
    }
}

/// For how many bytes a receive may wait when `to_come` bytes of content are certain to come, of which
/// `received` at most have arrived. Encrypted bytes are never fewer than their content.
pub(crate) fn low_water(to_come: u64, received: usize) -> u32 {
    let certain = to_come.saturating_sub(received as u64).max(1);
    u32::try_from(certain).map_or(LOW_WATER, |certain| certain.min(LOW_WATER))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
