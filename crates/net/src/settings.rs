//! The one set of settings from which every client is made.

use std::time::Duration;

use http::HeaderValue;

use crate::{Egress, Error, Kind, Proxies, Trust};

/// How to reach servers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whom to trust.
    pub trust: Trust,
    /// Which way to go.
    pub proxies: Proxies,
    /// Where to go at all.
    pub egress: Egress,
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
    /// From the first byte of the head of an answer to its last, on the data path.
    pub head: Duration,
    /// How slow the body of an answer may come, on the data path.
    pub least_rate: LeastRate,
}

/// The slowest that bytes may come. Only the time counts in which they are waited for.
///
/// A server that gives a byte now and then is never without one for long; below this rate it counts as one
/// that gives none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastRate {
    /// This many bytes; 0 for no such limit.
    pub bytes: u64,
    /// In this time.
    pub period: Duration,
}

impl LeastRate {
    /// How many bytes a time needs to hold, at most [`Self::bytes`].
    #[must_use]
    pub fn bytes_in(&self, time: Duration) -> u64 {
        let (time, period) = (time.min(self.period).as_millis(), self.period.as_millis());
        let bytes = u128::from(self.bytes) * time / period.max(1);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl Default for LeastRate {
    /// 64 KiB in 5 minutes: a thousandth of the slowest link that a disk would be copied over.
    fn default() -> Self {
        Self {
            bytes: 64 << 10,
            period: Duration::from_mins(5),
        }
    }
}

impl Default for Timeouts {
    /// 20 s to connect, 30 s without a byte, 60 s for a head, and the default rate.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            head: Duration::from_mins(1),
            least_rate: LeastRate::default(),
        }
    }
}
