//! One cloud: from its words to the keys of a secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use contract::args::secret;
use mover::{Environment, Failure, Secrets, read_secret};
use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::wrong;

/// Words that mean a key as it is. Where two mean the same, the first one wins.
const WORDS: [(&str, &str); 23] = [
    ("auth_url", secret::URL),
    ("username", secret::USERNAME),
    ("user_name", secret::USERNAME),
    ("user_id", secret::USER_ID),
    ("password", secret::PASSWORD),
    ("token", secret::TOKEN),
    ("project_name", secret::PROJECT_NAME),
    ("tenant_name", secret::PROJECT_NAME),
    ("project_id", secret::PROJECT_ID),
    ("tenant_id", secret::PROJECT_ID),
    ("user_domain_name", secret::USER_DOMAIN_NAME),
    ("user_domain_id", secret::USER_DOMAIN_ID),
    ("project_domain_name", secret::PROJECT_DOMAIN_NAME),
    ("project_domain_id", secret::PROJECT_DOMAIN_ID),
    ("domain_name", secret::DOMAIN_NAME),
    ("domain_id", secret::DOMAIN_ID),
    ("default_domain_id", secret::DEFAULT_DOMAIN),
    ("default_domain", secret::DEFAULT_DOMAIN),
    ("system_scope", secret::SYSTEM_SCOPE),
    (
        "application_credential_id",
        secret::APPLICATION_CREDENTIAL_ID,
    ),
    (
        "application_credential_name",
        secret::APPLICATION_CREDENTIAL_NAME,
    ),
    (
        "application_credential_secret",
        secret::APPLICATION_CREDENTIAL_SECRET,
    ),
    ("region_name", secret::REGION_NAME),
];

/// Words that need more than to be renamed.
const AUTH_TYPE: [&str; 2] = ["auth_type", "auth_plugin"];
const INTERFACE: [&str; 2] = ["interface", "endpoint_type"];
const CACERT: &str = "cacert";
const DEFAULT_DOMAIN_NAME: &str = "default_domain_name";
const VERIFY: &str = "verify";
const INSECURE: &str = "insecure";
const VERSION: &str = "identity_api_version";
const SPECIAL: [&str; 9] = [
    CACERT,
    DEFAULT_DOMAIN_NAME,
    AUTH_TYPE[0],
    AUTH_TYPE[1],
    INTERFACE[0],
    INTERFACE[1],
    VERIFY,
    INSECURE,
    VERSION,
];

/// Words that would change who logs in or where requests go, and that are not understood.
const REFUSED: [&str; 18] = [
    "profile",
    "cloud",
    "regions",
    "cert",
    "key",
    "trust_id",
    "passcode",
    "auth_methods",
    "protocol",
    "identity_provider",
    "identity_provider_url",
    "service_provider",
    "access_token",
    "openid_scope",
    "client_id",
    "client_secret",
    "discovery_endpoint",
    "service_token",
];

/// Services whose settings matter here: those that give tokens and disks.
const SERVICES: [&str; 6] = [
    "identity_",
    "image_",
    "volume_",
    "volumev3_",
    "block_storage_",
    "block_store_",
];

/// Endings of a service's settings that change nothing here.
const OF_OTHER_CLIENTS: [&str; 2] = ["_api_version", "_service_type"];

/// Variables `OS_*` that are about the search for a file.
const NO_WORDS: [&str; 4] = [
    "OS_CLOUD",
    "OS_CLOUD_NAME",
    "OS_CLIENT_CONFIG_FILE",
    "OS_CLIENT_SECURE_FILE",
];

/// The words of a cloud. `auth` is read into the same list: openstacksdk takes its words at both places.
#[derive(Clone, Default)]
pub(super) struct Cloud {
    words: BTreeMap<String, SecretString>,
    /// In `auth`, and not understood.
    strange_logins: BTreeSet<String>,
    /// Not understood.
    strange: BTreeSet<String>,
}

impl Cloud {
    /// The cloud that the variables `OS_*` describe, if they say where it is or who logs in.
    pub(super) fn of_variables(environment: &Environment) -> Option<Self> {
        const DECISIVE: [&str; 5] = [
            "auth_url",
            "username",
            "user_id",
            "token",
            "application_credential_secret",
        ];
        let mut cloud = Self::default();
        for (name, value) in environment.with_prefix("OS_") {
            if !NO_WORDS.contains(&name) {
                let word = name["OS_".len()..].to_ascii_lowercase();
                cloud.add(&word, SecretString::from(value));
            }
        }
        let is_one = DECISIVE.iter().any(|word| cloud.words.contains_key(*word));
        is_one.then_some(cloud)
    }

    /// Adds the words of another one, which win.
    pub(super) fn merge(&mut self, other: Self) {
        self.words.extend(other.words);
        self.strange_logins.extend(other.strange_logins);
        self.strange.extend(other.strange);
    }

    /// Takes away the path of a bundle of authorities.
    pub(super) fn forget_path_of_authorities(&mut self) {
        self.words.remove(CACERT);
    }

    /// The keys of a secret that say the same. Files that it names are read with `environment`, and refused without.
    pub(super) fn keys(
        &self,
        origin: &str,
        environment: Option<&Environment>,
    ) -> Result<Secrets, Failure> {
        let wrong = |text: String| wrong(format!("{origin}: {text}"));
        self.refuse_strange().map_err(wrong)?;
        if !self.strange.is_empty() {
            tracing::warn!(
                "{origin}: not understood, and left alone: {}",
                joined(&self.strange)
            );
        }
        let mut keys: BTreeMap<&'static str, SecretString> = BTreeMap::new();
        for (word, key) in WORDS {
            if let Some(value) = self.words.get(word) {
                keys.entry(key).or_insert_with(|| value.clone());
            }
        }
        if let Some(name) = self.text(DEFAULT_DOMAIN_NAME) {
            // Secrets have a default by id alone.
            for [id, own] in [
                [secret::USER_DOMAIN_ID, secret::USER_DOMAIN_NAME],
                [secret::PROJECT_DOMAIN_ID, secret::PROJECT_DOMAIN_NAME],
            ] {
                if !keys.contains_key(id) {
                    keys.entry(own).or_insert_with(|| SecretString::from(name));
                }
            }
        }
        if let Some(path) = self.text(CACERT) {
            let Some(environment) = environment else {
                return Err(wrong(format!(
                    "{CACERT} is a path, and a secret has no files: put the authorities into its key {}, and take the path away",
                    secret::CACERT
                )));
            };
            let path = environment.expand_home(path);
            let text = read_secret(&path)
                .map_err(|error| wrong(format!("{CACERT} {}: {error}", path.display())))?;
            keys.insert(secret::CACERT, text);
        }
        if let Some(version) = self.text(VERSION)
            && !version.trim_start_matches('v').starts_with('3')
        {
            return Err(wrong(format!(
                "{VERSION} is {}; only version 3 gives tokens here",
                net::quoted(version)
            )));
        }
        keys.insert(
            secret::AUTH_TYPE,
            SecretString::from(self.auth_type().map_err(wrong)?),
        );
        if let Some(interface) = self.first(INTERFACE) {
            let name = interface.strip_suffix("URL").unwrap_or(interface);
            keys.insert(secret::AVAILABILITY, SecretString::from(name));
        }
        if let Some(trusts_anybody) = self.trusts_anybody().map_err(wrong)? {
            let value = trusts_anybody.to_string();
            keys.insert(secret::INSECURE_SKIP_VERIFY, SecretString::from(value));
        }
        Ok(Secrets::from_keys(origin, keys))
    }

    fn refuse_strange(&self) -> Result<(), String> {
        let all = self.strange_logins.iter().chain(&self.strange);
        let of_services = |word: &str| {
            SERVICES.iter().any(|service| word.starts_with(service))
                && !OF_OTHER_CLIENTS.iter().any(|end| word.ends_with(end))
        };
        let refused: BTreeSet<String> = all
            .filter(|word| {
                let unneeded = *word == "regions" && self.text("region_name").is_some();
                let of_login = self.strange_logins.contains(*word);
                of_login || REFUSED.contains(&word.as_str()) && !unneeded || of_services(word)
            })
            .cloned()
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} would change who logs in or where requests go, and is not supported; take it away, and write what it stands for into the cloud (such as region_name for regions)",
            joined(&refused)
        ))
    }

    /// The value of `authType`. Without a word about it, what is there decides, as in gophercloud.
    fn auth_type(&self) -> Result<&'static str, String> {
        const CREDENTIAL: &str = "applicationcredential";
        match self.first(AUTH_TYPE) {
            Some("password" | "v3password") => Ok("password"),
            Some("token" | "v3token") => Ok("token"),
            Some("v3applicationcredential") => Ok(CREDENTIAL),
            Some(other) => Err(format!(
                "auth_type {} is not supported; there is password, token and v3applicationcredential",
                net::quoted(other)
            )),
            None if self.text("application_credential_secret").is_some() => Ok(CREDENTIAL),
            None if self.text("token").is_some() && self.text("password").is_none() => Ok("token"),
            None => Ok("password"),
        }
    }

    /// Whether no certificate is checked, where that is said.
    fn trusts_anybody(&self) -> Result<Option<bool>, String> {
        let says = |word: &str| {
            self.text(word)
                .map(|value| match value.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" | "1" => Ok(true),
                    "false" | "no" | "off" | "0" => Ok(false),
                    _ => Err(format!(
                        "{word} is {}; it must be true or false",
                        net::quoted(value)
                    )),
                })
                .transpose()
        };
        let (verify, insecure) = (says(VERIFY)?, says(INSECURE)?);
        Ok(match (verify, insecure) {
            (None, None) => None,
            _ => Some(insecure == Some(true) || verify == Some(false)),
        })
    }

    fn first(&self, words: [&str; 2]) -> Option<&str> {
        words.into_iter().find_map(|word| self.text(word))
    }

    /// The value of a word that is no secret. Empty counts as absent.
    fn text(&self, word: &str) -> Option<&str> {
        let value = self.words.get(word)?.expose_secret().trim();
        (!value.is_empty()).then_some(value)
    }

    fn add(&mut self, word: &str, value: SecretString) {
        if is_known(word) {
            self.words.insert(word.to_owned(), value);
        } else {
            self.strange.insert(word.to_owned());
        }
    }
}

fn is_known(word: &str) -> bool {
    SPECIAL.contains(&word) || WORDS.iter().any(|(known, _)| *known == word)
}

fn joined(words: &BTreeSet<String>) -> String {
    let words: Vec<_> = words.iter().map(|word| net::quoted(word)).collect();
    words.join(", ")
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("words", &self.words.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Reads the values that are understood as they are written (`0123` is no number), and skips the others.
impl<'de> Deserialize<'de> for Cloud {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Words { in_auth: false })
    }
}

struct Words {
    in_auth: bool,
}

impl<'de> Visitor<'de> for Words {
    type Value = Cloud;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("words and their values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cloud, A::Error> {
        let mut cloud = Cloud::default();
        let mut auth = Cloud::default();
        while let Some(word) = map.next_key::<String>()? {
            // openstacksdk takes both.
            let word = word.replace('-', "_");
            if word == "auth" && !self.in_auth {
                auth = map.next_value::<Auth>()?.0;
            } else if is_known(&word) {
                if let Some(value) = map.next_value::<Option<String>>()? {
                    cloud.words.insert(word, SecretString::from(value));
                }
            } else {
                map.next_value::<IgnoredAny>()?;
                let strange = if self.in_auth {
                    &mut cloud.strange_logins
                } else {
                    &mut cloud.strange
                };
                strange.insert(word);
            }
        }
        auth.merge(cloud);
        Ok(auth)
    }
}

struct Auth(Cloud);

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Words { in_auth: true })
            .map(Self)
    }
}
