//! Where `clouds.yaml` and `secure.yaml` are, and which clouds they have.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use mover::{Environment, Failure, read_secret};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{cloud::Cloud, wrong};

/// The clouds of one file, or of two that are merged.
#[derive(Debug)]
pub(super) struct Clouds {
    clouds: BTreeMap<String, Cloud>,
    origin: String,
}

/// What else a file has (`client`, `cache`, `metrics`, `public-clouds`) is about other programs.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    clouds: Option<BTreeMap<String, Cloud>>,
}

impl Clouds {
    /// The first `clouds.yaml` of the usual places, with the first `secure.yaml`, whose keys win.
    pub(super) fn find(environment: &Environment) -> Result<Self, Failure> {
        let folders = folders(environment);
        let named = environment.get("OS_CLIENT_CONFIG_FILE");
        let Some(mut found) = first(named, &folders, "clouds")? else {
            let folders: Vec<_> = folders.iter().map(|it| it.display().to_string()).collect();
            return Err(wrong(format!(
                "there is no clouds.yaml in {}; put it there or name it in OS_CLIENT_CONFIG_FILE",
                folders.join(", ")
            )));
        };
        let named = environment.get("OS_CLIENT_SECURE_FILE");
        if let Some(secure) = first(named, &folders, "secure")? {
            for (name, cloud) in secure.clouds {
                found.clouds.entry(name).or_default().merge(cloud);
            }
        }
        Ok(found)
    }

    /// The clouds of a text. Its errors hold nothing of it but a position: what is malformed may be a password.
    pub(super) fn parse(text: &str, origin: &str) -> Result<Self, Failure> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().map_or_else(String::new, |at| {
                format!(" at line {}, column {}", at.line(), at.column())
            });
            wrong(format!(
                "clouds.yaml ({origin}) cannot be read{place}: it must be YAML with clouds, their names, and for each its keys and auth, all of them with plain values"
            ))
        })?;
        Ok(Self {
            clouds: file.clouds.unwrap_or_default(),
            origin: origin.to_owned(),
        })
    }

    /// The cloud of this name.
    pub(super) fn get(&self, name: &str) -> Result<&Cloud, Failure> {
        self.clouds.get(name).ok_or_else(|| {
            wrong(format!(
                "there is no cloud {} in {}; it has {}",
                net::quoted(name),
                self.origin,
                self.names()
            ))
        })
    }

    /// The name of the only cloud.
    pub(super) fn only(&self) -> Result<&str, Failure> {
        let mut names = self.clouds.keys();
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name),
            _ => Err(wrong(format!(
                "clouds.yaml ({}) has {}; name one in the secret's key cloud",
                self.origin,
                self.names()
            ))),
        }
    }

    /// Where they come from, for messages.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    fn names(&self) -> String {
        if self.clouds.is_empty() {
            return "no clouds".to_owned();
        }
        let names: Vec<_> = self.clouds.keys().map(|name| net::quoted(name)).collect();
        names.join(", ")
    }
}

/// The file that is named, which must be there, or the first one of the folders.
fn first(named: Option<&str>, folders: &[PathBuf], stem: &str) -> Result<Option<Clouds>, Failure> {
    if let Some(path) = named {
        return read(Path::new(path))
            .and_then(|found| found.ok_or_else(|| wrong(format!("there is no file {path}"))))
            .map(Some);
    }
    for folder in folders {
        for ending in ["yaml", "yml", "json"] {
            if let Some(found) = read(&folder.join(format!("{stem}.{ending}")))? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<Clouds>, Failure> {
    match read_secret(path) {
        Ok(text) => Clouds::parse(text.expose_secret(), &path.display().to_string()).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Where openstacksdk looks, in its order: the present folder, the user's, the system's.
fn folders(environment: &Environment) -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from(".")];
    if let Some(home) = environment.get("XDG_CONFIG_HOME") {
        folders.push(Path::new(home).join("openstack"));
    }
    if let Some(home) = environment.get("HOME") {
        folders.push(Path::new(home).join(".config/openstack"));
    }
    let system = environment.get("XDG_CONFIG_DIRS").unwrap_or("/etc/xdg");
    let system = system.split(':').filter(|folder| !folder.is_empty());
    folders.extend(system.map(|folder| Path::new(folder).join("openstack")));
    folders.push(PathBuf::from("/etc/openstack"));
    folders
}
