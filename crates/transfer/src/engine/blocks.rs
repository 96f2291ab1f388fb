//! The block hash, computed by the workers: each hashes the blocks that it has read.

use super::shared::Shared;
use crate::{
    ByteRange, Error,
    digest::{BLOCK, BlockDigests, Blocks},
};

/// Longest run of zeroes that is hashed between two checks of the stop flag: a moment, since the digest of
/// a block of zeroes is known.
const ZERO_STEP: u64 = 1 << 30;

/// One worker's blocks.
pub(super) struct HashedBlocks<'s, 'a> {
    shared: &'a Shared<'a>,
    digests: &'s BlockDigests,
    blocks: Blocks,
    /// End of the disk, where the last block ends whatever its length is.
    size: u64,
}

impl<'s, 'a> HashedBlocks<'s, 'a> {
    pub(super) fn new(shared: &'a Shared<'a>, digests: &'s BlockDigests) -> Self {
        Self {
            shared,
            digests,
            blocks: Blocks::new(),
            size: shared.source.size(),
        }
    }

    /// Adds bytes that follow those before them, unless they begin a block.
    pub(super) fn update(&mut self, bytes: &[u8], offset: u64) {
        let mut index = offset / BLOCK;
        let digests = self.digests;
        self.blocks.update(bytes, |hash| {
            digests.put(index, hash);
            index += 1;
        });
        self.end(offset + bytes.len() as u64);
    }

    /// As [`Self::update`] for a range of zeroes.
    ///
    /// # Errors
    /// That of a stop.
    pub(super) fn zeroes(&mut self, range: ByteRange) -> Result<(), Error> {
        let (mut at, digests) = (range.start(), self.digests);
        while at < range.end() {
            self.shared.check()?;
            let step = (range.end() - at).min(ZERO_STEP);
            let mut index = at / BLOCK;
            self.blocks.zeroes(step, |hash| {
                digests.put(index, hash);
                index += 1;
            });
            at += step;
        }
        self.end(range.end());
        Ok(())
    }

    /// Ends the last block of the disk.
    fn end(&mut self, at: u64) {
        if at == self.size
            && let Some(hash) = self.blocks.end()
        {
            self.digests.put(at.saturating_sub(1) / BLOCK, hash);
        }
    }
}
