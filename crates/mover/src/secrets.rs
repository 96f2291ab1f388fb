//! Secrets: a folder of files, or the environment.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use contract::{
    Exit,
    args::{flag, secret},
};
use net::Trust;
use runtime::Redactor;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use crate::{
    Arguments, CaBundle, Environment, Failure, environment::redact_login, files::read_bounded,
    prompt,
};

/// The keys of [`contract::args::secret`] that were given. Never shows a value.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<&'static str, SecretString>,
    origin: String,
}

impl Secrets {
    /// The keys of the folder that the arguments name, otherwise those of the environment ([`Secrets::load`]).
    ///
    /// # Errors
    /// As [`Secrets::load`].
    pub fn of(arguments: &Arguments, environment: &Environment) -> Result<Self, Failure> {
        Self::load(arguments.credentials.secret_dir.as_deref(), environment)
    }

    /// Reads the folder if there is one, otherwise the environment; never a mixture of both.
    ///
    /// Each file is one key; one line break at its end is dropped. Kubernetes' links through
    /// `..data` are followed. An absent file is an absent key.
    ///
    /// # Errors
    /// [`Exit::Configuration`] when the folder or one of its files cannot be read, or a value is not
    /// UTF-8 or larger than 1 MiB.
    pub fn load(folder: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        match folder {
            Some(folder) => Self::from_folder(folder),
            None => Ok(Self::from_environment(environment)),
        }
    }

    /// Keys that were found elsewhere than in a secret; `origin` completes "is missing (...)". Empty values count
    /// as absent.
    pub fn from_keys(
        origin: impl Into<String>,
        keys: impl IntoIterator<Item = (&'static str, SecretString)>,
    ) -> Self {
        let given = |(_, value): &(_, SecretString)| !value.expose_secret().is_empty();
        Self {
            values: keys.into_iter().filter(given).collect(),
            origin: origin.into(),
        }
    }

    /// Takes from `other` the keys among `keys` that are absent here.
    pub fn fill(&mut self, other: &Self, keys: &[&'static str]) {
        for key in keys {
            if let Some(value) = other.values.get(key) {
                self.values.entry(key).or_insert_with(|| value.clone());
            }
        }
    }

    /// Asks a person for a key that is missing, on the terminal of the process; without a terminal the key stays
    /// missing. `question` is shown as it is.
    ///
    /// # Errors
    /// [`Exit::Interrupted`] when the person ends the program; [`Exit::Configuration`] when the terminal fails.
    pub fn ask(&mut self, key: &'static str, question: &str) -> Result<(), Failure> {
        if self.values.contains_key(key) {
            return Ok(());
        }
        let answer = prompt::ask(question)?;
        if let Some(answer) = answer.filter(|answer| !answer.expose_secret().is_empty()) {
            self.values.insert(key, answer);
        }
        Ok(())
    }

    /// Where the keys come from, for messages.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Makes the values known to `redactor`, except those that are no secret and that messages name.
    pub(crate) fn redact(&self, redactor: &Redactor) {
        for (key, value) in &self.values {
            let value = value.expose_secret();
            if secret::CREDENTIALS.contains(key) {
                redactor.add_secret(value);
            } else if secret::IDENTITIES.contains(key) {
                redactor.add_name(value);
            }
        }
        if let Some(proxy) = self.text(secret::PROXY) {
            redact_login(proxy, redactor);
        }
        // As they stand in `Authorization: Basic`.
        let pair = |key| self.text(key).unwrap_or_default();
        let (user, password) = (pair(secret::USER), pair(secret::PASSWORD));
        if !user.is_empty() && !password.is_empty() {
            redactor.add_secret(&Zeroizing::new(format!("{user}:{password}")));
        }
    }

    /// The first key in the folder that users other than its owner and group may read, if there is one.
    pub(crate) fn open_to_others(folder: &Path) -> Option<PathBuf> {
        const READ: u32 = 0o004;
        const ENTER: u32 = 0o001;
        let mode = |path: &Path| Some(fs::metadata(path).ok()?.permissions().mode());
        if mode(folder)? & ENTER == 0 {
            return None;
        }
        let mut files = secret::ALL.into_iter().map(|key| folder.join(key));
        files.find(|file| mode(file).is_some_and(|mode| mode & READ != 0))
    }

    /// The value of a key. Empty counts as absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<SecretString> {
        self.values.get(key).cloned()
    }

    /// The value of a key that is no secret (a user name, a region). Empty counts as absent.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(ExposeSecret::expose_secret)
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// [`Exit::Configuration`]; it names the key and where it was looked for.
    pub fn required(&self, key: &str) -> Result<SecretString, Failure> {
        self.get(key).ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> Failure {
        Failure::new(
            Exit::Configuration,
            format!("the secret key {key} is missing or empty ({})", self.origin),
        )
    }

    /// The value of a key that must be there and is no secret, without the blanks and line ends that
    /// editors leave around it.
    ///
    /// # Errors
    /// As [`Secrets::required`].
    pub fn required_text(&self, key: &str) -> Result<SecretString, Failure> {
        let value = self.required(key)?;
        let text = value.expose_secret().trim();
        if text.is_empty() {
            return Err(self.missing(key));
        }
        Ok(SecretString::from(text))
    }

    /// A yes or no: `true`, `1`, `false` or `0` in any case; empty or absent means no.
    ///
    /// # Errors
    /// [`Exit::Configuration`] for any other value; it names the key and the value.
    pub fn switch(&self, key: &str) -> Result<bool, Failure> {
        let Some(value) = self.text(key) else {
            return Ok(false);
        };
        match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" | "" => Ok(false),
            _ => Err(Failure::new(
                Exit::Configuration,
                format!(
                    "the secret key {key} ({}) is {}; it must be true, 1, false or 0",
                    self.origin,
                    net::quoted(value)
                ),
            )),
        }
    }

    /// Whom to trust, from `insecureSkipVerify`, then `cacert` or `ca.crt` (PEM), then the system with the CA bundle
    /// that was given for all sources. What one source says wins over what is said for all, so the bundle is not read
    /// then.
    ///
    /// # Errors
    /// [`Exit::Configuration`] when a value or the bundle cannot be used.
    pub fn trust(&self, bundle: Option<&CaBundle>) -> Result<Trust, Failure> {
        if self.switch(secret::INSECURE_SKIP_VERIFY)? {
            return Ok(Trust::Insecure);
        }
        for key in [secret::CACERT, secret::CA_CRT] {
            if let Some(pem) = self.text(key).filter(|pem| !pem.trim().is_empty()) {
                let origin = format!("secret key {key} ({})", self.origin);
                if bundle.is_some() {
                    tracing::info!(
                        "--{} is not used, since the {origin} says whom to trust",
                        flag::CA_BUNDLE
                    );
                }
                return Trust::from_pem(pem.as_bytes())
                    .map_err(|error| Failure::from(error).context(origin));
            }
        }
        bundle.map_or(Ok(Trust::System), CaBundle::trust)
    }

    fn from_folder(folder: &Path) -> Result<Self, Failure> {
        let failure = |text: String| Failure::new(Exit::Configuration, text);
        let metadata = fs::metadata(folder).map_err(|error| {
            failure(format!(
                "the secret folder {} cannot be read: {error}",
                folder.display()
            ))
        })?;
        if !metadata.is_dir() {
            return Err(failure(format!(
                "{} is not a folder of secret keys",
                folder.display()
            )));
        }
        let mut values = BTreeMap::new();
        for key in secret::ALL {
            let path = folder.join(key);
            let bytes = match read_bounded(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(failure(format!(
                        "the secret key {} cannot be read: {error}",
                        path.display()
                    )));
                }
            };
            let text = str::from_utf8(&bytes).map_err(|_| {
                failure(format!(
                    "the secret key {} is not UTF-8 text",
                    path.display()
                ))
            })?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if !text.is_empty() {
                values.insert(key, SecretString::from(text));
            }
        }
        Ok(Self {
            values,
            origin: format!("folder {}", folder.display()),
        })
    }

    fn from_environment(environment: &Environment) -> Self {
        let values = secret::ALL
            .into_iter()
            .filter_map(|key| Some((key, SecretString::from(environment.get(key)?))))
            .collect();
        Self {
            values,
            origin: "environment".into(),
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("origin", &self.origin)
            .field("keys", &self.values.keys().collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use testkit::pki::Authority;

    use super::*;

    fn of_environment(variables: &[(&str, &str)]) -> Secrets {
        let environment: Environment = variables.iter().copied().collect();
        Secrets::load(None, &environment).unwrap()
    }

    /// A folder as the kubelet makes it: keys are links through `..data`.
    fn mounted(keys: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("..2026_11_23");
        fs::create_dir(&version).unwrap();
        symlink("..2026_11_23", folder.path().join("..data")).unwrap();
        for (key, value) in keys {
            fs::write(version.join(key), value).unwrap();
            symlink(Path::new("..data").join(key), folder.path().join(key)).unwrap();
        }
        folder
    }

    fn of_folder(keys: &[(&str, &[u8])]) -> Result<Secrets, Failure> {
        let environment = Environment::from_iter([("password", "from-environment"), ("user", "e")]);
        Secrets::load(Some(mounted(keys).path()), &environment)
    }

    #[test]
    fn a_folder_wins_as_a_whole() {
        let secrets = of_folder(&[("password", b"p\n"), ("unrelated", b"\xff")]).unwrap();
        assert_eq!(secrets.text("password"), Some("p"));
        assert_eq!(secrets.text("user"), None);
    }

    #[test]
    fn a_folder_that_others_may_read_is_found() {
        let folder = mounted(&[("user", b"u"), ("password", b"p")]);
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let password = folder.path().join("password");
        for (of_folder, of_file, is_open) in [
            (0o755, 0o644, true),
            (0o755, 0o640, false),
            (0o750, 0o644, false),
            (0o701, 0o604, true),
        ] {
            set(&folder.path().join("user"), 0o600);
            set(&password, of_file);
            set(folder.path(), of_folder);
            let found = Secrets::open_to_others(folder.path());
            assert_eq!(
                found,
                is_open.then(|| password.clone()),
                "{of_folder:o} {of_file:o}"
            );
        }
    }

    #[test]
    fn one_line_break_is_dropped() {
        for (bytes, text) in [
            (&b"a"[..], Some("a")),
            (b"a\n", Some("a")),
            (b"a\r\n", Some("a")),
            (b"a\n\n", Some("a\n")),
            (b" a ", Some(" a ")),
            (b"\n", None),
            (b"", None),
        ] {
            let secrets = of_folder(&[("token", bytes)]).unwrap();
            assert_eq!(secrets.text("token"), text, "{bytes:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let failure = of_folder(&[("password", b"\xff\xfe")]).unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert!(
            failure.message().contains("password is not UTF-8"),
            "{failure}"
        );

        let failure = of_folder(&[("cacert", &vec![b'a'; (1 << 20) + 1])]).unwrap_err();
        assert!(failure.message().contains("larger than"), "{failure}");

        let absent = Path::new("/nonexistent/secret");
        let failure = Secrets::load(Some(absent), &Environment::default()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert!(
            failure.message().contains("/nonexistent/secret"),
            "{failure}"
        );
    }

    #[test]
    fn a_missing_key_is_named_with_its_origin() {
        let failure = of_environment(&[("password", "")])
            .required("password")
            .unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert_eq!(
            failure.message(),
            "the secret key password is missing or empty (environment)"
        );
    }

    #[test]
    fn a_name_comes_without_what_editors_leave_around_it() {
        for name in [
            "admin@internal",
            "admin@internal \r\n",
            "\n admin@internal\t",
        ] {
            let secrets = of_environment(&[("user", name)]);
            let user = secrets.required_text("user").unwrap();
            assert_eq!(user.expose_secret(), "admin@internal");
        }
        for name in ["", " \n"] {
            let failure = of_environment(&[("user", name)]).required_text("user");
            assert!(
                failure
                    .unwrap_err()
                    .message()
                    .contains("user is missing or empty")
            );
        }
    }

    #[test]
    fn values_are_never_shown() {
        let secrets = of_environment(&[("password", "hunter2"), ("token", "t0ken")]);
        let text = format!("{secrets:?}");
        assert!(text.contains("password"), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("t0ken"),
            "{text}"
        );
    }

    #[test]
    fn credentials_and_names_of_users_are_masked_and_words_of_messages_are_not() {
        let secrets = of_environment(&[
            ("user", "admin@internal"),
            ("password", "hunter2"),
            ("token", "t0ken"),
            ("applicationCredentialSecret", "appl1cation"),
            ("username", "ann"),
            ("userID", "f00dfeed"),
            ("authType", "password"),
            ("insecureSkipVerify", "true"),
            ("regionName", "RegionOne"),
        ]);
        let redactor = Redactor::new();
        secrets.redact(&redactor);
        assert_eq!(
            redactor.apply(
                "admin@internal hunter2 t0ken appl1cation f00dfeed; authType password, true, RegionOne"
            ),
            "*** *** *** *** ***; authType password, true, RegionOne"
        );
    }

    #[test]
    fn switches() {
        for (value, expected) in [
            (None, Some(false)),
            (Some(""), Some(false)),
            (Some("0"), Some(false)),
            (Some("FALSE"), Some(false)),
            (Some("true"), Some(true)),
            (Some("True"), Some(true)),
            (Some("1"), Some(true)),
            (Some("yes"), None),
            (Some("2"), None),
        ] {
            let variables: Vec<_> = value
                .map(|value| ("insecureSkipVerify", value))
                .into_iter()
                .collect();
            let switch = of_environment(&variables).switch("insecureSkipVerify");
            if let Some(expected) = expected {
                assert_eq!(switch, Ok(expected), "{value:?}");
                continue;
            }
            let failure = switch.unwrap_err();
            assert_eq!(failure.exit(), Exit::Configuration);
            for word in ["insecureSkipVerify", value.unwrap()] {
                assert!(failure.message().contains(word), "{failure}");
            }
        }
    }

    #[test]
    fn trust_of_the_system_or_of_anybody() {
        assert!(matches!(of_environment(&[]).trust(None), Ok(Trust::System)));
        assert!(matches!(
            of_environment(&[("cacert", " \n")]).trust(None),
            Ok(Trust::System)
        ));
        let insecure = of_environment(&[("insecureSkipVerify", "TRUE"), ("cacert", "not PEM")]);
        assert!(matches!(insecure.trust(None), Ok(Trust::Insecure)));
    }

    #[test]
    fn what_one_source_says_wins_over_the_bundle_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let pem = Authority::new("for all").pem();
        let bundle = folder.path().join("bundle.pem");
        fs::write(&bundle, &pem).unwrap();
        let bundle = CaBundle::new(bundle);
        let missing = CaBundle::new(folder.path().join("missing"));
        let trust = of_environment(&[]).trust(Some(&bundle)).unwrap();
        assert!(matches!(trust, Trust::SystemAnd { .. }), "{trust:?}");
        // Whatever the keys come from: a secret, the section or the cloud of a file.
        let own = SecretString::from(Authority::new("own").pem());
        for key in [secret::CACERT, secret::CA_CRT] {
            let secrets = Secrets::from_keys("cloud x of clouds.yaml", [(key, own.clone())]);
            for bundle in [&bundle, &missing] {
                let trust = secrets.trust(Some(bundle)).unwrap();
                assert!(
                    matches!(&trust, Trust::Bundle(all) if all.len() == 1),
                    "{trust:?}"
                );
            }
        }
        let insecure = of_environment(&[("insecureSkipVerify", "1")]);
        assert!(matches!(
            insecure.trust(Some(&missing)),
            Ok(Trust::Insecure)
        ));
    }
}
