//! A block device.

use std::path::Path;

use rustix::fs::{Mode, OFlags, ioctl_blksszget};

use super::{
    Sink, bounded,
    fault::{device_open_fault, fault},
    handle::Handle,
    kernel::Linux,
    sys,
};
use crate::{ByteRange, Error, Kind};

/// A block device, not claimed for exclusive use: the kubelet keeps the devices that it gives to a
/// pod open itself.
///
/// What lies beyond the disk on a larger device is left as it is.
#[derive(Debug)]
pub struct BlockSink {
    handle: Handle,
    size: u64,
}

impl BlockSink {
    /// Opens the device at `path` for writing; writes nothing.
    ///
    /// # Errors
    /// [`Kind::TargetDenied`] when it may not be opened, is read-only or in exclusive use.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| device_open_fault(path, errno))?;
        let ask = |errno| fault("ask for the size of", path, errno);
        let size = sys::device_size(&fd).map_err(ask)?;
        let sector = ioctl_blksszget(&fd).map_err(ask)?;
        if sys::device_is_read_only(&fd).map_err(ask)? {
            return Err(Error::new(
                Kind::TargetDenied,
                format!("the block device {} is read-only", path.display()),
            ));
        }
        tracing::debug!(path = %path.display(), size, sector, "opened the block device");
        Ok(Self {
            handle: Handle::new(path, fd, sector, &Linux),
            size,
        })
    }
}

impl Sink for BlockSink {
    fn capacity(&self) -> u64 {
        self.size
    }

    fn prepare(&self, size: u64) -> Result<(), Error> {
        if size <= self.size {
            return Ok(());
        }
        Err(Error::new(
            Kind::TargetTooSmall,
            format!(
                "the block device {} has {} bytes, the disk has {size}",
                self.handle.path().display(),
                self.size
            ),
        ))
    }

    fn resize(&self, size: u64) -> Result<(), Error> {
        self.prepare(size)
    }

    fn is_blank(&self) -> bool {
        false
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        bounded(self.handle.path(), offset, buf.len() as u64, self.size)?;
        self.handle.write_at(buf, offset)
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        bounded(self.handle.path(), range.start(), range.len(), self.size)?;
        self.handle.zero(range)
    }

    fn sync(&self) -> Result<(), Error> {
        self.handle.sync()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.sync()?;
        self.handle.close()
    }
}
