//! The guest's disk out of a file that comes once, from its first byte to its last.
//!
//! ```text
//! bytes of the file --> Window: the last ones, at most 16 MiB --> tables: walk, as far as tables have come
//!                                          |                          |  places of the disk's bytes
//!                                          +------------------> runs of the disk, in the file's order
//!                                                                     ^
//!                       (a vmdk with its tables at the end) grains: markers in front of the data
//! ```
//!
//! It works where a table comes before the data that it names, as programs write that create an image in one go.

mod grains;
mod tables;
pub(crate) mod window;

use std::{io::Read, ops::Range};

use self::{
    grains::Grains,
    tables::Tabled,
    window::{TAIL, Window},
};
use crate::{Error, Format, Info, Kind, read_at::Input, vhd, vmdk};

/// Most bytes of data in one [`Run`].
const MOST_DATA: u64 = 1 << 20;

/// What comes next of the guest's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run<'a> {
    /// Zeroes, which are not in the file.
    Hole(Range<u64>),
    /// Data; at most 2 MiB.
    Data {
        /// Offset of the first byte on the guest's disk.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
}

/// An image that is read in one pass.
///
/// Each byte of the guest's disk is in one [`Run`]; their order is that of the file. Memory: what lies in front of the first
/// data, at most 64 MiB of it; 16 MiB of the file behind it, and as much again while that grows; 4 MiB of places; two
/// clusters (of at most 2 MiB). After an error nothing else may be asked of it.
pub struct Stream<R> {
    window: Window<R>,
    layout: Layout,
    /// Bytes of the disk that were given.
    given: u64,
}

enum Layout {
    Tabled(Box<Tabled>),
    Grains(Box<Grains>),
}

impl<R: Read> Stream<R> {
    /// Reads the beginning of a file of `format` and `size` bytes, if that is known: what
    /// [`Image::open_as`](crate::Image::open_as) reads.
    ///
    /// # Errors
    /// As for [`Image::open_as`](crate::Image::open_as); [`Kind::Order`] when a header lies behind the first 8 MiB, as that
    /// of a fixed vhd.
    pub fn open(file: R, format: Format, size: Option<u64>) -> Result<Self, Error> {
        let mut window = Window::new(file, format, size);
        let layout = match format {
            Format::Vmdk if vmdk::has_tables_at_end(&mut window)? => {
                Layout::Grains(Box::new(Grains::open(&mut window)?))
            }
            _ => Layout::Tabled(Box::new(Tabled::open(&mut window, format)?)),
        };
        Ok(Self {
            window,
            layout,
            given: 0,
        })
    }

    /// What the file is.
    #[must_use]
    pub const fn info(&self) -> &Info {
        match &self.layout {
            Layout::Tabled(tabled) => tabled.info(),
            Layout::Grains(grains) => grains.info(),
        }
    }

    /// The next part of the disk; `None` when all of it was given and the file was read to its end.
    ///
    /// # Errors
    /// [`Kind::Order`] when a table comes after data that it names: the image has to be read by ranges.
    /// [`Kind::Ambiguous`] when the file ends like a fixed vhd. Those of [`Image::check`](crate::Image::check) and
    /// [`Decoder::decode`](crate::Decoder::decode), each only when it is reached: nothing is proven before the end.
    pub fn next_run(&mut self) -> Result<Option<Run<'_>>, Error> {
        let size = self.info().virtual_size;
        if self.given == size {
            return self.finish().map(|()| None);
        }
        let run = match &mut self.layout {
            Layout::Tabled(tabled) => tabled.next_run(&mut self.window)?,
            Layout::Grains(grains) => grains.next_run(&mut self.window)?,
        };
        self.given += match &run {
            Run::Hole(range) => range.end - range.start,
            Run::Data { bytes, .. } => bytes.len() as u64,
        };
        Ok(Some(run))
    }

    /// Reads the rest of the file, and looks at its last bytes.
    fn finish(&mut self) -> Result<(), Error> {
        if let Layout::Grains(grains) = &mut self.layout {
            grains.finish(&mut self.window)?;
        }
        self.window.skip_to(u64::MAX)?;
        if let Layout::Grains(grains) = &self.layout {
            grains.check_end(self.window.end())?;
        }
        let format = self.info().format;
        let tail = self.window.held();
        let skip = tail
            .len()
            .saturating_sub(usize::try_from(TAIL).unwrap_or_default());
        let mut tail = tail.get(skip..).unwrap_or_default();
        let mut input = Input {
            file: &mut tail,
            format,
        };
        // A dynamic vhd begins and ends with another footer.
        if self.info().variant != "fixed" && vhd::has_fixed_footer(&mut input)? {
            let problem = "but the last 512 bytes are the footer of a fixed vhd, so that two programs would see two disks";
            let (field, value) = ("signature", "there");
            return Err(Error::new(Kind::Ambiguous, format, field, value, problem));
        }
        Ok(())
    }
}

impl<R> std::fmt::Debug for Stream<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}
