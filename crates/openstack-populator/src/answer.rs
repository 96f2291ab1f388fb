//! What both services' answers have in common.

use std::fmt::Write as _;

use http::{HeaderMap, StatusCode};
use transfer::{Error, Kind};
use url::Url;

/// The error for a request that got no answer, after its retries; `what` states what is missing.
pub(crate) fn unanswered(what: String, error: net::Error) -> Error {
    let kind = match error.kind() {
        net::Kind::Settings => Kind::Configuration,
        net::Kind::Certificate | net::Kind::Tls => Kind::Tls,
        net::Kind::Protocol | net::Kind::TooLarge | net::Kind::Redirect => Kind::Protocol,
        net::Kind::Cancelled => Kind::Cancelled,
        net::Kind::Resolve
        | net::Kind::Connect
        | net::Kind::Proxy
        | net::Kind::Stalled
        | net::Kind::Closed => Kind::Exhausted,
    };
    Error::with_source(kind, what, error)
}

/// The kind of a status that means nothing in particular to the caller. The retries of the request
/// are over, so what looks transient is [`Kind::Exhausted`].
pub(crate) fn kind_of(status: StatusCode) -> Kind {
    match status {
        StatusCode::UNAUTHORIZED => Kind::Credentials,
        StatusCode::FORBIDDEN => Kind::Permission,
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::Missing,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Kind::Exhausted,
        status if status.is_server_error() => Kind::Exhausted,
        _ => Kind::Protocol,
    }
}

/// What a 400 to plain http may mean.
pub(crate) fn hint_at_https(url: &Url, status: StatusCode) -> &'static str {
    if url.scheme() == "http" && status == StatusCode::BAD_REQUEST {
        return " A port that speaks TLS answers so: try https://";
    }
    ""
}

/// Scheme, host and port, for messages.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// ` (request req-...)`: what the cloud's operators find in their log, or nothing.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let mut text = String::new();
    let id = headers
        .get("x-openstack-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(|id| id.len() <= 64 && id.starts_with("req-"))
        .filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    if let Some(id) = id {
        let _ = write!(text, " (request {id})");
    }
    text
}

/// Where JSON went wrong, without quoting it: it may hold a secret.
pub(crate) fn position(error: &serde_json::Error) -> String {
    format!(
        "unexpected JSON at line {}, column {}",
        error.line(),
        error.column()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_shown_when_they_look_like_one() {
        for (sent, shown) in [
            (Some("req-0ad1-22"), " (request req-0ad1-22)"),
            (Some("gAAAAAtoken"), ""),
            (Some("req-a b"), ""),
            (None, ""),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(sent) = sent {
                headers.insert("x-openstack-request-id", sent.parse().unwrap());
            }
            assert_eq!(request_id(&headers), shown);
        }
    }
}
