//! A port that stays ours while nothing listens on it, so that a refusal is a refusal.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// A port of this machine, bound for as long as the value lives.
///
/// The holder never listens. With `SO_REUSEADDR` on both sides, listeners can be made and closed on
/// the same port, while the kernel gives it to no other socket.
pub(super) struct Port {
    _holder: OwnedFd,
    address: SocketAddr,
}

impl Port {
    pub(super) fn reserve(address: IpAddr) -> Self {
        let holder = bound(SocketAddr::new(address, 0));
        let address = net::getsockname(&holder).unwrap().try_into().unwrap();
        Self {
            _holder: holder,
            address,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn listen(&self) -> Listener {
        let socket = bound(self.address);
        net::listen(&socket, 64).unwrap();
        Listener(Arc::new(socket.into()))
    }
}

/// A listening socket whose `accept` can be woken from another thread.
#[derive(Clone)]
pub(super) struct Listener(Arc<TcpListener>);

impl Listener {
    /// The next connection; `None` once it was woken.
    pub(super) fn accept(&self) -> Option<TcpStream> {
        self.0.accept().ok().map(|(stream, _)| stream)
    }

    pub(super) fn wake(&self) {
        // Linux lets a thread out of accept() when the listening socket is shut down.
        net::shutdown(&*self.0, net::Shutdown::Both).unwrap();
    }
}

fn bound(address: SocketAddr) -> OwnedFd {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    net::bind(&socket, &address).unwrap();
    socket
}
