//! The error type of all layers, and the kinds of the network layer.

use std::{error, fmt, io, time::Duration};

/// What went wrong. The kind decides whether the request is retried; text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting cannot be used (a CA bundle without a certificate, a malformed proxy URL).
    Settings,
    /// The host name cannot be resolved.
    Resolve,
    /// The connection was refused or could not be made in time.
    Connect,
    /// The peer's certificate is not trusted, or does not name the host.
    Certificate,
    /// There can be no TLS connection with this peer: it does not speak TLS, shares no version or
    /// cipher with us, or refuses us. A handshake that is merely cut is [`Kind::Closed`].
    Tls,
    /// The proxy refused the tunnel.
    Proxy,
    /// No byte arrived within the stall time.
    Stalled,
    /// The connection ended before the answer did (EOF, reset, TLS without a closing alert).
    Closed,
    /// The peer broke HTTP.
    Protocol,
    /// The answer is larger than the caller allows.
    TooLarge,
    /// A redirect, or another address from a server, that may not be followed.
    Redirect,
    /// The operation was cancelled from outside.
    Cancelled,
}

impl Kind {
    /// Whether the same request may succeed later without a change of settings.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            // A name may not resolve, and a handshake may be cut, while the peer restarts.
            Self::Resolve | Self::Connect | Self::Proxy | Self::Stalled | Self::Closed => true,
            Self::Settings
            | Self::Certificate
            | Self::Tls
            | Self::Protocol
            | Self::TooLarge
            | Self::Redirect
            | Self::Cancelled => false,
        }
    }
}

impl Kind {
    /// Errors of these kinds can happen after a request was sent; the others happen before.
    const fn may_follow_a_request(self) -> bool {
        match self {
            Self::Stalled
            | Self::Closed
            | Self::Protocol
            | Self::TooLarge
            | Self::Redirect
            | Self::Cancelled => true,
            Self::Settings
            | Self::Resolve
            | Self::Connect
            | Self::Certificate
            | Self::Tls
            | Self::Proxy => false,
        }
    }
}

/// An error: its kind, what was being done, and the cause. Each layer has its own `Kind`; those
/// above this one say `type Error = net::Error<Kind>`.
#[derive(Debug)]
pub struct Error<K = Kind> {
    kind: K,
    context: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
    /// Where it is known in spite of the kind.
    sent: Option<bool>,
    retry_after: Option<Duration>,
}

/// The kinds of a layer above that its errors get from errors of the network layer.
pub trait FromNetwork {
    /// The layer's own kind.
    fn from_network(kind: Kind) -> Self;
}

impl<K> Error<K> {
    /// An error without a deeper cause. `context` says what was being done and with whom; it must
    /// be free of secrets (the URL of an imageio ticket is one).
    pub fn new(kind: K, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
            sent: None,
            retry_after: None,
        }
    }

    /// An error with its cause.
    pub fn with_source(
        kind: K,
        context: impl Into<String>,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(kind, context)
        }
    }

    /// The same error with the delay that the server asks for (`Retry-After`).
    #[must_use]
    pub fn after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    /// How long the server asks to wait, if it asks.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl<K: Copy> Error<K> {
    /// What went wrong, for decisions.
    #[must_use]
    pub const fn kind(&self) -> K {
        self.kind
    }
}

impl<K: fmt::Debug> Error<K> {
    /// The whole chain of causes in one line, for logs and the termination message.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

impl Error {
    /// Whether the request may have reached the server, which then may have acted on it.
    ///
    /// False only where that is certain: no byte of the request had been sent. A request that
    /// changes something may be repeated after a false, never blindly after a true.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.sent
            .unwrap_or_else(|| self.kind.may_follow_a_request())
    }

    /// The same error, with a known answer for [`Self::was_sent`].
    pub(crate) const fn sent(mut self, sent: bool) -> Self {
        self.sent = Some(sent);
        self
    }
}

impl<K> fmt::Display for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl<K: fmt::Debug> error::Error for Error<K> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl<K: FromNetwork> From<Error> for Error<K> {
    fn from(error: Error) -> Self {
        Self {
            kind: K::from_network(error.kind),
            context: error.context,
            source: error.source,
            sent: error.sent,
            retry_after: error.retry_after,
        }
    }
}

/// An error and all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The error for a host name that the system's resolver does not know.
pub(crate) fn resolve_error(host: &str, error: &io::Error) -> Error {
    Error::new(
        Kind::Resolve,
        format!("{host}: the host name cannot be resolved: {error}"),
    )
}
