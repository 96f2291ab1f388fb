//! The life of a connection.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, atomic::Ordering},
    thread,
};

use rustls::{ServerConnection, StreamOwned};

use super::{
    ConnectionFault, Cut, Event, Request, Shared, deliver::deliver, port::Listener, wire::Wire,
};
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
