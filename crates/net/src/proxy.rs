//! Which way to go: the proxy for a URL.

use std::{fmt, sync::Arc};

use http::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::{Error, Kind, origin::Origin};

/// Proxy rules, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` state them.
///
/// `NO_PROXY` is a list of host names (a leading dot is optional, sub-domains match), addresses,
/// CIDR blocks or `*`, names and addresses also with a port (`host:port`, `[address]:port`), which
/// then has to be the URL's. A proxy is spoken to in plain HTTP
/// (`http://[user:password@]host[:port]`). `Debug` does not show the proxies' credentials.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<Rules>>);

/// One proxy: where it is and how to log in. `Debug` does not show the credentials.
#[derive(Clone)]
pub struct Proxy {
    url: Url,
    origin: Origin,
    authorization: Option<HeaderValue>,
}

struct Rules {
    http: Option<Url>,
    https: Option<Url>,
    matcher: Matcher,
    /// The entries of `NO_PROXY` with a port.
    no: Vec<(u16, Matcher)>,
}

impl Proxies {
    /// Rules from the values of the three variables; `None` and empty mean absent. The caller reads
    /// the environment.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] when a proxy is not a URL; the text names the variable.
    pub fn new(
        http: Option<&str>,
        https: Option<&str>,
        no_proxy: Option<&str>,
    ) -> Result<Self, Error> {
        let http = parse("HTTP_PROXY", http)?;
        let https = parse("HTTPS_PROXY", https)?;
        if http.is_none() && https.is_none() {
            return Ok(Self::none());
        }
        let matcher = |no: &str| {
            Matcher::builder()
                .http(http.as_ref().map_or("", Url::as_str))
                .https(https.as_ref().map_or("", Url::as_str))
                .no(no)
                .build()
        };
        let (mut everywhere, mut no) = (Vec::new(), Vec::new());
        for entry in no_proxy.unwrap_or_default().split(',').map(str::trim) {
            match with_port(entry) {
                Some((host, port)) => no.push((port, matcher(host))),
                None => everywhere.push(entry),
            }
        }
        let matcher = matcher(&everywhere.join(","));
        Ok(Self(Some(Arc::new(Rules {
            http,
            https,
            matcher,
            no,
        }))))
    }

    /// No proxy for anything.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The proxy for `url`, if one applies.
    #[must_use]
    pub fn for_url(&self, url: &Url) -> Option<Proxy> {
        let rules = self.0.as_deref()?;
        let uri = url.as_str().parse().ok()?;
        let intercept = rules.matcher.intercept(&uri)?;
        let port = url.port_or_known_default();
        let is_excepted =
            |(of, no): &(u16, Matcher)| Some(*of) == port && no.intercept(&uri).is_none();
        if rules.no.iter().any(is_excepted) {
            return None;
        }
        let proxy = match url.scheme() {
            "https" => rules.https.as_ref()?,
            _ => rules.http.as_ref()?,
        };
        Some(Proxy {
            url: proxy.clone(),
            origin: Origin::of(proxy).ok()?,
            authorization: intercept.basic_auth().cloned(),
        })
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rules) = &self.0 else {
            return f.write_str("Proxies(none)");
        };
        let shown = |url: &Option<Url>| {
            url.as_ref()
                .and_then(|url| Origin::of(url).ok())
                .map(|origin| origin.to_string())
        };
        f.debug_struct("Proxies")
            .field("http", &shown(&rules.http))
            .field("https", &shown(&rules.https))
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// The URL with the credentials in it, for clients that take them from there.
    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The value of `Proxy-Authorization`, marked sensitive.
    pub(crate) const fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.origin)
    }
}

/// The error for a proxy that answers 407.
pub(crate) fn proxy_credentials(origin: &Origin, proxy: &Origin) -> Error {
    let variable = if origin.is_https() {
        "HTTPS_PROXY"
    } else {
        "HTTP_PROXY"
    };
    let text = format!(
        "{origin}: the proxy {proxy} wants other credentials (407): give \
         http://USER:PASSWORD@HOST:PORT in {variable}"
    );
    Error::new(Kind::Settings, text)
}

/// Host and port of an entry of `NO_PROXY` that has a port.
fn with_port(entry: &str) -> Option<(&str, u16)> {
    let (host, port) = entry.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?,
        // Without brackets, the colons are those of an IPv6 address.
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

fn parse(variable: &str, value: Option<&str>) -> Result<Option<Url>, Error> {
    let value = value.map(str::trim).unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    // The value may hold a password, and url's own errors quote nothing: neither does this text.
    let refuse = |why: &str| {
        Error::new(
            Kind::Settings,
            format!("{variable} {why}: give http://[USER:PASSWORD@]HOST[:PORT]"),
        )
    };
    let text = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let url = Url::parse(&text).map_err(|_| refuse("is not a URL"))?;
    if url.scheme() != "http" {
        return Err(refuse(&format!(
            "has the scheme `{}`, but only http proxies are supported (they carry https as a tunnel)",
            url.scheme()
        )));
    }
    if url.host().is_none() {
        return Err(refuse("names no host"));
    }
    Ok(Some(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn chosen(proxies: &Proxies, to: &str) -> Option<String> {
        proxies
            .for_url(&url(to))
            .map(|proxy| proxy.origin.to_string())
    }

    #[test]
    fn scheme_chooses_the_variable() {
        let proxies = Proxies::new(Some("http://h:3128"), Some("s:3129"), None).unwrap();
        assert_eq!(chosen(&proxies, "http://x/"), Some("http://h:3128".into()));
        assert_eq!(chosen(&proxies, "https://x/"), Some("http://s:3129".into()));
        let only_http = Proxies::new(Some("http://h:3128"), Some(""), None).unwrap();
        assert_eq!(chosen(&only_http, "https://x/"), None);
        assert_eq!(chosen(&Proxies::none(), "https://x/"), None);
    }

    #[test]
    fn no_proxy_matches_names_addresses_and_blocks() {
        let list = "example.com, .corp, 10.0.0.0/8,192.168.1.7,fd00::/8";
        let proxies = Proxies::new(Some("h:1"), Some("h:1"), Some(list)).unwrap();
        let table = [
            ("https://example.com/", true),
            ("https://EXAMPLE.com:8443/", true),
            ("https://a.example.com/", true),
            ("https://notexample.com/", false),
            ("http://engine.corp/", true),
            ("http://10.1.2.3/", true),
            ("http://11.1.2.3/", false),
            ("https://192.168.1.7:54322/", true),
            ("https://[fd00::5]/", true),
            ("https://[fe80::5]/", false),
        ];
        for (to, direct) in table {
            assert_eq!(chosen(&proxies, to).is_none(), direct, "{to}");
        }
        let list = "glance.corp:9292, 10.0.0.1:80,[fd00::1]:443,fd00::2,ks.corp:x";
        let proxies = Proxies::new(Some("h:1"), Some("h:1"), Some(list)).unwrap();
        let table = [
            ("https://glance.corp:9292/", true),
            ("https://a.glance.corp:9292/", true),
            ("https://glance.corp/", false),
            ("http://10.0.0.1/", true),
            ("https://10.0.0.1/", false),
            ("https://[fd00::1]/", true),
            ("http://[fd00::1]/", false),
            ("http://[fd00::2]:5000/", true),
            ("http://ks.corp/", false),
        ];
        for (to, direct) in table {
            assert_eq!(chosen(&proxies, to).is_none(), direct, "{to}");
        }
        let all = Proxies::new(Some("h:1"), Some("h:1"), Some("*")).unwrap();
        assert_eq!(chosen(&all, "https://anything/"), None);
    }

    #[test]
    fn credentials_are_used_and_never_shown() {
        let proxies = Proxies::new(None, Some("http://us%40er:p%3Ass@h:3128/"), None).unwrap();
        let proxy = proxies.for_url(&url("https://x/")).unwrap();
        // us@er:p:ss
        assert_eq!(proxy.authorization().unwrap(), "Basic dXNAZXI6cDpzcw==");
        for shown in [format!("{proxies:?}"), format!("{proxy:?}")] {
            assert!(shown.contains("h:3128"), "{shown}");
            assert!(!shown.contains("ss@") && !shown.contains("er:"), "{shown}");
        }
    }

    #[test]
    fn a_bad_value_is_named_but_not_quoted() {
        for bad in [
            "http://user:hush@:99999",
            "socks5://user:hush@h:1",
            "https://user:hush@h",
        ] {
            let error = Proxies::new(None, Some(bad), None).unwrap_err();
            assert_eq!(error.kind(), Kind::Settings);
            assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }
}
