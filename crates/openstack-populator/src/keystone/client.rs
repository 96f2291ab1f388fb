//! `POST /v3/auth/tokens`, and what its answers mean.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use mover::Redactor;
use net::{Answer, Repeat, Request, Rest};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde::Deserialize;
use transfer::{Error, Kind};
use url::Url;

use super::{Catalog, Credentials};
use crate::answer;

/// How long one try may take. Keystone hashes passwords slowly on purpose.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The client of one Keystone with one set of credentials.
#[derive(Debug, Clone)]
pub struct Keystone {
    rest: Rest,
    url: Url,
    credentials: Credentials,
    redactor: Redactor,
}

/// A token. `Debug` does not show it.
#[derive(Debug, Clone)]
pub struct Token {
    /// What goes into `X-Auth-Token`.
    pub id: SecretString,
    /// When it ends, if Keystone says so.
    pub expires_at: Option<jiff::Timestamp>,
    /// The services it is good for; `None` when it is good for nothing in particular.
    pub catalog: Option<Catalog>,
}

impl Keystone {
    /// `url` as [`super::auth_url`] makes it. Tokens are made known to `redactor`.
    #[must_use]
    pub const fn new(rest: Rest, url: Url, credentials: Credentials, redactor: Redactor) -> Self {
        Self {
            rest,
            url,
            credentials,
            redactor,
        }
    }

    /// The credentials that it asks with.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Asks for a token. The request is idempotent, so `retry` may repeat it after a lost answer.
    ///
    /// # Errors
    /// [`Kind::Credentials`] for 401, and for 404 when Keystone itself says so of a token;
    /// [`Kind::Configuration`] for 400 and other 404, which wrong keys and a wrong identity URL give;
    /// [`Kind::Exhausted`], [`Kind::Tls`], [`Kind::Protocol`].
    pub async fn authenticate(&self, retry: Repeat) -> Result<Token, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let answer = self
            .rest
            .send(Request {
                method: Method::POST,
                url: self.url.clone(),
                headers,
                body: self.credentials.bytes(),
                timeout: TIMEOUT,
                retry,
            })
            .await
            .map_err(|error| answer::unanswered(format!("{self} gives no token"), error))?;
        self.understand(&answer)
    }

    fn understand(&self, answer: &Answer) -> Result<Token, Error> {
        let request = answer::request_id(&answer.headers);
        let wrong = |kind, why: String| Error::new(kind, format!("{self} {why}{request}"));
        let auth_type = self.credentials.auth_type();
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(wrong(
                    Kind::Credentials,
                    format!(
                        "refuses the credentials of the secret (authType {auth_type}, for {}); check them, their domains and their expiry",
                        self.credentials.scope()
                    ),
                ));
            }
            StatusCode::FORBIDDEN => {
                return Err(wrong(
                    Kind::Permission,
                    format!("forbids a token to these credentials (authType {auth_type})"),
                ));
            }
            StatusCode::BAD_REQUEST if own_code(&answer.body).is_some() => {
                return Err(wrong(
                    Kind::Configuration,
                    "does not accept the request that the secret's keys make; check names, ids and domains".into(),
                ));
            }
            StatusCode::NOT_FOUND if own_code(&answer.body) == Some(404) => {
                return Err(wrong(
                    Kind::Credentials,
                    format!(
                        "does not know the credentials of the secret (authType {auth_type}): they have expired, were withdrawn, or belong to another cloud"
                    ),
                ));
            }
            StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::MULTIPLE_CHOICES
            | StatusCode::METHOD_NOT_ALLOWED => {
                return Err(wrong(
                    Kind::Configuration,
                    format!(
                        "answered {} to POST {}, and not in Keystone's words; is the identity URL right?{}",
                        answer.status,
                        self.url,
                        answer::hint_at_https(&self.url, answer.status)
                    ),
                ));
            }
            status => {
                return Err(wrong(
                    answer::kind_of(status),
                    format!("answered {status} to the request for a token"),
                ));
            }
        }

        let id = answer
            .headers
            .get("x-subject-token")
            .and_then(|value| value.to_str().ok())
            .filter(|id| !id.is_empty())
            .ok_or_else(|| {
                wrong(
                    Kind::Protocol,
                    "gave no X-Subject-Token; is the identity URL right?".into(),
                )
            })?;
        self.redactor.add_secret(id);
        let body: Body = serde_json::from_slice(&answer.body).map_err(|error| {
            Error::with_source(
                Kind::Protocol,
                format!("{self} gave a token that is not described as the API says{request}"),
                answer::position(&error),
            )
        })?;
        Ok(Token {
            id: SecretString::from(id),
            expires_at: body.token.expires_at.and_then(|at| at.parse().ok()),
            catalog: body.token.catalog,
        })
    }
}

impl fmt::Display for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keystone at {}", answer::origin(&self.url))
    }
}

impl Token {
    /// The headers that carry it.
    ///
    /// # Errors
    /// [`Kind::Protocol`] when it cannot stand in a header.
    pub fn headers(&self) -> Result<HeaderMap, Error> {
        let id = Zeroizing::new(self.id.expose_secret().to_owned());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(id))
            .map_err(|_| Error::new(Kind::Protocol, "Keystone's token cannot stand in a header"))?;
        value.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", value);
        Ok(headers)
    }
}

/// The code in a refusal of Keystone itself, 0 where it has none; `None` for another server's answer.
/// For a token that it cannot validate, expired ones included, Keystone says 404 in JSON; for a path
/// that it does not have, its web framework says so in HTML.
fn own_code(body: &[u8]) -> Option<u16> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: u16,
    }
    let refusal = serde_json::from_slice::<Refusal>(body).ok()?;
    Some(refusal.error.code)
}

#[derive(Deserialize)]
struct Body {
    token: Description,
}

#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    catalog: Option<Catalog>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_timers_is_right() {
        assert_eq!(testkit::timers::stated("control call"), [TIMEOUT]);
    }
}
