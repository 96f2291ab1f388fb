//! A file without a name: a sink first, and then a source of the same bytes.

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use net::Cancel;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, FallocateFlags, Mode, OFlags},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::{
    Sink,
    kernel::{Kernel, Linux},
};
use crate::{Access, ByteRange, Error, Kind, Reader, Source, engine::zeroes::each_run};

/// For the user that the process runs as: it may hold a disk that others may not read.
const MODE: Mode = Mode::from_raw_mode(0o600);
/// Readers at a time: as many as a user may ask for.
const READERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
/// Tries to find a name that nothing has, where the file needs one for a moment.
const NAMES: u32 = 16;
/// Zeroes that are written at a time where the file system makes no holes.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// A temporary file in a folder, without a name there: it is gone when it is dropped, and when the process is
/// killed. Sparse.
///
/// It is written as a [`Sink`], or by [`Self::write_sparse`] and [`Self::finish`], and read as a [`Source`] when that
/// has ended.
#[derive(Debug)]
pub struct ScratchFile {
    kernel: &'static dyn Kernel,
    folder: PathBuf,
    file: File,
    size: AtomicU64,
}

impl ScratchFile {
    /// An empty file in `folder`.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when the folder is none, or closed to this process.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        Self::create_on(folder, &Linux)
    }

    pub(super) fn create_on(folder: &Path, kernel: &'static dyn Kernel) -> Result<Self, Error> {
        let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let opened = match fs::open(folder, flags, MODE) {
            // Not every file system has files without a name (NFS, FUSE).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => create_and_unlink(folder),
            opened => opened,
        };
        let fd = opened.map_err(|errno| fault("make a file", folder, errno.into()))?;
        Ok(Self {
            kernel,
            folder: folder.to_owned(),
            file: fd.into(),
            size: AtomicU64::new(0),
        })
    }

    /// Bytes that its file system still takes from this process.
    ///
    /// # Errors
    /// [`Kind::TargetIo`] when the file system does not say.
    pub fn free(&self) -> Result<u64, Error> {
        let stat = fs::fstatvfs(&self.file)
            .map_err(|errno| self.fault("ask for the room", errno.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Compares the free space with the `needed` bytes, before any is written.
    ///
    /// # Errors
    /// [`Kind::Configuration`], naming the folder and both, when it is less. Those of [`Self::free`].
    pub fn check_free(&self, needed: u64) -> Result<(), Error> {
        let free = self.free()?;
        if needed <= free {
            return Ok(());
        }
        Err(Error::new(
            Kind::Configuration,
            format!(
                "the scratch folder {} has {free} bytes free, and {needed} are needed; give one with more room",
                self.folder.display()
            ),
        ))
    }

    /// The folder that it was made in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes `buf` at `offset`, and leaves long runs of zeroes out: they are holes where nothing was written before.
    /// The file grows by it, but not by zeroes at its end: [`Self::finish`].
    ///
    /// # Errors
    /// Those of [`Sink::write_at`].
    pub fn write_sparse(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        each_run(buf, offset, 1, |run, is_zero| {
            if is_zero {
                return Ok(());
            }
            let at = offset + run.start as u64;
            self.write_at(buf.get(run).unwrap_or_default(), at)
        })
    }

    /// Ends what [`Self::write_sparse`] has written: gives the file this size, and asks whether all was stored.
    ///
    /// # Errors
    /// Those of [`Sink::prepare`] and [`Sink::sync`].
    pub fn finish(&self, size: u64) -> Result<(), Error> {
        self.set_size(size)?;
        self.sync()
    }

    /// Gives it this size: cut, or a hole at its end.
    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.check_limit(size)?;
        fs::ftruncate(&self.file, size)
            .map_err(|errno| self.fault("set the size of a file", errno.into()))?;
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// Its first `length` bytes, or all that there are.
    ///
    /// # Errors
    /// [`Kind::TargetIo`].
    pub fn head(&self, length: usize) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(self.size()).map_or(length, |size| size.min(length));
        let mut head = vec![0; length];
        self.file
            .read_exact_at(&mut head, 0)
            .map_err(|error| self.fault("read a file", error))?;
        Ok(head)
    }

    /// Asks first: the kernel ends a process that exceeds its limit (SIGXFSZ).
    fn check_limit(&self, size: u64) -> Result<(), Error> {
        match getrlimit(Resource::Fsize).current {
            Some(limit) if size > limit => Err(Error::new(
                Kind::Configuration,
                format!(
                    "a file of {size} bytes is needed in the scratch folder {}, but this process may write files of \
                     at most {limit} bytes (RLIMIT_FSIZE, `ulimit -f`)",
                    self.folder.display()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn fault(&self, action: &str, error: io::Error) -> Error {
        fault(action, &self.folder, error)
    }
}

impl Sink for ScratchFile {
    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn prepare(&self, size: u64) -> Result<(), Error> {
        // Cut first: it also gives the room of an earlier attempt back.
        self.set_size(0)?;
        self.set_size(size)
    }

    fn resize(&self, size: u64) -> Result<(), Error> {
        self.set_size(size)
    }

    fn is_blank(&self) -> bool {
        true
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        self.check_limit(offset.saturating_add(buf.len() as u64))?;
        self.file
            .write_all_at(buf, offset)
            .map_err(|error| self.fault("write a file", error))
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (mut at, end) = (range.start(), range.end());
        if range.is_empty() || fs::fallocate(&self.file, hole, at, range.len()).is_ok() {
            return Ok(());
        }
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let zeroes = ZEROES.get(..left).unwrap_or(&ZEROES);
            self.write_at(zeroes, at)?;
            at += zeroes.len() as u64;
        }
        Ok(())
    }

    /// The file does not have to outlive the machine; but the kernel drops a page that it could not write back, reads
    /// give zeroes or old bytes then, and only a sync says so.
    fn sync(&self) -> Result<(), Error> {
        self.kernel.fdatasync(self.file.as_fd()).map_err(|errno| {
            let text = format!(
                "cannot sync a file in the scratch folder {}, so that bytes of it may be lost",
                self.folder.display()
            );
            Error::with_source(Kind::TargetIo, text, errno)
        })
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// All of it is data: file systems are free to name data a hole while it is not written back (`OpenZFS`, FUSE), so that
/// holes are read, which costs no input. What reads it finds zeroes by itself.
impl Source for ScratchFile {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn access(&self) -> Access {
        Access::Ranged {
            connections: READERS,
        }
    }

    fn is_local(&self) -> bool {
        true
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        Ok(Box::new(ScratchReader {
            file: self,
            cancel: cancel.clone(),
            left: ByteRange::new(0, 0),
        }))
    }
}

struct ScratchReader<'a> {
    file: &'a ScratchFile,
    cancel: Cancel,
    left: ByteRange,
}

impl Reader for ScratchReader<'_> {
    fn begin(&mut self, range: ByteRange) -> Result<(), Error> {
        if range.end() > self.file.size() {
            let text = format!("{range} lie beyond the scratch file's end");
            return Err(Error::new(Kind::Internal, text));
        }
        self.left = range;
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        if self.cancel.is_cancelled() {
            return Err((0, Error::new(Kind::Cancelled, "cancelled")));
        }
        let end = self.left.start().saturating_add(buf.len() as u64);
        if end > self.left.end() {
            let text = "more bytes were asked for than the range has";
            return Err((0, Error::new(Kind::Internal, text)));
        }
        let file = self.file;
        file.file
            .read_exact_at(buf, self.left.start())
            .map_err(|error| (0, file.fault("read a file", error)))?;
        self.left = ByteRange::new(end, self.left.end());
        Ok(())
    }
}

/// A file that has a name between two system calls.
fn create_and_unlink(folder: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let mut tries = NAMES;
    loop {
        tries -= 1;
        let path = folder.join(format!(".scratch-{:016x}", fastrand::u64(..)));
        match fs::open(&path, flags, MODE) {
            Err(Errno::EXIST) if tries > 0 => {}
            Err(errno) => return Err(errno),
            Ok(fd) => {
                fs::unlink(&path)?;
                return Ok(fd);
            }
        }
    }
}

/// The error of "cannot {action} in the scratch folder".
fn fault(action: &str, folder: &Path, error: io::Error) -> Error {
    let kind = match Errno::from_io_error(&error) {
        Some(
            Errno::NOSPC
            | Errno::DQUOT
            | Errno::FBIG
            | Errno::ACCESS
            | Errno::PERM
            | Errno::ROFS
            | Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::NAMETOOLONG,
        ) => Kind::Configuration,
        _ => Kind::TargetIo,
    };
    let text = format!("cannot {action} in the scratch folder {}", folder.display());
    Error::with_source(kind, text, error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::{Content, Extent};

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn it_has_no_name_and_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let made: [fn(&Path) -> File; 2] = [
            |folder| ScratchFile::create(folder).unwrap().file,
            |folder| create_and_unlink(folder).unwrap().into(),
        ];
        for make in made {
            let file = make(folder.path());
            assert_eq!(names(folder.path()), 0);
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            file.write_all_at(b"x", 0).unwrap();
        }
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [folder.path().join("none"), file] {
            let error = ScratchFile::create(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration);
            let text = error.chain();
            assert!(text.contains(&*path.to_string_lossy()), "{text}");
        }
        let scratch = ScratchFile::create(folder.path()).unwrap();
        let error = scratch.check_free(u64::MAX).unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        let text = error.to_string();
        assert!(text.contains(&u64::MAX.to_string()), "{text}");
        assert!(text.contains("bytes free"), "{text}");
        scratch.check_free(1).unwrap();
    }

    #[test]
    fn zeroes_are_holes_and_read_like_data() {
        const K: u64 = 64 << 10;
        let folder = tempfile::tempdir().unwrap();
        let scratch = ScratchFile::create(folder.path()).unwrap();
        let mut bytes = vec![0; 40 * 65536];
        bytes[20 * 65536..21 * 65536].fill(7);
        scratch.write_sparse(&bytes, 0).unwrap();
        scratch.finish(40 * K).unwrap();
        let taken = scratch.file.metadata().unwrap().blocks() * 512;
        assert!(taken < 4 * K, "{taken}");
        let range = ByteRange::new(K, 30 * K);
        let content = Content::Data;
        assert_eq!(scratch.extents(range).unwrap(), [Extent { range, content }]);
        assert_eq!(scratch.head(usize::MAX).unwrap(), bytes);
    }
}
