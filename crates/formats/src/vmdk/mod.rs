//! `VMware`'s hosted sparse extents: `monolithicSparse` and `streamOptimized`, as its "Virtual Disk Format 5.0" has them.
//!
//! Files that hold a descriptor alone (flat and split disks) and ESX's own sparse extents are refused by their names.

mod descriptor;
mod header;
mod tables;

use header::Header;
use tables::Grains;

use std::io::Read;

use crate::{
    Error, Format, Kind, error::quoted, info::Info, map::Layout, read_at::Input,
    stream::window::Window,
};

/// Bytes of a sector, the unit of all offsets.
const SECTOR: u64 = 512;
/// How a sparse extent begins.
const SIGNATURE: &[u8; 4] = b"KDMV";

/// Reads the header and the descriptor.
pub(crate) fn open(input: &mut Input<'_>) -> Result<(Info, Box<dyn Layout>), Error> {
    let head = input.head()?;
    if !head.starts_with(SIGNATURE) {
        return Err(other_file(input, &head));
    }
    let header = Header::read(input)?;
    let variant = descriptor::check(input, &header)?;
    Ok((header.info(variant), Box::new(Grains::new(header))))
}

/// Whether the directory is named at the end of the file only.
pub(crate) fn has_tables_at_end<R: Read>(window: &mut Window<R>) -> Result<bool, Error> {
    window.fill_to(SECTOR)?;
    Ok(window.held().starts_with(SIGNATURE)
        && Header::parse(window.held(), "header").is_ok_and(|header| header.is_stream()))
}

/// A stream with its tables at the end, by its beginning.
#[derive(Debug)]
pub(crate) struct StreamHead {
    pub(crate) info: Info,
    /// Offset of the first marker.
    pub(crate) marker: u64,
    /// Bytes of the disk that a grain table describes.
    pub(crate) table_covers: u64,
    /// Bytes of the grain directory.
    pub(crate) directory_bytes: u64,
}

/// Reads the header and the descriptor of a stream with its tables at the end.
pub(crate) fn open_stream<R: Read>(window: &mut Window<R>) -> Result<StreamHead, Error> {
    let header = Header::parse(window.held(), "header")?;
    let (offset, size) = header.descriptor;
    window.need(
        "descriptor",
        offset.saturating_add(size.min(descriptor::MOST)),
    )?;
    let mut held = window.held();
    let mut input = Input {
        file: &mut held,
        format: Format::Vmdk,
    };
    let variant = descriptor::check(&mut input, &header)?;
    Ok(StreamHead {
        info: header.info(variant),
        marker: header.overhead.max(SECTOR),
        table_covers: header.table_covers(),
        directory_bytes: header.directory_bytes(),
    })
}

/// Compares a footer, as a stream has it, with its header and with where its directory was, as an offset in the file.
pub(crate) fn check_footer(bytes: &[u8], info: &Info, directory: Option<u64>) -> Result<(), Error> {
    let footer = Header::parse(bytes, "footer")?;
    let is_same = footer.size == info.virtual_size && footer.grain == info.cluster_size;
    if is_same && (directory == Some(footer.directory) || footer.directory_bytes() == 0) {
        return Ok(());
    }
    let problem = "it names another directory, or says something else than the header";
    Err(Error::new(
        Kind::Corrupt,
        Format::Vmdk,
        "footer",
        "there",
        problem,
    ))
}

/// The error for a file of the format that is no hosted sparse extent.
fn other_file(input: &mut Input<'_>, head: &[u8]) -> Error {
    if head.starts_with(b"#") {
        return match descriptor::read(input, 0, descriptor::MOST) {
            Ok(text) => descriptor::refuse(&text),
            Err(error) => error,
        };
    }
    let name = if head.starts_with(b"COWD") {
        "COWD (an ESX host's vmfsSparse)"
    } else if head.starts_with(b"\xbe\xba\xfe\xca") {
        "seSparse (an ESX host's)"
    } else {
        let problem = "it is none of the format";
        let signature = quoted(head.get(..4).unwrap_or_default());
        return Error::new(Kind::Corrupt, Format::Vmdk, "signature", signature, problem);
    };
    let problem = "monolithicSparse and streamOptimized are supported";
    Error::new(Kind::Unsupported, Format::Vmdk, "signature", name, problem)
}
