//! Whether an answer is the one that was asked for, decided before a byte of its body is used.

use http::{HeaderMap, HeaderValue, header};
use net::{ContentRange, ResponseHead};

use crate::ByteRange;

/// Which version of an object an answer belongs to, as far as its headers state it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Identity {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            etag: headers.get(header::ETAG).cloned(),
            last_modified: headers.get(header::LAST_MODIFIED).cloned(),
        }
    }

    /// Whether `later` may be the same version; what either does not say is no difference.
    ///
    /// # Errors
    /// What has changed, in words.
    pub(super) fn check(&self, later: &Self) -> Result<(), String> {
        let pairs = [
            ("ETag", &self.etag, &later.etag),
            ("Last-Modified", &self.last_modified, &later.last_modified),
        ];
        for (name, first, then) in pairs {
            if let (Some(first), Some(then)) = (first, then)
                && first != then
            {
                return Err(format!(
                    "{name} was {}, now it is {}",
                    text(first),
                    text(then)
                ));
            }
        }
        Ok(())
    }
}

/// Checks the head of a 206: exactly `range` of an object of exactly `size` bytes.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_partial(
    head: &ResponseHead,
    range: ByteRange,
    size: u64,
) -> Result<(), String> {
    check_encoding(&head.headers)?;
    let Some(value) = head.headers.get(header::CONTENT_RANGE) else {
        return Err(format!(
            "206 without a Content-Range to a request for {range}"
        ));
    };
    let wanted = ContentRange {
        range: range.start()..range.end(),
        size: Some(size),
    };
    if ContentRange::parse(value.as_bytes()).as_ref() != Some(&wanted) {
        return Err(format!(
            "Content-Range {} to a request for {range} of {size} bytes",
            text(value)
        ));
    }
    check_length(head, range.len())
}

/// Checks the head of a 200: an object of exactly `size` bytes.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_whole(head: &ResponseHead, size: u64) -> Result<(), String> {
    check_encoding(&head.headers)?;
    check_length(head, size)
}

fn check_length(head: &ResponseHead, wanted: u64) -> Result<(), String> {
    match head.content_length {
        Some(length) if length != wanted => Err(format!(
            "Content-Length {length} where {wanted} bytes were to come"
        )),
        _ => Ok(()),
    }
}

fn text(value: &HeaderValue) -> String {
    net::printable(&String::from_utf8_lossy(value.as_bytes()))
}

/// Offsets into a compressed body would be other bytes.
fn check_encoding(headers: &HeaderMap) -> Result<(), String> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(format!(
            "Content-Encoding {}, which was not asked for",
            text(encoding)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn head(headers: &[(header::HeaderName, &'static str)], length: Option<u64>) -> ResponseHead {
        ResponseHead {
            status: StatusCode::PARTIAL_CONTENT,
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
                .collect(),
            content_length: length,
        }
    }

    const RANGE: ByteRange = ByteRange::new(100, 200);

    #[test]
    fn the_right_range_is_taken_with_and_without_a_length() {
        let right = [(header::CONTENT_RANGE, "bytes 100-199/1000")];
        for length in [None, Some(100)] {
            assert_eq!(check_partial(&head(&right, length), RANGE, 1000), Ok(()));
        }
    }

    #[test]
    fn every_other_range_is_refused() {
        for range in [
            "bytes 100-198/1000",
            "bytes 100-200/1000",
            "bytes 99-199/1000",
            "bytes 101-199/1000",
            "bytes 0-999/1000",
            "bytes 100-199/1001",
            "bytes 100-199/*",
            "bytes */1000",
            "bytes 200-199/200",
            "rubbish",
        ] {
            let head = head(&[(header::CONTENT_RANGE, range)], Some(100));
            assert!(check_partial(&head, RANGE, 1000).is_err(), "{range}");
        }
        assert!(check_partial(&head(&[], Some(100)), RANGE, 1000).is_err());
    }

    #[test]
    fn wrong_lengths_and_encodings_are_refused() {
        let right = (header::CONTENT_RANGE, "bytes 100-199/1000");
        for length in [0, 99, 101, 1000] {
            let head = head(std::slice::from_ref(&right), Some(length));
            assert!(check_partial(&head, RANGE, 1000).is_err(), "{length}");
        }
        let packed = head(&[right, (header::CONTENT_ENCODING, "gzip")], Some(100));
        assert!(check_partial(&packed, RANGE, 1000).is_err());
        assert_eq!(check_whole(&head(&[], Some(5)), 5), Ok(()));
        assert_eq!(check_whole(&head(&[], None), 5), Ok(()));
        assert!(check_whole(&head(&[], Some(6)), 5).is_err());
    }

    #[test]
    fn identities_differ_only_in_what_both_say() {
        let of =
            |pairs: &[(header::HeaderName, &'static str)]| Identity::of(&head(pairs, None).headers);
        let first = of(&[(header::ETAG, "\"a\""), (header::LAST_MODIFIED, "then")]);
        assert_eq!(first.check(&first), Ok(()));
        assert_eq!(first.check(&of(&[])), Ok(()));
        assert_eq!(of(&[]).check(&first), Ok(()));
        assert!(first.check(&of(&[(header::ETAG, "\"b\"")])).is_err());
        assert!(first.check(&of(&[(header::LAST_MODIFIED, "now")])).is_err());
    }
}
