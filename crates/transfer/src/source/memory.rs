//! A disk in memory, for tests and as the model that other sources are held against.

use super::{Access, Reader, Source};
use crate::Error;

/// The disk.
#[derive(Debug)]
pub struct MemorySource {}

impl Source for MemorySource {
    fn size(&self) -> u64 {
        todo!()
    }

    fn access(&self) -> Access {
        todo!()
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>, Error> {
        todo!()
    }
}
