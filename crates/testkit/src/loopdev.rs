//! Block devices over temporary files.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::image;

/// A loop device, filled with `0xFF` so that nothing on it reads as zero by luck.
///
/// The kernel detaches it when the last user closes it, so nothing stays behind even when the test
/// is killed: the backing file has no name any more, and the device is detached while it is open.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    backing: File,
    _open: File,
}

impl LoopDevice {
    /// A device of `size` bytes with logical sectors of 512 or 4096 bytes.
    ///
    /// # Panics
    /// Without root, `losetup` or loop devices: such tests need a machine that has them.
    pub fn new(size: u64, sector_size: u32) -> Self {
        let device = Self::blank(size, sector_size);
        image::fill(&device.path, 0xFF);
        device
    }

    /// Like [`Self::new`], with holes in the backing file in place of `0xFF`.
    pub fn blank(size: u64, sector_size: u32) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let path = losetup(&[
            "--find",
            "--show",
            &format!("--sector-size={sector_size}"),
            file.path().to_str().unwrap(),
        ]);
        let path = PathBuf::from(path.trim());
        let open = OpenOptions::new().read(true).open(&path).unwrap();
        losetup(&["--detach", path.to_str().unwrap()]);
        Self {
            path,
            backing: file.into_file(),
            _open: open,
        }
    }

    /// Path of the device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that the backing file occupies: what a thin volume would.
    pub fn allocated_bytes(&self) -> u64 {
        self.backing.metadata().unwrap().blocks() * 512
    }
}

fn losetup(arguments: &[&str]) -> String {
    let output = Command::new("losetup")
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("losetup (package util-linux) is needed: {error}"));
    assert!(
        output.status.success(),
        "losetup {arguments:?} failed; block device tests need root and /dev/loop-control: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_full_of_ones_and_vanishes_when_dropped() {
        let device = LoopDevice::new(3 << 20, 4096);
        assert_eq!(image::size_of(device.path()), 3 << 20);
        assert!(device.allocated_bytes() >= 3 << 20);
        let name = device
            .path()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let sector = format!("/sys/block/{name}/queue/logical_block_size");
        assert_eq!(std::fs::read_to_string(sector).unwrap().trim(), "4096");
        let inode = device.backing.metadata().unwrap().ino();
        drop(device);
        let attached = losetup(&["--list", "--noheadings", "--output", "BACK-INO"]);
        let still = attached
            .lines()
            .any(|line| line.trim() == inode.to_string());
        assert!(!still, "{attached}");
    }
}
