//! Makes TCP connections: resolves, tries every address, sees cancellation.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::OwnedFd,
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

use crate::{Cancel, Clock, Egress, Error, Kind, error::resolve_error, origin::Origin};

/// How soon a cancellation or the deadline ends a wait for the resolver.
const SLICE: Duration = Duration::from_millis(100);
/// How long an address is tried alone.
const HEAD_START: Duration = Duration::from_millis(250);
/// The same for a wait for an address.
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Connects to the first address of the origin's host that answers, until `deadline` on the clock. Where
/// rules are given, only to those that they admit.
///
/// Addresses are tried in their order, each with a head start before the next (RFC 8305, 5), so
/// that an address which never answers costs little.
pub(crate) fn dial(
    origin: &Origin,
    egress: Option<&Egress>,
    deadline: Duration,
    clock: &dyn Clock,
    cancel: &Cancel,
) -> Result<TcpStream, Error> {
    let mut addresses = resolve(origin, deadline, clock, cancel)?;
    if let Some(egress) = egress {
        addresses = egress.admit(origin.host(), addresses)?;
    }
    connect_first(origin, addresses, deadline, clock, cancel)
}

/// Runs the attempts to connect beside each other, until one succeeds, all failed, or time is up.
fn connect_first(
    origin: &Origin,
    addresses: Vec<SocketAddr>,
    deadline: Duration,
    clock: &dyn Clock,
    cancel: &Cancel,
) -> Result<TcpStream, Error> {
    let mut untried = addresses.into_iter();
    let mut attempts: Vec<(SocketAddr, OwnedFd)> = Vec::new();
    let mut last = None;
    // When the next address may be tried beside those that have not answered.
    let mut next = clock.now();
    loop {
        if cancel.is_cancelled() {
            return Err(cancelled(origin));
        }
        let now = clock.now();
        // An attempt that got no answer says more than a refusal of another address.
        if now >= deadline {
            let address = attempts.pop().map(|(address, _)| address);
            last = address
                .map(|address| (address, ErrorKind::TimedOut.into()))
                .or(last);
            break;
        }
        if attempts.is_empty() || now >= next {
            match untried.next() {
                Some(address) => {
                    next = now.saturating_add(HEAD_START);
                    match begin(address) {
                        Ok(socket) => attempts.push((address, socket)),
                        Err(error) => last = Some((address, error)),
                    }
                    // An attempt that failed at once leaves none, so that the next starts at once.
                    continue;
                }
                None if attempts.is_empty() => break,
                None => {}
            }
        }
        match outcome(&mut attempts) {
            None => {}
            Some((_, Ok(stream))) => return Ok(stream),
            // After a refusal, the next address has no reason to wait.
            Some((address, Err(error))) => {
                last = Some((address, error));
                next = now;
            }
        }
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
    deadline: Duration,
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
            Err(RecvTimeoutError::Timeout) if clock.now() >= deadline => {
                return Err(resolve_error(&name, &ErrorKind::TimedOut.into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Starts to connect.
fn begin(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Waits up to [`POLL`] for one of the attempts to end, and removes it from them.
fn outcome(
    attempts: &mut Vec<(SocketAddr, OwnedFd)>,
) -> Option<(SocketAddr, io::Result<TcpStream>)> {
    let mut fds: Vec<_> = attempts
        .iter()
        .map(|(_, socket)| PollFd::new(socket, PollFlags::OUT))
        .collect();
    // An interrupted wait is a wait without an outcome.
    let _ = poll(&mut fds, Some(&POLL));
    let ended = fds.iter().position(|fd| !fd.revents().is_empty())?;
    drop(fds);
    let (address, socket) = attempts.swap_remove(ended);
    Some((address, finish(socket)))
}

fn finish(socket: OwnedFd) -> io::Result<TcpStream> {
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn cancelled(origin: &Origin) -> Error {
    Error::new(Kind::Cancelled, format!("{origin}: cancelled")).sent(false)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::SystemClock;

    /// Listens with a queue that is full: a client that connects gets no answer.
    fn silent() -> (OwnedFd, SocketAddr, Vec<OwnedFd>) {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&socket, &any).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let address: SocketAddr = rustix::net::getsockname(&socket)
            .unwrap()
            .try_into()
            .unwrap();
        let queue = (0..4).map(|_| begin(address).unwrap()).collect();
        (socket, address, queue)
    }

    fn race(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
        let origin = Origin::of(&url::Url::parse("https://host.example/").unwrap()).unwrap();
        let hour = Duration::from_hours(1);
        connect_first(
            &origin,
            addresses.to_vec(),
            hour,
            &SystemClock::default(),
            &Cancel::new(),
        )
    }

    #[test]
    fn an_address_that_never_answers_does_not_hold_up_the_next() {
        let (_socket, dead, _queue) = silent();
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = good.local_addr().unwrap();
        assert_eq!(
            race(&[dead, address]).unwrap().peer_addr().unwrap(),
            address
        );
    }

    #[test]
    fn every_address_is_tried_and_the_last_refusal_reported() {
        let refused = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (one, other) = (refused(), refused());
        let error = race(&[one, other]).unwrap_err();
        assert_eq!(error.kind(), Kind::Connect);
        assert!(error.to_string().contains(&other.to_string()), "{error}");
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(race(&[one, good.local_addr().unwrap()]).is_ok());
        assert_eq!(race(&[]).unwrap_err().kind(), Kind::Resolve);
    }

    #[test]
    fn the_deadline_holds_for_all_addresses_together() {
        #[derive(Debug)]
        struct Hurried(std::sync::atomic::AtomicU64);
        impl Clock for Hurried {
            fn now(&self) -> Duration {
                Duration::from_secs(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            }
            fn wait(&self, _: Duration, _: &Cancel) -> bool {
                false
            }
        }
        let (_socket, dead, _queue) = silent();
        let origin = Origin::of(&url::Url::parse("http://host.example/").unwrap()).unwrap();
        let clock = Hurried(0.into());
        let deadline = Duration::from_secs(20);
        let error =
            connect_first(&origin, vec![dead; 50], deadline, &clock, &Cancel::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Connect);
        assert!(clock.now() < Duration::from_secs(30));
    }

    #[test]
    fn the_table_of_timers_is_right() {
        let head_start = testkit::timers::stated("head start of an address");
        assert_eq!(head_start, [HEAD_START]);
        let crate::Timeouts {
            connect,
            stall,
            head,
            least_rate,
        } = crate::Timeouts::default();
        assert_eq!(testkit::timers::stated("connect"), [connect]);
        assert_eq!(testkit::timers::stated("stall"), [stall]);
        assert_eq!(testkit::timers::stated("head of an answer"), [head]);
        let stated = testkit::timers::stated("least rate");
        assert_eq!(stated, [least_rate.period]);
        assert_eq!(least_rate.bytes, 64 << 10);
    }
}
