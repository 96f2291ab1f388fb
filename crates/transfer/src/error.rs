//! Errors of the engine, its sources and its sinks.

/// What went wrong. The kind decides whether a range is retried, and which exit code a mover gives;
/// text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller's stop flag was pulled.
    Cancelled,

    /// Retried: the network or the server failed in a way that may pass.
    Network,
    /// Retried: no byte for the stall time.
    Stalled,
    /// Retried: the server is too busy (429, 503) or failed (5xx).
    Busy,
    /// Retried: the token was refused and has been renewed.
    Expired,

    /// The budget of tries or of time without progress is spent; the cause is the last error.
    Exhausted,
    /// This source can give nothing more (an image transfer that is gone), but a new one could be
    /// made for the same disk.
    Lost,
    /// A setting cannot be used: a proxy that wants other credentials, a system without certificate
    /// authorities.
    Configuration,
    /// The server refuses the credentials, and they cannot be renewed.
    Credentials,
    /// The server forbids this object.
    Permission,
    /// The object does not exist (any more).
    Missing,
    /// The object is there, but cannot be copied as it is.
    Unusable,
    /// The server broke its protocol: a wrong range, a wrong length, a wrong size.
    Protocol,
    /// The server's certificate is not trusted, or there can be no TLS with it.
    Tls,
    /// The digest of what was copied is not the one the source states.
    Hash,

    /// The target is smaller than the source.
    TargetTooSmall,
    /// The target may not be opened or written.
    TargetDenied,
    /// The target's file system is full.
    TargetFull,
    /// Writing, zeroing, syncing or closing the target failed.
    TargetIo,
    /// The target file exists and may not be overwritten.
    TargetExists,

    /// A fault of this program (a worker that panicked).
    Internal,
}

impl Kind {
    /// Whether the engine reads the missing part of the range again.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Network | Self::Stalled | Self::Busy | Self::Expired
        )
    }

    /// Whether the answer may be another server's than the source's: what a router or a maintenance
    /// page says while the source restarts, or a handshake that was damaged on its way. Of a source
    /// that has given bytes, such an answer is not believed at once.
    #[must_use]
    pub(crate) const fn is_doubtful(self) -> bool {
        matches!(
            self,
            Self::Missing | Self::Unusable | Self::Protocol | Self::Tls
        )
    }
}

impl net::FromNetwork for Kind {
    fn from_network(kind: net::Kind) -> Self {
        match kind {
            net::Kind::Cancelled => Self::Cancelled,
            net::Kind::Stalled => Self::Stalled,
            net::Kind::Resolve | net::Kind::Connect | net::Kind::Proxy | net::Kind::Closed => {
                Self::Network
            }
            net::Kind::Certificate | net::Kind::Tls => Self::Tls,
            net::Kind::Protocol | net::Kind::TooLarge | net::Kind::Redirect => Self::Protocol,
            net::Kind::Settings => Self::Configuration,
        }
    }
}

/// An error of the engine, its sources and its sinks: the kind, what was being done, and the cause.
pub type Error = net::Error<Kind>;
