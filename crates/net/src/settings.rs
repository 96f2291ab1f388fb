//! The one set of settings from which every client is made.

use std::time::Duration;

use http::HeaderValue;

use crate::{Error, Kind, Proxies, Trust};

/// How to reach servers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whom to trust.
    pub trust: Trust,
    /// Which way to go.
    pub proxies: Proxies,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Value of the `User-Agent` header, `name/version`.
    pub user_agent: String,
}

impl Settings {
    pub(crate) fn user_agent_header(&self) -> Result<HeaderValue, Error> {
        HeaderValue::from_str(&self.user_agent).map_err(|error| {
            let text = format!("the user agent {:?} is not a header value", self.user_agent);
            Error::with_source(Kind::Settings, text, error)
        })
    }
}

/// Time limits of the network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To resolve, connect and shake hands, all together.
    pub connect: Duration,
    /// Without a byte from the peer, in a read of the data path.
    pub stall: Duration,
}

impl Default for Timeouts {
    /// 20 s to connect, 30 s without a byte.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
        }
    }
}
