//! The calls whose failures decide whether a copy is durable, or whole, behind a trait: on the file systems of
//! a test machine they do not fail on command.

use std::{
    fmt,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{self, Mode},
    io,
};

use super::sys;

/// Calls to the kernel. Each is made again after a signal, but for [`Kernel::close`].
pub(super) trait Kernel: fmt::Debug + Send + Sync {
    fn pwrite(&self, fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> io::Result<usize>;
    fn fsync(&self, fd: BorrowedFd<'_>) -> io::Result<()>;
    fn fdatasync(&self, fd: BorrowedFd<'_>) -> io::Result<()>;
    fn syncfs(&self, fd: BorrowedFd<'_>) -> io::Result<()>;
    fn fchmod(&self, fd: BorrowedFd<'_>, mode: Mode) -> io::Result<()>;
    fn close(&self, fd: OwnedFd) -> io::Result<()>;
}

/// The kernel itself.
#[derive(Debug)]
pub(super) struct Linux;

impl Kernel for Linux {
    fn pwrite(&self, fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> io::Result<usize> {
        io::retry_on_intr(|| io::pwrite(fd, buf, offset))
    }

    fn fsync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        io::retry_on_intr(|| fs::fsync(fd))
    }

    fn fdatasync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        io::retry_on_intr(|| fs::fdatasync(fd))
    }

    fn syncfs(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        io::retry_on_intr(|| fs::syncfs(fd))
    }

    fn fchmod(&self, fd: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
        io::retry_on_intr(|| fs::fchmod(fd, mode))
    }

    fn close(&self, fd: OwnedFd) -> io::Result<()> {
        sys::close_checked(fd)
    }
}

#[cfg(test)]
mod tests;
