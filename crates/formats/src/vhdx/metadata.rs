//! The metadata region: sizes, and whether there is a parent.

use super::{MIB, error};
use crate::{Error, Format, Kind, bytes::Fields, read_at::Input};

/// Bytes of the table of items at the start of the region.
const TABLE: usize = 64 << 10;
/// Most items.
const MOST_ITEMS: u16 = 2047;
/// The flag of an item without which the image cannot be read.
const REQUIRED: u32 = 1 << 2;
/// Largest block and largest disk of the specification.
const MOST_BLOCK: u64 = 256 << 20;
const MOST_DISK: u64 = 64 << 40;
/// Flags of the file parameters: blocks stay allocated; there is a parent.
const STAYS_ALLOCATED: u32 = 1;
const HAS_PARENT: u32 = 1 << 1;

/// Identifiers of items, as they lie in the file.
const FILE_PARAMETERS: [u8; 16] = [
    0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b,
];
const DISK_SIZE: [u8; 16] = [
    0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8,
];
const LOGICAL_SECTOR: [u8; 16] = [
    0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f,
];
/// Known and of no concern: physical sector size, and the identity of the disk.
const PHYSICAL_SECTOR: [u8; 16] = [
    0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56,
];
const IDENTITY: [u8; 16] = [
    0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46,
];
/// Where the parent is.
const PARENT_LOCATOR: [u8; 16] = [
    0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c,
];

/// What the metadata says, checked. In bytes.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) size: u64,
    pub(super) block_size: u64,
    pub(super) sector: u64,
    pub(super) is_fixed: bool,
}

impl Metadata {
    /// Reads the region at this offset, of this length.
    pub(super) fn read(input: &mut Input<'_>, region: (u64, u64)) -> Result<Self, Error> {
        let mut bytes = vec![0; TABLE];
        input.read("metadata table", region.0, &mut bytes)?;
        let fields = fields("metadata table", &bytes);
        if fields.slice(0, 8)? != b"metadata" {
            let problem = "it has no signature";
            return Err(error(Kind::Corrupt, "metadata table", "there", problem));
        }
        let count = fields.le16(10)?;
        if count > MOST_ITEMS {
            let problem = format!("a table has at most {MOST_ITEMS} items");
            return Err(error(Kind::Corrupt, "entry count", count, problem));
        }
        let (mut parameters, mut size, mut sector) = (None, None, None);
        for at in (32..).step_by(32).take(usize::from(count)) {
            let place = (fields.le32(at + 16)?, fields.le32(at + 20)?);
            match fields.array(at)? {
                FILE_PARAMETERS => parameters = Some(item::<8>(input, region, place)?),
                DISK_SIZE => size = Some(u64::from_le_bytes(item(input, region, place)?)),
                LOGICAL_SECTOR => sector = Some(u32::from_le_bytes(item(input, region, place)?)),
                PHYSICAL_SECTOR | IDENTITY => {}
                PARENT_LOCATOR => return Err(parent()),
                other if fields.le32(at + 24)? & REQUIRED != 0 => {
                    let value = format!("{:#034x}", u128::from_be_bytes(other));
                    let problem = "an item that is not known and is required";
                    return Err(error(Kind::Unsupported, "metadata item", value, problem));
                }
                _ => {}
            }
        }
        let (Some(parameters), Some(size), Some(sector)) = (parameters, size, sector) else {
            let problem = "an item is missing: file parameters, disk size or sector size";
            return Err(error(
                Kind::Corrupt,
                "metadata table",
                "incomplete",
                problem,
            ));
        };
        let parameters = self::fields("file parameters", &parameters);
        let (block_size, flags) = (u64::from(parameters.le32(0)?), parameters.le32(4)?);
        if flags & HAS_PARENT != 0 {
            return Err(parent());
        }
        if !block_size.is_power_of_two() || !(MIB..=MOST_BLOCK).contains(&block_size) {
            let problem = "a block has a power of two of 1 to 256 MiB";
            return Err(error(Kind::Corrupt, "block size", block_size, problem));
        }
        if !matches!(sector, 512 | 4096) {
            let problem = "a sector has 512 or 4096 bytes";
            return Err(error(Kind::Corrupt, "logical sector size", sector, problem));
        }
        if size == 0 || size > MOST_DISK || !size.is_multiple_of(u64::from(sector)) {
            let problem = "a disk has whole sectors, at least one, and at most 64 TiB";
            return Err(error(Kind::Corrupt, "virtual disk size", size, problem));
        }
        Ok(Self {
            size,
            block_size,
            sector: u64::from(sector),
            is_fixed: flags & STAYS_ALLOCATED != 0,
        })
    }
}

/// The item of `N` bytes at this offset in the region, of this length.
fn item<const N: usize>(
    input: &mut Input<'_>,
    region: (u64, u64),
    (offset, length): (u32, u32),
) -> Result<[u8; N], Error> {
    let end = u64::from(offset) + u64::from(length);
    if (offset as usize) < TABLE || length as usize != N || end > region.1 {
        let value = format!("{length} bytes at {offset}");
        let problem = format!("{N} bytes, behind the table and in the region, are wanted");
        return Err(error(Kind::Corrupt, "metadata item", value, problem));
    }
    let mut bytes = [0; N];
    let at = region.0.saturating_add(u64::from(offset));
    input.read("metadata item", at, &mut bytes)?;
    Ok(bytes)
}

fn parent() -> Error {
    let problem = "the disk holds only what differs from it, and it is never followed";
    error(Kind::Backing, "parent", "there", problem)
}

fn fields<'a>(name: &'static str, bytes: &'a [u8]) -> Fields<'a> {
    Fields {
        format: Format::Vhdx,
        name,
        bytes,
    }
}
