//! Reads disk image formats: qcow2, vmdk, vdi, vhd, vhdx and raw, and the compressed files they come in.
//!
//! ```text
//! bytes of the file --> Image::open --> what it is: format, size of the guest's disk, features
//!      (ReadAt)             |
//!                           +--> check:          the whole map is sound, and how much is data
//!                           +--> extents:        the guest's disk in its order, lazily
//!                           +--> file_order:     the stored ones in the order of the file
//!                           +--> decoder:        one compressed cluster at a time
//!
//! bytes of the file --> Unwrap --> Stream: the disk of a file that comes once, where its tables come before its data
//!      (Read)     \-----------------^
//! ```
//!
//! The crate does no input or output: it asks a [`ReadAt`] for ranges of the file, and its caller fetches the bytes of
//! the extents. It has no thread, no clock and no global. Content decides what a file is, never its name or what a
//! service calls it. Nothing that an image refers to is followed: backing files, parents, data files and further extents
//! are refused with an [`Error`] that names them.
//!
//! # Bounds
//! Input is hostile. All arithmetic is checked, no size in a file leads to an allocation of that size, and no table is
//! held whole: tables are read in slices of 16 KiB. [`Extents`] holds the extents of one slice (at most 1.3 MiB, for
//! qcow2 with subclusters; 160 KiB otherwise), [`FileOrder`] at most 131072 extents (6 to 10 MiB), and reads the tables
//! again when there are more. [`Stream`] holds what lies in front of the data (64 MiB at most), 16 MiB of the file and 65536 places. The bytes that tables refer to are summed up: more than the file has is refused, so that
//! one cluster cannot be repeated into terabytes. Wrapped files are decoded in the memory that the caller allows.
#![forbid(unsafe_code)]

mod bytes;
mod decode;
mod detect;
mod error;
mod format;
mod image;
mod info;
mod map;
mod qcow2;
mod raw;
mod read_at;
mod stream;
mod unwrap;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

pub use decode::Decoder;
pub use error::{Error, Kind};
pub use format::Format;
pub use image::Image;
pub use info::{Compression, Info};
pub use map::{Content, Extent, Extents, FileOrder, Summary};
pub use read_at::{ReadAhead, ReadAt, ReadError};
pub use stream::{Run, Stream};
pub use unwrap::{Limits, Unwrap};
