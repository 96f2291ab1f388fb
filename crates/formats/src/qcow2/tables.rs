//! L1 and L2 tables.

use super::header::Header;
use crate::{
    Error, Kind,
    map::{Layout, Pieces},
    read_at::{Table, Tables},
};

/// Bits of the offset in entries of L1, L2 and the refcount table.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The refcount is exactly 1, so that no snapshot shares the cluster. Not for compressed clusters.
const COPIED: u64 = 1 << 63;
/// The cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeroes.
const ZERO: u64 = 1;
/// Reserved bits of an L1 entry.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// Reserved bits of an L2 entry that is not compressed.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// Unit of the length of a compressed cluster, in bytes.
const SECTOR: u64 = 512;
/// Subclusters of a cluster with an extended entry.
const SUBCLUSTERS: u32 = 32;

/// The tables of one image.
#[derive(Debug)]
pub(super) struct Clusters {
    header: Header,
}

impl Clusters {
    pub(super) const fn new(header: Header) -> Self {
        Self { header }
    }

    /// The entry of an L1 table: the offset of the L2 table, or `None` where there is none.
    fn l2_table(&self, entry: u64, at: u64) -> Result<Option<u64>, Error> {
        let offset = entry & OFFSET;
        if entry & L1_RESERVED != 0 {
            return Err(self.entry("L1", entry, at, "reserved bits are set"));
        }
        match offset {
            0 if entry == 0 => Ok(None),
            0 => Err(self.entry("L1", entry, at, "it has flags, but no offset")),
            _ if !offset.is_multiple_of(self.header.cluster_size()) => {
                let problem = "the L2 table does not begin at a multiple of the cluster size";
                Err(self.entry("L1", entry, at, problem))
            }
            _ => Ok(Some(offset)),
        }
    }

    /// Adds the cluster that a standard L2 entry describes.
    fn cluster(&self, entry: u64, pieces: &mut Pieces) -> Result<(), Error> {
        let size = self.header.cluster_size();
        if entry & COMPRESSED != 0 {
            return self.compressed(entry, pieces);
        }
        let offset = self.offset(entry, pieces)?;
        if entry & ZERO != 0 && self.header.version < 3 {
            let problem = "the zero flag is set, which version 2 does not have";
            return Err(self.entry("L2", entry, pieces.at(), problem));
        }
        match offset {
            Some(offset) if entry & ZERO == 0 => pieces.data(offset, size),
            _ => {
                pieces.hole(size);
                Ok(())
            }
        }
    }

    /// Adds the cluster that an extended L2 entry describes; `bitmap` is its second half.
    fn subclusters(&self, entry: u64, bitmap: u64, pieces: &mut Pieces) -> Result<(), Error> {
        if entry & COMPRESSED != 0 {
            if bitmap != 0 {
                let problem = "it is compressed and has subclusters";
                return Err(self.entry("L2", entry, pieces.at(), problem));
            }
            return self.compressed(entry, pieces);
        }
        let offset = self.offset(entry, pieces)?;
        if entry & ZERO != 0 {
            let problem = "the zero flag is set, which extended entries do not have";
            return Err(self.entry("L2", entry, pieces.at(), problem));
        }
        // The lower half says which subclusters are allocated, the upper half which read as zeroes.
        let (zero, allocated) = ((bitmap >> SUBCLUSTERS), bitmap & u64::from(u32::MAX));
        if zero & allocated != 0 || (offset.is_none() && allocated != 0) {
            let problem =
                format!("its bitmap {bitmap:#018x} says that a subcluster has data and has none");
            return Err(self.entry("L2", entry, pieces.at(), problem));
        }
        let size = self.header.cluster_size() / u64::from(SUBCLUSTERS);
        for index in 0..SUBCLUSTERS {
            match offset {
                Some(offset) if allocated >> index & 1 != 0 => {
                    // A cluster has at most 2 MiB, and offsets 56 bits.
                    pieces.data(offset + u64::from(index) * size, size)?;
                }
                _ => pieces.hole(size),
            }
        }
        Ok(())
    }

    /// Adds the compressed cluster of an L2 entry.
    fn compressed(&self, entry: u64, pieces: &mut Pieces) -> Result<(), Error> {
        if entry & COPIED != 0 {
            let problem = "it is compressed, and has the flag of clusters that are not";
            return Err(self.entry("L2", entry, pieces.at(), problem));
        }
        // The length in sectors takes the upper bits of the lower 62: more of them for larger clusters.
        let length_bits = self.header.cluster_bits - 8;
        let offset_bits = 62 - length_bits;
        let offset = entry & ((1 << offset_bits) - 1);
        let more_sectors = (entry >> offset_bits) & ((1 << length_bits) - 1);
        if offset < self.header.cluster_size() {
            let problem = "the data would lie in the header";
            return Err(self.entry("L2", entry, pieces.at(), problem));
        }
        // It begins anywhere in its first sector, and ends anywhere in its last one.
        let most = (more_sectors + 1) * SECTOR - offset % SECTOR;
        let least = most.saturating_sub(SECTOR - 1).max(1);
        pieces.compressed(self.header.cluster_size(), offset, most, least)
    }

    /// The offset of an L2 entry that is not compressed; `None` where nothing is allocated.
    fn offset(&self, entry: u64, pieces: &Pieces) -> Result<Option<u64>, Error> {
        let offset = entry & OFFSET;
        let problem = if entry & L2_RESERVED != 0 {
            "reserved bits are set"
        } else if !offset.is_multiple_of(self.header.cluster_size()) {
            "the data does not begin at a multiple of the cluster size"
        } else if offset == 0 && entry & COPIED != 0 {
            "it has the flag of allocated clusters, but no offset"
        } else {
            return Ok((offset != 0).then_some(offset));
        };
        Err(self.entry("L2", entry, pieces.at(), problem))
    }

    fn entry(
        &self,
        table: &str,
        entry: u64,
        at: u64,
        problem: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Error {
        let field = format!("{table} entry for byte {at} of the disk");
        let value = format!("{entry:#018x}");
        Error::new(Kind::Corrupt, self.header.format, field, value, problem)
    }
}

impl Layout for Clusters {
    fn describe(
        &self,
        tables: &mut Tables<'_>,
        end: u64,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        let header = &self.header;
        let at = pieces.at();
        let covers = header.l2_covers();
        let l1 = Table {
            level: 0,
            name: "L1 table",
            offset: header.l1.0,
            len: header.l1.1,
        };
        let entries = tables.entries(l1, at / covers * 8)?;
        let Some(offset) = self.l2_table(entries.be64(0)?, at)? else {
            // The table of a sparse disk is mostly empty: all such entries of the slice at once.
            let empty = entries
                .bytes
                .chunks_exact(8)
                .take_while(|entry| **entry == [0; 8]);
            // At most 2048 of at most 512 GiB.
            pieces.hole(covers * empty.count() as u64 - at % covers);
            return Ok(());
        };
        let l2 = Table {
            level: 1,
            name: "L2 table",
            offset,
            len: header.cluster_size(),
        };
        let index = at % covers / header.cluster_size();
        if index == 0 {
            pieces.table("L2 table", offset, l2.len)?;
        }
        let entries = tables.entries(l2, index * header.l2_entry())?;
        let size = usize::try_from(header.l2_entry()).unwrap_or(usize::MAX);
        for start in (0..entries.bytes.len()).step_by(size) {
            if pieces.at() >= end {
                break;
            }
            let entry = entries.be64(start)?;
            if header.has_subclusters {
                self.subclusters(entry, entries.be64(start + 8)?, pieces)?;
            } else {
                self.cluster(entry, pieces)?;
            }
        }
        Ok(())
    }

    fn regions(&self, tables: &mut Tables<'_>, pieces: &mut Pieces) -> Result<(), Error> {
        let header = &self.header;
        pieces.table("header", 0, header.cluster_size().min(tables.input.size()))?;
        if header.l1.1 > 0 {
            pieces.table("L1 table", header.l1.0, header.l1.1)?;
        }
        let (offset, len) = header.refcount_table;
        let refcounts = Table {
            level: 0,
            name: "refcount table",
            offset,
            len,
        };
        if len > 0 {
            pieces.table(refcounts.name, offset, len)?;
        }
        let mut at = 0;
        while at < len {
            let entries = tables.entries(refcounts, at)?;
            for entry in entries.bytes.chunks_exact(8) {
                let entry = entry.first_chunk().copied().map_or(0, u64::from_be_bytes);
                if entry & OFFSET != 0 {
                    pieces.table("refcount block", entry & OFFSET, header.cluster_size())?;
                }
            }
            at += entries.bytes.len() as u64;
        }
        Ok(())
    }
}
