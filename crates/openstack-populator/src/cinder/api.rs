//! Control calls to one service with the session's token, and what its refusals mean.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use contract::Exit;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use mover::Failure;
use net::{Answer, Repeat, Request, Rest};
use serde::de::DeserializeOwned;
use serde_json::Value;
use transfer::{Error, Kind, source::Authorization};
use url::Url;

use super::quota::{Full, Refusal, is_of_images, is_too_small};
use crate::{answer, keystone::Session, path};

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest text of a service that is shown, in characters.
const MOST_SHOWN: usize = 300;

/// The client of one service.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    name: &'static str,
    rest: Rest,
    base: Url,
    session: Arc<Session>,
    retry: Duration,
    extra: HeaderMap,
}

impl Api {
    /// `name` is the service's, `base` what paths are joined to, `retry` the time in which a call is repeated.
    pub(crate) fn new(
        name: &'static str,
        rest: Rest,
        base: Url,
        session: Arc<Session>,
        retry: Duration,
    ) -> Self {
        Self {
            name,
            rest,
            base,
            session,
            retry,
            extra: HeaderMap::new(),
        }
    }

    /// The same with a header field in each request.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.extra.insert(name, value);
        self
    }

    pub(crate) const fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request; `doing` completes the sentence "cannot ...". A token that is no longer accepted is renewed
    /// once.
    ///
    /// # Errors
    /// When there is no answer. An answer of any status is the caller's to judge.
    pub(crate) async fn call(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        doing: &str,
    ) -> Result<Answer, Failure> {
        let token = self.session.headers()?;
        let answer = self.send(&method, &url, body, &token, doing).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let (session, refused) = (Arc::clone(&self.session), token);
        tokio::task::spawn_blocking(move || session.renew(&refused))
            .await
            .map_err(|error| Failure::new(Exit::Internal, format!("a worker failed: {error}")))??;
        let token = self.session.headers()?;
        self.send(&method, &url, body, &token, doing).await
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&Value>,
        token: &HeaderMap,
        doing: &str,
    ) -> Result<Answer, Failure> {
        let mut headers = token.clone();
        headers.extend(self.extra.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if body.is_some() {
            // Glance alone has a PATCH, and takes no other type for it.
            let kind = if *method == Method::PATCH {
                "application/openstack-images-v2.1-json-patch"
            } else {
                "application/json"
            };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let request = Request {
            method: method.clone(),
            url: url.clone(),
            headers,
            body: body.map_or_else(Bytes::new, |body| body.to_string().into()),
            timeout: TIMEOUT,
            // To look twice, or to order an end twice, does no harm.
            retry: match *method {
                Method::GET | Method::DELETE => Repeat::Idempotent(self.retry),
                _ => Repeat::Safe(self.retry),
            },
        };
        let sent = self.rest.send(request).await;
        sent.map_err(|error| answer::unanswered(format!("{self}: cannot {doing}"), error).into())
    }

    /// Reads an object; `None` when there is none.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        url: Url,
        doing: &str,
    ) -> Result<Option<T>, Failure> {
        let answer = self.call(Method::GET, url, None, doing).await?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            StatusCode::OK => self.understand(&answer, doing).map(Some),
            _ => Err(self.refusal(&answer, doing)),
        }
    }

    /// Sends an order that answers with an object.
    pub(crate) async fn order<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &Value,
        doing: &str,
    ) -> Result<T, Refusal> {
        let answer = self.call(Method::POST, url, Some(body), doing).await?;
        if answer.status.is_success() {
            Ok(self.understand(&answer, doing)?)
        } else {
            Err(self.judge(&answer, doing))
        }
    }

    /// The same for an order for which Cinder asks Glance. Whatever Glance refuses is a 400 of Cinder's with Glance's words
    /// (`cinder/api/contrib/volume_actions.py`), a full quota of images too.
    pub(crate) async fn order_of_image<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &Value,
        doing: &str,
    ) -> Result<T, Refusal> {
        let answer = self.call(Method::POST, url, Some(body), doing).await?;
        if answer.status.is_success() {
            return Ok(self.understand(&answer, doing)?);
        }
        let refusal = self.judge(&answer, doing);
        match (refusal, said(&answer.body)) {
            (Refusal::State(_), Some(said)) if is_of_images(&said) => {
                Err(Refusal::Quota(self.full(&answer, doing, said)))
            }
            (refusal, _) => Err(refusal),
        }
    }

    pub(crate) fn understand<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        doing: &str,
    ) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            let request = answer::request_id(&answer.headers);
            Error::with_source(
                Kind::Protocol,
                format!("{self}: cannot {doing}: the answer is not as its API says{request}"),
                answer::position(&error),
            )
            .into()
        })
    }

    /// The failure for an answer that refuses.
    pub(crate) fn refusal(&self, answer: &Answer, doing: &str) -> Failure {
        self.judge(answer, doing).into()
    }

    /// What an answer that refuses means.
    fn judge(&self, answer: &Answer, doing: &str) -> Refusal {
        let said = said(&answer.body);
        let status = answer.status;
        let failure = |exit, advice: &str| {
            let text = self.answered(answer, doing, said.as_deref());
            let request = answer::request_id(&answer.headers);
            Failure::new(exit, format!("{text}{advice}{request}"))
        };
        match status {
            _ if status == StatusCode::PAYLOAD_TOO_LARGE || is_over_limit(&answer.body) => {
                if said.as_deref().is_some_and(is_too_small) {
                    return Refusal::Other(failure(
                        Exit::SourceUnusable,
                        "; the quota itself is smaller than what is asked for, so that no wait helps: have it raised (openstack quota show)",
                    ));
                }
                Refusal::Quota(self.full(answer, doing, said.unwrap_or_default()))
            }
            StatusCode::FORBIDDEN => Refusal::Other(failure(
                Exit::Permission,
                "; the user's role on the project does not allow it: give it the role member, or another user in the secret",
            )),
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT => {
                Refusal::State(failure(Exit::SourceUnusable, ""))
            }
            _ => {
                let exit = Failure::from(Error::new(answer::kind_of(status), "")).exit();
                Refusal::Other(failure(exit, ""))
            }
        }
    }

    /// What an answer that says a quota is full means.
    fn full(&self, answer: &Answer, doing: &str, said: String) -> Full {
        Full {
            text: self.answered(answer, doing, Some(&said)),
            request: answer::request_id(&answer.headers),
            said,
        }
    }

    /// What it answered, for messages.
    fn answered(&self, answer: &Answer, doing: &str, said: Option<&str>) -> String {
        let said = said.filter(|text| !text.is_empty());
        let said = said.map_or_else(String::new, |text| format!(": {text}"));
        let status = answer.status;
        format!("{self}: cannot {doing}: it answered {status}{said}")
    }

    pub(crate) fn url(&self, below: &str) -> Url {
        path::join(&self.base, below)
    }

    /// The same with a query of one field.
    pub(crate) fn query(&self, below: &str, fields: &[(&str, &str)]) -> Url {
        let mut url = self.url(below);
        url.query_pairs_mut().extend_pairs(fields);
        url
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, answer::origin(&self.base))
    }
}

/// What a refusal says: `{"badRequest": {"message": "..."}}`.
fn said(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let message = body.as_object()?.values().next()?["message"].as_str()?;
    Some(shown(message))
}

/// Whether a refusal is one for a limit, which has been 413 and 403: `{"overLimit": {...}}`.
fn is_over_limit(body: &[u8]) -> bool {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    body.is_some_and(|body| body.get("overLimit").is_some())
}

/// What may be shown of a service's text.
pub(crate) fn shown(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_in_the_services_words() {
        let body = br#"{"badRequest": {"code": 400, "message": "Invalid\nvolume."}}"#;
        assert_eq!(said(body).as_deref(), Some("Invalid volume"));
        for body in ["", "<html>", "[]", "{}", r#"{"a": 1}"#] {
            assert_eq!(said(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_table_of_timers_is_right() {
        assert_eq!(testkit::timers::stated("control call"), [TIMEOUT]);
    }
}
