//! The CA bundle for sources that name none of their own.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use contract::{Exit, MountedBundle, args::flag};
use net::Trust;

use crate::{Failure, files::read_bounded};

/// The file that `--ca-bundle` names.
#[derive(Debug, Clone)]
pub struct CaBundle {
    path: PathBuf,
}

impl CaBundle {
    /// The bundle in this file, which is not read before [`CaBundle::trust`].
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The system's authorities with those of the bundle. The system's alone, with a warning, where the file is the
    /// optional mount of a controller and there is none.
    ///
    /// # Errors
    /// [`Exit::Configuration`] for a file that cannot be read, or holds no certificate that can be read.
    pub(crate) fn trust(&self) -> Result<Trust, Failure> {
        let name = self.name();
        match read_bounded(&self.path) {
            Ok(pem) => Ok(Trust::system_and(name, &pem)?),
            Err(error) => {
                if let Some(missing) = self.missing() {
                    tracing::warn!("{missing}; the system's authorities are trusted alone");
                    return Ok(Trust::System);
                }
                Err(Failure::new(
                    Exit::Configuration,
                    format!(
                        "{name} cannot be read: {error}; name a file with certificates in PEM form, or \
                         leave the flag out"
                    ),
                ))
            }
        }
    }

    /// What is missing, where the file is the optional mount of a controller and there is none.
    pub(crate) fn missing(&self) -> Option<String> {
        let mounted = MountedBundle::of_path(&self.path)?;
        let error = self.path.metadata().err()?;
        (error.kind() == ErrorKind::NotFound)
            .then(|| format!("there is no {mounted}, in which this installation has its CA bundle"))
    }

    fn name(&self) -> String {
        format!("--{}={}", flag::CA_BUNDLE, Path::display(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use testkit::pki::Authority;

    use super::*;

    #[test]
    fn a_bundle_is_trusted_beside_the_system() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pem = Authority::new("a").pem() + &Authority::new("b").pem();
        std::fs::write(file.path(), pem).unwrap();
        match CaBundle::new(file.path()).trust().unwrap() {
            Trust::SystemAnd { certificates, name } => {
                assert_eq!(certificates.len(), 2);
                assert_eq!(name, format!("--ca-bundle={}", file.path().display()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_flag() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, words) in [
            ("", "is empty"),
            ("rubbish", "holds no certificate"),
            (broken, "certificate 1 is not an X.509 certificate"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            named(file.path(), words);
        }
        named(Path::new("/nonexistent/bundle.pem"), "cannot be read");
        named(Path::new("/etc"), "cannot be read");
    }

    #[track_caller]
    fn named(path: &Path, words: &str) {
        let failure = CaBundle::new(path).trust().unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        let name = format!("--ca-bundle={} ", path.display());
        assert!(failure.message().starts_with(&name), "{failure}");
        for word in [words, "PEM"] {
            assert!(failure.message().contains(word), "{failure}");
        }
    }

    #[test]
    fn without_the_config_map_the_system_is_trusted_alone() {
        let path = "/etc/populator/ca-bundle/vms/trusted-ca/ca-bundle.crt";
        let bundle = CaBundle::new(path);
        assert!(matches!(bundle.trust(), Ok(Trust::System)));
        let missing = bundle.missing().unwrap();
        for word in [
            "there is no ConfigMap trusted-ca with",
            "key ca-bundle.crt",
            "namespace vms",
        ] {
            assert!(missing.contains(word), "{missing}");
        }
        assert_eq!(CaBundle::new("/nonexistent/bundle.pem").missing(), None);
    }
}
