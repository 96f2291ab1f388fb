//! A request as the server received it.

use std::io::{self, Read};

const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 16 << 20;

/// A request as the server received it, with its place in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Position among all requests of the server, from 0.
    pub seq: usize,
    /// Which connection brought it, from 0 in the order of acceptance.
    pub connection: usize,
    /// Position among the requests of its connection, from 0.
    pub on_connection: usize,
    /// Method, such as `GET`.
    pub method: String,
    /// Request target as sent: path and query, or the absolute form towards a proxy.
    pub target: String,
    /// Header fields in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query without the question mark; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first value of a header, whose name is compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The single range that it asks for: first byte, and last byte (inclusive) when given.
    pub fn range(&self) -> Option<(u64, Option<u64>)> {
        let (first, last) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }

    /// Reads one request; what was received beyond it stays in `buffer`. `None` at a clean end.
    pub(crate) fn read(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<Self>> {
        loop {
            if let Some((mut request, head)) = Self::parse(buffer)? {
                let length = request.header("content-length").map(str::parse::<usize>);
                let length = length.transpose().map_err(invalid)?.unwrap_or(0);
                if length > MAX_BODY {
                    return Err(invalid("the body is too large"));
                }
                while buffer.len() < head + length {
                    if fill(stream, buffer)? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                request.body = buffer[head..head + length].to_vec();
                buffer.drain(..head + length);
                return Ok(Some(request));
            }
            if buffer.len() > MAX_HEAD {
                return Err(invalid("the head is too large"));
            }
            if fill(stream, buffer)? == 0 {
                return if buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn parse(buffer: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(head) = parsed.parse(buffer).map_err(invalid)? else {
            return Ok(None);
        };
        let headers = parsed
            .headers
            .iter()
            .map(|field| {
                let value = String::from_utf8_lossy(field.value).into_owned();
                (field.name.to_owned(), value)
            })
            .collect();
        let request = Self {
            seq: 0,
            connection: 0,
            on_connection: 0,
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers,
            body: Vec::new(),
        };
        Ok(Some((request, head)))
    }
}

fn fill(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 16 << 10];
    let count = stream.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..count]);
    Ok(count)
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}
