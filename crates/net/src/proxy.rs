//! Which way to go: the proxy for a URL.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{HeaderValue, StatusCode, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::{Error, Kind, origin::Origin};

/// Proxy rules, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` state them.
///
/// `NO_PROXY` is a list of host names (a leading dot or `*.` is optional, sub-domains match),
/// addresses, CIDR blocks or `*`, names and addresses also with a port (`host:port`,
/// `[address]:port`), which then has to be the URL's. A proxy is spoken to in plain HTTP
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
    http: Option<Setting>,
    https: Option<Setting>,
    no: Vec<Exception>,
}

/// A proxy, or why the variable's value is none: an error only where the proxy would be used.
type Setting = Result<Proxy, String>;

/// An entry of `NO_PROXY`.
struct Exception {
    /// The only port that it is for.
    port: Option<u16>,
    /// Intercepts all but the hosts of the entry.
    others: Matcher,
}

impl Proxies {
    /// Rules from the values of the three variables; `None` and empty mean absent. The caller reads
    /// the environment. A value that is no proxy is an error of [`Proxies::for_url`]; an entry of
    /// `no_proxy` that is understood as nothing gives a warning.
    #[must_use]
    pub fn new(http: Option<&str>, https: Option<&str>, no_proxy: Option<&str>) -> Self {
        let rules = [parse("HTTP_PROXY", http), parse("HTTPS_PROXY", https)];
        Self::with(rules, no_proxy)
    }

    /// One proxy for both schemes; `name` says in errors where it comes from.
    #[must_use]
    pub fn one(name: &str, proxy: &str, no_proxy: Option<&str>) -> Self {
        let rules = [parse(name, Some(proxy)), parse(name, Some(proxy))];
        Self::with(rules, no_proxy)
    }

    fn with([http, https]: [Option<Setting>; 2], no_proxy: Option<&str>) -> Self {
        if http.is_none() && https.is_none() {
            return Self::none();
        }
        let entries = no_proxy.unwrap_or_default();
        let entries = entries.split(|letter: char| letter == ',' || letter.is_whitespace());
        let mut no = Vec::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            if let Some(exception) = Exception::parse(entry) {
                no.push(exception);
            } else {
                tracing::warn!(
                    "NO_PROXY: {entry} is no host name, address, CIDR block or *, each with or \
                     without a port, and excepts nothing from the proxy"
                );
            }
        }
        Self(Some(Arc::new(Rules { http, https, no })))
    }

    /// No proxy for anything.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The proxy for `url`, if one applies.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] when the proxy that applies cannot be used; the text names the
    /// variable.
    pub fn for_url(&self, url: &Url) -> Result<Option<Proxy>, Error> {
        let Some(rules) = self.0.as_deref() else {
            return Ok(None);
        };
        let setting = match url.scheme() {
            "https" => &rules.https,
            _ => &rules.http,
        };
        let Some(setting) = setting else {
            return Ok(None);
        };
        if rules.no.iter().any(|exception| exception.covers(url)) {
            return Ok(None);
        }
        match setting {
            Ok(proxy) => Ok(Some(proxy.clone())),
            Err(why) => Err(Error::new(Kind::Settings, why.clone())),
        }
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let (host, port) = match with_port(entry) {
            Some((host, port)) => (host, Some(port)),
            None => (entry, None),
        };
        let host = match host {
            // The matcher takes `*` for host names alone.
            "*" => "*,0.0.0.0/0,::/0",
            host => host
                .strip_prefix('*')
                .filter(|rest| rest.starts_with('.'))
                .unwrap_or(host),
        };
        // What is neither a name nor an address would match nothing.
        let is_address = host.contains(':') && host.split('/').next()?.parse::<IpAddr>().is_ok();
        let is_odd = |letter: char| !(letter.is_alphanumeric() || "-_./*,".contains(letter));
        if !is_address && !host.starts_with("*,") && (host.contains(is_odd) || host.contains('*')) {
            return None;
        }
        let others = Matcher::builder()
            .http("http://proxy")
            .https("http://proxy")
            .no(host)
            .build();
        Some(Self { port, others })
    }

    fn covers(&self, url: &Url) -> bool {
        let is_port = self.port.is_none() || self.port == url.port_or_known_default();
        is_port
            && url
                .as_str()
                .parse()
                .is_ok_and(|uri| self.others.intercept(&uri).is_none())
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rules) = &self.0 else {
            return f.write_str("Proxies(none)");
        };
        let shown = |setting: &Option<Setting>| {
            let proxy = setting.as_ref()?.as_ref().ok()?;
            Some(proxy.origin.to_string())
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
         http://USER:PASSWORD@HOST:PORT in {variable}, or under the secret key proxy"
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

/// The error for a proxy that answers a request for a tunnel with another refusal.
///
/// What a proxy forbids, it forbids the next time as well; Squid's default allows tunnels to port
/// 443 alone. Other statuses are of a proxy that is busy, or that cannot reach the server now.
pub(crate) fn refused_tunnel(origin: &Origin, proxy: &Origin, status: StatusCode) -> Error {
    let passes = !status.is_client_error() || matches!(status.as_u16(), 408 | 425 | 429);
    if passes {
        let text = format!("{origin}: the proxy {proxy} refuses the tunnel ({status})");
        return Error::new(Kind::Proxy, text);
    }
    let text = format!(
        "{origin}: the proxy {proxy} forbids a tunnel to {} ({status}): allow it at the proxy, or name \
         the host in no_proxy to reach it directly",
        origin.authority()
    );
    Error::new(Kind::Settings, text)
}

fn parse(variable: &str, value: Option<&str>) -> Option<Setting> {
    let value = value.map(str::trim).filter(|value| !value.is_empty())?;
    // The value may hold a password, and url's own errors quote nothing: neither does this text.
    let refuse = |why: &str| {
        Err(format!(
            "{variable} {why}: give http://[USER:PASSWORD@]HOST[:PORT], or name the host in no_proxy to \
             reach it directly"
        ))
    };
    let text = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let Ok(url) = Url::parse(&text) else {
        return Some(refuse("is not a URL"));
    };
    if url.scheme() != "http" {
        return Some(refuse(&format!(
            "has the scheme `{}`, but only http proxies are supported (they carry https as a tunnel)",
            url.scheme()
        )));
    }
    let Ok(origin) = Origin::of(&url) else {
        return Some(refuse("names no host"));
    };
    let any = Uri::from_static("http://any/");
    let matcher = Matcher::builder().http(url.as_str()).build();
    let authorization = matcher
        .intercept(&any)
        .and_then(|found| found.basic_auth().cloned());
    Some(Ok(Proxy {
        url,
        origin,
        authorization,
    }))
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
            .unwrap()
            .map(|proxy| proxy.origin.to_string())
    }

    #[test]
    fn scheme_chooses_the_variable() {
        let proxies = Proxies::new(Some("http://h:3128"), Some("s:3129"), None);
        assert_eq!(chosen(&proxies, "http://x/"), Some("http://h:3128".into()));
        assert_eq!(chosen(&proxies, "https://x/"), Some("http://s:3129".into()));
        let only_http = Proxies::new(Some("http://h:3128"), Some(""), None);
        assert_eq!(chosen(&only_http, "https://x/"), None);
        assert_eq!(chosen(&Proxies::none(), "https://x/"), None);
    }

    #[test]
    fn no_proxy_matches_names_addresses_and_blocks() {
        let list = "example.com, .corp, 10.0.0.0/8,192.168.1.7,fd00::/8";
        let proxies = Proxies::new(Some("h:1"), Some("h:1"), Some(list));
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
        let proxies = Proxies::new(Some("h:1"), Some("h:1"), Some(list));
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
        let all = Proxies::new(Some("h:1"), Some("h:1"), Some("*"));
        assert_eq!(chosen(&all, "https://anything/"), None);
    }

    #[test]
    fn credentials_are_used_and_never_shown() {
        let proxies = Proxies::new(None, Some("http://us%40er:p%3Ass@h:3128/"), None);
        let proxy = proxies.for_url(&url("https://x/")).unwrap().unwrap();
        // us@er:p:ss
        assert_eq!(proxy.authorization().unwrap(), "Basic dXNAZXI6cDpzcw==");
        for shown in [format!("{proxies:?}"), format!("{proxy:?}")] {
            assert!(shown.contains("h:3128"), "{shown}");
            assert!(!shown.contains("ss@") && !shown.contains("er:"), "{shown}");
        }
    }

    #[test]
    fn a_star_excepts_everything_and_a_star_with_a_dot_a_domain() {
        let proxies = |no| Proxies::new(Some("h:1"), Some("h:1"), Some(no));
        for to in ["https://a/", "http://10.1.2.3/", "https://[fd00::1]:54322/"] {
            for no in ["*", "x, *", "* x"] {
                assert_eq!(chosen(&proxies(no), to), None, "{no} {to}");
            }
            assert!(chosen(&proxies("*:1"), to).is_some(), "{to}");
        }
        for to in [
            "https://a:8443/",
            "http://10.1.2.3:8443/",
            "https://[fd00::1]:8443/",
        ] {
            assert_eq!(chosen(&proxies("*:8443"), to), None, "{to}");
        }
        for no in ["*.example.org", "x *.example.org:443"] {
            for (to, direct) in [
                ("https://a.example.org/", true),
                ("https://a.b.example.org/", true),
                ("https://example.org/", true),
                ("https://badexample.org/", false),
                ("https://10.1.2.3/", false),
            ] {
                assert_eq!(chosen(&proxies(no), to).is_none(), direct, "{no} {to}");
            }
        }
    }

    #[test]
    fn an_entry_that_means_nothing_is_found() {
        for entry in [
            "http://host",
            "10.0.0.*",
            "a*b",
            "user@host",
            "ks.corp:x",
            "[fd00::1",
            "a:b:c",
        ] {
            assert!(Exception::parse(entry).is_none(), "{entry}");
        }
        for entry in [
            "h",
            ".corp",
            "h:1",
            "10.0.0.0/8",
            "fd00::/8",
            "fd00::1",
            "[fd00::1]:2",
            "*",
            "*:1",
        ] {
            assert!(Exception::parse(entry).is_some(), "{entry}");
        }
    }

    #[test]
    fn a_bad_value_is_named_but_not_quoted_and_only_where_it_is_used() {
        for bad in [
            "http://user:hush@:99999",
            "socks5://user:hush@h:1",
            "https://user:hush@h",
            "ftp://user:hush@h",
        ] {
            let proxies = Proxies::new(None, Some(bad), Some("direct.example"));
            let error = proxies.for_url(&url("https://x/")).unwrap_err();
            assert_eq!(error.kind(), Kind::Settings);
            assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
            testkit::plain::assert_plain(&error.chain());
            for to in ["http://x/", "https://direct.example/"] {
                assert_eq!(chosen(&proxies, to), None, "{to}");
            }
        }
    }

    #[test]
    fn what_a_proxy_forbids_is_final_and_what_it_cannot_do_now_is_not() {
        let (origin, proxy) = (
            Origin::of(&url("https://host.example:54322")).unwrap(),
            Origin::of(&url("http://proxy:3128")).unwrap(),
        );
        for (status, kind) in [
            (400, Kind::Settings),
            (403, Kind::Settings),
            (404, Kind::Settings),
            (405, Kind::Settings),
            (408, Kind::Proxy),
            (429, Kind::Proxy),
            (500, Kind::Proxy),
            (502, Kind::Proxy),
            (503, Kind::Proxy),
            (302, Kind::Proxy),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = refused_tunnel(&origin, &proxy, status);
            assert_eq!(error.kind(), kind, "{status}");
            testkit::plain::assert_plain(&error.chain());
            let names = error.to_string().contains("no_proxy");
            assert_eq!(names, kind == Kind::Settings, "{error}");
        }
    }
}
