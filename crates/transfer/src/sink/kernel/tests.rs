//! Sinks on a kernel whose calls fail on command.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use net::{Cancel, SystemClock};
use rustix::{
    fs::{self as calls, Mode, OFlags},
    io::{self, Errno},
};
use tempfile::TempDir;

use super::{Kernel, Linux};
use crate::{
    Controls, Error, Kind, Options, Sink, copy,
    sink::{FileSink, Overwrite, ScratchFile, handle::Handle},
    source::MemorySource,
};

/// Does what the kernel does, unless told otherwise, and keeps the names of the calls.
#[derive(Debug, Default)]
struct Scripted {
    /// Which calls fail, and how.
    failing: Vec<(&'static str, Errno)>,
    log: Mutex<Vec<&'static str>>,
}

impl Scripted {
    /// Lives as long as the program, as the real kernel does.
    fn failing(failing: &[(&'static str, Errno)]) -> &'static Self {
        Box::leak(Box::new(Self {
            failing: failing.to_vec(),
            log: Mutex::default(),
        }))
    }

    fn log(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }

    fn call(&self, name: &'static str) -> io::Result<()> {
        self.log.lock().unwrap().push(name);
        match self.failing.iter().find(|(failing, _)| *failing == name) {
            Some((_, errno)) => Err(*errno),
            None => Ok(()),
        }
    }
}

fn is_direct(fd: BorrowedFd<'_>) -> bool {
    calls::fcntl_getfl(fd).unwrap().contains(OFlags::DIRECT)
}

fn is_folder(fd: BorrowedFd<'_>) -> bool {
    let stat = calls::fstat(fd).unwrap();
    calls::FileType::from_raw_mode(stat.st_mode) == calls::FileType::Directory
}

impl Kernel for Scripted {
    fn pwrite(&self, fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> io::Result<usize> {
        let direct = is_direct(fd);
        self.call(if direct { "write directly" } else { "write" })?;
        Linux.pwrite(fd, buf, offset)
    }

    fn fsync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let folder = is_folder(fd);
        self.call(if folder { "sync the folder" } else { "sync" })?;
        Linux.fsync(fd)
    }

    fn fdatasync(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.call("sync the data")?;
        Linux.fdatasync(fd)
    }

    fn syncfs(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.call("sync the file system")?;
        Linux.syncfs(fd)
    }

    fn fchmod(&self, fd: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
        self.call("set the mode")?;
        Linux.fchmod(fd, mode)
    }

    fn close(&self, fd: OwnedFd) -> io::Result<()> {
        // Linux releases the descriptor whatever it reports.
        Linux.close(fd)?;
        self.call("close")
    }
}

struct Target {
    folder: TempDir,
}

impl Target {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    fn sink(&self, kernel: &'static Scripted) -> Box<dyn Sink> {
        Box::new(FileSink::open_on(&self.path(), Overwrite::Refuse, kernel).unwrap())
    }

    /// Copies a page and closes.
    fn fill(&self, kernel: &'static Scripted) -> Result<(), Error> {
        let sink = self.sink(kernel);
        sink.prepare(4096)?;
        sink.write_at(&[7; 4096], 0)?;
        sink.close()
    }
}

#[test]
fn a_new_file_is_durable_with_its_name_before_it_is_closed() {
    let (target, kernel) = (Target::new(), Scripted::failing(&[]));
    target.fill(kernel).unwrap();
    let calls = kernel.log();
    let at = |name| calls.iter().position(|call| *call == name).expect(name);
    assert!(at("sync") < at("sync the folder"), "{calls:?}");
    assert!(at("sync the folder") < at("close"), "{calls:?}");
    assert!(!calls.contains(&"sync the file system"), "{calls:?}");

    // The name of a file that was there before is durable already.
    std::fs::write(target.path(), "").unwrap();
    let kernel = Scripted::failing(&[]);
    target.fill(kernel).unwrap();
    assert!(!kernel.log().contains(&"sync the folder"));
}

#[test]
fn what_fails_at_the_end_is_no_success() {
    for (call, words) in [
        ("sync", "cannot sync "),
        ("sync the folder", "cannot sync the folder of "),
        ("close", "cannot close "),
    ] {
        let target = Target::new();
        let error = target
            .fill(Scripted::failing(&[(call, Errno::IO)]))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::TargetIo, "{call}");
        assert!(error.to_string().starts_with(words), "{call}: {error}");
    }
}

#[test]
fn a_scratch_file_whose_bytes_were_lost_is_not_read() {
    let lost = |errno, finish: fn(&ScratchFile) -> Result<(), Error>| {
        let folder = tempfile::tempdir().unwrap();
        let kernel = Scripted::failing(&[("sync the data", errno)]);
        let scratch = ScratchFile::create_on(folder.path(), kernel).unwrap();
        scratch.write_sparse(&[7; 4096], 0).unwrap();
        let error = finish(&scratch).unwrap_err();
        assert_eq!(error.kind(), Kind::TargetIo, "{errno}");
        let text = error.chain();
        assert!(text.contains("cannot sync "), "{text}");
        assert!(text.contains(&*folder.path().to_string_lossy()), "{text}");
        assert_eq!(kernel.log(), ["sync the data"]);
    };
    for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT] {
        lost(errno, Sink::sync);
        lost(errno, |scratch| scratch.finish(8192));
    }

    let folder = tempfile::tempdir().unwrap();
    let kernel = Scripted::failing(&[("sync the data", Errno::IO)]);
    let scratch = ScratchFile::create_on(folder.path(), kernel).unwrap();
    let controls = Controls {
        clock: Arc::new(SystemClock::default()),
        cancel: Cancel::new(),
        seed: 0,
        progress: Arc::default(),
    };
    let source = MemorySource::new(vec![7; 4096]);
    let error = copy(&source, &scratch, &Options::default(), &controls).unwrap_err();
    assert_eq!(error.kind(), Kind::TargetIo);
}

#[test]
fn a_folder_that_has_no_sync_is_durable() {
    for errno in [Errno::INVAL, Errno::OPNOTSUPP] {
        let kernel = Scripted::failing(&[("sync the folder", errno)]);
        Target::new().fill(kernel).unwrap();
    }
}

#[test]
fn a_folder_that_may_not_be_opened_is_made_durable_with_its_file_system() {
    let target = Target::new();
    let kernel = Scripted::failing(&[]);
    let sink = FileSink::open_on(&target.path(), Overwrite::Refuse, kernel).unwrap();
    sink.prepare(4096).unwrap();
    let sink = sink.without_folder();
    sink.sync().unwrap();
    assert!(kernel.log().contains(&"sync the file system"));

    let kernel = Scripted::failing(&[("sync the file system", Errno::IO)]);
    let target = Target::new();
    let sink = FileSink::open_on(&target.path(), Overwrite::Refuse, kernel).unwrap();
    sink.prepare(4096).unwrap();
    let error = sink.without_folder().sync().unwrap_err();
    assert_eq!(error.kind(), Kind::TargetIo);
}

#[test]
fn a_close_that_a_signal_interrupts_is_a_close() {
    let kernel = Scripted::failing(&[("close", Errno::INTR)]);
    Target::new().fill(kernel).unwrap();
}

#[test]
fn a_file_system_without_modes_is_written_all_the_same() {
    for errno in [Errno::PERM, Errno::OPNOTSUPP] {
        let (target, kernel) = (Target::new(), Scripted::failing(&[("set the mode", errno)]));
        target.fill(kernel).unwrap();
        assert!(kernel.log().contains(&"set the mode"));
        assert_eq!(std::fs::read(target.path()).unwrap(), [7; 4096]);
    }
}

#[test]
fn direct_writes_that_are_refused_go_through_the_page_cache_from_then_on() {
    let target = Target::new();
    std::fs::write(target.path(), "").unwrap();
    let kernel = Scripted::failing(&[("write directly", Errno::INVAL)]);
    let handle = open(&target.path(), kernel);
    let page = Page([7; 4096]);
    handle.write_at(&page.0, 0).unwrap();
    handle.write_at(&page.0, 4096).unwrap();
    assert_eq!(kernel.log(), ["write directly", "write", "write"]);
    assert_eq!(std::fs::read(target.path()).unwrap(), [7; 8192]);
}

#[repr(align(4096))]
struct Page([u8; 4096]);

fn open(path: &Path, kernel: &'static Scripted) -> Handle {
    let fd = calls::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    Handle::new(path, fd, 512, kernel)
}
