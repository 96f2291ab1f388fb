//! Positional writing to an open device or file, direct where possible.

use std::{
    fs,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FallocateFlags, Mode, OFlags, fallocate},
    io::{self, Errno},
};

use super::{
    fault::fault,
    kernel::Kernel,
    writeback::{WriteBack, drop_page_cache},
    zeroing::{Device, ZeroMethod, ZeroStrategy, aligned_core},
};
use crate::{ByteRange, Error, Kind};

/// Alignment in memory that satisfies direct I/O on every device with sectors of up to 4096 bytes.
const MEMORY_ALIGNMENT: usize = 4096;

/// How many zeroes are written at a time where a device cannot zero by itself.
const ZEROES: usize = 1 << 20;

/// A file or device that is open for writing, twice: direct and through the page cache.
///
/// Whole pages from aligned memory go directly to the device, everything else through the page
/// cache. Since the border between the two is always the border of a page, no page is ever in both
/// at a time, and concurrent writers of different bytes need no lock: within a page the kernel
/// merges them, and before a direct write it drops the pages of its range.
#[derive(Debug)]
pub(super) struct Handle {
    kernel: &'static dyn Kernel,
    path: PathBuf,
    buffered: OwnedFd,
    direct: Option<OwnedFd>,
    direct_refused: AtomicBool,
    granule: u64,
    memory_alignment: usize,
    write_back: WriteBack,
    strategy: ZeroStrategy,
    zeroes: OnceLock<Aligned>,
    /// The kernel reports a write-back error once; later syncs must fail as well.
    damaged: AtomicBool,
}

impl Handle {
    /// Takes over `buffered`, open for writing at `path`, and opens it once more for direct I/O if
    /// that works. `sector` is the logical sector size of a device, 512 for a file.
    pub(super) fn new(
        path: &Path,
        buffered: OwnedFd,
        sector: u32,
        kernel: &'static dyn Kernel,
    ) -> Self {
        let sector = u64::from(sector);
        let granule = sector.max(rustix::param::page_size() as u64).max(4096);
        let direct = open_direct(path, buffered.as_fd());
        if direct.is_none() {
            tracing::debug!(path = %path.display(), "no direct I/O: writing through the page cache");
        }
        Self {
            kernel,
            path: path.to_owned(),
            buffered,
            direct,
            direct_refused: AtomicBool::new(false),
            granule,
            memory_alignment: usize::try_from(sector).unwrap_or(0).max(MEMORY_ALIGNMENT),
            write_back: WriteBack::default(),
            strategy: ZeroStrategy::new(granule),
            zeroes: OnceLock::new(),
            damaged: AtomicBool::new(false),
        }
    }

    /// Where it was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor for everything but data.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.buffered.as_fd()
    }

    /// Writes all of `buf` at `offset`.
    pub(super) fn write_at(&self, mut buf: &[u8], mut offset: u64) -> Result<(), Error> {
        while !buf.is_empty() {
            let (direct, len) = self.route(buf, offset);
            let (part, _) = buf.split_at(len);
            let written = match direct {
                Some(fd) => match self.kernel.pwrite(fd.as_fd(), part, offset) {
                    Err(Errno::INVAL) => {
                        self.refuse_direct();
                        continue;
                    }
                    written => written,
                },
                None => self.write_buffered(part, offset),
            };
            match written {
                Ok(0) => return Err(self.fault("write", Errno::IO)),
                Ok(written) => {
                    buf = buf.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(errno) => return Err(self.fault("write", errno)),
            }
        }
        Ok(())
    }

    /// Makes `range` read as zeroes.
    pub(super) fn zero(&self, range: ByteRange) -> Result<(), Error> {
        self.strategy.zero(self, range)
    }

    /// Returns when data, and what is needed to find it, is on stable storage.
    pub(super) fn sync(&self) -> Result<(), Error> {
        if let Err(errno) = self.kernel.fsync(self.buffered.as_fd()) {
            self.damaged.store(true, Ordering::Relaxed);
            return Err(self.fault("sync", errno));
        }
        if self.damaged.load(Ordering::Relaxed) {
            return Err(Error::new(
                Kind::TargetIo,
                format!("an earlier write to {} was lost", self.path.display()),
            ));
        }
        drop_page_cache(self.buffered.as_fd());
        Ok(())
    }

    /// Closes both descriptors, and returns the kernel's error if there is one.
    pub(super) fn close(self) -> Result<(), Error> {
        let Self {
            kernel,
            path,
            buffered,
            direct,
            ..
        } = self;
        // Linux has released the descriptor, and the data is synced: nothing is lost by a signal.
        let close = |fd| match kernel.close(fd) {
            Err(Errno::INTR) => Ok(()),
            closed => closed,
        };
        let closed_direct = direct.map_or(Ok(()), close);
        // Both are closed, whatever the first says.
        close(buffered)
            .and(closed_direct)
            .map_err(|errno| fault("close", &path, errno))
    }

    /// Which descriptor takes the next bytes, and how many of them.
    fn route(&self, buf: &[u8], offset: u64) -> (Option<&OwnedFd>, usize) {
        let Some(direct) = &self.direct else {
            return (None, buf.len());
        };
        if self.direct_refused.load(Ordering::Relaxed) {
            return (None, buf.len());
        }
        let core = aligned_core(
            ByteRange::new(offset, offset.saturating_add(buf.len() as u64)),
            self.granule,
        );
        let head = usize::try_from(core.start() - offset).unwrap_or(usize::MAX);
        let body = usize::try_from(core.len()).unwrap_or(0);
        let aligned = |bytes: &[u8]| bytes.as_ptr().addr().is_multiple_of(self.memory_alignment);
        match buf.get(head..) {
            Some(rest) if body > 0 && aligned(rest) => match head {
                0 => (Some(direct), body),
                head => (None, head),
            },
            _ => (None, buf.len()),
        }
    }

    fn write_buffered(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.kernel.pwrite(self.buffered.as_fd(), buf, offset)?;
        let range = ByteRange::new(offset, offset + written as u64);
        self.write_back
            .wrote(self.buffered.as_fd(), range)
            .inspect_err(|_| self.damaged.store(true, Ordering::Relaxed))?;
        Ok(written)
    }

    fn refuse_direct(&self) {
        if !self.direct_refused.swap(true, Ordering::Relaxed) {
            tracing::debug!(
                path = %self.path.display(),
                "direct I/O was refused: writing through the page cache"
            );
        }
    }

    fn fault(&self, action: &str, errno: Errno) -> Error {
        fault(action, &self.path, errno)
    }
}

impl Device for Handle {
    fn fallocate(&self, method: ZeroMethod, range: ByteRange) -> io::Result<()> {
        let mode = match method {
            ZeroMethod::PunchHole => FallocateFlags::PUNCH_HOLE,
            ZeroMethod::ZeroRange => FallocateFlags::ZERO_RANGE,
        };
        fallocate(
            &self.buffered,
            mode | FallocateFlags::KEEP_SIZE,
            range.start(),
            range.len(),
        )
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), Error> {
        let zeroes = self.zeroes.get_or_init(Aligned::zeroes);
        let mut at = range.start();
        while at < range.end() {
            // From the same place in a page as the range has, so that whole pages are aligned.
            let skip = usize::try_from(at % self.granule).unwrap_or(0);
            let part = zeroes.get(skip, usize::try_from(range.end() - at).unwrap_or(ZEROES));
            self.write_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn fault(&self, errno: Errno) -> Error {
        self.fault("zero a range of", errno)
    }
}

/// Zeroes at an address that direct I/O takes.
#[derive(Debug)]
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn zeroes() -> Self {
        let bytes = vec![0; ZEROES + MEMORY_ALIGNMENT];
        let start = bytes.as_ptr().align_offset(MEMORY_ALIGNMENT);
        Self { bytes, start }
    }

    /// At most `len` bytes, `skip` bytes after an aligned address.
    fn get(&self, skip: usize, len: usize) -> &[u8] {
        let end = ZEROES.min(skip.saturating_add(len));
        self.bytes
            .get(self.start + skip..self.start + end)
            .unwrap_or_default()
    }
}

/// Opens what `buffered` has open for direct I/O, if the file system and the path allow it.
fn open_direct(path: &Path, buffered: BorrowedFd<'_>) -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    let direct = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let (one, other) = (identity(buffered)?, identity(direct.as_fd())?);
    // The path may lead elsewhere by now.
    (one == other).then_some(direct)
}

fn identity(fd: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let metadata = fs::File::from(fd.try_clone_to_owned().ok()?)
        .metadata()
        .ok()?;
    Some((metadata.dev(), metadata.ino()))
}
