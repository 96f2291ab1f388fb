//! Errors of this crate: what goes wrong between the secret and the first byte.

use std::{error, fmt};

use contract::Exit;

/// What went wrong. The kind decides the exit code; text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A key of the secret, or an argument, is missing, malformed or contradicts another.
    Configuration,
    /// Keystone or Glance refuses the credentials.
    Credentials,
    /// The credentials are good, but do not permit this image.
    Permission,
    /// The image does not exist for these credentials.
    Missing,
    /// The image is there, but cannot be copied as it is.
    Unusable,
    /// A server answered outside its protocol.
    Protocol,
    /// A server's certificate is not trusted, or there can be no TLS with it.
    Tls,
    /// A server could not be reached, or failed, for as long as the patience lasted.
    Unavailable,
    /// Stopped from outside.
    Cancelled,
}

impl Kind {
    /// How the process ends.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::Configuration => Exit::Configuration,
            Self::Credentials => Exit::Credentials,
            Self::Permission => Exit::Permission,
            Self::Missing => Exit::SourceMissing,
            Self::Unusable => Exit::SourceUnusable,
            Self::Protocol => Exit::SourceProtocol,
            Self::Tls => Exit::Tls,
            Self::Unavailable => Exit::SourceUnavailable,
            Self::Cancelled => Exit::Terminated,
        }
    }

    /// The same in the engine's words, for errors that arise while it reads. What was configured
    /// gave a token before, so that a complaint about it now means that it gives none any more.
    #[must_use]
    pub const fn in_transfer(self) -> transfer::Kind {
        match self {
            Self::Configuration | Self::Credentials => transfer::Kind::Credentials,
            Self::Unusable => transfer::Kind::Unusable,
            Self::Permission => transfer::Kind::Permission,
            Self::Missing => transfer::Kind::Missing,
            Self::Protocol => transfer::Kind::Protocol,
            Self::Tls => transfer::Kind::Tls,
            Self::Unavailable => transfer::Kind::Network,
            Self::Cancelled => transfer::Kind::Cancelled,
        }
    }
}

/// An error: its kind, what was being done, and the cause. Its text is free of secrets, user names
/// and project ids.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    context: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a deeper cause.
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
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
            source: Some(source.into()),
        }
    }

    /// A failure of the network layer while doing `what`.
    pub(crate) fn network(what: impl Into<String>, error: net::Error) -> Self {
        let kind = match error.kind() {
            net::Kind::Settings => Kind::Configuration,
            net::Kind::Certificate | net::Kind::Tls => Kind::Tls,
            net::Kind::Protocol | net::Kind::TooLarge | net::Kind::Redirect => Kind::Protocol,
            net::Kind::Cancelled => Kind::Cancelled,
            net::Kind::Resolve
            | net::Kind::Connect
            | net::Kind::Proxy
            | net::Kind::Stalled
            | net::Kind::Closed => Kind::Unavailable,
        };
        Self::with_source(kind, what, error)
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole chain of causes in one line.
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
