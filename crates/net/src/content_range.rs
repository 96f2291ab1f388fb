//! The `Content-Range` header of answers to range requests (RFC 9110, 14.4).

use std::ops::Range;

/// What a `Content-Range` header states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes that the body holds, at least one, end exclusive.
    pub range: Range<u64>,
    /// Size of the whole object in bytes; `None` when the server does not know it (`*`).
    pub size: Option<u64>,
}

impl ContentRange {
    /// Parses `bytes A-B/SIZE` and `bytes A-B/*`. Everything else is `None`: an unsatisfied range
    /// (`bytes */SIZE`), another unit, B before A, B beyond the size, signs, spaces within.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
        let (unit, rest) = value.split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, size) = rest.split_once('/')?;
        let size = match size {
            "*" => None,
            digits => Some(decimal(digits)?),
        };
        let (first, last) = range.split_once('-')?;
        let range = decimal(first)?..decimal(last)?.checked_add(1)?;
        let fits = !range.is_empty() && size.is_none_or(|size| range.end <= size);
        fits.then_some(Self { range, size })
    }
}

/// Digits only: `str::parse` would take a sign.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<(Range<u64>, Option<u64>)> {
        ContentRange::parse(text.as_bytes()).map(|found| (found.range, found.size))
    }

    #[test]
    fn ranges_of_an_object_of_known_and_of_unknown_size() {
        assert_eq!(parsed("bytes 0-9/100"), Some((0..10, Some(100))));
        assert_eq!(parsed("Bytes 99-99/100"), Some((99..100, Some(100))));
        assert_eq!(parsed("bytes 5-9/*"), Some((5..10, None)));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "bytes",
            "bytes ",
            "bytes 0-9",
            "bytes 0-9/",
            "bytes /9",
            "bytes */*",
            "bytes */100",
            // imageio's answers at the end of an image and for an empty one.
            "bytes 100-99/100",
            "bytes 0--1/0",
            "bytes -/9",
            "items 0-9/100",
            "bytes 9-5/100",
            "bytes 0-100/100",
            "bytes 50-49/100",
            "bytes 5--1/5",
            "bytes 5-4/*",
            "bytes +0-9/100",
            "bytes 0-9/+100",
            "bytes 0 - 9/100",
            "bytes 0-9/1 00",
            "bytes 0-18446744073709551615/*",
            "bytes 0-9/18446744073709551616",
            "bytes 0-9/100/1",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_lies(value in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(ContentRange { range, size: Some(size) }) = ContentRange::parse(&value) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn reads_what_was_written(start in 0..u64::MAX / 2, length in 1..u64::MAX / 4, beyond in 0..1000_u64) {
            let (end, size) = (start + length, start + length + beyond);
            let found = ContentRange::parse(format!("bytes {start}-{}/{size}", end - 1).as_bytes());
            prop_assert_eq!(found, Some(ContentRange { range: start..end, size: Some(size) }));
        }
    }
}
