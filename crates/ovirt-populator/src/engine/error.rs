//! Errors of the conversation with the engine.

use contract::Exit;
use mover::ExitOf;

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

impl ExitOf for Kind {
    fn exit(self) -> Exit {
        match self {
            Self::Cancelled => Exit::Terminated,
            Self::Configuration => Exit::Configuration,
            Self::Unreachable | Self::AnswerLost | Self::Lost => Exit::SourceUnavailable,
            Self::Busy => Exit::SourceBusy,
            Self::Credentials => Exit::Credentials,
            Self::Permission => Exit::Permission,
            Self::Missing => Exit::SourceMissing,
            Self::Unusable => Exit::SourceUnusable,
            Self::Protocol => Exit::SourceProtocol,
            Self::Tls => Exit::Tls,
        }
    }
}

/// An error of the conversation with the engine: the kind, what was being done with the engine's own
/// words, and the cause.
pub type Error = net::Error<Kind>;
