//! One running digest.

use aws_lc_rs::digest as sha;
use md5::Digest as _;

use super::{Algorithm, Digest};

/// A page of zeroes, hashed over and over where the disk holds none.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// A running digest of one algorithm.
pub(crate) enum Hasher {
    Md5(md5::Md5),
    Sha(Algorithm, sha::Context),
    Blake2b(Box<blake2b_simd::State>),
    Blkhash(Box<Blkhash>),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let sha = |implementation| Self::Sha(algorithm, sha::Context::new(implementation));
        match algorithm {
            Algorithm::Md5 => Self::Md5(md5::Md5::new()),
            Algorithm::Sha1 => sha(&sha::SHA1_FOR_LEGACY_USE_ONLY),
            Algorithm::Sha224 => sha(&sha::SHA224),
            Algorithm::Sha256 => sha(&sha::SHA256),
            Algorithm::Sha384 => sha(&sha::SHA384),
            Algorithm::Sha512 => sha(&sha::SHA512),
            Algorithm::Blake2b => Self::Blake2b(Box::new(blake2b_simd::State::new())),
            Algorithm::Blkhash => Self::Blkhash(Box::new(Blkhash::new())),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(state) => state.update(bytes),
            Self::Sha(_, state) => state.update(bytes),
            Self::Blake2b(state) => {
                state.update(bytes);
            }
            Self::Blkhash(state) => state.update(bytes),
        }
    }

    /// As [`Hasher::update`] with `count` zeroes.
    pub(crate) fn zeroes(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            if let Self::Blkhash(state) = self
                && left >= Blkhash::BLOCK
                && state.zero_block()
            {
                left -= Blkhash::BLOCK;
                continue;
            }
            let step = left.min(ZEROES.len() as u64);
            self.update(ZEROES.get(..usize_of(step)).unwrap_or(&ZEROES));
            left -= step;
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Md5(state) => digest(Algorithm::Md5, &state.finalize()),
            Self::Sha(algorithm, state) => digest(algorithm, state.finish().as_ref()),
            Self::Blake2b(state) => digest(Algorithm::Blake2b, state.finalize().as_bytes()),
            Self::Blkhash(state) => digest(Algorithm::Blkhash, state.finish().as_bytes()),
        }
    }
}

/// ovirt-imageio's block hash: the image is cut into blocks, the last of which may be short; the
/// result is the digest of the blocks' digests, one after the other.
pub(crate) struct Blkhash {
    outer: blake2b_simd::State,
    block: blake2b_simd::State,
    /// Bytes of the block under way.
    filled: u64,
    /// Digest of a whole block of zeroes, made when the first is met.
    zero: Option<blake2b_simd::Hash>,
}

impl Blkhash {
    /// Size of a block in bytes; the daemon is asked for the same.
    const BLOCK: u64 = 4 << 20;

    fn new() -> Self {
        Self {
            outer: Self::state(),
            block: Self::state(),
            filled: 0,
            zero: None,
        }
    }

    fn state() -> blake2b_simd::State {
        blake2b_simd::Params::new().hash_length(32).to_state()
    }

    fn update(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let room = usize_of(Self::BLOCK - self.filled).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.block.update(now);
            self.filled += room as u64;
            if self.filled == Self::BLOCK {
                self.end_block();
            }
            bytes = later;
        }
    }

    /// Adds a whole block of zeroes; false when a block is under way.
    fn zero_block(&mut self) -> bool {
        if self.filled != 0 {
            return false;
        }
        let zero = *self.zero.get_or_insert_with(|| {
            let mut state = Self::state();
            for _ in 0..Self::BLOCK / ZEROES.len() as u64 {
                state.update(&ZEROES);
            }
            state.finalize()
        });
        self.outer.update(zero.as_bytes());
        true
    }

    fn end_block(&mut self) {
        let block = std::mem::replace(&mut self.block, Self::state());
        self.outer.update(block.finalize().as_bytes());
        self.filled = 0;
    }

    fn finish(mut self) -> blake2b_simd::Hash {
        if self.filled > 0 {
            self.end_block();
        }
        self.outer.finalize()
    }
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    let hex = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect();
    Digest { algorithm, hex }
}

/// A length that is known to be small.
fn usize_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python's `hashlib` for `b"abc"`.
    #[test]
    fn digests_of_abc() {
        for (algorithm, hex) in [
            (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                Algorithm::Sha224,
                "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
            ),
            (
                Algorithm::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                Algorithm::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                Algorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (
                Algorithm::Blake2b,
                "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
            ),
        ] {
            assert_eq!(Digest::of(algorithm, b"abc").hex, hex, "{algorithm}");
        }
    }

    fn blkhash_by_definition(image: &[u8]) -> String {
        let hash = |bytes: &[u8]| {
            blake2b_simd::Params::new()
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
    fn zeroes_are_hashed_as_bytes() {
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"x");
            hasher.zeroes(100_001);
            let mut bytes = vec![0; 100_002];
            bytes[0] = b'x';
            assert_eq!(
                hasher.finish(),
                Digest::of(algorithm, &bytes),
                "{algorithm}"
            );
        }
    }

    #[test]
    fn names_go_both_ways_and_case_does_not_matter() {
        for algorithm in Algorithm::ALL {
            assert_eq!(
                algorithm.to_string().parse::<Algorithm>().unwrap(),
                algorithm
            );
        }
        assert_eq!("SHA512".parse::<Algorithm>().unwrap(), Algorithm::Sha512);
        let error = "sha3_256".parse::<Algorithm>().unwrap_err();
        assert!(error.to_string().contains("sha3_256"), "{error}");
        let upper = Digest {
            algorithm: Algorithm::Md5,
            hex: "900150983CD24FB0D6963F7D28E17F72".into(),
        };
        assert_eq!(Digest::of(Algorithm::Md5, b"abc"), upper);
        assert_ne!(Digest::of(Algorithm::Sha1, b"abc"), upper);
    }
}
