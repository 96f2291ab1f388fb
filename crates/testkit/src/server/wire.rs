//! The bytes of a connection.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use rustix::net::sockopt;
use rustls::{ServerConnection, StreamOwned};

use super::{Cut, Shared};
use crate::{DEADLINE, lock};

/// A connection's bytes, plain or over TLS.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    /// Carries bytes to and fro until both sides have ended.
    pub(super) fn tunnel(&mut self, address: SocketAddr) -> io::Result<()> {
        let Self::Plain(client) = self else {
            return Err(io::Error::other("a tunnel needs a plain server"));
        };
        let server = TcpStream::connect(address)?;
        let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || {
            // An error means that one side has gone.
            let _ = io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Write);
        });
        let _ = io::copy(client, &mut &server);
        let _ = server.shutdown(Shutdown::Write);
        let _ = back.join();
        Ok(())
    }

    /// Ends the connection in the given way.
    pub(super) fn end(mut self, shared: &Shared, connection: usize, cut: Cut) -> io::Result<()> {
        if let (Self::Tls(tls), Cut::Orderly) = (&mut self, cut) {
            tls.conn.send_close_notify();
            tls.flush()?;
        }
        let socket = match &self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.sock,
        };
        if cut == Cut::Reset {
            sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
            // The reset is sent when the last handle goes.
            lock(&shared.open).remove(&connection);
            return Ok(());
        }
        socket.shutdown(Shutdown::Write)?;
        // Closing with unread bytes would turn the FIN into a reset.
        let mut socket = socket;
        socket.set_read_timeout(Some(DEADLINE))?;
        while socket.read(&mut [0; 4096])? > 0 {}
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
