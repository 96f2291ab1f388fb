//! Makes TCP connections: resolves, tries every address, sees cancellation.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt},
};
use url::Host;

use crate::{Cancel, Clock, Error, Kind, origin::Origin, rest::resolve_error};

const SLICE: Duration = Duration::from_millis(100);
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Connects to the first address of the origin's host that answers, each within `timeout`.
pub(crate) fn dial(
    origin: &Origin,
    timeout: Duration,
    clock: &dyn Clock,
    cancel: &Cancel,
) -> Result<TcpStream, Error> {
    let mut last = None;
    for address in resolve(origin, timeout, clock, cancel)? {
        if cancel.is_cancelled() {
            return Err(cancelled(origin));
        }
        match connect_to(address, timeout, clock, cancel) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some((address, error)),
        }
    }
    if cancel.is_cancelled() {
        return Err(cancelled(origin));
    }
    match last {
        Some((address, error)) => Err(Error::with_source(
            Kind::Connect,
            format!("{origin}: no connection to {address}"),
            error,
        )),
        None => Err(Error::new(
            Kind::Resolve,
            format!("{origin}: the host name has no address"),
        )),
    }
}

/// Resolves in a thread, since getaddrinfo(3) can be neither bounded nor cancelled.
fn resolve(
    origin: &Origin,
    timeout: Duration,
    clock: &dyn Clock,
    cancel: &Cancel,
) -> Result<Vec<SocketAddr>, Error> {
    let port = origin.port();
    let name = match origin.host() {
        Host::Ipv4(address) => return Ok(vec![(IpAddr::V4(*address), port).into()]),
        Host::Ipv6(address) => return Ok(vec![(IpAddr::V6(*address), port).into()]),
        Host::Domain(name) => name.clone(),
    };
    let (sender, receiver) = mpsc::channel();
    let asked = (name.clone(), port);
    thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            // The receiver may have given up.
            let _ = sender.send(asked.to_socket_addrs().map(Vec::from_iter));
        })
        .map_err(|error| resolve_error(&name, &error))?;
    let start = clock.now();
    loop {
        match receiver.recv_timeout(SLICE) {
            Ok(found) => return found.map_err(|error| resolve_error(&name, &error)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(resolve_error(
                    &name,
                    &io::Error::other("the resolver ended"),
                ));
            }
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                return Err(cancelled(origin));
            }
            Err(RecvTimeoutError::Timeout) if clock.now().saturating_sub(start) >= timeout => {
                return Err(resolve_error(&name, &ErrorKind::TimedOut.into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn connect_to(
    address: SocketAddr,
    timeout: Duration,
    clock: &dyn Clock,
    cancel: &Cancel,
) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let start = clock.now();
    loop {
        let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
        match poll(&mut fds, Some(&POLL)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
        if cancel.is_cancelled() {
            return Err(ErrorKind::Interrupted.into());
        }
        if clock.now().saturating_sub(start) >= timeout {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn cancelled(origin: &Origin) -> Error {
    Error::new(Kind::Cancelled, format!("{origin}: cancelled")).sent(false)
}
