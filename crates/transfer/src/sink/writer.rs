//! Writes a disk that comes in parts of any size, by one thread.

use super::Sink;
use crate::{
    ByteRange, Error,
    engine::{
        buffer::{ALIGNMENT, BUFFER, Memory},
        zeroes,
    },
};

/// Puts parts of a disk together to writes of up to 1 MiB, and leaves zeroes out or makes them, as [`crate::copy`] does.
///
/// Nothing is on the target for certain before [`Self::flush`].
#[derive(Debug)]
pub struct SinkWriter<'a> {
    sink: &'a dyn Sink,
    detect_zeroes: bool,
    memory: Memory,
    /// Offset on the disk of what waits in the memory, and how many bytes wait.
    start: u64,
    waiting: usize,
}

impl<'a> SinkWriter<'a> {
    /// A writer to a sink that is prepared.
    #[must_use]
    pub fn new(sink: &'a dyn Sink, detect_zeroes: bool) -> Self {
        Self {
            sink,
            detect_zeroes,
            memory: Memory::new(),
            start: 0,
            waiting: 0,
        }
    }

    /// Writes `bytes` at `offset`, now or later.
    ///
    /// # Errors
    /// Those of [`Sink::write_at`] and [`Sink::zero`].
    pub fn data(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if offset != self.start + self.waiting as u64 {
                self.flush()?;
            }
            if self.waiting == 0 {
                self.start = offset;
            }
            // A write ends at a multiple of the alignment, so that the next one begins at one.
            let unaligned = usize::try_from(self.start % ALIGNMENT as u64).unwrap_or_default();
            let room = BUFFER - unaligned - self.waiting;
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            let memory = self.memory.aligned_mut();
            if let Some(free) = memory
                .get_mut(self.waiting..)
                .and_then(|free| free.get_mut(..now.len()))
            {
                free.copy_from_slice(now);
            }
            self.waiting += now.len();
            offset += now.len() as u64;
            bytes = rest;
            if now.len() == room {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Makes `range` read as zeroes.
    ///
    /// # Errors
    /// Those of [`Sink::zero`], and of what is written before.
    pub fn zero(&mut self, range: ByteRange) -> Result<(), Error> {
        let waiting = ByteRange::new(self.start, self.start + self.waiting as u64);
        if !waiting.intersect(range).is_empty() {
            self.flush()?;
        }
        if range.is_empty() || self.sink.is_blank() {
            return Ok(());
        }
        self.sink.zero(range)
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// Those of [`Sink::write_at`] and [`Sink::zero`].
    pub fn flush(&mut self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        let bytes = self.memory.aligned().get(..waiting).unwrap_or_default();
        if self.detect_zeroes {
            return zeroes::write_around(self.sink, bytes, self.start, || Ok(()));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.sink.write_at(bytes, self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{MemorySink, SinkCall};

    const P: u64 = 64 << 10;

    #[test]
    fn parts_are_put_together_to_aligned_writes() {
        let sink = MemorySink::device(4 << 20);
        let mut writer = SinkWriter::new(&sink, false);
        for part in 0..300 {
            writer.data(512 + part * 5000, &[7; 5000]).unwrap();
        }
        writer.zero(ByteRange::new(2 << 20, 3 << 20)).unwrap();
        writer.flush().unwrap();
        let range = |start, end| ByteRange::new(start, end);
        assert_eq!(
            sink.calls(),
            [
                SinkCall::Write(range(512, 1 << 20)),
                // What waits lies elsewhere.
                SinkCall::Zero(range(2 << 20, 3 << 20)),
                SinkCall::Write(range(1 << 20, 512 + 300 * 5000)),
            ]
        );
    }

    #[test]
    fn zeroes_are_left_out_of_a_blank_file_and_made_on_a_device() {
        let mut bytes = vec![1; 3 << 18];
        bytes[1 << 18..2 << 18].fill(0);
        for (sink, zero) in [
            (MemorySink::file(), false),
            (MemorySink::device(1 << 20), true),
        ] {
            sink.prepare(1 << 20).unwrap();
            let mut writer = SinkWriter::new(&sink, true);
            writer.data(0, &bytes).unwrap();
            writer.flush().unwrap();
            let calls = sink.calls();
            let zeroed = SinkCall::Zero(ByteRange::new(4 * P, 8 * P));
            assert_eq!(calls.contains(&zeroed), zero, "{calls:?}");
            let written = SinkCall::Write(ByteRange::new(0, 4 * P));
            assert!(calls.contains(&written), "{calls:?}");
        }
    }
}
