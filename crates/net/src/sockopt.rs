//! The one socket option that no safe crate offers.

use std::{
    io,
    net::TcpStream,
    os::fd::{AsFd, AsRawFd},
};

/// Sets `SO_RCVLOWAT`: a blocking receive waits for this many bytes (or the end of the stream, or
/// its time-out) before it returns. See socket(7).
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
