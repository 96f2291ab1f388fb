//! Numbers in a piece of the file.

use crate::{Error, Format, Kind};

/// Bytes of a header or a table, with the name that errors give them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) format: Format,
    pub(crate) name: &'static str,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The `N` bytes at `at`.
    pub(crate) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Error> {
        self.bytes
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .ok_or_else(|| self.ends_at(at, N))
    }

    /// The `len` bytes at `at`.
    pub(crate) fn slice(self, at: usize, len: usize) -> Result<&'a [u8], Error> {
        self.bytes
            .get(at..)
            .and_then(|rest| rest.get(..len))
            .ok_or_else(|| self.ends_at(at, len))
    }

    pub(crate) fn u8(self, at: usize) -> Result<u8, Error> {
        self.array(at).map(u8::from_be_bytes)
    }

    pub(crate) fn be16(self, at: usize) -> Result<u16, Error> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(crate) fn be32(self, at: usize) -> Result<u32, Error> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(crate) fn be64(self, at: usize) -> Result<u64, Error> {
        self.array(at).map(u64::from_be_bytes)
    }

    pub(crate) fn le16(self, at: usize) -> Result<u16, Error> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn le32(self, at: usize) -> Result<u32, Error> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn le64(self, at: usize) -> Result<u64, Error> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn ends_at(self, at: usize, len: usize) -> Error {
        let value = format!("{} bytes long", self.bytes.len());
        Error::new(
            Kind::Truncated,
            self.format,
            self.name,
            value,
            format!("{len} bytes at {at} of it are needed"),
        )
    }
}
