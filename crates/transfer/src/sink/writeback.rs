//! Buffered writing that neither evicts the node's page cache nor leaves all the work to the final
//! sync.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{Advice, fadvise},
    io::{self, Errno},
};

use super::sys;
use crate::ByteRange;

/// Bytes written before their write-back is started. At most twice as much is dirty or cached at a
/// time; large enough that a disk sees long runs.
const WINDOW: u64 = 16 << 20;

/// Dirty pages of one file, in windows: while one is being filled, the one before is being written.
#[derive(Debug, Default)]
pub(super) struct WriteBack {
    windows: Mutex<Windows>,
    unsupported: AtomicBool,
}

#[derive(Debug, Default)]
struct Windows {
    filling: Option<Filling>,
    writing: Option<ByteRange>,
}

#[derive(Debug, Clone, Copy)]
struct Filling {
    hull: ByteRange,
    bytes: u64,
}

impl WriteBack {
    /// Records that `range` has been written. Whenever a window is full, waits for the one before
    /// it to reach the disk, which holds the writers to the disk's pace.
    ///
    /// # Errors
    /// A write-back error, which the kernel reports only once.
    pub(super) fn wrote(&self, fd: BorrowedFd<'_>, range: ByteRange) -> io::Result<()> {
        if range.is_empty() || self.unsupported.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some((full, before)) = self.note(range) else {
            return Ok(());
        };
        let done = sys::write_back(fd, full, sys::START_WRITE_BACK)
            .and_then(|()| before.map_or(Ok(()), |before| finish(fd, before)));
        match done {
            // Only the pace is lost: the final sync does the work.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::SPIPE | Errno::OPNOTSUPP) => {
                self.unsupported.store(true, Ordering::Relaxed);
                Ok(())
            }
            done => done,
        }
    }

    /// Adds `range` to the window that is being filled. When that makes it full: that window, and
    /// the one before it.
    fn note(&self, range: ByteRange) -> Option<(ByteRange, Option<ByteRange>)> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let filling = match windows.filling {
            None => Filling {
                hull: range,
                bytes: range.len(),
            },
            Some(filling) => Filling {
                hull: ByteRange::new(
                    filling.hull.start().min(range.start()),
                    filling.hull.end().max(range.end()),
                ),
                bytes: filling.bytes.saturating_add(range.len()),
            },
        };
        if filling.bytes < WINDOW {
            windows.filling = Some(filling);
            return None;
        }
        windows.filling = None;
        Some((filling.hull, windows.writing.replace(filling.hull)))
    }
}

/// Drops the file's clean pages from the page cache. A hint: its result does not matter.
pub(super) fn drop_page_cache(fd: BorrowedFd<'_>) {
    let _ = fadvise(fd, 0, None, Advice::DontNeed);
}

fn finish(fd: BorrowedFd<'_>, range: ByteRange) -> io::Result<()> {
    sys::write_back(fd, range, sys::FINISH_WRITE_BACK)?;
    let len = std::num::NonZeroU64::new(range.len());
    let _ = fadvise(fd, range.start(), len, Advice::DontNeed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_window_is_handed_over_when_full_together_with_the_one_before() {
        let write_back = WriteBack::default();
        assert_eq!(write_back.note(ByteRange::new(0, 8 * MIB)), None);
        assert_eq!(
            write_back.note(ByteRange::new(8 * MIB, 16 * MIB)),
            Some((ByteRange::new(0, 16 * MIB), None))
        );
        // Two writers, the second range first.
        assert_eq!(write_back.note(ByteRange::new(24 * MIB, 32 * MIB)), None);
        assert_eq!(
            write_back.note(ByteRange::new(16 * MIB, 24 * MIB)),
            Some((
                ByteRange::new(16 * MIB, 32 * MIB),
                Some(ByteRange::new(0, 16 * MIB))
            ))
        );
    }

    #[test]
    fn a_window_counts_bytes_not_distance() {
        let write_back = WriteBack::default();
        assert_eq!(write_back.note(ByteRange::new(0, MIB)), None);
        assert_eq!(write_back.note(ByteRange::new(900 * MIB, 901 * MIB)), None);
        assert_eq!(
            write_back.note(ByteRange::new(400 * MIB, 414 * MIB)),
            Some((ByteRange::new(0, 901 * MIB), None))
        );
    }
}
