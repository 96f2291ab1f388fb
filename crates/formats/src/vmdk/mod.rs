//! `VMware`'s hosted sparse extents: `monolithicSparse` and `streamOptimized`, as its "Virtual Disk Format 5.0" has them.
//!
//! Files that hold a descriptor alone (flat and split disks) and ESX's own sparse extents are refused by their names.

mod descriptor;
mod header;
mod tables;

use header::Header;
use tables::Grains;

use crate::{
    Compression, Error, Format, Kind, error::quoted, info::Info, map::Layout, read_at::Input,
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
    let info = Info {
        format: Format::Vmdk,
        variant,
        version: header.version,
        virtual_size: header.size,
        cluster_size: header.grain,
        compression: header.is_compressed.then_some(Compression::VmdkGrain),
        features: [
            (header.is_unclean, "not closed cleanly"),
            (header.has_zero_grains, "zeroed grains"),
            (header.footer.is_some(), "tables at the end"),
        ]
        .into_iter()
        .filter_map(|(is_there, name)| is_there.then_some(name))
        .collect(),
    };
    Ok((info, Box::new(Grains::new(header))))
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
