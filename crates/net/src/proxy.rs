//! Which way to go: the proxy for a URL.

use url::Url;

use crate::Error;

/// Proxy rules, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` state them.
///
/// `NO_PROXY` is a list of host names (a leading dot is optional, sub-domains match), addresses,
/// CIDR blocks or `*`. `Debug` does not show the proxies' credentials.
#[derive(Clone, Default)]
pub struct Proxies {
    // private
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

impl Proxies {
    /// Rules from the values of the three variables; `None` and empty mean absent. The caller reads
    /// the environment.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] when a proxy is not a URL; the text names the variable.
    pub fn new(
        _http: Option<&str>,
        _https: Option<&str>,
        _no_proxy: Option<&str>,
    ) -> Result<Self, Error> {
        todo!()
    }

    /// No proxy for anything.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The proxy for `url`, if one applies.
    #[must_use]
    pub fn for_url(&self, _url: &Url) -> Option<Url> {
        todo!()
    }
}
