//! Grain directory and grain tables.

use super::{SECTOR, header::Header};
use crate::{
    Error, Format, Kind,
    map::{Layout, Pieces},
    read_at::{Table, Tables},
};

/// Bytes of the header and of the footer.
const HEADER: u64 = 512;
/// The entry of a grain that reads as zeroes, in files that say that they have such.
const ZEROED: u32 = 1;

/// The tables of one extent.
#[derive(Debug)]
pub(super) struct Grains {
    header: Header,
}

impl Grains {
    pub(super) const fn new(header: Header) -> Self {
        Self { header }
    }

    const fn directory(&self, offset: u64) -> Table {
        Table {
            level: 0,
            name: "grain directory",
            offset,
            len: self.header.directory_bytes(),
        }
    }

    const fn table(&self, offset: u64) -> Table {
        Table {
            level: 1,
            name: "grain table",
            offset,
            len: self.header.entries * 4,
        }
    }

    /// Adds the redundant directory and its tables, and compares these with the others.
    fn redundant(
        &self,
        directory: u64,
        tables: &mut Tables<'_>,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        let (ours, copy) = (
            self.directory(self.header.directory),
            self.directory(directory),
        );
        pieces.table("redundant grain directory", copy.offset, copy.len)?;
        let mut at = 0;
        while at < copy.len {
            // A slice of each directory, of 16 KiB; then the tables that they name.
            let seconds = tables.entries(copy, at)?.bytes.to_vec();
            let firsts = tables.entries(ours, at)?.bytes.to_vec();
            for (first, second) in firsts.chunks_exact(4).zip(seconds.chunks_exact(4)) {
                self.compare(at, place(first), place(second), tables, pieces)?;
                at += 4;
            }
        }
        Ok(())
    }

    /// Compares the grain table at `first` with its copy at `second`; `at` is the offset of their entries in the directories.
    fn compare(
        &self,
        at: u64,
        first: u64,
        second: u64,
        tables: &mut Tables<'_>,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        if first == 0 && second == 0 {
            return Ok(());
        }
        if second != 0 {
            let table = self.table(second);
            pieces.table("redundant grain table", table.offset, table.len)?;
        }
        // Of 2 KiB at most.
        let mut bytes = |offset| match offset {
            0 => Ok(Vec::new()),
            _ => Ok(tables.entries(self.table(offset), 0)?.bytes.to_vec()),
        };
        if bytes(first)? == bytes(second)? {
            return Ok(());
        }
        // At most 4 bytes for each sector of the disk.
        let covered = (at / 4).saturating_mul(self.header.table_covers());
        let field = format!("grain table for byte {covered} of the disk");
        let value = format!("at {first}, and its copy at {second}");
        let problem = "they differ, so that one of them is wrong";
        Err(Error::new(
            Kind::Corrupt,
            Format::Vmdk,
            field,
            value,
            problem,
        ))
    }
}

/// The offset in the file that an entry names: 32 bits of sectors.
fn place(entry: &[u8]) -> u64 {
    let sector = entry.first_chunk().copied().map_or(0, u32::from_le_bytes);
    u64::from(sector) * SECTOR
}

impl Layout for Grains {
    fn describe(
        &self,
        tables: &mut Tables<'_>,
        end: u64,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        let header = &self.header;
        let at = pieces.at();
        let covers = header.table_covers();
        let directory = self.directory(header.directory);
        let entries = tables.entries(directory, at / covers * 4)?;
        let entry = entries.le32(0)?;
        if entry == 0 {
            // A directory of a sparse disk is mostly empty: all such entries of the slice at once.
            let empty = entries
                .bytes
                .chunks_exact(4)
                .take_while(|entry| **entry == [0; 4]);
            // At most 4096 of at most 1 GiB.
            pieces.hole(covers * empty.count() as u64 - at % covers);
            return Ok(());
        }
        let table = self.table(u64::from(entry) * SECTOR);
        let index = at % covers / header.grain;
        if index == 0 {
            pieces.table(table.name, table.offset, table.len)?;
        }
        let entries = tables.entries(table, index * 4)?;
        for entry in entries.bytes.chunks_exact(4) {
            if pieces.at() >= end {
                break;
            }
            let sector = entry.first_chunk().copied().map_or(0, u32::from_le_bytes);
            // 32 bits of sectors.
            let offset = u64::from(sector) * SECTOR;
            match sector {
                0 => pieces.hole(header.grain),
                ZEROED if header.has_zero_grains => pieces.hole(header.grain),
                // A grain that does not pack well has some bytes more than it has unpacked. How many is in its marker.
                _ if header.is_compressed => {
                    pieces.compressed(header.grain, offset, header.grain * 2, SECTOR)?;
                }
                _ => pieces.data(offset, header.grain)?,
            }
        }
        Ok(())
    }

    fn regions(&self, tables: &mut Tables<'_>, pieces: &mut Pieces) -> Result<(), Error> {
        let header = &self.header;
        pieces.table("header", 0, HEADER)?;
        let (offset, size) = header.descriptor;
        pieces.table("descriptor", offset, size)?;
        let directory = self.directory(header.directory);
        if directory.len > 0 {
            pieces.table(directory.name, directory.offset, directory.len)?;
        }
        if let Some(marker) = header.footer {
            pieces.table("footer", marker, 3 * SECTOR)?;
        }
        match header.redundant {
            Some(offset) => self.redundant(offset, tables, pieces),
            None => Ok(()),
        }
    }
}
