//! The header and its extensions.

use crate::{Error, Format, Kind, bytes::Fields, error::quoted, read_at::Input};

/// Bytes of the header that are looked at: all fields that are known.
const KNOWN: usize = 112;
/// Bytes of the header of version 2.
const VERSION_2: u64 = 72;
/// Bytes of the smallest header of version 3.
const VERSION_3: u64 = 104;
/// Cluster sizes of 512 bytes to 2 MiB, as QEMU has them.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Smallest cluster with subclusters: 32 of 512 bytes.
const LEAST_EXTENDED_BITS: u32 = 14;
/// Largest L1 table in bytes, as in QEMU.
const MOST_L1: u64 = 32 << 20;
/// Largest refcount table in bytes, as in QEMU.
const MOST_REFCOUNT_TABLE: u64 = 8 << 20;
/// Longest name of a backing file, as in QEMU.
const MOST_NAME: u32 = 1023;

/// Bits of the incompatible features.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Types of header extensions.
const END: u32 = 0;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const FEATURE_NAMES: u32 = 0x6803_f857;

/// What the header says, checked.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) format: Format,
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Of the guest's disk.
    pub(super) size: u64,
    /// Offset of the active L1 table, and the bytes of it that the disk needs.
    pub(super) l1: (u64, u64),
    /// Offset and bytes.
    pub(super) refcount_table: (u64, u64),
    pub(super) is_dirty: bool,
    pub(super) is_zstd: bool,
    pub(super) has_subclusters: bool,
    pub(super) snapshots: u32,
}

impl Header {
    /// Reads and checks the header.
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self, Error> {
        let format = input.format;
        let mut bytes = [0; KNOWN];
        let there = usize::try_from(input.size()).map_or(KNOWN, |size| size.min(KNOWN));
        let bytes = bytes.get_mut(..there).unwrap_or_default();
        input.read("header", 0, bytes)?;
        let fields = Fields {
            format,
            name: "header",
            bytes,
        };
        let version = fields.be32(4)?;
        if !matches!(version, 2 | 3) {
            let problem = "versions 2 and 3 are supported";
            return Err(Error::new(
                Kind::Unsupported,
                format,
                "version",
                version,
                problem,
            ));
        }
        let (incompatible, length) = if version == 2 {
            (0, VERSION_2)
        } else {
            (fields.be64(72)?, u64::from(fields.be32(100)?))
        };
        let cluster_bits = fields.be32(20)?;
        if !CLUSTER_BITS.contains(&cluster_bits) {
            let problem = "clusters have 9 to 21 bits (512 bytes to 2 MiB)";
            return Err(Error::new(
                Kind::Unsupported,
                format,
                "cluster_bits",
                cluster_bits,
                problem,
            ));
        }
        let cluster_size = 1_u64 << cluster_bits;
        if version == 3 && !(VERSION_3..=cluster_size).contains(&length) {
            let problem = format!("a header has {VERSION_3} to {cluster_size} bytes");
            return Err(corrupt(format, "header_length", length, problem));
        }
        let extensions = Extensions::read(input, length, cluster_size)?;
        check_features(format, incompatible, &extensions)?;
        check_backing(input, fields)?;
        if fields.be32(32)? != 0 {
            let problem = "the disk is encrypted";
            return Err(Error::new(
                Kind::Encrypted,
                format,
                "crypt_method",
                fields.be32(32)?,
                problem,
            ));
        }
        let is_zstd = compression(fields, incompatible, length)?;
        let has_subclusters = incompatible & EXTENDED_L2 != 0;
        if has_subclusters && cluster_bits < LEAST_EXTENDED_BITS {
            let problem = "with extended L2 entries a cluster has at least 14 bits";
            return Err(corrupt(format, "cluster_bits", cluster_bits, problem));
        }
        if version == 3 && fields.be32(96)? > 6 {
            let problem = "refcounts have at most 64 bits (6)";
            return Err(corrupt(format, "refcount_order", fields.be32(96)?, problem));
        }
        let mut header = Self {
            format,
            version,
            cluster_bits,
            size: fields.be64(24)?,
            l1: (fields.be64(40)?, 0),
            refcount_table: (fields.be64(48)?, 0),
            is_dirty: incompatible & DIRTY != 0,
            is_zstd,
            has_subclusters,
            snapshots: fields.be32(60)?,
        };
        header.l1.1 = header.l1_bytes(u64::from(fields.be32(36)?))?;
        header.refcount_table.1 = header.refcount_table_bytes(u64::from(fields.be32(56)?))?;
        Ok(header)
    }

    /// Bytes of a cluster.
    pub(super) const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of an entry of an L2 table.
    pub(super) const fn l2_entry(&self) -> u64 {
        if self.has_subclusters { 16 } else { 8 }
    }

    /// Bytes of the disk that one L2 table describes.
    pub(super) const fn l2_covers(&self) -> u64 {
        // At most 2^21 / 8 entries of 2^21 bytes.
        (self.cluster_size() / self.l2_entry()) << self.cluster_bits
    }

    /// Names for the log.
    pub(super) fn features(&self) -> Vec<&'static str> {
        [
            (self.is_zstd, "zstd"),
            (self.has_subclusters, "extended L2"),
            (self.is_dirty, "dirty refcounts"),
            (self.snapshots > 0, "internal snapshots (ignored)"),
        ]
        .into_iter()
        .filter_map(|(is_there, name)| is_there.then_some(name))
        .collect()
    }

    /// Bytes of the L1 table that the disk needs, where it has `entries`.
    fn l1_bytes(&self, entries: u64) -> Result<u64, Error> {
        let needed = self.size.div_ceil(self.l2_covers());
        if entries > MOST_L1 / 8 || needed > MOST_L1 / 8 {
            let value = format!("{entries} for a disk of {} bytes", self.size);
            let problem = format!("an L1 table has at most {} entries", MOST_L1 / 8);
            return Err(corrupt(self.format, "l1_size", value, problem));
        }
        if entries < needed {
            let problem = format!("the disk of {} bytes needs {needed}", self.size);
            return Err(corrupt(self.format, "l1_size", entries, problem));
        }
        let (offset, bytes) = (self.l1.0, needed * 8);
        let is_placed = offset >= self.cluster_size() && offset.is_multiple_of(self.cluster_size());
        if bytes > 0 && !is_placed {
            let problem = "the table begins at a multiple of the cluster size, behind the header";
            return Err(corrupt(self.format, "l1_table_offset", offset, problem));
        }
        Ok(bytes)
    }

    /// Bytes of the refcount table, where it has `clusters`.
    fn refcount_table_bytes(&self, clusters: u64) -> Result<u64, Error> {
        // Both factors are below 2^32.
        let bytes = clusters << self.cluster_bits;
        if bytes > MOST_REFCOUNT_TABLE {
            let problem = format!("the table has at most {MOST_REFCOUNT_TABLE} bytes");
            return Err(corrupt(
                self.format,
                "refcount_table_clusters",
                clusters,
                problem,
            ));
        }
        let offset = self.refcount_table.0;
        let is_placed = offset >= self.cluster_size() && offset.is_multiple_of(self.cluster_size());
        if !is_placed {
            let problem = "the table begins at a multiple of the cluster size, behind the header";
            return Err(corrupt(
                self.format,
                "refcount_table_offset",
                offset,
                problem,
            ));
        }
        Ok(bytes)
    }
}

/// Refuses features that change what the tables mean.
fn check_features(format: Format, incompatible: u64, extensions: &Extensions) -> Result<(), Error> {
    const FIELD: &str = "incompatible_features";
    if incompatible & CORRUPT != 0 {
        let problem = "the image is marked as corrupt";
        return Err(Error::new(
            Kind::Dirty,
            format,
            FIELD,
            "corrupt (bit 1)",
            problem,
        ));
    }
    if incompatible & DATA_FILE != 0 {
        let name = extensions.data_file.as_deref().unwrap_or("not named");
        let value = format!("external data file {name}");
        let problem = "the data is in another file, which is never followed";
        return Err(Error::new(Kind::External, format, FIELD, value, problem));
    }
    let unknown = incompatible & !(DIRTY | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        let bit = unknown.trailing_zeros();
        let name = extensions
            .features
            .iter()
            .find(|(number, _)| u32::from(*number) == bit)
            .map_or_else(
                || "which the image does not name".into(),
                |(_, name)| name.clone(),
            );
        let value = format!("bit {bit}, {name}");
        let problem = "a feature that is not known, and without which the image cannot be read";
        return Err(Error::new(Kind::Unsupported, format, FIELD, value, problem));
    }
    Ok(())
}

/// Refuses an image that has a backing file, by its name.
fn check_backing(input: &mut Input<'_>, fields: Fields<'_>) -> Result<(), Error> {
    let (offset, length) = (fields.be64(8)?, fields.be32(16)?);
    if offset == 0 {
        return Ok(());
    }
    if length > MOST_NAME {
        let problem = format!("a name has at most {MOST_NAME} bytes");
        return Err(corrupt(input.format, "backing_file_size", length, problem));
    }
    let mut name = vec![0; usize::try_from(length).unwrap_or_default()];
    input.read("backing file's name", offset, &mut name)?;
    let problem = "the image holds only what differs from it, and it is never followed";
    Err(Error::new(
        Kind::Backing,
        input.format,
        "backing file",
        quoted(&name),
        problem,
    ))
}

/// Whether clusters are packed by Zstandard.
fn compression(fields: Fields<'_>, incompatible: u64, length: u64) -> Result<bool, Error> {
    let is_there = length > VERSION_3 && fields.bytes.len() as u64 > VERSION_3;
    let kind = if is_there { fields.u8(104)? } else { 0 };
    let is_named = incompatible & COMPRESSION_TYPE != 0;
    match (kind, is_named) {
        (0, false) => Ok(false),
        (1, true) => Ok(true),
        (0 | 1, _) => {
            let problem = "incompatible feature bit 3 says the opposite";
            Err(corrupt(fields.format, "compression_type", kind, problem))
        }
        _ => {
            let problem = "0 (zlib) and 1 (zstd) are known";
            let field = "compression_type";
            Err(Error::new(
                Kind::Unsupported,
                fields.format,
                field,
                kind,
                problem,
            ))
        }
    }
}

fn corrupt(
    format: Format,
    field: &'static str,
    value: impl std::fmt::Display,
    problem: impl Into<std::borrow::Cow<'static, str>>,
) -> Error {
    Error::new(Kind::Corrupt, format, field, value, problem)
}

/// What the header extensions say that errors want to name. They are damaged easily and needed for nothing else, so
/// that what cannot be read of them is left out.
#[derive(Debug, Default)]
struct Extensions {
    data_file: Option<String>,
    /// Bits of incompatible features and their names.
    features: Vec<(u8, String)>,
}

impl Extensions {
    /// Most bytes of extensions that are read: those of QEMU take less than 1 KiB.
    const MOST: u64 = 16 << 10;

    fn read(input: &mut Input<'_>, start: u64, cluster_size: u64) -> Result<Self, Error> {
        let end = cluster_size
            .min(input.size())
            .min(start.saturating_add(Self::MOST));
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or_default()];
        if !bytes.is_empty() {
            input.read("header extensions", start, &mut bytes)?;
        }
        let fields = Fields {
            format: input.format,
            name: "header extensions",
            bytes: &bytes,
        };
        let mut found = Self::default();
        let mut at = 0_usize;
        while let (Ok(kind), Ok(length)) = (fields.be32(at), fields.be32(at.saturating_add(4))) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Ok(data) = fields.slice(at.saturating_add(8), length) else {
                break;
            };
            match kind {
                END => break,
                DATA_FILE_NAME => found.data_file = Some(quoted(data)),
                FEATURE_NAMES => found.features.extend(names(data)),
                _ => {}
            }
            // Padded to 8 bytes. `length` is at most that of `bytes`.
            at = at
                .saturating_add(8)
                .saturating_add(length.next_multiple_of(8));
        }
        Ok(found)
    }
}

/// The incompatible features in a feature name table: entries of a type, a bit and 46 bytes of a name.
fn names(table: &[u8]) -> impl Iterator<Item = (u8, String)> {
    table.chunks_exact(48).filter_map(|entry| {
        let [0, bit, name @ ..] = entry else {
            return None;
        };
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some((*bit, quoted(name)))
    })
}
