//! ovirt-imageio's block hash: the image is cut into blocks, the last of which may be short; the
//! result is the digest of the blocks' digests, one after the other.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use blake2b_simd::{Hash, Params, State};

use super::{
    Algorithm, Digest,
    bytes::{ZEROES, digest, usize_of},
};

/// Size of a block in bytes; the daemon is asked for the same.
pub(crate) const BLOCK: u64 = 4 << 20;

/// The block hash of bytes that come in order.
pub(crate) struct Blkhash {
    outer: State,
    blocks: Blocks,
}

/// Digests of one block after another.
pub(crate) struct Blocks {
    block: State,
    /// Bytes of the block under way.
    filled: u64,
    /// Digest of a whole block of zeroes, made when the first is met.
    zero: Option<Hash>,
}

/// The digests of a disk's blocks, which come in any order.
///
/// It holds those only that came before one of a lower offset: 8 KiB for each GiB between the
/// slowest worker and the others.
#[derive(Debug)]
pub(crate) struct BlockDigests(Mutex<Known>);

#[derive(Debug)]
struct Known {
    outer: State,
    /// Index of the first block that has not come yet.
    next: u64,
    waiting: BTreeMap<u64, Hash>,
}

impl Blkhash {
    pub(super) fn new() -> Self {
        Self {
            outer: state(),
            blocks: Blocks::new(),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let Self { outer, blocks } = self;
        blocks.update(bytes, |hash| {
            outer.update(hash.as_bytes());
        });
    }

    pub(super) fn zeroes(&mut self, count: u64) {
        let Self { outer, blocks } = self;
        blocks.zeroes(count, |hash| {
            outer.update(hash.as_bytes());
        });
    }

    pub(super) fn finish(mut self) -> Digest {
        if let Some(last) = self.blocks.end() {
            self.outer.update(last.as_bytes());
        }
        digest(Algorithm::Blkhash, self.outer.finalize().as_bytes())
    }
}

impl Blocks {
    pub(crate) fn new() -> Self {
        Self {
            block: state(),
            filled: 0,
            zero: None,
        }
    }

    /// Adds bytes; `done` gets the digest of each block that they complete.
    pub(crate) fn update(&mut self, bytes: &[u8], mut done: impl FnMut(Hash)) {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let room = usize_of(BLOCK - self.filled).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.block.update(now);
            self.filled += room as u64;
            if self.filled == BLOCK {
                self.end().map(&mut done);
            }
            bytes = later;
        }
    }

    /// As [`Self::update`] with `count` zeroes.
    pub(crate) fn zeroes(&mut self, count: u64, mut done: impl FnMut(Hash)) {
        let mut left = count;
        while left > 0 {
            if self.filled == 0 && left >= BLOCK {
                done(self.zero_block());
                left -= BLOCK;
                continue;
            }
            let step = left.min(ZEROES.len() as u64).min(BLOCK - self.filled);
            self.update(ZEROES.get(..usize_of(step)).unwrap_or(&ZEROES), &mut done);
            left -= step;
        }
    }

    /// The digest of the block under way, if there is one: at the end of the disk it may be short.
    pub(crate) fn end(&mut self) -> Option<Hash> {
        if std::mem::take(&mut self.filled) == 0 {
            return None;
        }
        Some(std::mem::replace(&mut self.block, state()).finalize())
    }

    fn zero_block(&mut self) -> Hash {
        *self.zero.get_or_insert_with(|| {
            let mut state = state();
            for _ in 0..BLOCK / ZEROES.len() as u64 {
                state.update(&ZEROES);
            }
            state.finalize()
        })
    }
}

impl BlockDigests {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Known {
            outer: state(),
            next: 0,
            waiting: BTreeMap::new(),
        }))
    }

    /// Adds the digest of the block with this index.
    pub(crate) fn put(&self, index: u64, hash: Hash) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.waiting.insert(index, hash);
        loop {
            let next = known.next;
            let Some(hash) = known.waiting.remove(&next) else {
                return;
            };
            known.outer.update(hash.as_bytes());
            known.next += 1;
        }
    }

    /// The digest of a disk of `size` bytes; `None` when a block is missing.
    pub(crate) fn finish(self, size: u64) -> Option<Digest> {
        let known = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        (known.next == size.div_ceil(BLOCK))
            .then(|| digest(Algorithm::Blkhash, known.outer.finalize().as_bytes()))
    }
}

fn state() -> State {
    Params::new().hash_length(32).to_state()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hasher;

    fn blkhash_by_definition(image: &[u8]) -> String {
        let hash = |bytes: &[u8]| {
            Params::new()
                .hash_length(32)
                .hash(bytes)
                .as_bytes()
                .to_vec()
        };
        let digests: Vec<u8> = image.chunks(4 << 20).flat_map(hash).collect();
        digest(Algorithm::Blkhash, &hash(&digests)).hex
    }

    #[test]
    fn blkhash_is_the_digest_of_the_blocks_digests() {
        let mut image = vec![0; (13 << 20) + 512];
        image[5 << 20] = 1;
        let expected = blkhash_by_definition(&image);
        assert_eq!(Digest::of(Algorithm::Blkhash, &image).hex, expected);

        let mut hasher = Hasher::new(Algorithm::Blkhash);
        hasher.zeroes(5 << 20);
        hasher.update(&[1]);
        hasher.zeroes((8 << 20) + 511);
        assert_eq!(hasher.finish().hex, expected);
        assert_eq!(
            Digest::of(Algorithm::Blkhash, &[]).hex,
            blkhash_by_definition(&[])
        );
    }

    #[test]
    fn blocks_may_come_in_any_order_and_none_may_miss() {
        let image: Vec<u8> = (0..(9 << 20) + 5_u32)
            .map(|at| at.to_le_bytes()[1])
            .collect();
        let hashes: Vec<_> = image
            .chunks(usize_of(BLOCK))
            .map(|bytes| {
                let mut blocks = Blocks::new();
                let mut whole = None;
                blocks.update(bytes, |hash| whole = Some(hash));
                whole.or_else(|| blocks.end()).unwrap()
            })
            .collect();
        let of = |order: &[usize]| {
            let digests = BlockDigests::new();
            for index in order {
                digests.put(*index as u64, hashes[*index]);
            }
            digests.finish(image.len() as u64)
        };
        let expected = Digest::of(Algorithm::Blkhash, &image);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            assert_eq!(of(&order), Some(expected.clone()));
        }
        for order in [[0, 1], [1, 2], [0, 2]] {
            assert_eq!(of(&order), None);
        }
    }
}
