//! Errors of the engine, its sources and its sinks.

use std::{error, fmt, time::Duration};

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
}

/// An error: its kind, what was being done, and the cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    context: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a deeper cause. `context` must be free of secrets (an imageio ticket is
    /// one).
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            retry_after: None,
            source: None,
        }
    }

    /// An error with its cause.
    pub fn with_source(
        kind: Kind,
        context: impl Into<String>,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            context: context.into(),
            retry_after: None,
            source: Some(source.into()),
        }
    }

    /// The same error with the delay that the server asks for (`Retry-After`).
    #[must_use]
    pub fn after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    /// What went wrong, for decisions.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// How long the server asks to wait, if it asks.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The whole chain of causes in one line, for logs and the termination message.
    #[must_use]
    pub fn chain(&self) -> String {
        net::chain(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<net::Error> for Error {
    /// The network layer's kinds in the engine's words.
    fn from(error: net::Error) -> Self {
        let kind = match error.kind() {
            net::Kind::Cancelled => Kind::Cancelled,
            net::Kind::Stalled => Kind::Stalled,
            net::Kind::Resolve | net::Kind::Connect | net::Kind::Proxy | net::Kind::Closed => {
                Kind::Network
            }
            net::Kind::Certificate | net::Kind::Tls => Kind::Tls,
            net::Kind::Protocol | net::Kind::TooLarge | net::Kind::Redirect => Kind::Protocol,
            net::Kind::Settings => Kind::Configuration,
        };
        let context = error.to_string();
        match error::Error::source(&error).map(ToString::to_string) {
            Some(cause) => Self::with_source(kind, context, cause),
            None => Self::new(kind, context),
        }
    }
}
