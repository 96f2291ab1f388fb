//! The header of a sparse extent, and its copy at the end.

use super::{SECTOR, SIGNATURE};
use crate::{Compression, Error, Format, Info, Kind, bytes::Fields, read_at::Input};

/// Bytes of the header.
const HEADER: usize = 512;
/// The grain directory is named by the footer in place of the header.
const AT_END: u64 = u64::MAX;
/// From the end: the footer's marker, the footer, and the end-of-stream marker.
const FOOTER_MARKER: u64 = 3 * SECTOR;
const FOOTER: u64 = 2 * SECTOR;
/// The type of a footer's marker.
const MARKER_FOOTER: u32 = 3;
/// Largest grain. Usual are 64 KiB.
const MOST_GRAIN: u64 = 2 << 20;
/// Most entries of a grain table, as in QEMU; usual are as many.
const MOST_ENTRIES: u32 = 512;

/// Flags.
const NEWLINES: u32 = 1;
const REDUNDANT: u32 = 1 << 1;
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
/// How line ends look unless the file was copied as a text.
const LINE_ENDS: &[u8] = b"\n \r\n";
/// The only method of compression.
const DEFLATE: u16 = 1;

/// What the header says, checked. All sizes and offsets in bytes.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) version: u32,
    /// Of the guest's disk.
    pub(super) size: u64,
    pub(super) grain: u64,
    /// Entries of a grain table.
    pub(super) entries: u64,
    pub(super) directory: u64,
    pub(super) redundant: Option<u64>,
    /// Offset and size.
    pub(super) descriptor: (u64, u64),
    pub(super) is_compressed: bool,
    pub(super) has_zero_grains: bool,
    pub(super) is_unclean: bool,
    /// Offset of the footer's marker, where the footer names the directory.
    pub(super) footer: Option<u64>,
    /// Bytes in front of the grains.
    pub(super) overhead: u64,
}

impl Header {
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self, Error> {
        let mut bytes = [0; HEADER];
        input.read("header", 0, &mut bytes)?;
        let header = Self::parse(&bytes, "header")?;
        if header.directory != AT_END {
            return Ok(header);
        }
        let marker = input.size().saturating_sub(FOOTER_MARKER);
        let mut bytes = [0; HEADER];
        input.read("footer's marker", marker, &mut bytes)?;
        let fields = Fields {
            format: Format::Vmdk,
            name: "footer's marker",
            bytes: &bytes,
        };
        if fields.le32(8)? != 0 || fields.le32(12)? != MARKER_FOOTER {
            let problem = "the file does not end with a footer, which its header says";
            return Err(Error::new(
                Kind::Truncated,
                Format::Vmdk,
                "footer",
                "missing",
                problem,
            ));
        }
        input.read("footer", input.size().saturating_sub(FOOTER), &mut bytes)?;
        let mut footer = Self::parse(&bytes, "footer")?;
        footer.footer = Some(marker);
        let differs = footer.size != header.size
            || footer.grain != header.grain
            || footer.is_compressed != header.is_compressed;
        if footer.directory == AT_END || differs {
            let problem = "it names no directory, or says something else than the header";
            return Err(corrupt("footer", "there", problem));
        }
        Ok(footer)
    }

    /// Whether it is the header of a stream: its directory is named by a footer, and its grains have markers.
    pub(super) const fn is_stream(&self) -> bool {
        self.directory == AT_END && self.is_compressed
    }

    /// What the file is.
    pub(super) fn info(&self, variant: &'static str) -> Info {
        let has_tables_at_end = self.footer.is_some() || self.directory == AT_END;
        Info {
            format: Format::Vmdk,
            variant,
            version: self.version,
            virtual_size: self.size,
            cluster_size: self.grain,
            compression: self.is_compressed.then_some(Compression::VmdkGrain),
            features: [
                (self.is_unclean, "not closed cleanly"),
                (self.has_zero_grains, "zeroed grains"),
                (has_tables_at_end, "tables at the end"),
            ]
            .into_iter()
            .filter_map(|(is_there, name)| is_there.then_some(name))
            .collect(),
        }
    }

    /// Bytes of the disk that a grain table describes.
    pub(super) const fn table_covers(&self) -> u64 {
        // At most 2 MiB and 512 entries.
        self.grain * self.entries
    }

    /// Bytes of the grain directory.
    pub(super) const fn directory_bytes(&self) -> u64 {
        self.size.div_ceil(self.table_covers()) * 4
    }

    pub(super) fn parse(bytes: &[u8], name: &'static str) -> Result<Self, Error> {
        let fields = Fields {
            format: Format::Vmdk,
            name,
            bytes,
        };
        if fields.slice(0, 4)? != SIGNATURE {
            return Err(corrupt(name, "there", "it has no signature"));
        }
        let version = fields.le32(4)?;
        if !(1..=3).contains(&version) {
            let problem = "versions 1 to 3 are known";
            return Err(unsupported("version", version, problem));
        }
        let flags = fields.le32(8)?;
        if flags & NEWLINES != 0 && fields.slice(73, 4)? != LINE_ENDS {
            let problem = "the file was copied as a text, and is damaged";
            return Err(corrupt("line end detection", "changed", problem));
        }
        let is_compressed = flags & COMPRESSED != 0;
        if is_compressed {
            let method = fields.le16(77)?;
            if method != DEFLATE || flags & MARKERS == 0 {
                let value = format!("{method} with flags {flags:#x}");
                let problem = "grains packed by deflate (1) behind markers are known";
                return Err(unsupported("compression", value, problem));
            }
        }
        let grain = bytes_of(fields, 20, "grain size")?;
        if !grain.is_power_of_two() || grain > MOST_GRAIN {
            let problem = "a grain has a power of two of sectors, at most 2 MiB";
            return Err(unsupported("grain size", grain, problem));
        }
        let entries = fields.le32(44)?;
        if !entries.is_power_of_two() || entries > MOST_ENTRIES {
            let problem = "a power of two up to 512 is known";
            return Err(unsupported("entries of a grain table", entries, problem));
        }
        let directory = match fields.le64(56)? {
            AT_END => AT_END,
            _ => bytes_of(fields, 56, "grain directory's offset")?,
        };
        let redundant = match flags & REDUNDANT {
            0 => None,
            _ => Some(bytes_of(fields, 48, "redundant grain directory's offset")?),
        };
        Ok(Self {
            version,
            size: bytes_of(fields, 12, "capacity")?,
            grain,
            entries: u64::from(entries),
            directory,
            redundant: redundant.filter(|offset| *offset != 0),
            descriptor: (
                bytes_of(fields, 28, "descriptor's offset")?,
                bytes_of(fields, 36, "descriptor's size")?,
            ),
            is_compressed,
            has_zero_grains: flags & ZERO_GRAINS != 0,
            is_unclean: fields.u8(72)? != 0,
            footer: None,
            overhead: bytes_of(fields, 64, "overhead")?,
        })
    }
}

/// A number of sectors, in bytes.
fn bytes_of(fields: Fields<'_>, at: usize, field: &'static str) -> Result<u64, Error> {
    let sectors = fields.le64(at)?;
    sectors
        .checked_mul(SECTOR)
        .filter(|bytes| *bytes < 1 << 62)
        .ok_or_else(|| corrupt(field, sectors, "so many sectors are no size and no place"))
}

fn corrupt(field: &'static str, value: impl std::fmt::Display, problem: &'static str) -> Error {
    Error::new(Kind::Corrupt, Format::Vmdk, field, value, problem)
}

fn unsupported(field: &'static str, value: impl std::fmt::Display, problem: &'static str) -> Error {
    Error::new(Kind::Unsupported, Format::Vmdk, field, value, problem)
}
