//! Receives that return when many bytes have come.

use std::{io, net::TcpStream, os::fd::AsRawFd};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{RecvFlags, recv},
};

/// How many bytes are waited for, as long as the answer has so many left. Fewer cost more receives, and more made no
/// difference that could be measured.
pub(crate) const MARK: usize = 256 << 10;

/// Waits for the socket's low-water mark, or the end of the stream, and receives without blocking. A receive that
/// blocks would wait for a whole mark of further bytes while it holds those that have come.
pub(crate) fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    poll(&mut [PollFd::new(socket, PollFlags::IN)], None)?;
    let (_, count) = recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// Sets `SO_RCVLOWAT` (socket(7), tcp(7)): poll(2) calls the socket readable once `bytes` are in its queue.
#[allow(
    unsafe_code,
    reason = "setsockopt(2), which no safe crate offers for this option"
)]
pub(crate) fn set_low_water(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel reads the bytes of `value` and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
