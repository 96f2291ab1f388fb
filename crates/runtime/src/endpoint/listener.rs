//! A listening socket for both families.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted while others are served.
const BACKLOG: u32 = 64;

/// Listens on `address`. For the unspecified IPv6 address this means both families, whatever the
/// system's default (`net.ipv6.bindv6only`), and IPv4 where the kernel has no IPv6.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let SocketAddr::V6(v6) = address else {
        return listen(&TcpSocket::new_v4, address);
    };
    if !v6.ip().is_unspecified() {
        return listen(&TcpSocket::new_v6, address);
    }
    let dual_stack = || {
        let socket = TcpSocket::new_v6()?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        Ok(socket)
    };
    listen(&dual_stack, address).or_else(|error| {
        let without_ipv6 = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
            .map(|errno| Some(errno.raw_os_error()))
            .contains(&error.raw_os_error());
        if without_ipv6 {
            return listen(
                &TcpSocket::new_v4,
                (Ipv4Addr::UNSPECIFIED, v6.port()).into(),
            );
        }
        Err(error)
    })
}

fn listen(
    socket: &dyn Fn() -> io::Result<TcpSocket>,
    address: SocketAddr,
) -> io::Result<TcpListener> {
    let socket = socket()?;
    // A process that is restarted finds its port free although old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_takes_both_families() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "::1"] {
            TcpStream::connect((host, port)).await.expect(host);
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
