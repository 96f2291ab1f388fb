//! Digests over the whole disk: in order of offset, or of its blocks in any order.

mod blkhash;
mod bytes;
mod hasher;

use std::{fmt, str::FromStr};

pub(crate) use blkhash::{BLOCK, BlockDigests, Blocks};
pub(crate) use hasher::Hasher;

use crate::{Error, Kind};

/// A digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5 (Glance's `checksum`).
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512 (Glance's default `os_hash_algo`).
    Sha512,
    /// `BLAKE2b` with 64 bytes.
    Blake2b,
    /// ovirt-imageio's block hash: `BLAKE2b` with 32 bytes over the 32-byte digests of 4 MiB
    /// blocks.
    Blkhash,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Blake2b,
        Self::Blkhash,
    ];

    /// The name: Python's `hashlib` one, or `blkhash`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Blake2b => "blake2b",
            Self::Blkhash => "blkhash",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    /// Python's `hashlib` names, as Glance states them, in any case.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::name).join(", ");
                Error::new(
                    Kind::Unusable,
                    format!("hash algorithm {} is not one of {known}", net::quoted(name)),
                )
            })
    }
}

/// A digest: algorithm and hexadecimal value. Digests are equal whatever the case of their digits.
#[derive(Debug, Clone)]
pub struct Digest {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The value; lower case where it was computed here.
    pub hex: String,
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.hex.eq_ignore_ascii_case(&other.hex)
    }
}

impl Eq for Digest {}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}
