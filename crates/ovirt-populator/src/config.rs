//! Credentials as users of `ovirt-img` keep them: sections of `ovirt-img.conf`.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use configparser::ini::{Ini, IniDefault};
use contract::{
    Exit,
    args::{flag, secret},
};
use mover::{Arguments, Environment, Failure, Secrets, read_secret};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroize};

/// Options of a section, as `ovirt-img` (ovirt-imageio 2.5) names them, and the keys of a secret that say the same.
const OPTIONS: [(&str, &str); 5] = [
    ("engine_url", secret::URL),
    ("username", secret::USER),
    ("password", secret::PASSWORD),
    ("cafile", secret::CACERT),
    ("secure", secret::INSECURE_SKIP_VERIFY),
];

/// Options that are about `ovirt-img` itself.
const OF_OVIRT_IMG: [&str; 4] = ["disk_timeout", "log_file", "log_level", "description"];

/// Python's name for the section whose options count in all sections.
const DEFAULT: &str = "DEFAULT";

/// The keys of the secret; or those of the section of `ovirt-img.conf` that is named, where the environment's `cacert`,
/// `proxy` and `insecureSkipVerify` count for what it does not say. Without a controller, a password that is missing
/// is asked for on a terminal.
///
/// # Errors
/// [`Exit::Configuration`] for a file, a section or an option that cannot be used.
pub fn secrets(
    section: Option<&str>,
    arguments: &Arguments,
    environment: &Environment,
) -> Result<Secrets, Failure> {
    let own = Secrets::of(arguments, environment)?;
    let mut found = match section.filter(|section| !section.is_empty()) {
        Some(section) => {
            let mut found = of_file(section, environment)?;
            tracing::info!("credentials: {}", found.origin());
            found.fill(
                &own,
                &[
                    secret::CACERT,
                    secret::CA_CRT,
                    secret::PROXY,
                    secret::INSECURE_SKIP_VERIFY,
                ],
            );
            found
        }
        None => own,
    };
    if !arguments.started_by_controller() && found.text(secret::USER).is_some() {
        found.ask(secret::PASSWORD, "Password for oVirt: ")?;
    }
    Ok(found)
}

fn of_file(section: &str, environment: &Environment) -> Result<Secrets, Failure> {
    let path = path(environment)
        .ok_or_else(|| wrong("there is no XDG_CONFIG_HOME and no HOME, where ovirt-img.conf is"))?;
    let text = read_secret(&path).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::NotFound => format!("; --{} reads it", flag::CONFIG),
            _ => String::new(),
        };
        wrong(format!("{}: {error}{advice}", path.display()))
    })?;
    let options = Section::read(text.expose_secret(), section)
        .map_err(|problem| wrong(format!("{}: {problem}", path.display())))?;
    let origin = format!("section {section} of {}", path.display());
    options
        .keys(&origin, environment)
        .map_err(|problem| wrong(format!("{origin}: {problem}")))
}

/// Where `ovirt-img` looks.
fn path(environment: &Environment) -> Option<PathBuf> {
    const NAME: &str = "ovirt-img.conf";
    match environment.get("XDG_CONFIG_HOME") {
        Some(home) => Some(Path::new(home).join(NAME)),
        None => Some(
            Path::new(environment.get("HOME")?)
                .join(".config")
                .join(NAME),
        ),
    }
}

/// The options of one section, with names in lower case.
struct Section(Vec<(String, SecretString)>);

impl Section {
    /// Reads it as Python's `configparser` does, without interpolation.
    fn read(text: &str, name: &str) -> Result<Self, String> {
        let mut rules = IniDefault::default();
        rules.case_sensitive = true;
        rules.multiline = true;
        // A password may hold what begins a comment elsewhere.
        rules.enable_inline_comments = false;
        // What stands before the first section, which Python refuses.
        rules.default_section = String::new();
        let mut ini = Ini::new_from_defaults(rules);
        // Its errors name a line and nothing of it.
        ini.read(text.to_owned())?;
        let map = ini.get_mut_map();
        let mut options = Vec::new();
        let result = if map.get("").is_some_and(|before| !before.is_empty()) {
            Err("there are options before the first section".to_owned())
        } else if name != DEFAULT && map.contains_key(name) {
            // Of two options of one name the last one is used: the section's own.
            for section in [DEFAULT, name] {
                for (option, value) in map.get(section).into_iter().flatten() {
                    let value = SecretString::from(value.as_deref().unwrap_or_default());
                    options.push((option.to_lowercase(), value));
                }
            }
            Ok(())
        } else {
            let mut names: Vec<_> = map.keys().filter(|key| *key != DEFAULT).cloned().collect();
            names.retain(|name| !name.is_empty());
            names.sort();
            Err(format!(
                "there is no section {}; there is {}",
                net::quoted(name),
                names.join(", ")
            ))
        };
        map.values_mut()
            .flat_map(|section| section.values_mut())
            .for_each(Zeroize::zeroize);
        result.map(|()| Self(options))
    }

    /// The keys of a secret that say the same.
    fn keys(&self, origin: &str, environment: &Environment) -> Result<Secrets, String> {
        let strange: Vec<_> = self
            .0
            .iter()
            .map(|(option, _)| option.as_str())
            .filter(|option| {
                !OF_OVIRT_IMG.contains(option) && OPTIONS.iter().all(|(known, _)| known != option)
            })
            .map(net::quoted)
            .collect();
        if !strange.is_empty() {
            tracing::warn!(
                "{origin}: not understood, and left alone: {}",
                strange.join(", ")
            );
        }
        let mut keys = Vec::new();
        for (option, key) in OPTIONS {
            let Some(value) = self.get(option) else {
                continue;
            };
            let value = match option {
                "cafile" => {
                    let path = environment.expand_home(value.expose_secret());
                    read_secret(&path)
                        .map_err(|error| format!("cafile {}: {error}", path.display()))?
                }
                "secure" => SecretString::from(is_insecure(value.expose_secret())?.to_string()),
                _ => value.clone(),
            };
            keys.push((key, value));
        }
        Ok(Secrets::from_keys(origin, keys))
    }

    fn get(&self, option: &str) -> Option<&SecretString> {
        let found = self.0.iter().rev().find(|(name, _)| name == option);
        found
            .map(|(_, value)| value)
            .filter(|value| !value.expose_secret().is_empty())
    }
}

/// The opposite of `secure`, by the words that `ovirt-img` takes.
fn is_insecure(secure: &str) -> Result<bool, String> {
    match secure.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(false),
        "0" | "no" | "false" | "off" => Ok(true),
        _ => Err(format!(
            "secure is {}; it must be yes, true, on, 1, no, false, off or 0",
            net::quoted(secure)
        )),
    }
}

fn wrong(text: impl Into<String>) -> Failure {
    Failure::new(Exit::Configuration, text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        mover: Arguments,
    }

    /// The keys of the section `lab` of this file, with these variables.
    fn found(file: &str, variables: &[(&str, &str)]) -> Result<Secrets, Failure> {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".config")).unwrap();
        std::fs::write(home.path().join("ca.pem"), "authorities").unwrap();
        std::fs::write(home.path().join(".config/ovirt-img.conf"), file).unwrap();
        let home = [("HOME", home.path().to_str().unwrap())];
        let environment: Environment = variables.iter().chain(&home).copied().collect();
        let arguments = Cli::try_parse_from(["mover", "--volume-path=/t"]).unwrap();
        secrets(Some("lab"), &arguments.mover, &environment)
    }

    #[test]
    fn a_section_is_read_as_python_reads_it() {
        let file = "# a comment\n[DEFAULT]\nUsername: nobody@internal\nsecure = yes\n\n[lab]\n; another\n\
            engine_url = https://engine.example.org\nUSERNAME = admin@internal\n\
            password = p=a:s#s;w %(x)s \"q\"  \ncafile = ~/ca.pem\nlog_level = debug\n[other]\npassword = x\n";
        let secrets = found(file, &[("user", "e"), ("proxy", "http://proxy:1")]).unwrap();
        for (key, value) in [
            (secret::URL, "https://engine.example.org"),
            (secret::USER, "admin@internal"),
            (secret::PASSWORD, "p=a:s#s;w %(x)s \"q\""),
            (secret::CACERT, "authorities"),
            (secret::INSECURE_SKIP_VERIFY, "false"),
            (secret::PROXY, "http://proxy:1"),
        ] {
            assert_eq!(secrets.text(key), Some(value), "{key}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_without_values() {
        for (file, words) in [
            ("[dev]\n[prod]\n", &["\"lab\"", "dev, prod"][..]),
            ("[DEFAULT]\nusername = a\n", &["no section"]),
            ("password = hunter2\n[lab]\n", &["before the first section"]),
            ("[lab]\npassword = hunter2\n[broken\n", &["line 3"]),
            ("[lab]\nsecure = maybe\n", &["secure", "maybe"]),
            ("[lab]\ncafile = /no/file\n", &["cafile /no/file"]),
        ] {
            let failure = found(file, &[]).unwrap_err();
            assert_eq!(failure.exit(), Exit::Configuration);
            for word in words {
                assert!(failure.message().contains(word), "{word}: {failure}");
            }
            assert!(!failure.message().contains("hunter2"), "{failure}");
        }
    }

    #[test]
    fn insecure_is_said_in_any_of_python_s_words() {
        for (word, expected) in [("Off", "true"), ("1", "false"), ("NO", "true")] {
            let secrets = found(&format!("[lab]\nsecure = {word}\n"), &[]).unwrap();
            assert_eq!(secrets.text(secret::INSECURE_SKIP_VERIFY), Some(expected));
        }
    }
}
