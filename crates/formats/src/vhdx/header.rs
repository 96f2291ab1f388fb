//! The two headers, of which one is current, and the two copies of the region table.

use super::error;
use crate::{Error, Format, Kind, bytes::Fields, read_at::Input};

/// Offsets of the headers, and the bytes that their checksum is of.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const HEADER: usize = 4096;
/// Offsets of the copies of the region table, and the bytes that their checksum is of.
const TABLES: [u64; 2] = [192 << 10, 256 << 10];
const TABLE: usize = 64 << 10;
/// End of all that.
pub(super) const END: u64 = 320 << 10;
/// Most entries of a region table.
const MOST_REGIONS: u32 = 2047;
/// Identifiers of the two regions, as they lie in the file.
const BLOCKS: [u8; 16] = [
    0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08,
];
const METADATA: [u8; 16] = [
    0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
];

/// Where the parts of the file are: offsets and lengths in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Regions {
    /// The block allocation table (BAT).
    pub(super) blocks: (u64, u64),
    pub(super) metadata: (u64, u64),
    pub(super) log: (u64, u64),
}

impl Regions {
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self, Error> {
        let log = log(input)?;
        let mut bytes = vec![0; TABLE];
        let mut damage = None;
        for at in TABLES {
            input.read("region table", at, &mut bytes)?;
            match check_sum(&mut bytes, "region table", *b"regi") {
                Ok(()) => return Self::parse(&bytes, log),
                Err(found) => damage = Some(found),
            }
        }
        Err(damage
            .unwrap_or_else(|| error(Kind::Corrupt, "region table", "missing", "there is none")))
    }

    fn parse(bytes: &[u8], log: (u64, u64)) -> Result<Self, Error> {
        let fields = fields("region table", bytes);
        let count = fields.le32(8)?;
        if count > MOST_REGIONS {
            let problem = format!("a table has at most {MOST_REGIONS} regions");
            return Err(error(Kind::Corrupt, "entry count", count, problem));
        }
        let (mut blocks, mut metadata) = (None, None);
        for at in (16..)
            .step_by(32)
            .take(usize::try_from(count).unwrap_or_default())
        {
            let place = (fields.le64(at + 16)?, u64::from(fields.le32(at + 24)?));
            let region = match fields.array(at)? {
                BLOCKS => &mut blocks,
                METADATA => &mut metadata,
                _ if fields.le32(at + 28)? & 1 == 0 => continue,
                other => {
                    let value = format!("{:#034x}", u128::from_be_bytes(other));
                    let problem = "a region that is not known and is required";
                    return Err(error(Kind::Unsupported, "region", value, problem));
                }
            };
            if region.replace(place).is_some() {
                let problem = "a region is there twice";
                return Err(error(Kind::Corrupt, "region table", "ambiguous", problem));
            }
        }
        let (Some(blocks), Some(metadata)) = (blocks, metadata) else {
            let problem = "it names no BAT or no metadata";
            return Err(error(Kind::Corrupt, "region table", "incomplete", problem));
        };
        Ok(Self {
            blocks,
            metadata,
            log,
        })
    }
}

/// Finds the current header: that with the higher number of those that are whole. Returns where the log is, which must
/// be empty.
fn log(input: &mut Input<'_>) -> Result<(u64, u64), Error> {
    let mut bytes = vec![0; HEADER];
    let mut current: Option<(u64, Vec<u8>)> = None;
    let mut damage = None;
    for at in HEADERS {
        input.read("header", at, &mut bytes)?;
        if let Err(found) = check_sum(&mut bytes, "header", *b"head") {
            damage = Some(found);
            continue;
        }
        let sequence = fields("header", &bytes).le64(8)?;
        match &current {
            Some((other, _)) if *other == sequence => {
                let problem = "both headers have it, so that none is the current one";
                return Err(error(Kind::Corrupt, "sequence number", sequence, problem));
            }
            Some((other, _)) if *other > sequence => {}
            _ => current = Some((sequence, bytes.clone())),
        }
    }
    let Some((_, bytes)) = current else {
        let none = || error(Kind::Corrupt, "header", "missing", "there is none");
        return Err(damage.unwrap_or_else(none));
    };
    let fields = fields("header", &bytes);
    let version = fields.le16(66)?;
    if version != 1 {
        let problem = "version 1 is known";
        return Err(error(Kind::Unsupported, "version", version, problem));
    }
    let log = fields.array::<16>(48)?;
    if log != [0; 16] {
        let value = format!("{:#034x}", u128::from_be_bytes(log));
        let problem = "the log holds changes that were not made to the image yet";
        return Err(error(Kind::Dirty, "log GUID", value, problem));
    }
    Ok((fields.le64(72)?, u64::from(fields.le32(68)?)))
}

/// Compares signature and checksum, which stands behind it and counts as zero.
fn check_sum(bytes: &mut [u8], name: &'static str, signature: [u8; 4]) -> Result<(), Error> {
    let fields = fields(name, bytes);
    if fields.array(0)? != signature {
        return Err(error(Kind::Corrupt, name, "there", "it has no signature"));
    }
    let stated = fields.le32(4)?;
    if let Some(field) = bytes.get_mut(4..8) {
        field.fill(0);
    }
    let computed = crc32c::crc32c(bytes);
    if computed == stated {
        return Ok(());
    }
    let problem = format!("the checksum of the {name} is {computed:#x}");
    Err(error(
        Kind::Corrupt,
        "checksum",
        format!("{stated:#x}"),
        problem,
    ))
}

fn fields<'a>(name: &'static str, bytes: &'a [u8]) -> Fields<'a> {
    Fields {
        format: Format::Vhdx,
        name,
        bytes,
    }
}
