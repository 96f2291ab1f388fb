//! The format of `VirtualBox`: a map of 32-bit numbers of blocks, which lie one behind the other.
//!
//! Facts from `VirtualBox`'s `VDICore.h` and QEMU's `block/vdi.c`. A static image has the same map as a dynamic one, with
//! all blocks there from the beginning.

use crate::{
    Error, Format, Kind,
    bytes::Fields,
    info::Info,
    map::{Layout, Pieces},
    read_at::{Input, Table, Tables},
};

/// Bytes of the text before the header and of the header that are looked at.
const HEADER: usize = 512;
/// The version that is specified; those before it are of 2006.
const VERSION: u32 = 0x0001_0001;
const DYNAMIC: u32 = 1;
const STATIC: u32 = 2;
/// Types of images that hold what differs from a parent: undo and difference.
const UNDO: u32 = 3;
const DIFFERENCE: u32 = 4;
/// From this number on an entry is no block: one was never written, the other reads as zeroes.
const NO_BLOCK: u32 = 0xffff_fffe;
/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Reads the header.
pub(crate) fn open(input: &mut Input<'_>) -> Result<(Info, Box<dyn Layout>), Error> {
    let mut bytes = [0; HEADER];
    input.read("header", 0, &mut bytes)?;
    let fields = Fields {
        format: Format::Vdi,
        name: "header",
        bytes: &bytes,
    };
    let version = fields.le32(68)?;
    if version != VERSION {
        let value = format!("{version:#010x}");
        let problem = "version 1.1 (0x00010001) is known";
        return Err(error(Kind::Unsupported, "version", value, problem));
    }
    let variant = match fields.le32(76)? {
        DYNAMIC => "dynamic",
        STATIC => "static",
        kind @ (UNDO | DIFFERENCE) => {
            let problem = "it holds only what differs from a parent, which is never followed";
            return Err(error(Kind::Backing, "image type", kind, problem));
        }
        kind => {
            let problem = "dynamic (1) and static (2) are known";
            return Err(error(Kind::Unsupported, "image type", kind, problem));
        }
    };
    let parent = fields.slice(440, 16)?;
    if parent.iter().any(|byte| *byte != 0) {
        let value = format!("{:#034x}", u128::from_be_bytes(fields.array(440)?));
        let problem = "it holds only what differs from its parent, which is never followed";
        return Err(error(Kind::Backing, "parent's UUID", value, problem));
    }
    let sector = fields.le32(360)?;
    if u64::from(sector) != SECTOR {
        let problem = "a sector has 512 bytes";
        return Err(error(Kind::Unsupported, "sector size", sector, problem));
    }
    let block_size = u64::from(fields.le32(376)?);
    if !block_size.is_power_of_two() || block_size < SECTOR {
        let problem = "a block has a power of two of at least 512 bytes";
        return Err(error(Kind::Corrupt, "block size", block_size, problem));
    }
    // Bytes before the data of each block, which no known program writes.
    let extra = fields.le32(380)?;
    if extra != 0 {
        let problem = "blocks without extra data are known";
        return Err(error(Kind::Unsupported, "block extra size", extra, problem));
    }
    let virtual_size = fields.le64(368)?;
    let blocks = u64::from(fields.le32(384)?);
    let needed = virtual_size.div_ceil(block_size);
    if blocks < needed {
        let problem = format!("the disk of {virtual_size} bytes needs {needed}");
        return Err(error(Kind::Corrupt, "blocks in the image", blocks, problem));
    }
    let info = Info {
        format: Format::Vdi,
        variant,
        version: version >> 16,
        virtual_size,
        cluster_size: block_size,
        compression: None,
        features: Vec::new(),
    };
    let layout = Blocks {
        map: Table {
            level: 1,
            name: "block map",
            offset: u64::from(fields.le32(340)?),
            len: needed * 4,
        },
        data: u64::from(fields.le32(344)?),
        block_size,
    };
    Ok((info, Box::new(layout)))
}

fn error(
    kind: Kind,
    field: &'static str,
    value: impl std::fmt::Display,
    problem: impl Into<std::borrow::Cow<'static, str>>,
) -> Error {
    Error::new(kind, Format::Vdi, field, value, problem)
}

/// The blocks of an image.
#[derive(Debug)]
struct Blocks {
    map: Table,
    /// Offset of block 0.
    data: u64,
    block_size: u64,
}

impl Layout for Blocks {
    fn describe(
        &self,
        tables: &mut Tables<'_>,
        end: u64,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        let first = pieces.at() / self.block_size;
        let entries = tables.entries(self.map, first * 4)?;
        for entry in entries.bytes.chunks_exact(4) {
            if pieces.at() >= end {
                break;
            }
            match entry.first_chunk().copied().map(u32::from_le_bytes) {
                None | Some(NO_BLOCK..) => pieces.hole(self.block_size),
                // Both factors have 32 bits, and so has the offset.
                Some(block) => {
                    let offset = u64::from(block).saturating_mul(self.block_size);
                    pieces.data(offset.saturating_add(self.data), self.block_size)?;
                }
            }
        }
        Ok(())
    }

    fn regions(&self, _tables: &mut Tables<'_>, pieces: &mut Pieces) -> Result<(), Error> {
        pieces.table("header", 0, HEADER as u64)?;
        if self.map.len > 0 {
            pieces.table(self.map.name, self.map.offset, self.map.len)?;
        }
        Ok(())
    }
}
