//! From the identity URL, as users type it, to the URL that gives tokens.

use transfer::{Error, Kind};
use url::Url;

use crate::path;

/// The URL of `POST /v3/auth/tokens` for an identity URL with or without `/v3`, with or without a
/// trailing slash, and below any path (`https://cloud/identity/v3`).
///
/// `named` is what messages call it.
///
/// # Errors
/// [`Kind::Configuration`] when it is no HTTP URL, names another version than 3, or carries a user
/// or a password.
pub fn auth_url(named: &str, identity: &str) -> Result<Url, Error> {
    let refused = |why: &str| Error::new(Kind::Configuration, format!("{named} {why}"));
    let identity = identity.trim();
    if identity.is_empty() {
        return Err(refused(
            "is empty; it is the identity URL, such as https://keystone:5000/v3",
        ));
    }
    let mut url = Url::parse(identity).map_err(|error| {
        Error::with_source(
            Kind::Configuration,
            format!("{named} is not a URL such as https://keystone:5000/v3"),
            error,
        )
    })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refused(
            "must begin with https:// or http:// and name a host",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "must not carry a user or a password; they belong in the secret",
        ));
    }
    match path::cut_version(&mut url).as_deref() {
        None | Some("v3" | "v3.0") => Ok(path::join(&url, "v3/auth/tokens")),
        Some(other) => Err(refused(&format!(
            "ends in /{other}, but only version 3 of the identity API gives tokens here; name the URL that ends in /v3"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_type_it_gives_one_url() {
        for (typed, expected) in [
            ("https://ks:5000", "https://ks:5000/v3/auth/tokens"),
            ("https://ks:5000/", "https://ks:5000/v3/auth/tokens"),
            ("https://ks:5000/v3", "https://ks:5000/v3/auth/tokens"),
            ("https://ks:5000/v3/", "https://ks:5000/v3/auth/tokens"),
            ("https://ks:5000/v3.0/", "https://ks:5000/v3/auth/tokens"),
            (" https://ks:5000/v3// \n", "https://ks:5000/v3/auth/tokens"),
            (
                "https://cloud/identity",
                "https://cloud/identity/v3/auth/tokens",
            ),
            (
                "https://cloud/identity/",
                "https://cloud/identity/v3/auth/tokens",
            ),
            (
                "https://cloud/identity/v3",
                "https://cloud/identity/v3/auth/tokens",
            ),
            (
                "https://cloud/identity/v3/",
                "https://cloud/identity/v3/auth/tokens",
            ),
            (
                "http://[fd00::1]:5000/v3",
                "http://[fd00::1]:5000/v3/auth/tokens",
            ),
            ("https://cloud/vault", "https://cloud/vault/v3/auth/tokens"),
            ("https://cloud/v", "https://cloud/v/v3/auth/tokens"),
            ("https://ks:5000/v3?a=b#c", "https://ks:5000/v3/auth/tokens"),
        ] {
            assert_eq!(
                auth_url("--endpoint", typed).unwrap().as_str(),
                expected,
                "{typed}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_said() {
        for (typed, needle) in [
            ("", "empty"),
            ("keystone", "not a URL"),
            ("keystone:5000", "begin with https://"),
            ("ftp://keystone", "begin with https://"),
            ("https://ks:5000/v2.0", "/v2.0"),
            ("https://ks:5000/v2.0/", "version 3"),
            ("https://ks:5000/v3.1", "version 3"),
            ("https://bob:s3cret@ks:5000/v3", "secret"),
        ] {
            let error = auth_url("--endpoint", typed).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{typed}");
            assert!(error.to_string().contains(needle), "{typed}: {error}");
            assert!(!error.chain().contains("s3cret"), "{error}");
        }
    }
}
