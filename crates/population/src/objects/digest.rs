//! A digest by which two values are compared after one of them was stored.

use serde::Serialize;

/// Digest of the value's JSON: equal values have equal digests, in every release and on every
/// machine. It is no protection against someone who looks for two values of one digest: who can
/// write the stored one can write anything else.
pub(super) fn digest(value: &impl Serialize) -> String {
    // FNV-1a, 64 bits: the standard library's hash may change between releases.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    // Objects of the API are maps with names for keys, which always serialise.
    let json = serde_json::to_vec(value).unwrap_or_default();
    let hash = json.into_iter().fold(BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored digests are compared with those of later releases.
    #[test]
    fn digests_do_not_change() {
        assert_eq!(digest(&"a"), "d4272417d7c77eea");
        assert_ne!(digest(&"a"), digest(&"b"));
    }
}
