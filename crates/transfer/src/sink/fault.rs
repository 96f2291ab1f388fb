//! What an `errno` of the target means, in words that say what to do.

use std::path::Path;

use rustix::{io::Errno, process};

use crate::{Error, Kind};

/// The error of an operation on the target. `action` reads as "cannot {action} {path}".
pub(super) fn fault(action: &str, path: &Path, errno: Errno) -> Error {
    let kind = kind_of(errno);
    let mut context = format!("cannot {action} {}", path.display());
    if kind == Kind::TargetFull {
        context.push_str(&hint_full(path, errno));
    }
    Error::with_source(kind, context, std::io::Error::from(errno))
}

/// The error of stat(2) on the target.
pub(super) fn look_fault(path: &Path, errno: Errno) -> Error {
    let (kind, hint) = match errno {
        Errno::ACCESS => (
            Kind::TargetDenied,
            format!(" as {}: a folder on the way is closed", identity()),
        ),
        Errno::NOTDIR => (
            Kind::TargetDenied,
            ": a part of the path is no folder".to_owned(),
        ),
        Errno::LOOP | Errno::NAMETOOLONG => (Kind::TargetDenied, String::new()),
        _ => (kind_of(errno), String::new()),
    };
    let context = format!("cannot look at {}{hint}", path.display());
    Error::with_source(kind, context, std::io::Error::from(errno))
}

/// The error of opening a block device for writing.
pub(super) fn device_open_fault(path: &Path, errno: Errno) -> Error {
    let hint = match errno {
        Errno::ACCESS | Errno::PERM => format!(
            ": the process runs as {}, and the device does not let it write; in a cluster the \
             node's container runtime needs `device_ownership_from_security_context = true`, and \
             the pod `runAsUser: 107` and `fsGroup: 107`",
            identity()
        ),
        Errno::BUSY => ": it is in exclusive use, by a mounted file system, by the device mapper, \
             by RAID or by another program"
            .to_owned(),
        Errno::ROFS => ": the medium is read-only".to_owned(),
        Errno::NXIO | Errno::NODEV => ": no device answers behind this node".to_owned(),
        _ => String::new(),
    };
    // A device in use is refused like one that we may not open: its user has to release it.
    let kind = match errno {
        Errno::BUSY => Kind::TargetDenied,
        _ => kind_of(errno),
    };
    let context = format!("cannot open the block device {}{hint}", path.display());
    Error::with_source(kind, context, std::io::Error::from(errno))
}

/// The error for a file that is a symbolic link.
pub(super) fn link_fault(path: &Path) -> Error {
    Error::new(
        Kind::TargetDenied,
        format!(
            "{} is a symbolic link, and a file is not written through one, since whoever can change its \
             folder could have another file overwritten; give the path of the file itself",
            path.display()
        ),
    )
}

/// The error of opening or creating a regular file.
pub(super) fn file_open_fault(action: &str, path: &Path, errno: Errno) -> Error {
    if errno == Errno::LOOP {
        return link_fault(path);
    }
    let hint = match errno {
        Errno::ACCESS | Errno::PERM => format!(
            ": the process runs as {}; in a cluster the pod needs `fsGroup: 107`",
            identity()
        ),
        Errno::ROFS => ": the file system is mounted read-only".to_owned(),
        Errno::BUSY | Errno::TXTBSY => ": it is in use by another program".to_owned(),
        _ => return fault(action, path, errno),
    };
    let kind = match errno {
        Errno::BUSY | Errno::TXTBSY => Kind::TargetDenied,
        _ => kind_of(errno),
    };
    let context = format!("cannot {action} {}{hint}", path.display());
    Error::with_source(kind, context, std::io::Error::from(errno))
}

/// Bytes that an unprivileged process may still allocate on the file system of `path`.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Whom the kernel takes this process for.
fn identity() -> String {
    format!(
        "uid {} and gid {}",
        process::geteuid().as_raw(),
        process::getegid().as_raw()
    )
}

fn kind_of(errno: Errno) -> Kind {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Kind::TargetFull,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Kind::TargetDenied,
        _ => Kind::TargetIo,
    }
}

fn hint_full(path: &Path, errno: Errno) -> String {
    match errno {
        Errno::DQUOT => ": the quota is used up".to_owned(),
        Errno::FBIG => ": larger than the file system, or the process's limit \
             (RLIMIT_FSIZE), allows a file to be"
            .to_owned(),
        _ => free_bytes(path)
            .map(|free| format!(": its file system has {free} bytes free"))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/dev/does/not/exist";

    #[test]
    fn a_device_that_is_closed_to_us_says_what_the_node_lacks() {
        for errno in [Errno::ACCESS, Errno::PERM] {
            let error = device_open_fault(Path::new(PATH), errno);
            assert_eq!(error.kind(), Kind::TargetDenied);
            let text = error.chain();
            for word in [
                PATH,
                &format!("uid {}", process::geteuid().as_raw()),
                &format!("gid {}", process::getegid().as_raw()),
                "`device_ownership_from_security_context = true`",
                "`fsGroup: 107`",
            ] {
                assert!(text.contains(word), "{text}");
            }
        }
    }

    #[test]
    fn a_device_in_use_is_explained() {
        let error = device_open_fault(Path::new(PATH), Errno::BUSY);
        assert_eq!(error.kind(), Kind::TargetDenied);
        assert!(error.chain().contains("exclusive use"), "{}", error.chain());
    }

    #[test]
    fn kinds() {
        let of = |errno| fault("write", Path::new(PATH), errno).kind();
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert_eq!(of(errno), Kind::TargetFull, "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::PERM, Errno::ROFS] {
            assert_eq!(of(errno), Kind::TargetDenied, "{errno}");
        }
        for errno in [Errno::IO, Errno::NXIO, Errno::REMOTEIO, Errno::BADF] {
            assert_eq!(of(errno), Kind::TargetIo, "{errno}");
        }
    }

    #[test]
    fn a_full_file_system_says_how_much_is_free() {
        let text = fault("write", Path::new("/"), Errno::NOSPC).chain();
        assert!(
            text.starts_with("cannot write /: its file system has "),
            "{text}"
        );
        let text = fault("write", Path::new("/"), Errno::FBIG).chain();
        assert!(text.contains("RLIMIT_FSIZE"), "{text}");
    }
}
