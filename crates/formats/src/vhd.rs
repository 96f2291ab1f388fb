//! The format of `Virtual PC`, `Hyper-V` and Azure, as Microsoft's "Virtual Hard Disk Image Format Specification" has it,
//! with the customs of QEMU where it is silent.
//!
//! A fixed image is the disk with a footer behind it. A dynamic one begins with a copy of the footer, and has a table
//! (BAT) of the offsets of blocks; before each block lies a bitmap of its sectors. Sectors that the bitmap does not
//! mark are zeroes in the block, so that the bitmaps are not read, as in QEMU.

use crate::{
    Error, Format, Kind,
    bytes::Fields,
    info::Info,
    map::{Layout, Pieces},
    raw::Whole,
    read_at::{Input, Table, Tables},
};

/// Bytes of the footer, and of a sector.
const FOOTER: u64 = FOOTER_BYTES as u64;
const FOOTER_BYTES: usize = 512;
/// Bytes of the header of a dynamic image.
const HEADER: u64 = HEADER_BYTES as u64;
const HEADER_BYTES: usize = 1024;
/// Offset of the checksum in the footer.
const FOOTER_CHECKSUM: usize = 64;
/// Offset of the checksum in the header.
const HEADER_CHECKSUM: usize = 36;
/// Types of images.
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
/// The major version that is specified.
const VERSION: u32 = 0x0001_0000;
/// A block that is not there.
const UNUSED: u32 = u32::MAX;
/// The geometry that means "larger than geometries can say": cylinders, heads, sectors.
const LARGEST_GEOMETRY: [u64; 3] = [65535, 16, 255];
/// Programs that state the size of the disk; the others state its geometry. QEMU has the same list.
const STATE_SIZE: [&[u8; 4]; 6] = [b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS", b"wa\0\0"];

/// Whether the file ends with the footer of a fixed image.
pub(crate) fn has_fixed_footer(input: &mut Input<'_>) -> Result<bool, Error> {
    let Some(at) = input.size().checked_sub(FOOTER) else {
        return Ok(false);
    };
    let mut bytes = [0; FOOTER_BYTES];
    input.read("last sector", at, &mut bytes)?;
    let footer = Footer::parse(&bytes);
    Ok(footer.is_ok_and(|footer| footer.kind == FIXED))
}

/// Reads the footer, and the header of a dynamic image.
pub(crate) fn open(input: &mut Input<'_>) -> Result<(Info, Box<dyn Layout>), Error> {
    let mut bytes = [0; FOOTER_BYTES];
    input.read("footer's copy", 0, &mut bytes)?;
    if bytes.starts_with(b"conectix") {
        return open_dynamic(input, &Footer::parse(&bytes)?);
    }
    let at = input.size().saturating_sub(FOOTER);
    input.read("footer", at, &mut bytes)?;
    let footer = Footer::parse(&bytes)?;
    check_kind(&footer, FIXED)?;
    if footer.current_size != at {
        let problem = format!("the file has {at} bytes before its footer");
        return Err(corrupt("current size", footer.current_size, problem));
    }
    let info = footer.info("fixed", 1);
    if info.virtual_size > at {
        let problem = format!("the file has {at} bytes before its footer");
        return Err(corrupt("size by geometry", info.virtual_size, problem));
    }
    Ok((info, Box::new(Whole)))
}

fn open_dynamic(input: &mut Input<'_>, footer: &Footer) -> Result<(Info, Box<dyn Layout>), Error> {
    check_kind(footer, DYNAMIC)?;
    let mut bytes = [0; HEADER_BYTES];
    input.read("dynamic header", footer.data_offset, &mut bytes)?;
    let fields = Fields {
        format: Format::Vhd,
        name: "dynamic header",
        bytes: &bytes,
    };
    if fields.slice(0, 8)? != b"cxsparse" {
        let problem = "there is no dynamic header";
        return Err(corrupt("data offset", footer.data_offset, problem));
    }
    check_sum(fields, HEADER_CHECKSUM)?;
    let block_size = u64::from(fields.be32(32)?);
    if !block_size.is_power_of_two() || block_size < FOOTER {
        let problem = "a block has a power of two of at least 512 bytes";
        return Err(corrupt("block size", block_size, problem));
    }
    let entries = u64::from(fields.be32(28)?);
    let info = footer.info("dynamic", block_size);
    let needed = info.virtual_size.div_ceil(block_size);
    if entries < needed {
        let problem = format!("the disk of {} bytes needs {needed}", info.virtual_size);
        return Err(corrupt("max table entries", entries, problem));
    }
    let layout = Blocks {
        header: footer.data_offset,
        table: Table {
            level: 1,
            name: "block allocation table",
            offset: fields.be64(16)?,
            len: needed * 4,
        },
        block_size,
        // A bit for each sector, in whole sectors.
        bitmap_size: (block_size / FOOTER).div_ceil(8).next_multiple_of(FOOTER),
    };
    Ok((info, Box::new(layout)))
}

/// The footer, whose checksum is right.
#[derive(Debug)]
struct Footer {
    kind: u32,
    version: u32,
    data_offset: u64,
    current_size: u64,
    creator: [u8; 4],
    /// Cylinders, heads, sectors.
    geometry: [u64; 3],
}

impl Footer {
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let fields = Fields {
            format: Format::Vhd,
            name: "footer",
            bytes,
        };
        if fields.slice(0, 8)? != b"conectix" {
            let problem = "the footer's signature is not there: the file may be cut";
            return Err(Error::new(
                Kind::Truncated,
                Format::Vhd,
                "footer",
                "missing",
                problem,
            ));
        }
        check_sum(fields, FOOTER_CHECKSUM)?;
        let version = fields.be32(12)?;
        if version & 0xffff_0000 != VERSION {
            let problem = "version 1 is known";
            return Err(Error::new(
                Kind::Unsupported,
                Format::Vhd,
                "file format version",
                format!("{version:#x}"),
                problem,
            ));
        }
        Ok(Self {
            kind: fields.be32(60)?,
            version: version >> 16,
            data_offset: fields.be64(16)?,
            current_size: fields.be64(48)?,
            creator: fields.array(28)?,
            geometry: [
                u64::from(fields.be16(56)?),
                u64::from(fields.u8(58)?),
                u64::from(fields.u8(59)?),
            ],
        })
    }

    fn info(&self, variant: &'static str, cluster_size: u64) -> Info {
        let states_size = STATE_SIZE.contains(&&self.creator) || self.geometry == LARGEST_GEOMETRY;
        // Factors of 16, 8 and 8 bits, and 512.
        let by_geometry = self.geometry.iter().product::<u64>() * FOOTER;
        let virtual_size = if states_size {
            self.current_size
        } else {
            by_geometry
        };
        Info {
            format: Format::Vhd,
            variant,
            version: self.version,
            virtual_size,
            cluster_size,
            compression: None,
            features: if states_size {
                Vec::new()
            } else {
                vec!["size by geometry"]
            },
        }
    }
}

fn check_kind(footer: &Footer, wanted: u32) -> Result<(), Error> {
    let (kind, problem) = match footer.kind {
        kind if kind == wanted => return Ok(()),
        DIFFERENCING => (
            Kind::Backing,
            "the image holds only what differs from its parent, which is never followed",
        ),
        FIXED | DYNAMIC => (Kind::Corrupt, "the footer lies where another type has it"),
        _ => (Kind::Unsupported, "fixed (2) and dynamic (3) are known"),
    };
    Err(Error::new(
        kind,
        Format::Vhd,
        "disk type",
        footer.kind,
        problem,
    ))
}

/// Compares the checksum at `at` with that of all other bytes: the complement of their sum.
fn check_sum(fields: Fields<'_>, at: usize) -> Result<(), Error> {
    let stated = fields.be32(at)?;
    let own = fields.slice(at, 4)?;
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    // At most 1024 bytes.
    let computed = !(sum(fields.bytes) - sum(own));
    if stated == computed {
        return Ok(());
    }
    let problem = format!("the checksum of the {} is {computed:#x}", fields.name);
    Err(corrupt("checksum", format!("{stated:#x}"), problem))
}

fn corrupt(
    field: &'static str,
    value: impl std::fmt::Display,
    problem: impl Into<std::borrow::Cow<'static, str>>,
) -> Error {
    Error::new(Kind::Corrupt, Format::Vhd, field, value, problem)
}

/// The blocks of a dynamic image.
#[derive(Debug)]
struct Blocks {
    header: u64,
    table: Table,
    block_size: u64,
    bitmap_size: u64,
}

impl Layout for Blocks {
    fn describe(
        &self,
        tables: &mut Tables<'_>,
        end: u64,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        let first = pieces.at() / self.block_size;
        let entries = tables.entries(self.table, first * 4)?;
        for entry in entries.bytes.chunks_exact(4) {
            if pieces.at() >= end {
                break;
            }
            match entry.first_chunk().copied().map(u32::from_be_bytes) {
                None | Some(UNUSED) => pieces.hole(self.block_size),
                Some(sector) => {
                    // 32 bits of sectors, and at most 32 bits of a bitmap.
                    let offset = u64::from(sector) * FOOTER;
                    pieces.table("sector bitmap", offset, self.bitmap_size)?;
                    pieces.data(offset + self.bitmap_size, self.block_size)?;
                }
            }
        }
        Ok(())
    }

    fn regions(&self, tables: &mut Tables<'_>, pieces: &mut Pieces) -> Result<(), Error> {
        pieces.table("footer's copy", 0, FOOTER)?;
        pieces.table("dynamic header", self.header, HEADER)?;
        if self.table.len > 0 {
            pieces.table(self.table.name, self.table.offset, self.table.len)?;
        }
        let mut cookie = [0; 8];
        let last = tables.input.size().saturating_sub(FOOTER);
        tables.input.read("footer", last, &mut cookie)?;
        if &cookie == b"conectix" && last > 0 {
            pieces.table("footer", last, FOOTER)?;
        }
        Ok(())
    }
}
