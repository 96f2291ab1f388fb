//! Errors of the conversation with the engine.

use std::{error, fmt};

/// What went wrong. The kind decides what the session does; text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The run was asked to stop.
    Cancelled,
    /// The address of the engine, or a name it is reached by, cannot be used.
    Configuration,
    /// The engine could not be reached or is starting, and the request changed nothing.
    Unreachable,
    /// The request may have been carried out, but its answer did not arrive.
    AnswerLost,
    /// The engine refuses for now: the disk is locked, or something else works on it.
    Busy,
    /// The engine refuses the user or the password.
    Credentials,
    /// The user may not do this.
    Permission,
    /// The object does not exist.
    Missing,
    /// The object is there, but the engine will not give it as it is.
    Unusable,
    /// The transfer ended without us; a new one could be made.
    Lost,
    /// The engine answered outside its protocol.
    Protocol,
    /// The engine's certificate is not trusted.
    Tls,
}

/// An error: its kind, what was being done with the engine's own words, and the cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    context: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a deeper cause. `context` must be free of secrets.
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
