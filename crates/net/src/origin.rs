//! The origin of a URL (RFC 6454): where credentials belong, and all of a URL that may be shown.

use std::fmt;

use url::{Host, Url};

use crate::{Error, Kind};

/// Scheme, host and port. `Display` is safe for logs: paths and user information are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    https: bool,
    host: Host<String>,
    port: u16,
}

impl Origin {
    /// The origin of an `http://` or `https://` URL.
    pub(crate) fn of(url: &Url) -> Result<Self, Error> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => {
                return Err(Error::new(
                    Kind::Settings,
                    format!("a URL has the scheme `{other}`: give an http:// or https:// URL"),
                ));
            }
        };
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(Error::new(
                Kind::Settings,
                "a URL has no host: give http://HOST or https://HOST",
            ));
        };
        Ok(Self {
            https,
            host: host.to_owned(),
            port,
        })
    }

    pub(crate) const fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) const fn host(&self) -> &Host<String> {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, IPv6 addresses in brackets, always with the port.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The value of the `Host` header: the port only where it is not the scheme's (RFC 9110, 7.2).
    pub(crate) fn host_header(&self) -> String {
        let default = if self.https { 443 } else { 80 };
        if self.port == default {
            return self.host.to_string();
        }
        self.authority()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host_header())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::of(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn default_ports_are_the_same_origin_and_are_not_written() {
        assert_eq!(
            origin("https://a.example"),
            origin("https://A.example:443/x?y")
        );
        assert_ne!(origin("https://a.example"), origin("http://a.example"));
        assert_eq!(origin("https://a.example:443").host_header(), "a.example");
        assert_eq!(
            origin("https://a.example:8443").host_header(),
            "a.example:8443"
        );
    }

    #[test]
    fn ipv6_is_bracketed() {
        assert_eq!(origin("http://[fd00::1]/").host_header(), "[fd00::1]");
        assert_eq!(origin("http://[fd00::1]:80/").authority(), "[fd00::1]:80");
    }

    #[test]
    fn only_the_origin_is_shown() {
        let shown = origin("https://user:secret@a.example:54322/images/ticket?k=v").to_string();
        assert_eq!(shown, "https://a.example:54322");
    }
}
