//! Where the engine is.

use std::{fmt, str::FromStr};

use http::StatusCode;
use url::Url;

use super::{Error, Kind};

/// The engine's address, free of any path: `scheme://host[:port]/`.
///
/// Users write it with and without `/ovirt-engine/api` (Forklift's provider has it with the path,
/// `ovirt-img` without), with and without a slash at the end; all of them are the same engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// The URL without a path.
    pub(crate) const fn url(&self) -> &Url {
        &self.0
    }

    /// Where tokens are given out.
    pub(super) fn token(&self) -> Url {
        self.join(&["ovirt-engine", "sso", "oauth", "token"])
    }

    /// Where tokens are revoked.
    pub(super) fn logout(&self) -> Url {
        self.join(&["ovirt-engine", "services", "sso-logout"])
    }

    /// A resource of the API.
    pub(super) fn api(&self, path: &[&str]) -> Url {
        let mut segments = vec!["ovirt-engine", "api"];
        segments.extend_from_slice(path);
        self.join(&segments)
    }

    /// What a 400 to plain http may mean.
    pub(super) fn hint_at_https(&self, status: StatusCode) -> &'static str {
        if self.0.scheme() == "http" && status == StatusCode::BAD_REQUEST {
            return "; a port that speaks TLS answers so: try https://";
        }
        ""
    }

    fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        // Never fails: `from_str` accepts only URLs that have a host.
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The value itself is not repeated in errors before it is known to hold no password.
        let wrong = |what: &str| {
            Error::new(
                Kind::Configuration,
                format!("the engine's URL {what}; write it as https://engine.example.com"),
            )
        };
        let mut url = Url::parse(text.trim()).map_err(|error| {
            wrong(&match error {
                url::ParseError::RelativeUrlWithoutBase => "has no scheme".to_owned(),
                other => format!("is malformed ({other})"),
            })
        })?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(wrong("is neither https nor http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "holds a user name or a password, which belong into the secret",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has a query or a fragment"));
        }
        let path = url.path().trim_end_matches('/');
        if !matches!(path, "" | "/ovirt-engine" | "/ovirt-engine/api") {
            return Err(wrong(&format!(
                "has the path {}, which is not /ovirt-engine/api",
                net::quoted(path)
            )));
        }
        url.set_path("/");
        Ok(Self(url))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_engine() {
        for text in [
            "https://engine.example.com",
            "https://engine.example.com/",
            "https://engine.example.com/ovirt-engine",
            "https://engine.example.com/ovirt-engine/api",
            "https://engine.example.com/ovirt-engine/api/",
            "https://ENGINE.example.com:443//",
            " https://engine.example.com\n",
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), "https://engine.example.com", "{text}");
            assert_eq!(
                address.api(&["disks", "a b"]).as_str(),
                "https://engine.example.com/ovirt-engine/api/disks/a%20b"
            );
        }
        let address: Address = "https://[::1]:8443/ovirt-engine/api".parse().unwrap();
        assert_eq!(
            address.token().as_str(),
            "https://[::1]:8443/ovirt-engine/sso/oauth/token"
        );
    }

    #[test]
    fn what_is_no_engine_is_said_clearly() {
        for (text, what) in [
            ("engine.example.com", "no scheme"),
            ("", "no scheme"),
            ("https://", "malformed"),
            ("ftp://engine", "neither https nor http"),
            ("https://admin:hunter2@engine", "belong into the secret"),
            ("https://engine/?a=b", "query"),
            ("https://engine/api", "\"/api\""),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.kind(), Kind::Configuration);
            assert!(error.to_string().contains(what), "{text}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
