//! What TLS runs over.

use crate::{Error, tcp::Socket};

/// A connected stream of bytes.
#[cfg_attr(
    not(feature = "testing"),
    allow(unreachable_pub, reason = "tests implement it for streams in memory")
)]
pub trait Wire {
    /// Who is at its other end, for texts.
    fn peer(&self) -> &str;

    /// Receives at least one byte, or 0 at the end of the stream. May wait for `low_water` bytes.
    fn read(&mut self, buf: &mut [u8], low_water: u32) -> Result<usize, Error>;

    /// Sends all of `data`.
    fn write_all(&mut self, data: &[u8]) -> Result<(), Error>;
}

impl Wire for Socket {
    fn peer(&self) -> &str {
        self.peer()
    }

    fn read(&mut self, buf: &mut [u8], low_water: u32) -> Result<usize, Error> {
        self.read(buf, low_water)
    }

    fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        self.write_all(data)
    }
}
