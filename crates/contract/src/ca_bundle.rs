//! Where an installation's CA bundle is in a mover's pod.

use std::{fmt, path::Path};

/// Below it, the path names what is mounted.
const FOLDER: &str = "/etc/populator/ca-bundle";

/// A key of a `ConfigMap` that the controller mounts for [`super::args::flag::CA_BUNDLE`].
///
/// The volume is optional, so that a namespace without the `ConfigMap` keeps no pod from starting: the file is missing
/// then, and the mover reads from its path what there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountedBundle<'a> {
    /// Namespace of the pod and the `ConfigMap`.
    pub namespace: &'a str,
    /// Name of the `ConfigMap`.
    pub config_map: &'a str,
    /// The key, whose value is PEM text.
    pub key: &'a str,
}

impl<'a> MountedBundle<'a> {
    /// The folder that the `ConfigMap` is mounted at.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{FOLDER}/{}/{}", self.namespace, self.config_map)
    }

    /// The file with the key's value, named like the key.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.folder(), self.key)
    }

    /// What a path names; `None` for a path that is no such mount.
    #[must_use]
    pub fn of_path(path: &'a Path) -> Option<Self> {
        let rest = path.to_str()?.strip_prefix(FOLDER)?.strip_prefix('/')?;
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        let found = Self {
            namespace: parts.next()?,
            config_map: parts.next()?,
            key: parts.next()?,
        };
        parts.next().is_none().then_some(found)
    }
}

impl fmt::Display for MountedBundle<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ConfigMap {} with the key {} in the namespace {}",
            self.config_map, self.key, self.namespace
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_is_mounted_there() {
        let bundle = MountedBundle {
            namespace: "vms",
            config_map: "trusted-ca",
            key: "ca-bundle.crt",
        };
        let path = bundle.path();
        assert_eq!(
            path,
            "/etc/populator/ca-bundle/vms/trusted-ca/ca-bundle.crt"
        );
        assert!(path.starts_with(&bundle.folder()));
        assert_eq!(MountedBundle::of_path(Path::new(&path)), Some(bundle));
        for other in [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/populator/ca-bundle",
            "/etc/populator/ca-bundle/vms/trusted-ca",
            "/etc/populator/ca-bundle/vms/trusted-ca/a/b",
            "/etc/populator/ca-bundles/vms/trusted-ca/a",
            "etc/populator/ca-bundle/vms/trusted-ca/a",
        ] {
            assert_eq!(MountedBundle::of_path(Path::new(other)), None, "{other}");
        }
    }
}
