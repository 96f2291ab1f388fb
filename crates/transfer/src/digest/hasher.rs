//! One running digest.

use aws_lc_rs::digest as sha;
use md5::Digest as _;

use super::{
    Algorithm, Digest,
    blkhash::Blkhash,
    bytes::{ZEROES, digest, usize_of},
};

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
        if let Self::Blkhash(state) = self {
            return state.zeroes(count);
        }
        let mut left = count;
        while left > 0 {
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
            Self::Blkhash(state) => state.finish(),
        }
    }
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
