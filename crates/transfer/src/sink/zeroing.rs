//! Making a range read as zeroes, by the cheapest means that promises it.
//!
//! The methods, the best first, and what the kernel does for them on a block device
//! (`blkdev_fallocate` in `block/fops.c`):
//!
//! 1. `PUNCH_HOLE | KEEP_SIZE` becomes `blkdev_issue_zeroout` with `BLKDEV_ZERO_NOFALLBACK`: a
//!    `WRITE_ZEROES` command that may unmap, so that thin volumes stay thin, and that fails where
//!    the device has none. The range reads as zeroes afterwards; this is no discard, whose result
//!    is undefined and which is never used here.
//! 2. `ZERO_RANGE | KEEP_SIZE` becomes the same with `BLKDEV_ZERO_NOUNMAP`: it does not unmap, and
//!    the kernel writes zero pages itself where the device has no command for it.
//! 3. Zeroes are written like data.
//!
//! On a regular file the first gives blocks back, the second keeps them as unwritten ones; both
//! read as zeroes by definition. The kernel deals with the cached pages of the range in all cases.
//! Whether a method works is known only by trying, since devices differ (a ZFS volume refuses the
//! first); a method that was refused is not tried again.

use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::{self, Errno};

use crate::{ByteRange, Error};

/// A call of `fallocate` that makes a range read as zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZeroMethod {
    /// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    PunchHole,
    /// `FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE`.
    ZeroRange,
}

/// What a strategy is carried out on.
pub(super) trait Device {
    /// Zeroes an aligned, non-empty range with one system call.
    fn fallocate(&self, method: ZeroMethod, range: ByteRange) -> io::Result<()>;

    /// Writes zeroes over any range.
    fn write_zeroes(&self, range: ByteRange) -> Result<(), Error>;

    /// The error for the caller.
    fn fault(&self, errno: Errno) -> Error;
}

/// How one target is zeroed: by the first of the methods that it has not refused.
#[derive(Debug)]
pub(super) struct ZeroStrategy {
    granule: u64,
    /// Index into [`METHODS`]; beyond its end, zeroes are written.
    current: AtomicU8,
}

const METHODS: [ZeroMethod; 2] = [ZeroMethod::PunchHole, ZeroMethod::ZeroRange];

impl ZeroStrategy {
    /// A strategy for ranges whose edges are multiples of `granule` (bytes, not 0); what lies
    /// outside is written.
    pub(super) const fn new(granule: u64) -> Self {
        Self {
            granule,
            current: AtomicU8::new(0),
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
            let tried = self.current.load(Ordering::Relaxed);
            let Some(&method) = METHODS.get(usize::from(tried)) else {
                return write(device, range);
            };
            match io::retry_on_intr(|| device.fallocate(method, range)) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                    // Another thread may have moved on already, even further.
                    self.current.fetch_max(tried + 1, Ordering::Relaxed);
                }
                // Cached pages of a device that another process holds could not be dropped now.
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
        Fallocate(ZeroMethod, ByteRange),
        Write(ByteRange),
    }

    /// A device that answers each `fallocate` with the next result of its script, then with
    /// success.
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
        fn fallocate(&self, method: ZeroMethod, range: ByteRange) -> io::Result<()> {
            self.calls.borrow_mut().push(Call::Fallocate(method, range));
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
        Call::Fallocate(ZeroMethod::PunchHole, ByteRange::new(start, end))
    }

    fn zero_range(start: u64, end: u64) -> Call {
        Call::Fallocate(ZeroMethod::ZeroRange, ByteRange::new(start, end))
    }

    fn written(start: u64, end: u64) -> Call {
        Call::Write(ByteRange::new(start, end))
    }

    #[test]
    fn a_device_that_punches_is_only_punched() {
        let (strategy, device) = (ZeroStrategy::new(4096), Scripted::default());
        strategy.zero(&device, RANGE).unwrap();
        strategy.zero(&device, RANGE).unwrap();
        assert_eq!(device.calls(), [punch(4096, 12288), punch(4096, 12288)]);
    }

    #[test]
    fn the_second_method_is_found_once_and_remembered() {
        for refusal in [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::NODEV] {
            let (strategy, device) = (ZeroStrategy::new(4096), Scripted::new([refusal]));
            strategy.zero(&device, RANGE).unwrap();
            assert_eq!(
                device.calls(),
                [punch(4096, 12288), zero_range(4096, 12288)]
            );
            strategy.zero(&device, RANGE).unwrap();
            assert_eq!(device.calls(), [zero_range(4096, 12288)]);
        }
    }

    #[test]
    fn without_either_call_zeroes_are_written_ever_after() {
        let (strategy, device) = (
            ZeroStrategy::new(4096),
            Scripted::new([Errno::OPNOTSUPP, Errno::OPNOTSUPP]),
        );
        strategy.zero(&device, RANGE).unwrap();
        assert_eq!(
            device.calls(),
            [
                punch(4096, 12288),
                zero_range(4096, 12288),
                written(4096, 12288)
            ]
        );
        strategy.zero(&device, RANGE).unwrap();
        assert_eq!(device.calls(), [written(4096, 12288)]);
    }

    #[test]
    fn unaligned_edges_are_written() {
        let (strategy, device) = (ZeroStrategy::new(4096), Scripted::default());
        strategy
            .zero(&device, ByteRange::new(100, 8192 + 7))
            .unwrap();
        assert_eq!(
            device.calls(),
            [written(100, 4096), punch(4096, 8192), written(8192, 8199)]
        );
        strategy
            .zero(&device, ByteRange::new(4096, 8192 + 512))
            .unwrap();
        assert_eq!(device.calls(), [punch(4096, 8192), written(8192, 8704)]);
    }

    #[test]
    fn a_range_without_a_whole_granule_is_written() {
        let (strategy, device) = (ZeroStrategy::new(4096), Scripted::default());
        strategy.zero(&device, ByteRange::new(4000, 8000)).unwrap();
        strategy.zero(&device, ByteRange::new(512, 1024)).unwrap();
        strategy.zero(&device, ByteRange::new(512, 512)).unwrap();
        assert_eq!(device.calls(), [written(4000, 8000), written(512, 1024)]);
    }

    #[test]
    fn a_device_that_is_busy_is_written_this_time_only() {
        let (strategy, device) = (ZeroStrategy::new(4096), Scripted::new([Errno::BUSY]));
        strategy.zero(&device, RANGE).unwrap();
        strategy.zero(&device, RANGE).unwrap();
        assert_eq!(
            device.calls(),
            [punch(4096, 12288), written(4096, 12288), punch(4096, 12288)]
        );
    }

    #[test]
    fn an_interrupted_call_is_repeated() {
        let (strategy, device) = (ZeroStrategy::new(4096), Scripted::new([Errno::INTR]));
        strategy.zero(&device, RANGE).unwrap();
        assert_eq!(device.calls(), [punch(4096, 12288), punch(4096, 12288)]);
    }

    #[test]
    fn a_real_error_is_no_reason_to_change_the_method() {
        let (strategy, device) = (
            ZeroStrategy::new(4096),
            Scripted::new([Errno::IO, Errno::NOSPC]),
        );
        assert!(strategy.zero(&device, RANGE).is_err());
        assert!(strategy.zero(&device, RANGE).is_err());
        strategy.zero(&device, RANGE).unwrap();
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
            let strategy = ZeroStrategy::new(512);
            let device = Scripted::new(std::iter::repeat_n(Errno::OPNOTSUPP, refusals));
            strategy.zero(&device, ByteRange::new(start, start + len)).unwrap();
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
