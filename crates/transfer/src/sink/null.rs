//! Nothing: for a source that is read only to be proven.

use super::Sink;
use crate::{ByteRange, Error};

/// Takes any disk and keeps none: [`crate::copy`] to it reads the source to its end, and compares its digest.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullSink;

impl Sink for NullSink {
    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn prepare(&self, _size: u64) -> Result<(), Error> {
        Ok(())
    }

    fn resize(&self, _size: u64) -> Result<(), Error> {
        Ok(())
    }

    /// No zeroes have to be made of what is not kept.
    fn is_blank(&self) -> bool {
        true
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<(), Error> {
        Ok(())
    }

    fn zero(&self, _range: ByteRange) -> Result<(), Error> {
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}
