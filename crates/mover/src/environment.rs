//! The environment, read once.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use contract::args::secret;
use net::Proxies;
use runtime::Redactor;
use secrecy::zeroize::Zeroizing;

use crate::Secrets;

/// A snapshot of the environment variables. `main` takes the process's; tests make their own.
///
/// Values may be secret, so `Debug` shows the names only, and they are wiped when it is dropped. The kernel's
/// own copy stays.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, Zeroizing<String>>);

impl Environment {
    /// The process's variables, except those whose name or value is not Unicode.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable. Empty counts as absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The variables whose names begin so, without those that are empty.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
    }

    /// A path that may begin with `~/`, which stands for the folder that `HOME` names.
    #[must_use]
    pub fn expand_home(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), self.get("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(path),
        }
    }

    /// Makes known to `redactor` what logs in to the proxies: the password, and user and password together.
    pub(crate) fn redact(&self, redactor: &Redactor) {
        // Those of `no_proxy` are mistakes, which a warning names.
        for name in [
            "http_proxy",
            "HTTP_PROXY",
            "https_proxy",
            "HTTPS_PROXY",
            "no_proxy",
            "NO_PROXY",
        ] {
            let Some(value) = self.get(name) else {
                continue;
            };
            redact_login(value, redactor);
        }
    }

    /// The proxies that `http_proxy`, `https_proxy` and `no_proxy` name. As with curl, the
    /// lower-case name wins over the upper-case one, which counts too. A proxy of the secret wins over
    /// both, and not over `no_proxy`.
    #[must_use]
    pub fn proxies(&self, secrets: &Secrets) -> Proxies {
        let either = |lower: &str, upper: &str| self.get(lower).or_else(|| self.get(upper));
        let except = either("no_proxy", "NO_PROXY");
        match secrets.text(secret::PROXY) {
            Some(proxy) => Proxies::one("the secret key proxy", proxy, except),
            None => Proxies::new(
                either("http_proxy", "HTTP_PROXY"),
                either("https_proxy", "HTTPS_PROXY"),
                except,
            ),
        }
    }
}

/// Makes known what logs in to the proxy of that URL.
pub(crate) fn redact_login(proxy: &str, redactor: &Redactor) {
    let authority = proxy.split_once("://").map_or(proxy, |(_, rest)| rest);
    if let Some((login, _)) = authority.rsplit_once('@') {
        redactor.add_secret(login);
        if let Some((_, password)) = login.split_once(':') {
            redactor.add_secret(password);
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), Zeroizing::new(value.into())))
                .collect(),
        )
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_counts_as_absent() {
        let environment = Environment::from_iter([("a", "1"), ("b", "")]);
        assert_eq!(environment.get("a"), Some("1"));
        assert_eq!(environment.get("b"), None);
        assert_eq!(environment.get("c"), None);
    }

    #[test]
    fn the_login_of_a_proxy_is_masked() {
        let environment = Environment::from_iter([
            ("https_proxy", "http://joe:p%40ss@proxy:3128/"),
            ("HTTP_PROXY", "ann:hunter2@other"),
        ]);
        let redactor = Redactor::new();
        environment.redact(&redactor);
        for text in ["p%40ss", "joe:p%40ss", "hunter2", "YW5uOmh1bnRlcjI="] {
            let masked = redactor.apply(text);
            assert!(masked.starts_with("***"), "{text}: {masked}");
        }
        assert_eq!(redactor.apply("proxy:3128"), "proxy:3128");
    }

    #[test]
    fn a_proxy_of_the_secret_wins_over_the_variables() {
        let environment = Environment::from_iter([
            ("https_proxy", "http://variable:1"),
            ("no_proxy", "near.example.org"),
            ("proxy", "http://joe:hunter2@secret:2"),
        ]);
        let secrets = Secrets::load(None, &environment).unwrap();
        let proxies = environment.proxies(&secrets);
        let chosen = |proxies: &Proxies, url: &str| {
            let found = proxies.for_url(&url.parse().unwrap());
            found.map(|proxy| proxy.map(|proxy| format!("{proxy:?}")))
        };
        for url in ["https://far.example.org", "http://far.example.org"] {
            let shown = chosen(&proxies, url).unwrap().unwrap();
            assert!(
                shown.contains("secret:2") && !shown.contains("hunter2"),
                "{shown}"
            );
        }
        assert_eq!(chosen(&proxies, "https://near.example.org").unwrap(), None);
        let without = environment.proxies(&Secrets::default());
        let shown = chosen(&without, "https://far.example.org")
            .unwrap()
            .unwrap();
        assert!(shown.contains("variable:1"), "{shown}");
        let wrong = Environment::from_iter([("proxy", "socks5://joe:hunter2@secret:2")]);
        let secrets = Secrets::load(None, &wrong).unwrap();
        let error = chosen(&wrong.proxies(&secrets), "https://far.example.org").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("the secret key proxy") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn debug_shows_no_value() {
        let environment = Environment::from_iter([("password", "hunter2")]);
        let text = format!("{environment:?}");
        assert!(
            text.contains("password") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
