//! What the server answers.

use std::{fmt, sync::Arc};

use super::{Fault, Request};

type ReadAt = dyn Fn(u64, &mut [u8]) + Send + Sync;

/// Bytes of a known size that are read by position: a disk, an image.
#[derive(Clone)]
pub struct Object {
    size: u64,
    read_at: Arc<ReadAt>,
}

impl Object {
    /// An object of `size` bytes; `read_at` fills the buffer with what begins at the offset.
    pub fn new(size: u64, read_at: impl Fn(u64, &mut [u8]) + Send + Sync + 'static) -> Self {
        Self {
            size,
            read_at: Arc::new(read_at),
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` with what begins at `offset`.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) {
        (self.read_at)(offset, buffer);
    }
}

impl From<Vec<u8>> for Object {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Arc::new(bytes))
    }
}

impl From<Arc<Vec<u8>>> for Object {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        Self::new(bytes.len() as u64, move |offset, buffer| {
            let start = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
        })
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({} bytes)", self.size)
    }
}

/// The body of a [`Reply`].
#[derive(Debug, Clone)]
pub enum Body {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A part of an object.
    Slice {
        /// The object.
        object: Object,
        /// First byte.
        start: u64,
        /// Number of bytes.
        length: u64,
    },
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Slice { length, .. } => *length,
        }
    }

    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) {
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap();
                buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
            }
            Self::Slice { object, start, .. } => object.read_at(start + offset, buffer),
        }
    }
}

/// An answer. `Content-Length` is added unless a header of that name is there.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Header fields in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Body,
    /// What goes wrong while it is sent.
    pub faults: Vec<Fault>,
}

impl Reply {
    /// A status with an empty body.
    pub fn status(status: u16) -> Self {
        Self::bytes(status, Vec::new())
    }

    /// A status with a body.
    pub fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Bytes(body.into()),
            faults: Vec::new(),
        }
    }

    /// A status with plain text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::bytes(status, text).header("Content-Type", "text/plain; charset=UTF-8")
    }

    /// A status with JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::bytes(status, value.to_string()).header("Content-Type", "application/json")
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).header("Location", location)
    }

    /// The object as RFC 9110 has it: 200 with all of it, or 206 with the range that was asked for,
    /// or 416.
    pub fn object(request: &Request, object: &Object) -> Self {
        let Some((first, last)) = request.range() else {
            return Self::slice(200, object, 0, object.size());
        };
        if first >= object.size() || last.is_some_and(|last| last < first) {
            let range = format!("bytes */{}", object.size());
            return Self::text(416, "no such range\n").header("Content-Range", &range);
        }
        let last = last.map_or(object.size() - 1, |last| last.min(object.size() - 1));
        let range = format!("bytes {first}-{last}/{}", object.size());
        Self::slice(206, object, first, last - first + 1).header("Content-Range", &range)
    }

    fn slice(status: u16, object: &Object, start: u64, length: u64) -> Self {
        let body = Body::Slice {
            object: object.clone(),
            start,
            length,
        };
        Self {
            body,
            ..Self::status(status).header("Content-Type", "application/octet-stream")
        }
    }

    /// Adds a header, or replaces it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a fault.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    pub(crate) fn remove_header(&mut self, name: &str) {
        self.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    pub(crate) fn set_range(&mut self, range: &str) {
        self.remove_header("Content-Range");
        self.headers
            .push(("Content-Range".to_owned(), range.to_owned()));
    }

    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    }
}
