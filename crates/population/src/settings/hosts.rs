//! The hosts that populator resources may name.

use std::{fmt, str::FromStr};

/// Hosts to which claims may have the credentials of their namespace sent.
///
/// A resource names a secret and a URL, and whoever may create one decides where the secret's values go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Host>);

/// One host, or all hosts below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    is_domain: bool,
    name: String,
    port: Option<u16>,
}

impl AllowedHosts {
    /// Whether a resource may name the URL. A URL whose host could be read in more than one way is not allowed: what
    /// is compared here must be what the mover connects to.
    #[must_use]
    pub fn allow(&self, url: &str) -> bool {
        host_of(url).is_some_and(|(name, port)| {
            let is_it = |host: &Host| host.matches(&name, port);
            self.0.iter().any(is_it)
        })
    }
}

impl Host {
    fn matches(&self, name: &str, port: u16) -> bool {
        let name_fits = if self.is_domain {
            let below = name.strip_suffix(self.name.as_str());
            below.is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            name == self.name
        };
        name_fits && self.port.is_none_or(|allowed| allowed == port)
    }
}

impl FromStr for AllowedHosts {
    type Err = String;

    /// `engine.example.org, *.cloud.example.org, 192.0.2.1:5000, [2001:db8::1]`; an empty list allows none.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_domain, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let found = split_port(rest).filter(|(name, _)| !is_domain || !name.starts_with('['));
        let (name, port) = found.ok_or_else(|| {
            format!(
                "{text:?} is no host; give names such as engine.example.org, *.example.org, 192.0.2.1 or \
                 [2001:db8::1], each with :PORT or without, and commas between them"
            )
        })?;
        Ok(Self {
            is_domain,
            name,
            port,
        })
    }
}

impl fmt::Display for AllowedHosts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, host) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            let star = if host.is_domain { "*." } else { "" };
            write!(formatter, "{comma}{star}{}", host.name)?;
            if let Some(port) = host.port {
                write!(formatter, ":{port}")?;
            }
        }
        if self.0.is_empty() {
            formatter.write_str("none")?;
        }
        Ok(())
    }
}

/// Host, in lower case, and port of a URL as the movers accept it: with `http://`, `https://` or without a scheme.
fn host_of(url: &str) -> Option<(String, u16)> {
    let (default, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (443, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (80, rest),
        Some(_) => return None,
        None => (443, url),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (name, port) = split_port(authority)?;
    Some((name, port.unwrap_or(default)))
}

/// `name`, `name:port`, `[address]` or `[address]:port`. No other character than those of names and addresses is
/// accepted: parsers of URLs treat some as a slash, and decode or drop others.
fn split_port(text: &str) -> Option<(String, Option<u16>)> {
    let (name, rest) = if let Some(inner) = text.strip_prefix('[') {
        let (address, rest) = inner.split_once(']')?;
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        (format!("[{address}]"), rest)
    } else {
        let at = text.find(':').unwrap_or(text.len());
        let (name, rest) = text.split_at(at);
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_good) {
            return None;
        }
        // A dot at the end only says that the name is complete.
        let name = name.strip_suffix('.').unwrap_or(name);
        (name.to_ascii_lowercase(), rest)
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((name, Some(port.parse().ok()?))),
        None => rest.is_empty().then_some((name, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowedHosts {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_domains_and_ports_are_allowed() {
        let hosts =
            list("engine.example.org, *.Cloud.example.org:5000,192.0.2.1 ,[2001:db8::1]:443");
        for url in [
            "https://engine.example.org/ovirt-engine/api",
            "HTTPS://Engine.Example.ORG.:8443",
            "http://engine.example.org",
            "engine.example.org/x",
            "https://a.cloud.example.org:5000/v3",
            "https://a.b.cloud.example.org:5000",
            "https://192.0.2.1:1?x",
            "https://[2001:db8:0::1]/",
        ] {
            assert!(hosts.allow(url), "{url}");
        }
        for url in [
            "https://example.org",
            "https://xengine.example.org",
            "https://engine.example.org.evil.example",
            "https://cloud.example.org:5000",
            "https://.cloud.example.org:5000",
            "https://acloud.example.org:5000",
            "https://a.cloud.example.org",
            "https://[2001:db8::1]:444",
            "https://[2001:db8::2]",
            "https://192.0.2.10",
            "",
            "https://",
        ] {
            assert!(!hosts.allow(url), "{url}");
        }
    }

    #[test]
    fn a_url_that_others_read_in_another_way_is_not_allowed() {
        let hosts = list("good.example, *.good.example");
        for url in [
            // The parser of the movers takes each of these for a URL of evil.example or for none.
            r"https://evil.example\.good.example/",
            r"https:\\evil.example\@good.example",
            "https://evil.example%2f.good.example",
            "https:evil.example/.good.example",
            "https:/evil.example",
            "https:///evil.example",
            "https://good.example@evil.example",
            "https://evil.example:443:good.example",
            "ftp://good.example",
            "https://good.example:99999",
            "https://good.example:",
            "https://go\u{ad}od.example",
        ] {
            assert!(!hosts.allow(url), "{url}");
        }
    }

    #[test]
    fn what_is_no_host_is_named_with_the_form() {
        for text in [
            "https://a",
            "a/b",
            "*",
            "*.",
            "a*b",
            "a b",
            "[::1",
            "*.[::1]",
            "a:b",
            ".a",
            "a:0x1",
        ] {
            let error = text.parse::<AllowedHosts>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains("engine.example.org"), "{error}");
        }
        assert!(!list("").allow("https://a"));
        assert_eq!(list("").to_string(), "none");
        assert_eq!(list("a, *.B:1,[::1]:2").to_string(), "a, *.b:1, [::1]:2");
    }
}
