//! QEMU copy on write, versions 2 and 3, as `docs/interop/qcow2.txt` of QEMU specifies it.
//!
//! Internal snapshots, bitmaps and lazy refcounts do not concern the disk as the guest sees it: the active L1 table
//! alone describes that.

mod header;
mod tables;

use header::Header;
use tables::Clusters;

use crate::{Compression, Error, info::Info, map::Layout, read_at::Input};

/// Reads the header.
pub(crate) fn open(input: &mut Input<'_>) -> Result<(Info, Box<dyn Layout>), Error> {
    let header = Header::read(input)?;
    let info = Info {
        format: input.format,
        variant: "qcow2",
        version: header.version,
        virtual_size: header.size,
        cluster_size: header.cluster_size(),
        compression: Some(if header.is_zstd {
            Compression::Zstd
        } else {
            Compression::Deflate
        }),
        features: header.features(),
    };
    Ok((info, Box::new(Clusters::new(header))))
}
