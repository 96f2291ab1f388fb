//! Redirects, followed by hand: credentials never travel to another origin.

use http::{HeaderMap, StatusCode, header::LOCATION};
use url::Url;

use crate::{Error, Kind, origin::Origin};

/// Redirects followed for one request.
pub(crate) const MOST: usize = 5;

/// Headers that are credentials, whether or not the caller marked them sensitive. `X-*` are
/// OpenStack's.
const CREDENTIALS: [&str; 6] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-auth-token",
    "x-subject-token",
    "x-service-token",
];

/// Where an answer from `from` redirects to, if it does (RFC 9110, 15.4): 301, 302, 303, 307 or 308
/// with a `Location`. The fragment is removed from it. A caller that follows it counts the redirects,
/// and passes headers through [`headers_for`].
///
/// # Errors
/// [`Kind::Redirect`] when it leaves https and `may_leave_https` is false, has user information, or is no
/// http URL.
pub(crate) fn target(
    from: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    may_leave_https: bool,
) -> Result<Option<Url>, Error> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = headers.get(LOCATION) else {
        return Ok(None);
    };
    let origin = Origin::of(from)?;
    let refuse = |why: String| Error::new(Kind::Redirect, format!("{origin}: {why}"));
    let mut to = location
        .to_str()
        .ok()
        .and_then(|location| from.join(location).ok())
        .ok_or_else(|| refuse("the redirect's address is not a URL".into()))?;
    let new = Origin::of(&to)
        .map_err(|_| refuse("the redirect's address is neither http nor https".into()))?;
    if origin.is_https() && !new.is_https() && !may_leave_https {
        return Err(refuse(format!(
            "the redirect leaves https for {new}, which is not followed: everything could be read on the \
             way; have the server state an https URL, or allow it by --allow-plain-http"
        )));
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(refuse(format!(
            "the redirect to {new} holds a user name or a password, and is not followed"
        )));
    }
    to.set_fragment(None);
    Ok(Some(to))
}

/// The headers of a request to `from` that may go on to `to`: all within one origin; otherwise
/// neither credentials nor anything marked sensitive.
///
/// # Errors
/// [`Kind::Settings`] when one is no http URL.
pub fn headers_for(from: &Url, to: &Url, headers: HeaderMap) -> Result<HeaderMap, Error> {
    if Origin::of(from)? == Origin::of(to)? {
        return Ok(headers);
    }
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in &headers {
        if !value.is_sensitive() && !CREDENTIALS.contains(&name.as_str()) {
            kept.append(name, value.clone());
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn to(from: &str, location: &str) -> Result<Option<String>, Kind> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        target(&url(from), StatusCode::FOUND, &headers, false)
            .map(|to| to.map(|to| to.to_string()))
            .map_err(|error| error.kind())
    }

    #[test]
    fn targets() {
        assert_eq!(to("https://a/x/y", "z"), Ok(Some("https://a/x/z".into())));
        assert_eq!(
            to("https://a/x", "//b:1/q#f"),
            Ok(Some("https://b:1/q".into()))
        );
        assert_eq!(
            to("http://a/x", "https://a/x"),
            Ok(Some("https://a/x".into()))
        );
        for location in ["http://u:p@b/", "//u@b/", "http://:p@b/"] {
            assert_eq!(to("http://a/", location), Err(Kind::Redirect), "{location}");
        }
        assert_eq!(to("https://a/x", "http://a/x"), Err(Kind::Redirect));
        assert_eq!(to("https://a/x", "ftp://a/x"), Err(Kind::Redirect));
        assert_eq!(to("https://a/x", "file:///etc/passwd"), Err(Kind::Redirect));
        assert_eq!(to("https://a/x", "https://"), Err(Kind::Redirect));
    }

    #[test]
    fn https_is_left_where_that_is_allowed() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("http://b/x"));
        let to = target(&url("https://a/"), StatusCode::FOUND, &headers, true);
        assert_eq!(to.unwrap().unwrap().as_str(), "http://b/x");
    }

    #[test]
    fn an_answer_without_a_location_is_an_answer() {
        let none = HeaderMap::new();
        assert_eq!(
            target(&url("http://a/"), StatusCode::FOUND, &none, false).unwrap(),
            None
        );
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("/v3"));
        for status in [StatusCode::MULTIPLE_CHOICES, StatusCode::CREATED] {
            let found = target(&url("http://a/"), status, &headers, false);
            assert_eq!(found.unwrap(), None);
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let mut headers = HeaderMap::new();
        for name in ["Authorization", "X-Auth-Token", "Cookie", "Accept", "Range"] {
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, HeaderValue::from_static("v"));
        }
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        headers.insert("x-other", secret);
        let same = headers_for(&url("https://a/"), &url("https://a:443/x"), headers.clone());
        assert_eq!(same.unwrap(), headers);
        for other in ["https://b/", "https://a:444/", "http://a/"] {
            let kept = headers_for(&url("https://a/"), &url(other), headers.clone()).unwrap();
            let names: Vec<_> = kept.keys().map(http::HeaderName::as_str).collect();
            assert_eq!(names, ["accept", "range"], "{other}");
        }
    }
}
