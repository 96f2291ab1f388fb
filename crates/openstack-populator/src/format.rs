//! What a disk's first bytes say of its format.
//!
//! Glance takes any bytes under `disk_format: raw`, and a virtual machine that boots from a qcow2
//! header does not boot. So the first bytes of a raw image are checked before anything is written.

use std::fmt;

/// How many of the first bytes are checked.
pub const HEAD: usize = 1024;

/// A format that its first bytes give away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// QEMU copy on write, versions 2 and 3 (and 1).
    Qcow2,
    /// QEMU enhanced disk.
    Qed,
    /// `VMware`: a sparse extent, an ESX extent or a descriptor.
    Vmdk,
    /// `Hyper-V`, second version.
    Vhdx,
    /// `Hyper-V` and `Virtual PC`: a dynamic or differencing disk, which begins with a copy of its
    /// footer.
    Vhd,
    /// `VirtualBox`.
    Vdi,
    /// LUKS encryption.
    Luks,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
}

impl Format {
    /// The format that `head`, the first [`HEAD`] bytes or all that there are, gives away.
    ///
    /// A fixed-size VHD is a raw disk with a footer; its head does not show it.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let at = |offset: usize, magic: &[u8]| {
            head.get(offset..)
                .is_some_and(|rest| rest.starts_with(magic))
        };
        SIGNATURES
            .iter()
            .find(|(offset, magic, _)| at(*offset, magic))
            .map(|(_, _, format)| *format)
    }

    /// Whether these bytes are never a disk as a machine sees it.
    ///
    /// A guest may encrypt a whole data disk, and may write an archive to a disk without a
    /// partition table: LUKS and the compressed formats are raw disks then, and only remarkable.
    #[must_use]
    pub const fn is_container(self) -> bool {
        match self {
            Self::Qcow2 | Self::Qed | Self::Vmdk | Self::Vhdx | Self::Vhd | Self::Vdi => true,
            Self::Luks | Self::Gzip | Self::Xz | Self::Zstd | Self::Bzip2 => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qcow2 => "qcow2",
            Self::Qed => "qed",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vhd => "vhd",
            Self::Vdi => "vdi",
            Self::Luks => "luks",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// Offset of the signature, its bytes, and the format that it marks.
const SIGNATURES: [(usize, &[u8], Format); 14] = [
    (0, b"QFI\xfb", Format::Qcow2),
    (0, b"QED\0", Format::Qed),
    (0, b"KDMV", Format::Vmdk),
    (0, b"COWD", Format::Vmdk),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0", Format::Vmdk), // ESX seSparse
    (0, b"# Disk DescriptorFile", Format::Vmdk),
    (0, b"vhdxfile", Format::Vhdx),
    (0, b"conectix", Format::Vhd),
    (64, b"\x7f\x10\xda\xbe", Format::Vdi),
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
    fn signatures() {
        let vdi = {
            let mut head = [b'<'; 512];
            head[64..68].copy_from_slice(&0xbeda_107f_u32.to_le_bytes());
            head
        };
        let sparse = 0xcafe_babe_u64.to_le_bytes();
        for (head, format) in [
            (&b"QFI\xfb\0\0\0\x02"[..], Some(Format::Qcow2)),
            (b"QED\0", Some(Format::Qed)),
            (b"KDMV\x01\0\0\0", Some(Format::Vmdk)),
            (b"COWD", Some(Format::Vmdk)),
            (b"# Disk DescriptorFile\nversion=1\n", Some(Format::Vmdk)),
            (&sparse, Some(Format::Vmdk)),
            (b"vhdxfile", Some(Format::Vhdx)),
            (b"conectix", Some(Format::Vhd)),
            (&vdi, Some(Format::Vdi)),
            (b"LUKS\xba\xbe\0\x01", Some(Format::Luks)),
            (b"\x1f\x8b\x08\0", Some(Format::Gzip)),
            (b"\xfd7zXZ\0", Some(Format::Xz)),
            (b"\x28\xb5\x2f\xfd", Some(Format::Zstd)),
            (b"BZh9", Some(Format::Bzip2)),
            // Too short, in the wrong place, or nothing at all.
            (b"QFI", None),
            (b"\0QFI\xfb", None),
            (b"", None),
            (&vdi[..66], None),
            (&[0; HEAD], None),
            // The boot sector of an ordinary disk.
            (b"\xeb\x63\x90\x10\x8e\xd0\xbc\0\xb0", None),
        ] {
            assert_eq!(
                Format::of(head),
                format,
                "{:?}",
                &head[..head.len().min(16)]
            );
        }
    }

    #[test]
    fn a_guest_may_have_written_some_of_them() {
        assert!(Format::Qcow2.is_container() && Format::Vdi.is_container());
        assert!(!Format::Luks.is_container() && !Format::Gzip.is_container());
    }
}
