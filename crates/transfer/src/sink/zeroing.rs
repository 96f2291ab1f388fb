//! Making a range read as zeroes, by the cheapest means that promises it.
//!
//! The rungs, from the top, and what the kernel does for them on a block device
//! (`blkdev_fallocate` in `block/fops.c`):
//!
//! 1. `PUNCH_HOLE | KEEP_SIZE` becomes `blkdev_issue_zeroout` with `BLKDEV_ZERO_NOFALLBACK`: a
//!    `WRITE_ZEROES` command that may unmap, so that thin volumes stay thin, and that fails where the
//!    device has none. The range reads as zeroes afterwards; this is no discard, whose result is
//!    undefined and which is never used here.
//! 2. `ZERO_RANGE | KEEP_SIZE` becomes the same with `BLKDEV_ZERO_NOUNMAP`: it does not unmap, and the
//!    kernel writes zero pages itself where the device has no command for it.
//! 3. Zeroes are written like data.
//!
//! On a regular file the first gives blocks back, the second keeps them as unwritten ones; both read
//! as zeroes by definition. The kernel deals with the cached pages of the range in all cases.
//! Whether a rung works is known only by trying; what was learned is remembered.

use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::{self, Errno};

use crate::{ByteRange, Error};

/// A call of `fallocate` that makes a range read as zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    PunchHole,
    /// `FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE`.
    ZeroRange,
}

/// What the ladder stands on.
pub(super) trait Device {
    /// Zeroes an aligned, non-empty range with one system call.
    fn fallocate(&self, rung: Rung, range: ByteRange) -> io::Result<()>;

    /// Writes zeroes over any range.
    fn write_zeroes(&self, range: ByteRange) -> Result<(), Error>;

    /// The error for the caller.
    fn fault(&self, errno: Errno) -> Error;
}

/// The rungs of one target, and on which of them it stands.
#[derive(Debug)]
pub(super) struct Ladder {
    granule: u64,
    rung: AtomicU8,
}

const RUNGS: [Rung; 2] = [Rung::PunchHole, Rung::ZeroRange];

impl Ladder {
    /// A ladder for ranges whose edges are multiples of `granule` (bytes, not 0); what lies outside
    /// is written.
    pub(super) const fn new(granule: u64) -> Self {
        Self {
            granule,
            rung: AtomicU8::new(0),
        }
    }

    /// Makes `range` read as zeroes.
    pub(super) fn zero(&self, device: &dyn Device, range: ByteRange) -> Result<(), Error> {
        let core = aligned_core(range, self.granule);
        if core.is_empty() {
            return write(device, range);
        }
        write(device, ByteRange::new(range.start(), core.start()))?;
        self.zero_core(device, core)?;
        write(device, ByteRange::new(core.end(), range.end()))
    }

    fn zero_core(&self, device: &dyn Device, range: ByteRange) -> Result<(), Error> {
        loop {
            let tried = self.rung.load(Ordering::Relaxed);
            let Some(&rung) = RUNGS.get(usize::from(tried)) else {
                return write(device, range);
            };
            match io::retry_on_intr(|| device.fallocate(rung, range)) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                    // Another thread may have stepped down already, even further.
                    self.rung.fetch_max(tried + 1, Ordering::Relaxed);
                }
                // Cached pages of a device that somebody else holds could not be dropped now.
                Err(Errno::BUSY) => return write(device, range),
                Err(errno) => return Err(device.fault(errno)),
            }
        }
    }
}

fn write(device: &dyn Device, range: ByteRange) -> Result<(), Error> {
    if range.is_empty() {
        return Ok(());
    }
    device.write_zeroes(range)
}

/// The largest part of `range` whose edges are multiples of `granule`.
pub(super) fn aligned_core(range: ByteRange, granule: u64) -> ByteRange {
    let end = range.end() - range.end() % granule;
    match range.start().checked_next_multiple_of(granule) {
        Some(start) if start < end => ByteRange::new(start, end),
        _ => ByteRange::new(range.start(), range.start()),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque};

    use proptest::prelude::*;

    use super::*;
    use crate::Kind;

    #[derive(Debug, PartialEq, Eq, Clone, Copy)]
    enum Call {
        Fallocate(Rung, ByteRange),
        Write(ByteRange),
    }

    /// A device that answers each `fallocate` with the next result of its script, then with success.
    #[derive(Default)]
    struct Scripted {
        answers: RefCell<VecDeque<io::Result<()>>>,
        calls: RefCell<Vec<Call>>,
    }

    impl Scripted {
        fn new(answers: impl IntoIterator<Item = Errno>) -> Self {
            Self {
                answers: RefCell::new(answers.into_iter().map(Err).collect()),
                calls: RefCell::default(),
            }
        }

        fn calls(&self) -> Vec<Call> {
            self.calls.take()
        }
    }

    impl Device for Scripted {
        fn fallocate(&self, rung: Rung, range: ByteRange) -> io::Result<()> {
            self.calls.borrow_mut().push(Call::Fallocate(rung, range));
            self.answers.borrow_mut().pop_front().unwrap_or(Ok(()))
        }

        fn write_zeroes(&self, range: ByteRange) -> Result<(), Error> {
            self.calls.borrow_mut().push(Call::Write(range));
            Ok(())
        }

        fn fault(&self, errno: Errno) -> Error {
            Error::new(Kind::TargetIo, errno.to_string())
        }
    }

    const RANGE: ByteRange = ByteRange::new(4096, 3 * 4096);

    fn punch(start: u64, end: u64) -> Call {
        Call::Fallocate(Rung::PunchHole, ByteRange::new(start, end))
    }

    fn zero_range(start: u64, end: u64) -> Call {
        Call::Fallocate(Rung::ZeroRange, ByteRange::new(start, end))
    }

    fn written(start: u64, end: u64) -> Call {
        Call::Write(ByteRange::new(start, end))
    }

    #[test]
    fn a_device_that_punches_is_only_punched() {
        let (ladder, device) = (Ladder::new(4096), Scripted::default());
        ladder.zero(&device, RANGE).unwrap();
        ladder.zero(&device, RANGE).unwrap();
        assert_eq!(device.calls(), [punch(4096, 12288), punch(4096, 12288)]);
    }

    #[test]
    fn the_second_rung_is_found_once_and_remembered() {
        for refusal in [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::NODEV] {
            let (ladder, device) = (Ladder::new(4096), Scripted::new([refusal]));
            ladder.zero(&device, RANGE).unwrap();
            assert_eq!(
                device.calls(),
                [punch(4096, 12288), zero_range(4096, 12288)]
            );
            ladder.zero(&device, RANGE).unwrap();
            assert_eq!(device.calls(), [zero_range(4096, 12288)]);
        }
    }

    #[test]
    fn without_either_call_zeroes_are_written_ever_after() {
        let (ladder, device) = (
            Ladder::new(4096),
            Scripted::new([Errno::OPNOTSUPP, Errno::OPNOTSUPP]),
        );
        ladder.zero(&device, RANGE).unwrap();
        assert_eq!(
            device.calls(),
            [
                punch(4096, 12288),
                zero_range(4096, 12288),
                written(4096, 12288)
            ]
        );
        ladder.zero(&device, RANGE).unwrap();
        assert_eq!(device.calls(), [written(4096, 12288)]);
    }

    #[test]
    fn unaligned_edges_are_written() {
        let (ladder, device) = (Ladder::new(4096), Scripted::default());
        ladder.zero(&device, ByteRange::new(100, 8192 + 7)).unwrap();
        assert_eq!(
            device.calls(),
            [written(100, 4096), punch(4096, 8192), written(8192, 8199)]
        );
        ladder
            .zero(&device, ByteRange::new(4096, 8192 + 512))
            .unwrap();
        assert_eq!(device.calls(), [punch(4096, 8192), written(8192, 8704)]);
    }

    #[test]
    fn a_range_without_a_whole_granule_is_written() {
        let (ladder, device) = (Ladder::new(4096), Scripted::default());
        ladder.zero(&device, ByteRange::new(4000, 8000)).unwrap();
        ladder.zero(&device, ByteRange::new(512, 1024)).unwrap();
        ladder.zero(&device, ByteRange::new(512, 512)).unwrap();
        assert_eq!(device.calls(), [written(4000, 8000), written(512, 1024)]);
    }

    #[test]
    fn a_device_that_is_busy_is_written_this_time_only() {
        let (ladder, device) = (Ladder::new(4096), Scripted::new([Errno::BUSY]));
        ladder.zero(&device, RANGE).unwrap();
        ladder.zero(&device, RANGE).unwrap();
        assert_eq!(
            device.calls(),
            [punch(4096, 12288), written(4096, 12288), punch(4096, 12288)]
        );
    }

    #[test]
    fn an_interrupted_call_is_repeated() {
        let (ladder, device) = (Ladder::new(4096), Scripted::new([Errno::INTR]));
        ladder.zero(&device, RANGE).unwrap();
        assert_eq!(device.calls(), [punch(4096, 12288), punch(4096, 12288)]);
    }

    #[test]
    fn a_real_error_is_no_reason_to_step_down() {
        let (ladder, device) = (Ladder::new(4096), Scripted::new([Errno::IO, Errno::NOSPC]));
        assert!(ladder.zero(&device, RANGE).is_err());
        assert!(ladder.zero(&device, RANGE).is_err());
        ladder.zero(&device, RANGE).unwrap();
        assert_eq!(device.calls(), [punch(4096, 12288); 3]);
    }

    proptest! {
        #[test]
        fn the_core_is_aligned_inside_and_maximal(start in 0_u64..100_000, len in 0_u64..100_000, shift in 9_u32..13) {
            let granule = 1_u64 << shift;
            let range = ByteRange::new(start, start + len);
            let core = aligned_core(range, granule);
            prop_assert!(core.is_empty() || core.start().is_multiple_of(granule) && core.end().is_multiple_of(granule));
            prop_assert!(core.start() >= range.start() && core.end() <= range.end());
            if core.is_empty() {
                prop_assert!(len < 2 * granule);
            } else {
                prop_assert!(core.start() - range.start() < granule && range.end() - core.end() < granule);
            }
        }

        #[test]
        fn every_byte_of_the_range_is_zeroed_once(start in 0_u64..100_000, len in 0_u64..100_000, refusals in 0_usize..3) {
            let ladder = Ladder::new(512);
            let device = Scripted::new(std::iter::repeat_n(Errno::OPNOTSUPP, refusals));
            ladder.zero(&device, ByteRange::new(start, start + len)).unwrap();
            let mut calls = device.calls();
            // Calls that were refused did nothing.
            if let Some(first) = calls.iter().position(|call| matches!(call, Call::Fallocate(..))) {
                calls.drain(first..first + refusals);
            }
            let mut at = start;
            for call in calls {
                let (Call::Fallocate(_, range) | Call::Write(range)) = call;
                prop_assert_eq!(range.start(), at);
                at = range.end();
            }
            prop_assert_eq!(at, start + len);
        }
    }
}
