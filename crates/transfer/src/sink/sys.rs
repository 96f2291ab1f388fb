//! The calls that have no safe form in our libraries, each behind a safe function.
#![allow(
    unsafe_code,
    reason = "two ioctls, sync_file_range and a close whose result is seen have no safe interface"
)]

use std::{
    ffi::{c_int, c_uint},
    os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd},
};

use rustix::{
    io::{self, Errno},
    ioctl::{Getter, Opcode, ioctl, opcode},
};

use crate::ByteRange;

/// `BLKGETSIZE64` of `linux/fs.h`: declared with `size_t`, writes 64 bits.
const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);
/// `BLKROGET` of `linux/fs.h`.
const BLKROGET: Opcode = opcode::none(0x12, 94);

/// `SYNC_FILE_RANGE_WRITE`: starts write-back of dirty pages.
pub(super) const START_WRITE_BACK: c_uint = 2;
/// `SYNC_FILE_RANGE_WAIT_BEFORE | _WRITE | _WAIT_AFTER`: returns when every page has been written.
pub(super) const FINISH_WRITE_BACK: c_uint = 7;

// 64-bit offsets in every ABI this is built for: glibc's declaration uses off64_t, musl's off_t.
unsafe extern "C" {
    fn sync_file_range(fd: c_int, offset: i64, len: i64, flags: c_uint) -> c_int;
    fn close(fd: c_int) -> c_int;
}

/// Size of a block device in bytes.
pub(super) fn device_size(fd: impl AsFd) -> io::Result<u64> {
    // SAFETY: the kernel writes a u64 for BLKGETSIZE64 (block/ioctl.c, `put_u64`), on any file that
    // is not a block device it writes nothing and fails.
    unsafe { ioctl(fd, Getter::<BLKGETSIZE64, u64>::new()) }
}

/// Whether a block device refuses writes.
pub(super) fn device_is_read_only(fd: impl AsFd) -> io::Result<bool> {
    // SAFETY: the kernel writes an int for BLKROGET (block/ioctl.c, `put_int`).
    unsafe { ioctl(fd, Getter::<BLKROGET, c_int>::new()) }.map(|read_only| read_only != 0)
}

/// Starts or finishes the write-back of a range of a file's dirty pages.
pub(super) fn write_back(fd: impl AsFd, range: ByteRange, flags: c_uint) -> io::Result<()> {
    let (Ok(start), Ok(len)) = (i64::try_from(range.start()), i64::try_from(range.len())) else {
        return Err(Errno::INVAL);
    };
    // SAFETY: no memory is passed; the descriptor is open for as long as it is borrowed.
    let result = unsafe { sync_file_range(fd.as_fd().as_raw_fd(), start, len, flags) };
    check(result)
}

/// Closes a descriptor and returns the kernel's error: on a network file system the last one of a
/// failed write.
pub(super) fn close_checked(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: ownership ends here, so the number is not used afterwards. Linux releases it even if
    // it reports an error, so it is not closed twice.
    check(unsafe { close(fd.into_raw_fd()) })
}

/// The result of a call of the C library.
fn check(result: c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
