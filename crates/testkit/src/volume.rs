//! Small file systems, to be filled up.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    process::{self, Command},
};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::LoopDevice;

/// A mounted file system that is attached nowhere: it is reached through this process's descriptor,
/// by this process and by its children, and goes away with it.
#[derive(Debug)]
pub struct Volume {
    mount: OwnedFd,
    _device: Option<LoopDevice>,
}

impl Volume {
    /// A tmpfs of at most `size` bytes.
    ///
    /// # Panics
    /// Without root.
    pub fn tmpfs(size: u64) -> Self {
        Self::mount("tmpfs", &[("size", &size.to_string())], None)
    }

    /// An ext4 on a loop device of `size` bytes.
    ///
    /// # Panics
    /// Without root, loop devices or `mkfs.ext4`.
    pub fn ext4(size: u64) -> Self {
        let device = LoopDevice::blank(size, 512);
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-O", "^has_journal"])
            .arg(device.path())
            .output()
            .unwrap_or_else(|error| panic!("mkfs.ext4 (package e2fsprogs) is needed: {error}"));
        assert!(made.status.success(), "mkfs.ext4: {made:?}");
        let source = device.path().to_str().unwrap().to_owned();
        Self::mount("ext4", &[("source", &source)], Some(device))
    }

    fn mount(kind: &str, options: &[(&str, &str)], device: Option<LoopDevice>) -> Self {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).unwrap_or_else(|error| {
            panic!("mounting a {kind} needs root (CAP_SYS_ADMIN): {error}")
        });
        for (key, value) in options {
            fsconfig_set_string(&context, *key, *value).unwrap();
        }
        fsconfig_create(&context)
            .unwrap_or_else(|error| panic!("mounting a {kind} with {options:?}: {error}"));
        let mount = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
        .unwrap();
        Self {
            mount,
            _device: device,
        }
    }

    /// The path of a name in its root folder, valid while this process lives.
    pub fn path(&self, name: &str) -> PathBuf {
        let descriptor = self.mount.as_raw_fd();
        format!("/proc/{}/fd/{descriptor}/{name}", process::id()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind};

    use super::*;

    #[test]
    fn can_be_filled_up() {
        for volume in [Volume::tmpfs(1 << 20), Volume::ext4(1 << 20)] {
            let path = volume.path("file");
            fs::write(&path, b"fits").unwrap();
            let seen = Command::new("cat").arg(&path).output().unwrap();
            assert_eq!(seen.stdout, b"fits");
            let error = fs::write(&path, vec![1; 2 << 20]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
    }
}
