//! The one set of settings from which every client is made.

use std::time::Duration;

use crate::{Proxies, Trust};

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

/// Time limits of the network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To resolve, connect and shake hands with one address.
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
