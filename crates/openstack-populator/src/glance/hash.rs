//! Which hash the data must have.

use transfer::{Algorithm, Digest};

use super::Image;

/// What an image states of its data's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hash {
    /// The strongest hash that the image states.
    Stated(Digest),
    /// The MD5, since the stronger hash cannot be used for the reason given.
    Weaker(Digest, String),
    /// None that can be used, for the reason given.
    None(String),
}

/// `os_hash_algo` with `os_hash_value`, otherwise `checksum`.
#[must_use]
pub fn stated_hash(image: &Image) -> Hash {
    let strong = match (
        given(image.os_hash_algo.as_ref()),
        given(image.os_hash_value.as_ref()),
    ) {
        (Some(name), Some(value)) => digest(name, value),
        (None, None) => Err("the image states no os_hash_value".to_owned()),
        (Some(_), None) => Err("the image states os_hash_algo without os_hash_value".to_owned()),
        (None, Some(_)) => Err("the image states os_hash_value without os_hash_algo".to_owned()),
    };
    let why = match strong {
        Ok(digest) => return Hash::Stated(digest),
        Err(why) => why,
    };
    match given(image.checksum.as_ref()).map(|value| digest("md5", value)) {
        // Images of clouds older than os_hash_value are normal, and no reason to warn.
        Some(Ok(digest)) if image.os_hash_value.is_none() && image.os_hash_algo.is_none() => {
            Hash::Stated(digest)
        }
        Some(Ok(digest)) => Hash::Weaker(digest, why),
        Some(Err(checksum)) => Hash::None(format!("{why}, and its checksum: {checksum}")),
        None => Hash::None(format!("{why} and no checksum")),
    }
}

fn given(value: Option<&String>) -> Option<&str> {
    value
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

fn digest(name: &str, value: &str) -> Result<Digest, String> {
    let unknown = || {
        format!(
            "the image's hash algorithm {} is not known here",
            net::quoted(name)
        )
    };
    let algorithm: Algorithm = name.to_ascii_lowercase().parse().map_err(|_| unknown())?;
    let bytes = match algorithm {
        Algorithm::Md5 => 16,
        Algorithm::Sha1 => 20,
        Algorithm::Sha224 => 28,
        Algorithm::Sha256 => 32,
        Algorithm::Sha384 => 48,
        Algorithm::Sha512 | Algorithm::Blake2b => 64,
        Algorithm::Blkhash => return Err(unknown()),
    };
    if value.len() != 2 * bytes || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!(
            "the image's {name} hash is not {} hexadecimal digits",
            2 * bytes
        ));
    }
    Ok(Digest {
        algorithm,
        hex: value.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(algo: Option<&str>, value: Option<&str>, checksum: Option<&str>) -> Image {
        Image {
            os_hash_algo: algo.map(Into::into),
            os_hash_value: value.map(Into::into),
            checksum: checksum.map(Into::into),
            ..Image::default()
        }
    }

    fn stated(algorithm: Algorithm, hex: &str) -> Digest {
        Digest {
            algorithm,
            hex: hex.into(),
        }
    }

    #[test]
    fn the_strong_hash_is_preferred() {
        let (sha512, sha256, md5) = ("ab".repeat(64), "cd".repeat(32), "ef".repeat(16));
        for (image, expected) in [
            (
                image(Some("sha512"), Some(&sha512), Some(&md5)),
                stated(Algorithm::Sha512, &sha512),
            ),
            (
                image(Some("sha512"), Some(&sha512), None),
                stated(Algorithm::Sha512, &sha512),
            ),
            (
                image(Some("sha256"), Some(&sha256), Some(&md5)),
                stated(Algorithm::Sha256, &sha256),
            ),
            (
                image(Some("blake2b"), Some(&sha512), None),
                stated(Algorithm::Blake2b, &sha512),
            ),
            (
                image(Some("SHA512"), Some(&sha512.to_uppercase()), None),
                stated(Algorithm::Sha512, &sha512),
            ),
            (image(None, None, Some(&md5)), stated(Algorithm::Md5, &md5)),
        ] {
            assert_eq!(stated_hash(&image), Hash::Stated(expected), "{image:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_falls_back_with_a_reason() {
        let (sha512, md5) = ("ab".repeat(64), "ef".repeat(16));
        for (algo, value, needle) in [
            (Some("sha3_512"), Some(sha512.as_str()), "sha3_512"),
            (Some("blkhash"), Some(sha512.as_str()), "blkhash"),
            (Some("sha512"), Some("abcd"), "128 hexadecimal"),
            (Some("sha512"), Some(&*"zz".repeat(64)), "128 hexadecimal"),
            (Some("sha512"), None, "without os_hash_value"),
            (None, Some(sha512.as_str()), "without os_hash_algo"),
        ] {
            let Hash::Weaker(digest, why) = stated_hash(&image(algo, value, Some(&md5))) else {
                panic!("{algo:?} {value:?}");
            };
            assert_eq!(digest, stated(Algorithm::Md5, &md5));
            assert!(why.contains(needle), "{why}");
        }
    }

    #[test]
    fn nothing_to_hold_it_against() {
        for (image, needle) in [
            (image(None, None, None), "no checksum"),
            (image(Some(""), Some(""), Some("")), "no checksum"),
            (image(Some("sha3_512"), Some("ab"), None), "sha3_512"),
            (image(None, None, Some("not hex")), "32 hexadecimal"),
        ] {
            let Hash::None(why) = stated_hash(&image) else {
                panic!("{image:?}");
            };
            assert!(why.contains(needle), "{why}");
        }
    }
}
