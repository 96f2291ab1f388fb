//! The head of an answer, and how long its body is (RFC 9112); a field of a request. Pure functions
//! over bytes.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use crate::{content_range::decimal, printable};

/// Largest head, in bytes.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// Most header fields.
const MAX_FIELDS: usize = 128;

/// A parsed head.
#[derive(Debug)]
pub(crate) struct Head {
    /// Bytes of it.
    pub(crate) length: usize,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Whether the peer keeps the connection open after the answer (RFC 9112, 9.3).
    pub(crate) keeps_alive: bool,
    http_1_0: bool,
}

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Parses a head; `None` while it is incomplete. The error says what is wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return Err(format!("its head is larger than {MAX_HEAD} bytes"));
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(format!("its head has more than {MAX_FIELDS} fields"));
        }
        Err(error) => return Err(format!("it is not HTTP/1: {error}")),
    };
    let http_1_0 = response.version == Some(0);
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or("its status is not a number from 100 to 999")?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| "the name of a header field is malformed")?;
        let value = HeaderValue::from_bytes(field.value)
            .map_err(|_| format!("the value of `{name}` is malformed"))?;
        headers.append(name, value);
    }
    let keeps_alive = if http_1_0 {
        has_token(&headers, "keep-alive")
    } else {
        !has_token(&headers, "close")
    };
    Ok(Some(Head {
        length,
        status,
        headers,
        keeps_alive,
        http_1_0,
    }))
}

impl Head {
    /// Where the body of the answer to `method` ends (RFC 9112, 6.3), stricter than the RFC: what
    /// two readers could understand differently is an error.
    pub(crate) fn framing(&self, method: &Method) -> Result<Framing, String> {
        let length = self.content_length()?;
        let chunked = self.is_chunked()?;
        if chunked && length.is_some() {
            return Err("it has both Content-Length and Transfer-Encoding".into());
        }
        if *method == Method::HEAD
            || matches!(
                self.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
        {
            return Ok(Framing::Length(0));
        }
        // Refusals and redirects are not read, and a front end may compress its pages.
        if self.status.is_success()
            && let Some(coding) = self.headers.get(CONTENT_ENCODING)
            && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(format!(
                "its body is encoded ({}), which was not asked for",
                printable(&String::from_utf8_lossy(coding.as_bytes()))
            ));
        }
        if chunked {
            return Ok(Framing::Chunked);
        }
        Ok(length.map_or(Framing::Close, Framing::Length))
    }

    /// The stated length, in bytes. The same one several times is one (RFC 9110, 8.6).
    pub(crate) fn content_length(&self) -> Result<Option<u64>, String> {
        let mut stated = None;
        for value in self.headers.get_all(CONTENT_LENGTH) {
            let Ok(value) = value.to_str() else {
                return Err("its Content-Length is not a number".into());
            };
            for value in value.split(',') {
                let length = decimal(value.trim_matches([' ', '\t'])).ok_or_else(|| {
                    format!("its Content-Length is not a number: {}", printable(value))
                })?;
                if stated.is_some_and(|stated| stated != length) {
                    return Err("it has more than one Content-Length".into());
                }
                stated = Some(length);
            }
        }
        Ok(stated)
    }

    fn is_chunked(&self) -> Result<bool, String> {
        let mut values = self.headers.get_all(TRANSFER_ENCODING).iter();
        let Some(value) = values.next() else {
            return Ok(false);
        };
        let only = values.next().is_none() && value.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !only || self.http_1_0 {
            return Err("its Transfer-Encoding is not `chunked` alone".into());
        }
        Ok(true)
    }
}

/// Appends a header field to a request.
pub(crate) fn field(request: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(b": ");
    request.extend_from_slice(value.as_bytes());
    request.extend_from_slice(b"\r\n");
}

/// The size that the first line of a chunk states, without its CRLF (RFC 9112, 7.1). Extensions are
/// ignored.
pub(crate) fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?;
    let digits = std::str::from_utf8(digits)
        .ok()?
        .trim_end_matches([' ', '\t']);
    if digits.len() > 16
        || digits.is_empty()
        || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &str) -> Result<Option<Head>, String> {
        parse(format!("{}\r\n\r\n", lines.replace('\n', "\r\n")).as_bytes())
    }

    fn framing(lines: &str) -> Result<Framing, String> {
        head(lines)?.unwrap().framing(&Method::GET)
    }

    #[test]
    fn bodies() {
        let table = [
            ("HTTP/1.1 200 OK\nContent-Length: 7", Framing::Length(7)),
            ("HTTP/1.1 206 \ncontent-length:  0 ", Framing::Length(0)),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: Chunked",
                Framing::Chunked,
            ),
            (
                "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 5",
                Framing::Length(5),
            ),
            ("HTTP/1.1 200 OK\nContent-Length: 5, 5", Framing::Length(5)),
            (
                "HTTP/1.1 503 Busy\nContent-Encoding: gzip\nContent-Length: 5",
                Framing::Length(5),
            ),
            ("HTTP/1.1 200 OK", Framing::Close),
            ("HTTP/1.0 200 OK", Framing::Close),
            ("HTTP/1.1 204 No Content", Framing::Length(0)),
            (
                "HTTP/1.1 304 Not Modified\nContent-Length: 9",
                Framing::Length(0),
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(framing(lines), Ok(expected), "{lines}");
        }
    }

    #[test]
    fn ambiguous_bodies_are_refused() {
        for lines in [
            "HTTP/1.1 200 OK\nContent-Length: None",
            "HTTP/1.1 200 OK\nContent-Length: +5",
            "HTTP/1.1 200 OK\nContent-Length: -5",
            "HTTP/1.1 200 OK\nContent-Length:",
            "HTTP/1.1 200 OK\nContent-Length: 5, 6",
            "HTTP/1.1 200 OK\nContent-Length: 5,",
            "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 6",
            "HTTP/1.1 200 OK\nContent-Length: 18446744073709551616",
            "HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: identity",
            "HTTP/1.0 200 OK\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 5",
        ] {
            assert!(framing(lines).is_err(), "{lines}");
        }
    }

    #[test]
    fn keep_alive() {
        let keeps = |lines: &str| head(lines).unwrap().unwrap().keeps_alive;
        assert!(keeps("HTTP/1.1 200 OK"));
        assert!(!keeps("HTTP/1.1 200 OK\nConnection: Close"));
        assert!(!keeps("HTTP/1.1 200 OK\nConnection: foo, close"));
        assert!(!keeps("HTTP/1.0 200 OK"));
        assert!(keeps("HTTP/1.0 200 OK\nConnection: keep-alive"));
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(parse(long.as_bytes()).is_err());
        let many = format!("HTTP/1.1 200 OK{}", "\nX: y".repeat(MAX_FIELDS + 1));
        assert!(head(&many).is_err());
        for rubbish in [
            "SSH-2.0-OpenSSH",
            "HTTP/2 200 OK",
            "HTTP/1.1 abc",
            "HTTP/1.1 200 OK\nno colon",
        ] {
            assert!(head(rubbish).is_err(), "{rubbish}");
        }
    }

    #[test]
    fn chunk_sizes() {
        assert_eq!(chunk_size(b"0"), Some(0));
        assert_eq!(chunk_size(b"1aF ;name=value"), Some(0x1af));
        assert_eq!(chunk_size(b"ffffffffffffffff"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b";",
            b" 1",
            b"+1",
            b"0x1",
            b"1 2",
            b"-1",
            b"fffffffffffffffff",
            b"\xff",
        ] {
            assert_eq!(chunk_size(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = chunk_size(&bytes);
            let mut whole = b"HTTP/1.1 200 OK\r\n".to_vec();
            whole.extend_from_slice(&bytes);
            for input in [&bytes, &whole] {
                if let Ok(Some(head)) = parse(input) {
                    prop_assert!(head.length <= input.len());
                    let _ = head.framing(&Method::GET);
                }
            }
        }

        #[test]
        fn a_head_is_complete_at_its_end_and_not_before(cut in 0..40_usize, body in "[a-z]{0,9}") {
            let text = "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n";
            prop_assert_eq!(text.len(), 39);
            let bytes = format!("{text}{body}");
            let found = parse(&bytes.as_bytes()[..cut.min(39)]).unwrap();
            prop_assert_eq!(found.map(|head| head.length), (cut >= 39).then_some(39));
        }

        #[test]
        fn chunk_sizes_are_read_as_written(size: u64) {
            prop_assert_eq!(chunk_size(format!("{size:x}").as_bytes()), Some(size));
            prop_assert_eq!(chunk_size(format!("{size:X};x").as_bytes()), Some(size));
        }
    }
}
