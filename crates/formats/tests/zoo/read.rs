//! Reads a whole image through the crate, in each way that there is.

use std::{fs, path::Path};

use formats::{Content, Decoder, Error, Extent, Format, Image, Kind, Run, Stream, Summary};

/// Largest disk that is put together; those of the zoo are smaller.
pub(crate) const MOST: u64 = 256 << 20;

/// The guest's disk by its order and by the order of the file, which must be the same, and what was said of it.
///
/// # Panics
/// When two ways give different bytes, or extents have gaps.
pub(crate) fn whole(file: &[u8]) -> Result<(Vec<u8>, Image, Summary), Error> {
    let image = Image::open(&mut { file })?;
    read(file, image)
}

/// The same with an image that is open.
pub(crate) fn read(file: &[u8], image: Image) -> Result<(Vec<u8>, Image, Summary), Error> {
    let summary = image.check(&mut { file })?;
    assert!(summary.data <= image.virtual_size());
    if image.virtual_size() > MOST {
        let mut source = file;
        for extent in image.extents(&mut source, 0..u64::MAX).take(1 << 20) {
            extent?;
        }
        return Ok((Vec::new(), image, summary));
    }
    let size = usize::try_from(image.virtual_size()).unwrap();
    let mut disk = Disk {
        bytes: vec![0; size],
        decoder: Decoder::new(&image)?,
        cluster: vec![0; usize::try_from(image.info().cluster_size).unwrap()],
        file,
    };
    let (mut at, mut data) = (0, 0);
    for extent in image.extents(&mut { file }, 0..u64::MAX) {
        let extent = extent?;
        assert!(extent.start == at && extent.len > 0, "{extent:?} at {at}");
        at += extent.len;
        if extent.content != Content::Hole {
            data += extent.len;
        }
        disk.put(extent)?;
    }
    assert_eq!(at, image.virtual_size());
    assert_eq!(data, summary.data);
    let by_guest = std::mem::replace(&mut disk.bytes, vec![0; size]);
    let mut last = 0;
    for extent in image.file_order(&mut { file }) {
        let extent = extent?;
        let (Content::Data { offset } | Content::Compressed { offset, .. }) = extent.content else {
            panic!("{extent:?}");
        };
        assert!(offset >= last, "{extent:?} after {last}");
        last = offset;
        disk.put(extent)?;
    }
    assert!(disk.bytes == by_guest, "the two orders give two disks");
    windows(file, &image, &by_guest, &mut disk)?;
    // What is sound may be in no order for one pass; otherwise it gives the same.
    // A raw file is as large as it is.
    let sizes = [Some(file.len() as u64), None];
    for size in sizes
        .into_iter()
        .take(1 + usize::from(image.info().format != Format::Raw))
    {
        match once(file, image.info().format, size) {
            Ok(once) => assert!(once == by_guest, "one pass gives another disk"),
            Err(error) => assert_eq!(error.kind(), Kind::Order, "{error}"),
        }
    }
    Ok((by_guest, image, summary))
}

/// The guest's disk by one pass over the file.
///
/// # Panics
/// When a byte of the disk is given twice or not at all.
pub(crate) fn in_one_pass(file: &[u8], format: Format) -> Result<Vec<u8>, Error> {
    once(file, format, Some(file.len() as u64))
}

/// The same for a file whose size is known or not.
fn once(file: &[u8], format: Format, size: Option<u64>) -> Result<Vec<u8>, Error> {
    let mut stream = Stream::open(file, format, size)?;
    let mut disk = vec![0; index(stream.info().virtual_size)];
    let mut given = vec![false; disk.len() / 512 + 1];
    while let Some(run) = stream.next_run()? {
        let range = match run {
            Run::Hole(range) => index(range.start)..index(range.end),
            Run::Data { offset, bytes } => {
                let range = index(offset)..index(offset) + bytes.len();
                disk[range.clone()].copy_from_slice(bytes);
                range
            }
        };
        assert!(!range.is_empty());
        for sector in &mut given[range.start.div_ceil(512)..range.end.div_ceil(512)] {
            assert!(!*sector, "given twice: {range:?}");
            *sector = true;
        }
    }
    assert!(given.iter().filter(|given| **given).count() == disk.len().div_ceil(512));
    Ok(disk)
}

/// Parts of the disk are the same as those of the whole, wherever they begin and end.
fn windows(file: &[u8], image: &Image, whole: &[u8], disk: &mut Disk<'_>) -> Result<(), Error> {
    let size = image.virtual_size();
    for (start, end) in [
        (size / 3, size / 3 + 1),
        (size / 7 + 3, size / 2 + 5),
        (size.saturating_sub(700), size + 5),
        (size, size + 1),
    ] {
        let range = index(start.min(size))..index(end.min(size));
        disk.bytes[range.clone()].fill(0);
        let mut at = start;
        for extent in image.extents(&mut { file }, start..end) {
            let extent = extent?;
            assert_eq!(extent.start, at);
            at += extent.len;
            disk.put(extent)?;
        }
        assert_eq!(at, end.min(size).max(start));
        assert!(disk.bytes[range.clone()] == whole[range], "{start}..{end}");
    }
    Ok(())
}

struct Disk<'a> {
    bytes: Vec<u8>,
    decoder: Decoder,
    cluster: Vec<u8>,
    file: &'a [u8],
}

impl Disk<'_> {
    fn put(&mut self, extent: Extent) -> Result<(), Error> {
        let target = index(extent.start)..index(extent.start + extent.len);
        match extent.content {
            Content::Hole => {}
            Content::Data { offset } => {
                let from = &self.file[index(offset)..][..target.len()];
                self.bytes[target].copy_from_slice(from);
            }
            Content::Compressed {
                offset,
                length,
                skip,
            } => {
                let packed = &self.file[index(offset)..][..index(length)];
                let start = extent.start - skip;
                self.decoder.decode(start, packed, &mut self.cluster)?;
                let part = &self.cluster[index(skip)..][..target.len()];
                self.bytes[target].copy_from_slice(part);
            }
        }
        Ok(())
    }
}

/// Reads an image, and compares it with what QEMU has read from it.
pub(crate) fn assert_same(path: &Path, format: Format, by_qemu: &[u8]) -> (Image, Summary) {
    let file = fs::read(path).unwrap();
    let (disk, image, summary) = whole(&file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(image.info().format, format);
    assert_eq!(disk.len(), by_qemu.len(), "size of the disk");
    let difference = disk
        .iter()
        .zip(by_qemu)
        .position(|(ours, theirs)| ours != theirs);
    assert_eq!(difference, None, "first byte that differs");
    (image, summary)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}
