//! Digests over the whole disk, in order of offset.

use std::{fmt, str::FromStr};

use crate::Error;

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
    /// BLAKE2b with 64 bytes.
    Blake2b,
    /// ovirt-imageio's block hash: BLAKE2b with 32 bytes over the 32-byte digests of 4 MiB blocks.
    Blkhash,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    /// Python's `hashlib` names, as Glance states them.
    fn from_str(_name: &str) -> Result<Self, Error> {
        todo!()
    }
}

/// A digest: algorithm and lower-case hexadecimal value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The value.
    pub hex: String,
}
