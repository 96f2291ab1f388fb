//! The memory of one buffer.

use std::fmt;

/// Bytes in a buffer: direct I/O is at its best from 1 MiB on.
pub(crate) const BUFFER: usize = 1 << 20;

/// Alignment of a buffer in memory: enough for direct I/O on any device.
pub(crate) const ALIGNMENT: usize = 4096;

/// One allocation, larger than needed, so that an aligned part of it can be used.
pub(crate) struct Memory {
    bytes: Vec<u8>,
    start: usize,
}

impl Memory {
    /// No buffer.
    pub(crate) const fn none() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
        }
    }

    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; BUFFER + ALIGNMENT];
        // The vector is never resized, so the address stays.
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        bytes.truncate(start + BUFFER);
        Self { bytes, start }
    }

    /// The buffer.
    pub(crate) fn aligned(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or(&[])
    }

    /// The buffer, to be filled.
    pub(crate) fn aligned_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or(&mut [])
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}
