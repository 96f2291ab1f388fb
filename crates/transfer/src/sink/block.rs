//! A block device.

use super::Sink;
use crate::{ByteRange, Error};

/// The target.
#[derive(Debug)]
pub struct BlockSink {}

impl Sink for BlockSink {
    fn capacity(&self) -> u64 {
        todo!()
    }

    fn prepare(&self, _size: u64) -> Result<(), Error> {
        todo!()
    }

    fn is_blank(&self) -> bool {
        todo!()
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<(), Error> {
        todo!()
    }

    fn zero(&self, _range: ByteRange) -> Result<(), Error> {
        todo!()
    }

    fn sync(&self) -> Result<(), Error> {
        todo!()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        todo!()
    }
}
