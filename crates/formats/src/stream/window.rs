//! The part of a stream that is held: what was read and may be wanted again.

use std::io::{self, Read};

use crate::{Error, Format, Kind};

/// Most bytes that are held: headers and the tables in front of the data of usual images.
pub(crate) const MOST: u64 = 8 << 20;
/// Most bytes between the first that is held and the last that is asked for: two packed clusters more.
const FARTHEST: u64 = MOST + (8 << 20);
/// Always held: at the end of the file they show whether it is a fixed vhd too.
pub(crate) const TAIL: u64 = 512;
/// Bytes that are asked of the stream at a time, at least.
const STEP: u64 = 256 << 10;

/// A file that comes once, with the bytes that came last.
pub(crate) struct Window<R> {
    file: R,
    format: Format,
    /// Size of the file in bytes; more than any file has where it is not known.
    size: u64,
    /// Offset in the file of the first byte that is held.
    start: u64,
    /// The bytes that are held, behind `skip` others.
    bytes: Vec<u8>,
    skip: usize,
    has_ended: bool,
}

impl<R: Read> Window<R> {
    pub(crate) const fn new(file: R, format: Format, size: Option<u64>) -> Self {
        let size = match size {
            Some(size) => size,
            // Sums with it cannot overflow.
            None => u64::MAX >> 1,
        };
        Self {
            file,
            format,
            size,
            start: 0,
            bytes: Vec::new(),
            skip: 0,
            has_ended: false,
        }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Offset of the first byte that is held.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// Offset behind the last byte that is held.
    pub(crate) const fn end(&self) -> u64 {
        self.start + (self.bytes.len() - self.skip) as u64
    }

    /// All that is held.
    pub(crate) fn held(&self) -> &[u8] {
        self.bytes.get(self.skip..).unwrap_or_default()
    }

    /// The bytes from `offset` to the end of what is held.
    pub(crate) fn from(&self, offset: u64) -> &[u8] {
        offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .and_then(|skip| self.held().get(skip..))
            .unwrap_or_default()
    }

    /// Reads on until the byte before `end` is held, or the file has ended.
    ///
    /// # Errors
    /// [`Kind::Order`] where more would have to be held than may be, [`Kind::Read`].
    pub(crate) fn fill_to(&mut self, end: u64) -> Result<(), Error> {
        if end.saturating_sub(self.start) > FARTHEST {
            let problem = format!("what is needed at {} is too far in front of it", self.start);
            return Err(Error::new(
                Kind::Order,
                self.format,
                "place in the file",
                end,
                problem,
            ));
        }
        while self.end() < end && !self.has_ended {
            if self.skip as u64 > STEP.max(self.bytes.len() as u64 / 4) {
                self.bytes.drain(..self.skip);
                self.skip = 0;
            }
            let wanted = (end - self.end()).max(STEP);
            let before = self.bytes.len();
            let read = self.file.by_ref().take(wanted).read_to_end(&mut self.bytes);
            read.map_err(|error| self.failed(error))?;
            self.has_ended = ((self.bytes.len() - before) as u64) < wanted;
        }
        Ok(())
    }

    /// The same; a file that ends before is an error.
    pub(crate) fn need(&mut self, name: &'static str, end: u64) -> Result<(), Error> {
        self.fill_to(end)?;
        if self.end() >= end {
            return Ok(());
        }
        Err(self.behind(name, end))
    }

    /// The error for a part of the file that reaches to `end`, and beyond the end of the file.
    pub(crate) fn behind(&self, name: &'static str, end: u64) -> Error {
        let problem = format!("it reaches to {end}, the file ends at {}", self.end());
        let value = "cut off";
        Error::new(Kind::Truncated, self.format, name, value, problem)
    }

    /// Whether nothing follows what is held.
    pub(crate) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Gives up what lies in front of `offset`.
    pub(crate) fn forget(&mut self, offset: u64) {
        let offset = offset.min(self.end().saturating_sub(TAIL));
        let Some(more) = offset.checked_sub(self.start) else {
            return;
        };
        // What is held lies in memory.
        self.skip += usize::try_from(more).unwrap_or(usize::MAX);
        self.start = offset;
    }

    /// Reads on to `offset`, or the end of the file, and gives up what lies in front of it.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), Error> {
        while self.end() < offset && !self.has_ended {
            self.forget(self.end());
            self.fill_to(offset.min(self.end().saturating_add(STEP)))?;
        }
        self.forget(offset);
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        let value = format!("at {}", self.end());
        let problem = "it cannot be read";
        Error::new(Kind::Read, self.format, "file", value, problem).because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_never_given_up() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
        let mut window = Window::new(&bytes[..], Format::Raw, None);
        window.fill_to(10).unwrap();
        assert_eq!((window.start(), window.end()), (0, STEP));
        window.forget(5000);
        assert_eq!(window.from(5000)[..9], bytes[5000..5009]);
        assert!(window.from(4999).is_empty());
        window.skip_to(2 << 20).unwrap();
        window.fill_to((2 << 20) + 1).unwrap();
        assert_eq!(window.from(2 << 20)[0], bytes[2 << 20]);
        window.skip_to(u64::MAX).unwrap();
        assert_eq!(window.end(), 3 << 20);
        assert_eq!(window.held(), &bytes[bytes.len() - 512..]);
        assert_eq!(
            window.need("data", (3 << 20) + 1).unwrap_err().kind(),
            Kind::Truncated
        );
    }
}
