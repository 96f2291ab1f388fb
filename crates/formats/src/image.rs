//! An image, and the ways to walk over it.

use std::ops::Range;

use crate::{
    Error, Extents, FileOrder, Format, Info, Kind, ReadAt, Summary,
    map::{Layout, Map, SORTED},
    qcow2, raw,
    read_at::Input,
    vdi, vhd, vhdx, vmdk,
};

/// An image that was opened: its header is sound and everything in it is supported.
#[derive(Debug)]
pub struct Image {
    info: Info,
    layout: Box<dyn Layout>,
}

impl Image {
    /// Finds out what the file is, and reads its header.
    ///
    /// # Errors
    /// See [`Kind`]. A compressed file is [`Kind::Unsupported`] here, an encrypted one [`Kind::Encrypted`]; but a guest's
    /// disk may begin like one: whoever knows that it is raw calls [`Image::open_as`].
    pub fn open(file: &mut dyn ReadAt) -> Result<Self, Error> {
        let format = Format::detect(file)?;
        Self::open_as(file, format)
    }

    /// Reads the header of a file as that of `format`, whatever its signature is.
    ///
    /// # Errors
    /// As for [`Image::open`].
    pub fn open_as(file: &mut dyn ReadAt, format: Format) -> Result<Self, Error> {
        let mut input = Input { file, format };
        let (info, layout) = match format {
            Format::Raw => raw::open(&input),
            Format::Qcow2 => qcow2::open(&mut input)?,
            Format::Vdi => vdi::open(&mut input)?,
            Format::Vmdk => vmdk::open(&mut input)?,
            Format::Vhdx => vhdx::open(&mut input)?,
            Format::Vhd => vhd::open(&mut input)?,
            Format::Luks => {
                let problem = "the whole disk is encrypted";
                return Err(refused(Kind::Encrypted, format, problem));
            }
            Format::Gzip | Format::Xz | Format::Zstd | Format::Bzip2 => {
                let problem = "the file is compressed as a whole";
                return Err(refused(Kind::Unsupported, format, problem));
            }
            _ => {
                let problem = "the format is not supported";
                return Err(refused(Kind::Unsupported, format, problem));
            }
        };
        if info.cluster_size == 0 {
            let problem = "a cluster has at least a byte";
            return Err(Error::new(
                Kind::Corrupt,
                format,
                "cluster size",
                0,
                problem,
            ));
        }
        Ok(Self { info, layout })
    }

    /// What the file is.
    #[must_use]
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// Size of the guest's disk in bytes.
    #[must_use]
    pub const fn virtual_size(&self) -> u64 {
        self.info.virtual_size
    }

    /// What the tables say of `range` of the guest's disk, as far as the disk reaches: ascending extents without gaps.
    ///
    /// `file` is the file that the image was opened from.
    pub fn extents<'a>(&'a self, file: &'a mut dyn ReadAt, range: Range<u64>) -> Extents<'a> {
        Extents::new(self.map(), file, range)
    }

    /// The extents of the whole disk that are in the file, in the order of the file.
    pub fn file_order<'a>(&'a self, file: &'a mut dyn ReadAt) -> FileOrder<'a> {
        FileOrder::new(self.map(), file, SORTED)
    }

    /// Reads all tables: refuses those that are damaged or hostile, and sums up.
    ///
    /// To be called before the first byte is written anywhere: later walks find the same faults, but later.
    ///
    /// # Errors
    /// [`Kind::Truncated`] for an entry beyond the end of the file, [`Kind::Corrupt`] for two entries that name the same
    /// bytes and for entries that cannot be, [`Kind::Unsupported`], [`Kind::Read`].
    pub fn check(&self, file: &mut dyn ReadAt) -> Result<Summary, Error> {
        self.file_order(file).summary()
    }

    pub(crate) const fn map(&self) -> Map<'_> {
        Map {
            info: &self.info,
            layout: &*self.layout,
        }
    }
}

fn refused(kind: Kind, format: Format, problem: &'static str) -> Error {
    Error::new(kind, format, "signature", "there", problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Decoder};

    #[test]
    fn an_image_is_shared_by_threads_and_a_decoder_moves_to_one() {
        fn is_shared<T: Send + Sync>() {}
        fn moves<T: Send>() {}
        is_shared::<Image>();
        moves::<Decoder>();
    }

    #[test]
    fn a_raw_file_is_one_extent_of_its_size_to_the_byte() {
        let bytes = [7; 12_345];
        let mut file = &bytes[..];
        let image = Image::open(&mut file).unwrap();
        assert_eq!(image.info().format, Format::Raw);
        let extents: Vec<_> = image
            .extents(&mut file, 100..u64::MAX)
            .map(|extent| extent.map(|extent| (extent.start, extent.len, extent.content)))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(extents, [(100, 12_245, Content::Data { offset: 100 })]);
        assert_eq!(image.check(&mut file).unwrap().data, 12_345);
        let mut none = &bytes[..0];
        let empty = Image::open(&mut none).unwrap();
        assert_eq!(empty.extents(&mut none, 0..9).count(), 0);
        assert_eq!(empty.check(&mut none).unwrap(), Summary::default());
    }

    #[test]
    fn what_is_no_image_is_refused_with_its_name() {
        for (head, kind, format) in [
            (&b"LUKS\xba\xbe\0\x01"[..], Kind::Encrypted, "luks"),
            (b"QED\0", Kind::Unsupported, "qed"),
            (b"WithoutFreeSpace", Kind::Unsupported, "parallels"),
            (b"\x1f\x8b\x08", Kind::Unsupported, "gzip"),
            (b"QFI\xfb\0\0\0\x01", Kind::Unsupported, "qcow2"),
            (b"QFI\xfb\0\0\0\x03", Kind::Truncated, "qcow2"),
            (b"KDMV", Kind::Truncated, "vmdk"),
            (b"vhdxfile", Kind::Truncated, "vhdx"),
            (b"conectix", Kind::Truncated, "vhd"),
        ] {
            let mut file = head;
            let error = Image::open(&mut file).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.format().to_string(), format);
        }
    }
}
