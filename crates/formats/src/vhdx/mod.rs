//! `Hyper-V`'s second format, as \[MS-VHDX\] specifies it: fixed and dynamic images whose log is empty.

mod header;
mod metadata;

use header::Regions;
use metadata::Metadata;

use crate::{
    Error, Format, Kind,
    info::Info,
    map::{Layout, Pieces},
    read_at::{Input, Table, Tables},
};

/// Offsets are multiples of this.
const MIB: u64 = 1 << 20;
/// Bits of the state and of the offset in an entry; the others are reserved.
const STATE: u64 = 7;
const OFFSET: u64 = !(MIB - 1);
/// States of a block: never written, undefined, zero, discarded, and discarded as drafts of the format had it.
const HOLES: [u64; 5] = [0, 1, 2, 3, 5];
const PRESENT: u64 = 6;
/// Sectors that one entry of a sector bitmap's block stands for; such entries lie among the others.
const CHUNK_SECTORS: u64 = 1 << 23;

/// Reads headers, region table and metadata.
pub(crate) fn open(input: &mut Input<'_>) -> Result<(Info, Box<dyn Layout>), Error> {
    let regions = Regions::read(input)?;
    let metadata = Metadata::read(input, regions.metadata)?;
    let blocks = metadata.size.div_ceil(metadata.block_size);
    // Both are powers of two: a block has at most 2^28 bytes, a chunk at least 2^32.
    let ratio = CHUNK_SECTORS * metadata.sector / metadata.block_size;
    let entries = blocks + blocks.saturating_sub(1) / ratio;
    let (offset, length) = regions.blocks;
    if entries * 8 > length {
        let problem = format!(
            "the disk of {} bytes needs {entries} entries",
            metadata.size
        );
        return Err(error(Kind::Corrupt, "length of the BAT", length, problem));
    }
    let info = Info {
        format: Format::Vhdx,
        // The flag says whether blocks stay allocated, which is what makes an image fixed.
        variant: if metadata.is_fixed {
            "fixed"
        } else {
            "dynamic"
        },
        version: 1,
        virtual_size: metadata.size,
        cluster_size: metadata.block_size,
        compression: None,
        features: if metadata.sector == 512 {
            Vec::new()
        } else {
            vec!["sectors of 4096 bytes"]
        },
    };
    let layout = Blocks {
        table: Table {
            level: 1,
            name: "BAT",
            offset,
            len: entries * 8,
        },
        block_size: metadata.block_size,
        ratio,
        regions,
    };
    Ok((info, Box::new(layout)))
}

fn error(
    kind: Kind,
    field: &'static str,
    value: impl std::fmt::Display,
    problem: impl Into<std::borrow::Cow<'static, str>>,
) -> Error {
    Error::new(kind, Format::Vhdx, field, value, problem)
}

/// The blocks of an image.
#[derive(Debug)]
struct Blocks {
    table: Table,
    block_size: u64,
    /// Blocks between two entries of sector bitmaps.
    ratio: u64,
    regions: Regions,
}

impl Blocks {
    fn block(&self, entry: u64, pieces: &mut Pieces) -> Result<(), Error> {
        let (state, offset) = (entry & STATE, entry & OFFSET);
        let problem = if entry & !(STATE | OFFSET) != 0 {
            "reserved bits are set"
        } else if HOLES.contains(&state) {
            pieces.hole(self.block_size);
            return Ok(());
        } else if state == PRESENT {
            return pieces.data(offset, self.block_size);
        } else {
            "no state of a block without a parent"
        };
        let field = format!("BAT entry for byte {} of the disk", pieces.at());
        let value = format!("{entry:#018x}");
        Err(Error::new(
            Kind::Corrupt,
            Format::Vhdx,
            field,
            value,
            problem,
        ))
    }
}

impl Layout for Blocks {
    fn describe(
        &self,
        tables: &mut Tables<'_>,
        end: u64,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        let first = pieces.at() / self.block_size;
        let index = first + first / self.ratio;
        let entries = tables.entries(self.table, index * 8)?;
        // An entry of a sector bitmap follows each `ratio` of the others.
        let period = self.ratio + 1;
        for (number, entry) in (index..).zip(entries.bytes.chunks_exact(8)) {
            if pieces.at() >= end {
                break;
            }
            if number % period != self.ratio {
                let entry = entry.first_chunk().copied().map_or(0, u64::from_le_bytes);
                self.block(entry, pieces)?;
            }
        }
        Ok(())
    }

    fn regions(&self, _tables: &mut Tables<'_>, pieces: &mut Pieces) -> Result<(), Error> {
        pieces.table("headers", 0, header::END)?;
        let Regions {
            blocks,
            metadata,
            log,
        } = self.regions;
        for (name, (offset, length)) in [("BAT", blocks), ("metadata", metadata), ("log", log)] {
            if length > 0 {
                pieces.table(name, offset, length)?;
            }
        }
        Ok(())
    }
}
