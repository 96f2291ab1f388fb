//! The life of a connection.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use rustix::net::sockopt;
use rustls::{ServerConnection, StreamOwned};

use super::{ConnectionFault, Cut, Event, Request, Shared, deliver::deliver, port::Listener};
use crate::{DEADLINE, lock};

pub(super) fn accept(listener: &Listener, shared: &Arc<Shared>) {
    while let Some(stream) = listener.accept() {
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.log.push(Event::Connected { connection });
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // An error ends the connection; what a test needs of it is in the log.
            let _ = serve(&shared, connection, stream);
            lock(&shared.open).remove(&connection);
            shared.log.push(Event::Closed { connection });
        });
    }
}

fn serve(shared: &Shared, connection: usize, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A client that hangs must not keep the thread beyond the test.
    stream.set_write_timeout(Some(DEADLINE * 2))?;
    lock(&shared.open).insert(connection, stream.try_clone()?);
    if shared.closing.load(Ordering::SeqCst) {
        return Ok(());
    }
    let fault = lock(&shared.connection_faults)
        .iter()
        .find(|(hit, _)| hit.contains(&connection))
        .map(|(_, fault)| fault.clone());
    let Some(mut wire) = open(shared, connection, stream, fault.as_ref())? else {
        return Ok(());
    };
    if let Some(ConnectionFault::DropAfterHandshake(cut)) = fault {
        return wire.end(shared, connection, cut);
    }
    let mut buffer = Vec::new();
    for on_connection in 0.. {
        let Some(mut request) = Request::read(&mut wire, &mut buffer)? else {
            break;
        };
        request.connection = connection;
        request.on_connection = on_connection;
        request.seq = shared.requests.fetch_add(1, Ordering::SeqCst);
        shared.log.push(Event::Requested(request.clone()));
        let reply = shared.answer(&request);
        if let Some(cut) = deliver(shared, &mut wire, &request, reply) {
            return wire.end(shared, connection, cut);
        }
    }
    wire.end(shared, connection, Cut::Orderly)
}

/// Makes the wire ready for requests; `None` when the fault ended it.
fn open(
    shared: &Shared,
    connection: usize,
    stream: TcpStream,
    fault: Option<&ConnectionFault>,
) -> io::Result<Option<Wire>> {
    match fault {
        Some(ConnectionFault::Drop(cut)) => {
            return Wire::Plain(stream)
                .end(shared, connection, *cut)
                .map(|()| None);
        }
        Some(ConnectionFault::AbortHandshake(cut)) => {
            let _ = (&stream).read(&mut [0; 4096])?;
            return Wire::Plain(stream)
                .end(shared, connection, *cut)
                .map(|()| None);
        }
        Some(ConnectionFault::NotTls) => {
            let _ = (&stream).read(&mut [0; 4096])?;
            (&stream).write_all(b"220 this is not the protocol you want\r\n")?;
            let end = Wire::Plain(stream).end(shared, connection, Cut::Orderly);
            return end.map(|()| None);
        }
        Some(ConnectionFault::HoldHandshake(gate)) => shared.hold(gate, connection),
        _ => {}
    }
    let config = match fault {
        Some(ConnectionFault::Identity(config)) => Some(config),
        _ => shared.tls.as_ref(),
    };
    let Some(config) = config else {
        return Ok(Some(Wire::Plain(stream)));
    };
    let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = Box::new(StreamOwned::new(session, stream));
    while tls.conn.is_handshaking() {
        if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
            let error = error.to_string();
            shared
                .log
                .push(Event::HandshakeFailed { connection, error });
            // The alert has been queued; the peer should see it rather than a reset.
            let _ = tls.conn.write_tls(&mut tls.sock);
            let _ = tls.sock.shutdown(Shutdown::Write);
            return Ok(None);
        }
    }
    Ok(Some(Wire::Tls(tls)))
}

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
    fn end(mut self, shared: &Shared, connection: usize, cut: Cut) -> io::Result<()> {
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
