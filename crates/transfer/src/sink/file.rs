//! A regular file.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{self, Access, Mode, OFlags},
    io::{self, Errno},
    process::{Resource, getrlimit},
};

use super::{
    Overwrite, Sink, bounded,
    fault::{fault, file_open_fault, free_bytes},
    handle::Handle,
    kernel::{Kernel, Linux},
};
use crate::{ByteRange, Error, Kind};

/// Read and write for owner and group, whatever the umask says: in a cluster the group is the pod's
/// `fsGroup`, which the virtual machine's process shares.
const MODE: Mode = Mode::from_raw_mode(0o660);

/// File systems give no sector size; direct I/O falls back if this is not enough.
const SECTOR: u32 = 512;

/// A regular file, sparse, of exactly the disk's size.
///
/// A file that is not there yet is made by [`Sink::prepare`], not before: a copy that cannot start
/// leaves nothing behind.
#[derive(Debug)]
pub struct FileSink {
    kernel: &'static dyn Kernel,
    path: PathBuf,
    overwrite: Overwrite,
    handle: OnceLock<Handle>,
    /// The folder, when the file was made here.
    folder: OnceLock<Option<OwnedFd>>,
    size: AtomicU64,
    prepared: AtomicBool,
}

impl FileSink {
    /// Opens the file at `path` if there is one, otherwise finds out whether it can be made. A
    /// symbolic link is not followed.
    ///
    /// # Errors
    /// [`Kind::TargetExists`] when there is a file that is not empty and `overwrite` refuses it;
    /// [`Kind::TargetDenied`] when it may not be opened or made.
    pub fn open(path: &Path, overwrite: Overwrite) -> Result<Self, Error> {
        Self::open_on(path, overwrite, &Linux)
    }

    pub(super) fn open_on(
        path: &Path,
        overwrite: Overwrite,
        kernel: &'static dyn Kernel,
    ) -> Result<Self, Error> {
        let sink = Self {
            kernel,
            path: path.to_owned(),
            overwrite,
            handle: OnceLock::new(),
            folder: OnceLock::new(),
            size: AtomicU64::new(0),
            prepared: AtomicBool::new(false),
        };
        match sink.open_existing() {
            Ok(handle) => {
                let _ = sink.handle.set(handle);
            }
            Err(OpenError::Missing) => sink.check_folder()?,
            Err(OpenError::Fault(error)) => return Err(error),
        }
        Ok(sink)
    }

    fn open_existing(&self) -> Result<Handle, OpenError> {
        // A named pipe that took the file's place must not block, nor a link lead elsewhere.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let fd = match fs::open(&self.path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(OpenError::Missing),
            Err(errno) => return Err(file_open_fault("open", &self.path, errno).into()),
        };
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|error| {
            let context = format!("cannot look at {}", self.path.display());
            Error::with_source(Kind::TargetIo, context, error)
        })?;
        if !metadata.is_file() {
            return Err(Error::new(
                Kind::TargetDenied,
                format!("{} is no regular file any more", self.path.display()),
            )
            .into());
        }
        if metadata.len() > 0 && self.overwrite == Overwrite::Refuse {
            return Err(Error::new(
                Kind::TargetExists,
                format!(
                    "the file {} exists and holds {} bytes; `--force` overwrites it",
                    self.path.display(),
                    metadata.len()
                ),
            )
            .into());
        }
        Ok(Handle::new(&self.path, file.into(), SECTOR, self.kernel))
    }

    /// Whether a file could be made in the folder.
    fn check_folder(&self) -> Result<(), Error> {
        let folder = folder_of(&self.path);
        match fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Ok(()),
            Err(errno) => Err(file_open_fault("write to the folder", folder, errno)),
        }
    }

    fn create(&self) -> Result<Handle, Error> {
        // EXCL: what has appeared in the meantime, be it a dangling link, is not written through.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = match fs::open(&self.path, flags, MODE) {
            Ok(fd) => fd,
            Err(Errno::EXIST) => {
                return self.open_existing().map_err(|error| match error {
                    OpenError::Fault(error) => error,
                    OpenError::Missing => fault("create", &self.path, Errno::EXIST),
                });
            }
            Err(errno) => return Err(file_open_fault("create", &self.path, errno)),
        };
        // Some file systems (CIFS, some of FUSE) have no modes to set.
        if let Err(errno) = self.kernel.fchmod(fd.as_fd(), MODE) {
            tracing::debug!(path = %self.path.display(), %errno, "the file's mode stays as it is");
        }
        // Opened now, when a missing permission costs nothing yet.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::open(folder_of(&self.path), flags, Mode::empty()).ok();
        let _ = self.folder.set(folder);
        Ok(Handle::new(&self.path, fd, SECTOR, self.kernel))
    }

    fn handle(&self) -> Result<&Handle, Error> {
        self.handle.get().ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("{} is used before it is prepared", self.path.display()),
            )
        })
    }

    /// Makes a new file's name durable. Some network file systems have no such operation, because
    /// names are durable there at once.
    fn sync_folder(&self, folder: &OwnedFd) -> io::Result<()> {
        match self.kernel.fsync(folder.as_fd()) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
            synced => synced,
        }
    }

    /// As if the folder could not be opened.
    #[cfg(test)]
    pub(super) fn without_folder(self) -> Self {
        Self {
            folder: OnceLock::from(None),
            ..self
        }
    }

    /// Gives the file this size: cut, or with a hole at its end.
    fn cut(&self, handle: &Handle, size: u64) -> Result<(), Error> {
        io::retry_on_intr(|| fs::ftruncate(handle.fd(), size))
            .map_err(|errno| fault("set the size of", &self.path, errno))?;
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// Asks first: the kernel ends a process that exceeds its limit (SIGXFSZ).
    fn check_limit(size: u64) -> Result<(), Error> {
        if let Some(limit) = getrlimit(Resource::Fsize).current
            && size > limit
        {
            return Err(Error::new(
                Kind::TargetFull,
                format!(
                    "the disk has {size} bytes, but this process may write files of at most {limit} \
                     bytes (RLIMIT_FSIZE, `ulimit -f`)"
                ),
            ));
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn room(&self) -> Option<u64> {
        // A file that is there may be a mount of another file system than its folder's.
        let Some(handle) = self.handle.get() else {
            return free_bytes(folder_of(&self.path));
        };
        let stat = fs::fstat(handle.fd()).ok()?;
        // In units of 512 bytes, whatever the file system's.
        let own = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        free_bytes(&self.path).map(|free| free.saturating_add(own))
    }

    fn prepare(&self, size: u64) -> Result<(), Error> {
        self.prepared.store(false, Ordering::Release);
        Self::check_limit(size)?;
        let handle = if let Some(handle) = self.handle.get() {
            share(handle, self.kernel);
            handle
        } else {
            let handle = self.create()?;
            self.handle.get_or_init(|| handle)
        };
        // Cut first: it also gives the old content's room back.
        self.cut(handle, 0)?;
        self.cut(handle, size)?;
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }

    fn resize(&self, size: u64) -> Result<(), Error> {
        Self::check_limit(size)?;
        self.cut(self.handle()?, size)
    }

    fn is_blank(&self) -> bool {
        self.prepared.load(Ordering::Acquire)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        let size = self.size.load(Ordering::Relaxed);
        bounded(&self.path, offset, buf.len() as u64, size)?;
        self.handle()?.write_at(buf, offset)
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        let size = self.size.load(Ordering::Relaxed);
        bounded(&self.path, range.start(), range.len(), size)?;
        self.handle()?.zero(range)
    }

    fn sync(&self) -> Result<(), Error> {
        let Some(handle) = self.handle.get() else {
            return Ok(());
        };
        handle.sync()?;
        let Some(folder) = self.folder.get() else {
            return Ok(());
        };
        match folder {
            Some(folder) => self.sync_folder(folder),
            // It may be written, but not opened: the whole file system is synced instead.
            None => self.kernel.syncfs(handle.fd()),
        }
        .map_err(|errno| fault("sync the folder of", &self.path, errno))
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.sync()?;
        self.handle.into_inner().map_or(Ok(()), Handle::close)
    }
}

/// Lets owner and group read and write a file that was there before. Best effort: only its owner
/// can change the mode.
fn share(handle: &Handle, kernel: &dyn Kernel) {
    let Ok(stat) = fs::fstat(handle.fd()) else {
        return;
    };
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if !mode.contains(MODE) {
        let _ = kernel.fchmod(handle.fd(), mode | MODE);
    }
}

/// Why an existing file was not opened.
enum OpenError {
    Missing,
    Fault(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Fault(error)
    }
}

/// The folder that holds `path`.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
