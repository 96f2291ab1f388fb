//! From the keys of a secret to the body of `POST /v3/auth/tokens`, without a network.
//!
//! The keys are Forklift's, and they are read as Forklift's client library (gophercloud's
//! `clientconfig`) reads them, so that a secret which works there works here:
//!
//! * a project, by id or by name with a domain, is the scope; else the system; else a domain
//!   (`domainID`, `domainName`); else none is asked for, and Keystone takes the user's default
//!   project;
//! * a name needs a domain. The user's is the first of `userDomainID`/`userDomainName`,
//!   `domainID`/`domainName`, `defaultDomain` (an id); the project's likewise, with
//!   `projectDomainID`/`projectDomainName`;
//! * an id wins over a name of the same thing, except for the user of a password, where naming two
//!   is refused;
//! * an application credential carries its own scope, and none is asked for.

use std::fmt;

use bytes::Bytes;
use contract::args::secret;
use secrecy::{
    ExposeSecret, SecretString,
    zeroize::{Zeroize, Zeroizing},
};
use serde_json::{Value, json};
use transfer::{Error, Kind};

/// How to ask for a token. `Debug` shows the way, not who.
#[derive(Clone)]
pub struct Credentials {
    method: Method,
    scope: Option<Scope>,
}

#[derive(Clone)]
enum Method {
    Password {
        user: User,
        password: SecretString,
    },
    Token(SecretString),
    ApplicationCredential {
        name: CredentialName,
        secret: SecretString,
    },
}

#[derive(Clone)]
enum CredentialName {
    Id(String),
    OfUser { name: String, user: User },
}

#[derive(Clone)]
enum User {
    Id(String),
    Name { name: String, domain: Domain },
}

#[derive(Clone)]
enum Domain {
    Id(String),
    Name(String),
}

#[derive(Clone)]
enum Scope {
    Project(String),
    ProjectName { name: String, domain: Domain },
    System,
    Domain(Domain),
}

impl Credentials {
    /// Reads the keys. `key` gives the value of a key of [`contract::args::secret`]; empty is
    /// absent.
    ///
    /// # Errors
    /// [`Kind::Configuration`], naming the keys, when one is missing, malformed or contradicts
    /// another.
    pub fn from_keys(key: impl Fn(&'static str) -> Option<SecretString>) -> Result<Self, Error> {
        Keys { key: &key }.credentials()
    }

    /// The body of the request. Holds secrets.
    #[must_use]
    pub fn body(&self) -> Value {
        let identity = match &self.method {
            Method::Password { user, .. } => {
                json!({"methods": ["password"], "password": {"user": user.to_json()}})
            }
            Method::Token(_) => json!({"methods": ["token"], "token": {}}),
            Method::ApplicationCredential { name, .. } => {
                let credential = match name {
                    CredentialName::Id(id) => json!({"id": id}),
                    CredentialName::OfUser { name, user } => {
                        json!({"name": name, "user": user.to_json()})
                    }
                };
                json!({"methods": ["application_credential"], "application_credential": credential})
            }
        };
        let mut auth = json!({"identity": identity});
        if let Some(scope) = &self.scope {
            auth["scope"] = scope.to_json();
        }
        let mut body = json!({"auth": auth});
        // At last, since putting a value into another one copies it.
        let identity = &mut body["auth"]["identity"];
        match &self.method {
            Method::Password { password, .. } => {
                identity["password"]["user"]["password"] = password.expose_secret().into();
            }
            Method::Token(token) => identity["token"]["id"] = token.expose_secret().into(),
            Method::ApplicationCredential { secret, .. } => {
                identity["application_credential"]["secret"] = secret.expose_secret().into();
            }
        }
        body
    }

    /// The same as bytes that are wiped when they are dropped.
    pub(super) fn bytes(&self) -> Bytes {
        /// More than a body has, so that it need not grow, which would leave copies behind.
        const ROOM: usize = 64 << 10;
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
        let mut body = self.body();
        // Writing a value to memory does not fail.
        let _ = serde_json::to_writer(&mut *bytes, &body);
        wipe(&mut body);
        Bytes::from_owner(bytes)
    }

    /// Whether a new token can be had after the present one has expired.
    #[must_use]
    pub const fn outlive_a_token(&self) -> bool {
        !matches!(self.method, Method::Token(_))
    }

    /// The value of `authType` that this is.
    #[must_use]
    pub const fn auth_type(&self) -> &'static str {
        match self.method {
            Method::Password { .. } => PASSWORD,
            Method::Token(_) => TOKEN,
            Method::ApplicationCredential { .. } => APPLICATION_CREDENTIAL,
        }
    }

    /// What the token is asked to be good for.
    #[must_use]
    pub const fn scope(&self) -> &'static str {
        match (&self.method, &self.scope) {
            (Method::ApplicationCredential { .. }, _) => "the credential's project",
            (_, Some(Scope::Project(_) | Scope::ProjectName { .. })) => "a project",
            (_, Some(Scope::System)) => "the system",
            (_, Some(Scope::Domain(_))) => "a domain",
            (_, None) => "nothing in particular",
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("auth_type", &self.auth_type())
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}

impl User {
    fn to_json(&self) -> Value {
        match self {
            Self::Id(id) => json!({"id": id}),
            Self::Name { name, domain } => json!({"name": name, "domain": domain.to_json()}),
        }
    }
}

impl Domain {
    fn to_json(&self) -> Value {
        match self {
            Self::Id(id) => json!({"id": id}),
            Self::Name(name) => json!({"name": name}),
        }
    }
}

impl Scope {
    fn to_json(&self) -> Value {
        match self {
            Self::Project(id) => json!({"project": {"id": id}}),
            Self::ProjectName { name, domain } => {
                json!({"project": {"name": name, "domain": domain.to_json()}})
            }
            Self::System => json!({"system": {"all": true}}),
            Self::Domain(domain) => json!({"domain": domain.to_json()}),
        }
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

const PASSWORD: &str = "password";
const TOKEN: &str = "token";
const APPLICATION_CREDENTIAL: &str = "applicationcredential";

struct Keys<'a> {
    key: &'a dyn Fn(&'static str) -> Option<SecretString>,
}

impl Keys<'_> {
    fn credentials(&self) -> Result<Credentials, Error> {
        let auth_type = self
            .text(secret::AUTH_TYPE)
            .unwrap_or_else(|| PASSWORD.into());
        let method = match auth_type.to_ascii_lowercase().as_str() {
            PASSWORD => Method::Password {
                user: self.user_of_password()?,
                password: self.secret(secret::PASSWORD, PASSWORD)?,
            },
            TOKEN => Method::Token(self.secret(secret::TOKEN, TOKEN)?),
            APPLICATION_CREDENTIAL => Method::ApplicationCredential {
                name: self.credential_name()?,
                secret: self.secret(
                    secret::APPLICATION_CREDENTIAL_SECRET,
                    APPLICATION_CREDENTIAL,
                )?,
            },
            _ => {
                return Err(wrong(format!(
                    "the secret's {} must be {PASSWORD} (also when empty), {TOKEN} or {APPLICATION_CREDENTIAL}, not {}",
                    secret::AUTH_TYPE,
                    net::quoted(&auth_type)
                )));
            }
        };
        let scope = match method {
            Method::ApplicationCredential { .. } => None,
            Method::Password { .. } | Method::Token(_) => self.scope()?,
        };
        Ok(Credentials { method, scope })
    }

    fn user_of_password(&self) -> Result<User, Error> {
        if self.text(secret::USER_ID).is_some() && self.text(secret::USERNAME).is_some() {
            return Err(wrong(format!(
                "the secret names two users: give {} or {}, not both",
                secret::USER_ID,
                secret::USERNAME
            )));
        }
        self.user(PASSWORD)
    }

    fn user(&self, auth_type: &str) -> Result<User, Error> {
        if let Some(id) = self.text(secret::USER_ID) {
            return Ok(User::Id(id));
        }
        let name = self.text(secret::USERNAME).ok_or_else(|| {
            wrong(format!(
                "{} {auth_type} needs a user: the secret has neither {} nor {}",
                secret::AUTH_TYPE,
                secret::USERNAME,
                secret::USER_ID
            ))
        })?;
        for [id, name] in [USER_DOMAIN, ANY_DOMAIN] {
            let both = self.text(id).is_some() && self.text(name).is_some();
            if both {
                return Err(wrong(format!(
                    "the secret names two domains for the user: give {id} or {name}, not both"
                )));
            }
            if self.domain([id, name]).is_some() {
                break;
            }
        }
        let domain = self.domain_of(secret::USERNAME, USER_DOMAIN)?;
        Ok(User::Name { name, domain })
    }

    fn credential_name(&self) -> Result<CredentialName, Error> {
        if let Some(id) = self.text(secret::APPLICATION_CREDENTIAL_ID) {
            return Ok(CredentialName::Id(id));
        }
        let name = self
            .text(secret::APPLICATION_CREDENTIAL_NAME)
            .ok_or_else(|| {
                wrong(format!(
                    "{} {APPLICATION_CREDENTIAL} needs {}, or {} with the user it belongs to",
                    secret::AUTH_TYPE,
                    secret::APPLICATION_CREDENTIAL_ID,
                    secret::APPLICATION_CREDENTIAL_NAME
                ))
            })?;
        let user = self.user("applicationcredential by name")?;
        Ok(CredentialName::OfUser { name, user })
    }

    fn scope(&self) -> Result<Option<Scope>, Error> {
        let system = self.system_scope()?;
        if let Some(id) = self.text(secret::PROJECT_ID) {
            return Ok(Some(Scope::Project(id)));
        }
        if let Some(name) = self.text(secret::PROJECT_NAME) {
            let domain = self.domain_of(secret::PROJECT_NAME, PROJECT_DOMAIN)?;
            return Ok(Some(Scope::ProjectName { name, domain }));
        }
        if system {
            return Ok(Some(Scope::System));
        }
        Ok(self.domain(ANY_DOMAIN).map(Scope::Domain))
    }

    fn system_scope(&self) -> Result<bool, Error> {
        let Some(value) = self.text(secret::SYSTEM_SCOPE) else {
            return Ok(false);
        };
        match value.to_ascii_lowercase().as_str() {
            "all" | "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong(format!(
                "the secret's {} must be all, true, false or empty, not {}",
                secret::SYSTEM_SCOPE,
                net::quoted(&value)
            ))),
        }
    }

    /// The domain of what `named` names: by the keys of its own, else by the general ones.
    fn domain_of(&self, named: &str, own: [&'static str; 2]) -> Result<Domain, Error> {
        self.domain(own)
            .or_else(|| self.domain(ANY_DOMAIN))
            .or_else(|| self.text(secret::DEFAULT_DOMAIN).map(Domain::Id))
            .ok_or_else(|| {
                wrong(format!(
                    "the secret's {named} needs a domain: set {}, {}, {} or {}",
                    own[1],
                    own[0],
                    secret::DOMAIN_NAME,
                    secret::DEFAULT_DOMAIN
                ))
            })
    }

    fn domain(&self, [id, name]: [&'static str; 2]) -> Option<Domain> {
        self.text(id)
            .map(Domain::Id)
            .or_else(|| self.text(name).map(Domain::Name))
    }

    fn secret(&self, key: &'static str, auth_type: &str) -> Result<SecretString, Error> {
        (self.key)(key)
            .filter(|value| !value.expose_secret().is_empty())
            .ok_or_else(|| {
                wrong(format!(
                    "{} {auth_type} needs {key}, which the secret does not have",
                    secret::AUTH_TYPE
                ))
            })
    }

    /// A key that is no secret, without the blanks and line ends that editors leave around it.
    fn text(&self, key: &'static str) -> Option<String> {
        let value = (self.key)(key)?;
        let value = value.expose_secret().trim();
        (!value.is_empty()).then(|| value.to_owned())
    }
}

const USER_DOMAIN: [&str; 2] = [secret::USER_DOMAIN_ID, secret::USER_DOMAIN_NAME];
const PROJECT_DOMAIN: [&str; 2] = [secret::PROJECT_DOMAIN_ID, secret::PROJECT_DOMAIN_NAME];
const ANY_DOMAIN: [&str; 2] = [secret::DOMAIN_ID, secret::DOMAIN_NAME];

fn wrong(text: String) -> Error {
    Error::new(Kind::Configuration, text)
}

#[cfg(test)]
mod tests;
