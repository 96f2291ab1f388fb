//! The bytes that go into digests, and those that come out.

use super::{Algorithm, Digest};

/// A page of zeroes, hashed over and over where the disk holds none.
pub(super) static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// The digest with these bytes.
pub(super) fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    let hex = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect();
    Digest { algorithm, hex }
}

/// A length that is known to be small.
pub(super) fn usize_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
