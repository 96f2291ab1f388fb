//! vmdk: monolithicSparse and streamOptimized, as QEMU and as `VMware` write them; and what is refused.

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::ZlibEncoder};
use formats::{Decoder, Format, Image, Kind};

use crate::read::{self, assert_same};
use testkit::qemu::{self, Qemu, commands, disk};

const M: u64 = 1 << 20;
const GRAIN: usize = 65536;
/// Sectors in front of the grains of a stream.
const OVERHEAD: usize = 128;

#[test]
fn sparse_disks_are_read_after_random_writes_and_discards() {
    let qemu = Qemu::new();
    for (seed, zeroed) in ["off", "on"].into_iter().enumerate() {
        let size = 70 * M + 1536;
        let options = format!("subformat=monolithicSparse,zeroed_grain={zeroed}");
        let image = qemu.create("vmdk", &options, size);
        qemu::io("vmdk", &image, &commands(seed as u64, 150, size, 65536));
        let (image, summary) = assert_same(&image, Format::Vmdk, &qemu.read("vmdk", &image));
        assert_eq!(image.info().variant, "monolithicSparse");
        assert!(summary.data > 0 && summary.data < size);
    }
}

#[test]
fn sparse_and_dense_disks_are_read() {
    let qemu = Qemu::new();
    for (seed, run) in [(1, 4 << 20), (2, 1000)] {
        let raw = qemu.raw("disk.raw", &disk(seed, (40 << 20) + 512, run));
        for variant in ["monolithicSparse", "streamOptimized"] {
            let options = format!("subformat={variant}");
            let image = qemu.convert(&raw, "vmdk", &["-o", &options]);
            let (image, summary) = assert_same(&image, Format::Vmdk, &fs::read(&raw).unwrap());
            assert_eq!(image.info().variant, variant);
            assert_eq!(summary.compressed > 0, variant == "streamOptimized");
        }
    }
}

#[test]
fn a_stream_with_its_tables_at_the_end_is_read_as_vmware_writes_it() {
    let qemu = Qemu::new();
    let disk = disk(7, (70 << 20) + 512, 3 << 20);
    let stream = Stream::write(&disk);
    let path = qemu.raw("image", &stream.bytes);
    assert!(
        qemu.read("vmdk", &path) == disk,
        "QEMU reads the same stream"
    );
    let (image, summary) = assert_same(&path, Format::Vmdk, &disk);
    assert!(image.info().features.contains(&"tables at the end"));
    assert!(read::in_one_pass(&stream.bytes, Format::Vmdk).unwrap() == disk);
    // The length of a packed grain is in the file only: in the file's order the next one bounds it.
    let mut source = &stream.bytes[..];
    let stored: u64 = image
        .file_order(&mut source)
        .map(|extent| match extent.unwrap().content {
            formats::Content::Compressed { length, .. } => length,
            _ => 0,
        })
        .sum();
    assert!(stored < stream.bytes.len() as u64);
    assert!(summary.stored > stored);
}

#[test]
fn the_grains_of_a_stream_come_in_the_order_of_the_disk() {
    let stream = Stream::write(&vec![3; 3 * GRAIN]);
    for markers in [[1, 0, 2], [0, 0, 2], [0, 1, 9]] {
        let mut bytes = stream.bytes.clone();
        for (at, marker) in stream.grains.iter().zip(markers) {
            bytes[*at..at + 8].copy_from_slice(&(marker * GRAIN as u64 / 512).to_le_bytes());
        }
        let error = read::in_one_pass(&bytes, Format::Vmdk).unwrap_err();
        assert_eq!(error.kind(), Kind::Order, "{markers:?}: {error}");
    }
    // One that is left out is a hole.
    let mut disk = vec![3; 3 * GRAIN];
    disk[GRAIN..2 * GRAIN].fill(0);
    let sparse = Stream::write(&disk);
    assert!(read::in_one_pass(&sparse.bytes, Format::Vmdk).unwrap() == disk);
    let cut = &sparse.bytes[..sparse.grains[1] + 40];
    assert_eq!(
        read::in_one_pass(cut, Format::Vmdk).unwrap_err().kind(),
        Kind::Truncated
    );
}

/// Whoever reads a stream by its tables sees the same disk as whoever reads it by its markers.
#[test]
fn the_tables_of_a_stream_are_compared_with_its_grains() {
    let mut disk = vec![3; 40 << 20];
    disk[GRAIN..2 * GRAIN].fill(0);
    let stream = Stream::write(&disk);
    let bytes = &stream.bytes;
    assert!(read::in_one_pass(bytes, Format::Vmdk).unwrap() == disk);
    let end = bytes.len();
    let (footer, directory) = (end - 1024, end - 4 * 512);
    let table = usize::try_from(u32::from_le_bytes(
        *bytes[directory..].first_chunk().unwrap(),
    ))
    .unwrap()
        * 512;
    let mut changed: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut change = |what, at: usize, value: &[u8]| {
        let mut copy = bytes.clone();
        copy[at..at + value.len()].copy_from_slice(value);
        changed.push((what, copy));
    };
    change(
        "a lost grain",
        stream.grains[5],
        &vec![0; stream.grains[6] - stream.grains[5]],
    );
    change("an entry for a hole", table + 4, &bytes[table..table + 4]);
    change("an entry that is gone", table + 8, &[0; 4]);
    change(
        "a table that is named by another",
        directory + 4,
        &bytes[directory..directory + 4],
    );
    change("a longer table", table - 512, &200_u64.to_le_bytes());
    change("another directory", footer + 56, &3_u64.to_le_bytes());
    change("another size", footer + 12, &3_u64.to_le_bytes());
    let mut longer = bytes.clone();
    longer.extend(&bytes[end - 1536..]);
    changed.push(("something behind the end", longer));
    for (what, file) in changed {
        let error = read::in_one_pass(&file, Format::Vmdk).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{what}: {error}");
    }
    for cut in [end - 512, end - 1536, end - 2048] {
        let error = read::in_one_pass(&bytes[..cut], Format::Vmdk).unwrap_err();
        assert_eq!(error.kind(), Kind::Truncated, "{cut}: {error}");
    }
    // A descriptor that is far away is not looked for.
    let mut far = bytes.clone();
    far[28..36].copy_from_slice(&(1_u64 << 31).to_le_bytes());
    assert_eq!(
        read::in_one_pass(&far, Format::Vmdk).unwrap_err().kind(),
        Kind::Order
    );
}

#[test]
fn a_packed_grain_is_for_its_own_place_only() {
    let disk = vec![3; 3 * GRAIN];
    let stream = Stream::write(&disk);
    let image = Image::open(&mut &stream.bytes[..]).unwrap();
    let mut decoder = Decoder::new(&image).unwrap();
    let mut cluster = vec![0; GRAIN];
    let packed = &stream.bytes[stream.grains[1]..stream.grains[2]];
    let grain = GRAIN as u64;
    decoder.decode(grain, packed, &mut cluster).unwrap();
    assert!(cluster.iter().all(|byte| *byte == 3));
    for (start, packed, text) in [
        (0, packed, "another one's"),
        (grain, &packed[..11], "ends in its marker"),
        (grain, &packed[..20], "there are fewer"),
    ] {
        let error = decoder.decode(start, packed, &mut cluster).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains(text), "{error}");
    }
    let mut damaged = packed.to_vec();
    damaged[12 + 20] ^= 1;
    assert!(
        decoder.decode(grain, &damaged, &mut cluster).is_err(),
        "its checksum is compared"
    );
    assert!(decoder.decode(7, packed, &mut cluster).is_err());
    assert!(decoder.decode(grain, packed, &mut cluster[1..]).is_err());
}

#[test]
fn disks_in_other_files_are_refused_by_their_names() {
    let qemu = Qemu::new();
    for variant in [
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
    ] {
        let image = qemu.create("vmdk", &format!("subformat={variant}"), M);
        let error = open(&image);
        assert_eq!(error.kind(), Kind::External, "{error}");
        assert!(error.to_string().contains(variant), "{error}");
        if variant == "twoGbMaxExtentSparse" {
            let error = open(&qemu.path("image-s001"));
            assert_eq!(
                (error.kind(), error.field()),
                (Kind::External, "descriptor")
            );
        }
    }
    let base = qemu.create("vmdk", "", M);
    fs::rename(base, qemu.path("base.vmdk")).unwrap();
    let base = qemu.path("base.vmdk");
    let options = format!("backing_fmt=vmdk,backing_file={}", base.display());
    let error = open(&qemu.create("vmdk", &options, M));
    assert_eq!(error.kind(), Kind::Backing);
    assert!(error.to_string().contains("base.vmdk"), "{error}");
    for (head, text) in [
        (&b"COWD"[..], "vmfsSparse"),
        (b"\xbe\xba\xfe\xca\0\0\0\0", "seSparse"),
    ] {
        let mut file = head.to_vec();
        file.resize(4096, 0);
        let error = Image::open(&mut &file[..]).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn headers_and_tables_that_cannot_be_are_refused() {
    let qemu = Qemu::new();
    let image = qemu.create("vmdk", "subformat=monolithicSparse", 100 * M);
    let writes = ["write -P 1 0 1k".to_owned(), "write -P 2 64M 1k".to_owned()];
    qemu::io("vmdk", &image, &writes);
    let good = fs::read(&image).unwrap();
    read::whole(&good).unwrap();
    let number = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap());
    let place = |at: usize| usize::try_from(number(at)).unwrap() * 512;
    let (directory, redundant) = (place(56), place(48));
    let table = place(directory);
    for (at, bytes, kind, text) in [
        (4, &[9][..], Kind::Unsupported, "version"),
        (73, b"\r", Kind::Corrupt, "line end"),
        (10, &[3], Kind::Unsupported, "compression"),
        (20, &[3], Kind::Unsupported, "grain size"),
        (20, &[0, 0, 0xff], Kind::Unsupported, "grain size"),
        (44, &[0, 4], Kind::Unsupported, "entries of a grain table"),
        (44, &[0, 0], Kind::Unsupported, "entries of a grain table"),
        (19, &[0xff], Kind::Corrupt, "capacity"),
        (28, &[0; 8], Kind::External, "descriptor"),
        (60, &[1], Kind::Truncated, "grain directory"),
        (56, &[0xff; 8], Kind::Truncated, "footer"),
        (directory, &[0xff; 4], Kind::Truncated, "grain table"),
        (redundant, &[0; 4], Kind::Corrupt, "they differ"),
        (table, &[0xff; 4], Kind::Corrupt, "they differ"),
        (table + 4, &[1], Kind::Corrupt, "they differ"),
    ] {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let error = check(&file);
        assert_eq!(error.kind(), kind, "{at}: {error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // Without the copy, what the entries say is refused by itself.
    let mut alone = good.clone();
    alone[8] &= !2;
    let first = number(table).to_le_bytes();
    for (at, entry, kind, text) in [
        (
            table,
            [0xff, 0xff, 0xff, 0],
            Kind::Truncated,
            "data for byte 0",
        ),
        (table + 4, first, Kind::Corrupt, "used twice"),
        (table + 4, [1, 0, 0, 0], Kind::Corrupt, "used twice"),
        (directory + 8, first, Kind::Truncated, "byte 67108864"),
    ] {
        let mut file = alone.clone();
        file[at..at + 4].copy_from_slice(&entry);
        let error = check(&file);
        assert_eq!(error.kind(), kind, "{at}: {error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

fn check(file: &[u8]) -> formats::Error {
    Image::open(&mut { file })
        .and_then(|image| image.check(&mut { file }))
        .unwrap_err()
}

fn open(path: &Path) -> formats::Error {
    Image::open(&mut &fs::read(path).unwrap()[..]).unwrap_err()
}

/// A stream-optimized file as it can be written without going back: markers, grains, then the tables and a footer.
struct Stream {
    bytes: Vec<u8>,
    /// Offsets of the packed grains.
    grains: Vec<usize>,
}

impl Stream {
    fn write(disk: &[u8]) -> Self {
        let mut stream = Self {
            bytes: Vec::new(),
            grains: Vec::new(),
        };
        let sectors = (disk.len() / 512) as u64;
        stream.sector(&header(sectors, u64::MAX));
        let descriptor = format!(
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\
             RDONLY {sectors} SPARSE \"disk.vmdk\"\n"
        );
        stream.sector(descriptor.as_bytes());
        stream.bytes.resize(OVERHEAD * 512, 0);
        let mut directory = Vec::new();
        for (number, part) in disk.chunks(GRAIN * 512).enumerate() {
            let mut table = Vec::new();
            for (index, grain) in part.chunks(GRAIN).enumerate() {
                if grain.iter().all(|byte| *byte == 0) {
                    table.extend(0_u32.to_le_bytes());
                    continue;
                }
                table.extend(stream.next_sector().to_le_bytes());
                stream.grains.push(stream.bytes.len());
                stream.grain(((number * 512 + index) * GRAIN / 512) as u64, grain);
            }
            if table.iter().all(|byte| *byte == 0) {
                directory.extend(0_u32.to_le_bytes());
                continue;
            }
            table.resize(2048, 0);
            stream.marker(4, 1);
            directory.extend(stream.next_sector().to_le_bytes());
            stream.bytes.extend(table);
        }
        stream.marker(1, 2);
        let at = stream.next_sector();
        stream.sector(&directory);
        stream.marker(1, 3);
        stream.sector(&header(sectors, u64::from(at)));
        stream.marker(0, 0);
        stream
    }

    fn next_sector(&self) -> u32 {
        u32::try_from(self.bytes.len() / 512).unwrap()
    }

    fn sector(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    fn marker(&mut self, sectors: u64, kind: u32) {
        let mut marker = sectors.to_le_bytes().to_vec();
        marker.extend(0_u32.to_le_bytes());
        marker.extend(kind.to_le_bytes());
        self.sector(&marker);
    }

    fn grain(&mut self, sector: u64, grain: &[u8]) {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(grain).unwrap();
        let packed = encoder.finish().unwrap();
        let mut bytes = sector.to_le_bytes().to_vec();
        bytes.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        bytes.extend(packed);
        self.sector(&bytes);
    }
}

fn header(sectors: u64, directory: u64) -> Vec<u8> {
    let mut bytes = b"KDMV".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(0x3_0001_u32.to_le_bytes());
    for number in [sectors, 128, 1, 1] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(512_u32.to_le_bytes());
    for number in [0, directory, OVERHEAD as u64] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"\0\n \r\n\x01\0");
    bytes
}
