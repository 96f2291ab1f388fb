//! The engine's API as seven calls.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use mover::Redactor;
use net::{Answer, Repeat, Rest};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde::Deserialize;
use tokio::sync::Mutex;
use transfer::source::Ticket;
use url::{Url, form_urlencoded};

use super::{
    Address, Disk, DiskId, Engine, Error, ImageTransfer, Kind, NewTransfer, TransferId,
    fault::{self, Effect, refusal},
    model::{self, Scalar},
};

/// Scope of a token that the API accepts.
const SCOPE: &str = "ovirt-app-api";
/// For one try of a call that only looks or that the engine answers at once.
const CALL: Duration = Duration::from_secs(30);
/// For the call that makes a transfer: the engine locks the disk, prepares it on a host and starts
/// its export before it answers, and waits for the host up to 180 s (`vdsTimeout`).
const CREATE: Duration = Duration::from_mins(5);
/// For the logout, whose answer the run does not need.
const LOGOUT: Duration = Duration::from_secs(5);

/// User and password. `Debug` shows neither.
pub struct Credentials {
    /// User with its profile, such as `admin@internal`.
    pub user: SecretString,
    /// Password.
    pub password: SecretString,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// The engine over HTTPS. A token is fetched when the first call needs one, and renewed once by a
/// call that finds it refused.
pub struct Client {
    rest: Rest,
    address: Address,
    credentials: Credentials,
    /// For all tries of a call that may be repeated without harm.
    retry_budget: Duration,
    token: Mutex<Option<SecretString>>,
    redactor: Redactor,
}

impl Client {
    /// A client; nothing is sent yet. Tokens and tickets are made known to `redactor`.
    #[must_use]
    pub fn new(
        rest: Rest,
        address: Address,
        credentials: Credentials,
        retry_budget: Duration,
        redactor: Redactor,
    ) -> Self {
        Self {
            rest,
            address,
            credentials,
            retry_budget,
            token: Mutex::new(None),
            redactor,
        }
    }

    /// Fetches a token, unless there is one.
    ///
    /// # Errors
    /// [`Kind::Credentials`] when user or password are refused.
    pub async fn login(&self) -> Result<(), Error> {
        self.token().await.map(drop)
    }

    async fn token(&self) -> Result<SecretString, Error> {
        let mut token = self.token.lock().await;
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        Ok(token.insert(self.new_token().await?).clone())
    }

    /// A token other than `refused`; only the first of several callers fetches it.
    async fn renewed(&self, refused: &SecretString) -> Result<SecretString, Error> {
        let mut token = self.token.lock().await;
        if let Some(token) = &*token
            && token.expose_secret() != refused.expose_secret()
        {
            return Ok(token.clone());
        }
        tracing::info!("the engine has ended our session; logging in again");
        *token = None;
        Ok(token.insert(self.new_token().await?).clone())
    }

    /// `POST /ovirt-engine/sso/oauth/token`. The body shows an error, since old engines answer
    /// 200 to a wrong password.
    async fn new_token(&self) -> Result<SecretString, Error> {
        #[derive(Deserialize)]
        struct Wire {
            access_token: Option<Scalar>,
            error: Option<Scalar>,
            error_code: Option<Scalar>,
            error_description: Option<Scalar>,
        }
        const DOING: &str = "log in to the engine";
        let (user, password) = (&self.credentials.user, &self.credentials.password);
        let size = user.expose_secret().len() + password.expose_secret().len();
        let form = form_urlencoded::Serializer::new(room_for(size))
            .append_pair("grant_type", "password")
            .append_pair("scope", SCOPE)
            .append_pair("username", user.expose_secret())
            .append_pair("password", password.expose_secret())
            .finish();
        // Idempotent: a token whose answer was lost is never used.
        let answer = self
            .post_form(
                self.address.token(),
                form,
                CALL,
                Repeat::Idempotent(self.retry_budget),
            )
            .await
            .map_err(|error| unsent(DOING, &error, Effect::None))?;
        let Ok(wire) = serde_json::from_slice::<Wire>(&answer.body) else {
            if answer.status.is_server_error() {
                return Err(refusal(DOING, answer.status, &answer.body, Effect::None));
            }
            return Err(Error::new(
                Kind::Configuration,
                format!(
                    "cannot {DOING}: no oVirt engine answers at {} (HTTP {} without an engine's \
                     words); check the engine's URL{}",
                    self.address,
                    answer.status.as_u16(),
                    self.address.hint_at_https(answer.status)
                ),
            ));
        };
        if let Some(token) = wire.access_token.filter(|token| !token.0.is_empty()) {
            self.redactor.add_secret(&token.0);
            return Ok(token.0.into());
        }
        // With our scope `error` is the text and `error_code` the code; with others `error` is the
        // code and `error_description` the text.
        let (code, text) = match wire.error_code {
            Some(code) => (Some(code), wire.error),
            None => (wire.error, wire.error_description),
        };
        Err(self.login_error(&code.unwrap_or_default().0, &text.unwrap_or_default().0))
    }

    fn login_error(&self, code: &str, text: &str) -> Error {
        let (kind, hint) = match code {
            "access_denied" | "invalid_grant" => (
                Kind::Credentials,
                "; check user (with its profile, as in admin@internal) and password in the secret",
            ),
            "unauthorized_client" => (
                Kind::Configuration,
                "; the engine accepts only its own full name (FQDN) or an alternate name set at \
                 the engine (SSO_ALTERNATE_ENGINE_FQDNS)",
            ),
            "server_error" => (Kind::Unreachable, ""),
            _ => (Kind::Protocol, ""),
        };
        Error::new(
            kind,
            format!(
                "cannot log in to the engine at {}: the engine says: {} {}{hint}",
                self.address,
                fault::shorten(code),
                fault::shorten(text),
            ),
        )
    }

    /// One call of the API, repeated once with a new token if the old one is refused. Returns
    /// answers of any other status.
    async fn call(&self, doing: &str, call: Call<'_>) -> Result<Answer, Error> {
        let token = self.token().await?;
        let answer = self.send(doing, &call, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.renewed(&token).await?;
        let answer = self.send(doing, &call, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        Err(Error::new(
            Kind::Credentials,
            format!("cannot {doing}: the engine refuses a token that it has just given (HTTP 401)"),
        ))
    }

    async fn send(
        &self,
        doing: &str,
        call: &Call<'_>,
        token: &SecretString,
    ) -> Result<Answer, Error> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let mut bearer =
            HeaderValue::from_maybe_shared(Bytes::from_owner(bearer)).map_err(|_| {
                Error::new(
                    Kind::Protocol,
                    "the engine's token cannot be sent in a header",
                )
            })?;
        bearer.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert("version", HeaderValue::from_static("4"));
        let body = match &call.body {
            Some(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        self.rest
            .send(net::Request {
                method: call.method.clone(),
                url: self.address.api(call.path),
                headers,
                body,
                timeout: call.timeout,
                retry: call.retry,
            })
            .await
            .map_err(|error| unsent(doing, &error, call.effect))
    }

    async fn get(&self, doing: &str, path: &[&str], retry: Repeat) -> Result<Answer, Error> {
        let call = Call {
            method: Method::GET,
            path,
            body: None,
            timeout: CALL,
            retry,
            effect: Effect::None,
        };
        self.call(doing, call).await
    }

    /// The transfer, once its tickets are known as secrets.
    fn redacted(&self, transfer: ImageTransfer) -> ImageTransfer {
        let tickets = [&transfer.transfer_url, &transfer.proxy_url];
        for secret in tickets.into_iter().flatten().flat_map(Ticket::secrets) {
            self.redactor.add_secret(secret);
        }
        transfer
    }

    /// An action on a transfer. It is idempotent.
    async fn act(&self, id: &TransferId, action: &str) -> Result<(), Error> {
        let doing = format!("{action} the image transfer {id}");
        let call = Call {
            method: Method::POST,
            path: &["imagetransfers", &id.0, action],
            body: Some(serde_json::json!({})),
            timeout: CALL,
            retry: Repeat::Never,
            effect: Effect::None,
        };
        let answer = self.call(&doing, call).await?;
        granted(&doing, &answer, Effect::None)
    }

    async fn post_form(
        &self,
        url: Url,
        form: String,
        timeout: Duration,
        retry: Repeat,
    ) -> Result<Answer, net::Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        self.rest
            .send(net::Request {
                method: Method::POST,
                url,
                headers,
                body: Bytes::from_owner(Zeroizing::new(form)),
                timeout,
                retry,
            })
            .await
    }
}

impl Engine for Client {
    async fn disk(&self, id: &DiskId) -> Result<Disk, Error> {
        let doing = format!("look up the disk {id}");
        let answer = self
            .get(
                &doing,
                &["disks", id.as_str()],
                Repeat::Safe(self.retry_budget),
            )
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(Error::new(
                Kind::Missing,
                format!(
                    "the engine at {} has no disk {id}, or hides it from this user",
                    self.address
                ),
            ));
        }
        granted(&doing, &answer, Effect::None)?;
        model::disk(&answer.body)
    }

    async fn create(&self, new: &NewTransfer) -> Result<ImageTransfer, Error> {
        let doing = format!("make an image transfer of the disk {}", new.disk);
        let call = Call {
            method: Method::POST,
            path: &["imagetransfers"],
            // Without a direction the engine takes an upload.
            body: Some(serde_json::json!({
                "disk": {"id": new.disk.as_str()},
                "direction": "download",
                "format": "raw",
                "timeout_policy": "cancel",
                "inactivity_timeout": new.inactivity_timeout.to_string(),
            })),
            timeout: CREATE,
            retry: Repeat::Never,
            effect: Effect::Creates,
        };
        let answer = self.call(&doing, call).await?;
        granted(&doing, &answer, Effect::Creates)?;
        // The transfer is there, but its id is not known: the same as an answer that did not come.
        let transfer = model::transfer(&answer.body).map_err(|error| {
            Error::with_source(
                Kind::AnswerLost,
                format!("cannot {doing}: the engine's answer is not understood"),
                error,
            )
        })?;
        Ok(self.redacted(transfer))
    }

    async fn transfer(&self, id: &TransferId) -> Result<Option<ImageTransfer>, Error> {
        let doing = format!("look up the image transfer {id}");
        let answer = self
            .get(&doing, &["imagetransfers", &id.0], Repeat::Never)
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        granted(&doing, &answer, Effect::None)?;
        let transfer = model::transfer(&answer.body)?;
        Ok(Some(self.redacted(transfer)))
    }

    async fn transfers(&self) -> Result<Vec<ImageTransfer>, Error> {
        const DOING: &str = "list the image transfers";
        let answer = self.get(DOING, &["imagetransfers"], Repeat::Never).await?;
        granted(DOING, &answer, Effect::None)?;
        let transfers = model::transfers(&answer.body)?;
        Ok(transfers
            .into_iter()
            .map(|transfer| self.redacted(transfer))
            .collect())
    }

    async fn finalize(&self, id: &TransferId) -> Result<(), Error> {
        self.act(id, "finalize").await
    }

    async fn cancel(&self, id: &TransferId) -> Result<(), Error> {
        self.act(id, "cancel").await
    }

    async fn logout(&self) {
        let Some(token) = self.token.lock().await.take() else {
            return;
        };
        let size = token.expose_secret().len();
        let form = form_urlencoded::Serializer::new(room_for(size))
            .append_pair("scope", SCOPE)
            .append_pair("token", token.expose_secret())
            .finish();
        let sent = self.post_form(self.address.logout(), form, LOGOUT, Repeat::Never);
        if let Err(error) = sent.await {
            tracing::debug!(%error, "the logout was not answered");
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    body: Option<serde_json::Value>,
    timeout: Duration,
    retry: Repeat,
    effect: Effect,
}

fn granted(doing: &str, answer: &Answer, effect: Effect) -> Result<(), Error> {
    if answer.status.is_success() {
        return Ok(());
    }
    Err(refusal(doing, answer.status, &answer.body, effect))
}

/// Room for a form with secrets of so many bytes. It does not grow, which would leave copies of them behind.
fn room_for(size: usize) -> String {
    const NAMES: usize = 128;
    // Percent-encoding makes three of one.
    String::with_capacity(NAMES + 3 * size)
}

/// The error for a request that got no answer.
fn unsent(doing: &str, error: &net::Error, effect: Effect) -> Error {
    let kind = match error.kind() {
        net::Kind::Cancelled => Kind::Cancelled,
        net::Kind::Settings => Kind::Configuration,
        net::Kind::Certificate | net::Kind::Tls => Kind::Tls,
        _ if effect == Effect::Creates && error.was_sent() => Kind::AnswerLost,
        kind if kind.is_transient() => Kind::Unreachable,
        _ => Kind::Protocol,
    };
    Error::new(kind, format!("cannot {doing}: {}", net::chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_timers_is_right() {
        use testkit::timers::stated;
        assert_eq!(stated("control call"), [CALL]);
        assert_eq!(stated("POST of an image transfer"), [CREATE]);
        assert_eq!(stated("logout"), [LOGOUT]);
    }
}
