//! A request to an imageio daemon that stays under way, so that the engine does not take the disk for read.
//!
//! The daemon counts the bytes that it has read for a checksum like those that it has sent. Once all are counted, the
//! engine takes the download for complete when it finds no request under way at two of its looks in a row, which
//! are 1 to 10 s apart, and takes the ticket away (ovirt-engine, `TransferDiskImageCommand`). Between two ranges, during a
//! zeroing or a backoff none is, although half of the disk may be missing. So one request for the whole disk is made whose
//! answer is read only as fast as the daemon needs to see that its client is there.

use std::time::Duration;

use tracing::debug;

use super::{object::HttpSession, reader::RangedReader};
use crate::{ByteRange, Error, Kind, Reader};

/// What is read of the answer at a time. More than the sockets of both sides hold back as a rule, so that the daemon, which
/// waits for room, gets some each time.
const SIP: u64 = 4 << 20;
/// Memory for that.
const STEP: usize = 64 << 10;

/// Keeps a request for a disk of `size` bytes under way until the session's flag is pulled, and reads some of the answer after
/// each `interval`. Its own failures change nothing: a ticket that is gone is found by the next read.
pub(super) fn hold(session: HttpSession<'_>, size: u64, interval: Duration) {
    let cancel = session.cancel().clone();
    let mut reader = RangedReader::new(session, size);
    while !cancel.is_cancelled() {
        if let Err(error) = sip(&mut reader, size, interval) {
            if error.kind() == Kind::Cancelled {
                return;
            }
            debug!(
                "the request that keeps the ticket in use has ended: {}",
                error.chain()
            );
            if reader.pause(interval) {
                return;
            }
        }
    }
}

/// Makes the request and reads its answer to the end.
fn sip(reader: &mut RangedReader<'_>, size: u64, interval: Duration) -> Result<(), Error> {
    let mut left = ByteRange::new(0, size);
    let mut buffer = vec![0; STEP];
    reader.begin(left)?;
    while !left.is_empty() {
        if reader.pause(interval) {
            return Err(Error::new(Kind::Cancelled, "nothing is read any more"));
        }
        let end = left.end().min(left.start() + SIP);
        while left.start() < end {
            let length = (end - left.start()).min(STEP as u64);
            let step = usize::try_from(length).unwrap_or(STEP);
            let room = buffer.get_mut(..step).unwrap_or_default();
            reader.fill(room).map_err(|(_, error)| error)?;
            left = ByteRange::new(left.start() + length, left.end());
        }
    }
    Ok(())
}
