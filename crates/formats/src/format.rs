//! The formats, and the signatures by which they are known.

use std::fmt;

/// A format of a disk image, or of the file around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The guest's bytes and nothing else.
    Raw,
    /// QEMU copy on write, versions 2 and 3. (Version 1 has the same signature, and is refused.)
    Qcow2,
    /// QEMU enhanced disk; refused.
    Qed,
    /// `VMware`: a sparse extent; ESX extents and descriptors are refused.
    Vmdk,
    /// `Hyper-V`, second version.
    Vhdx,
    /// `Hyper-V`, `Virtual PC` and Azure: fixed and dynamic; differencing is refused.
    Vhd,
    /// `VirtualBox`.
    Vdi,
    /// Parallels; refused.
    Parallels,
    /// LUKS encryption. A guest may encrypt a whole disk, so that a raw image may begin like this.
    Luks,
    /// A file that gzip has compressed. A guest may write such a file to a disk, so that a raw image may begin like
    /// this and the next three.
    Gzip,
    /// A file that xz has compressed.
    Xz,
    /// A file that Zstandard has compressed.
    Zstd,
    /// A file that bzip2 has compressed.
    Bzip2,
}

impl Format {
    /// How many of the first bytes tell what a file is.
    pub const HEAD: usize = 1024;

    /// The format that `head`, the first 1024 bytes or all that there are, gives away.
    ///
    /// `None` is raw, or a fixed VHD, which its last bytes alone show: see [`Format::detect`].
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        SIGNATURES
            .iter()
            .find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
            .map(|(_, _, format)| *format)
    }

    /// Whether bytes that begin like this are never a disk as a machine sees it.
    ///
    /// A guest may encrypt a whole data disk, and may write an archive to a disk without a partition
    /// table: LUKS and the compressed formats may be raw disks.
    #[must_use]
    pub const fn is_container(self) -> bool {
        match self {
            Self::Qcow2
            | Self::Qed
            | Self::Vmdk
            | Self::Vhdx
            | Self::Vhd
            | Self::Vdi
            | Self::Parallels => true,
            Self::Raw | Self::Luks | Self::Gzip | Self::Xz | Self::Zstd | Self::Bzip2 => false,
        }
    }

    /// Whether a file of this format is a compressed file, which [`Unwrap`](crate::Unwrap) decodes.
    #[must_use]
    pub const fn is_wrapper(self) -> bool {
        matches!(self, Self::Gzip | Self::Xz | Self::Zstd | Self::Bzip2)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Qed => "qed",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vhd",
            Self::Vdi => "vdi",
            Self::Parallels => "parallels",
            Self::Luks => "luks",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// Offset of the signature, its bytes, and the format that it marks.
const SIGNATURES: [(usize, &[u8], Format); 16] = [
    (0, b"QFI\xfb", Format::Qcow2),
    (0, b"QED\0", Format::Qed),
    (0, b"KDMV", Format::Vmdk),
    (0, b"COWD", Format::Vmdk),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0", Format::Vmdk), // ESX seSparse
    (0, b"# Disk DescriptorFile", Format::Vmdk),
    (0, b"vhdxfile", Format::Vhdx),
    (0, b"conectix", Format::Vhd),
    (64, b"\x7f\x10\xda\xbe", Format::Vdi),
    (0, b"WithoutFreeSpace", Format::Parallels),
    (0, b"WithouFreSpacExt", Format::Parallels),
    (0, b"LUKS\xba\xbe", Format::Luks),
    (0, b"\x1f\x8b\x08", Format::Gzip),
    (0, b"\xfd7zXZ\0", Format::Xz),
    (0, b"\x28\xb5\x2f\xfd", Format::Zstd),
    (0, b"BZh", Format::Bzip2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signature_is_found_in_its_place_only() {
        for (at, magic, format) in SIGNATURES {
            let mut head = vec![0; Format::HEAD];
            head[at..at + magic.len()].copy_from_slice(magic);
            assert_eq!(Format::of(&head), Some(format));
            assert_eq!(Format::of(&head[..at + magic.len() - 1]), None);
            assert_eq!(Format::of(&head[1..]), None, "{format}");
        }
    }
}
