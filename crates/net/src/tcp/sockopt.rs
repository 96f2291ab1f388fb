//! The one socket option that no safe crate offers.

use std::{
    io,
    net::TcpStream,
    os::fd::{AsFd, AsRawFd},
};

/// Sets `SO_RCVLOWAT`: poll(2) calls the socket readable once this many bytes are in its queue, or
/// the stream has ended, or the queue can take no more. Linux enlarges the queue for a mark, up to
/// half of the largest size in `tcp_rmem`, and lowers a mark beyond that. See socket(7), tcp(7).
#[allow(
    unsafe_code,
    reason = "setsockopt(2) on an open descriptor, with a pointer to a live integer of the stated size"
)]
pub(crate) fn set_receive_low_water(socket: &TcpStream, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    #[allow(clippy::cast_possible_truncation, reason = "the size of an integer")]
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the kernel reads `size`
    // bytes at the pointer, which is a local of that type, and keeps nothing of it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
