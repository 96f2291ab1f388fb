//! How a run fails.

use std::{error, fmt};

use contract::Exit;
use runtime::redact::sanitised;

/// A failure: the exit code it gives, and one line for people with the whole chain of causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with a message, which is [sanitised](runtime::redact::sanitised). The secrets of a run are
    /// masked where the message leaves the process.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: sanitised(&message.into()).into_owned(),
        }
    }

    /// A failure from an error and all its causes.
    #[must_use]
    pub fn from_error(exit: Exit, error: &dyn error::Error) -> Self {
        Self::new(exit, net::chain(error))
    }

    /// The same failure with what was being done put in front.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self::new(self.exit, format!("{doing}: {}", self.message))
    }

    /// The same failure with a further sentence, which begins in lower case.
    #[must_use]
    pub(crate) fn with_note(self, note: &str) -> Self {
        let message = self.message.trim_end_matches('.');
        Self::new(self.exit, format!("{message}; {note}"))
    }

    /// The same failure with another exit code.
    #[must_use]
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The exit code it gives.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The cause, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Failure {}

/// The exit code of a run that ends with an error of this kind.
///
/// A cancelled run ends by a signal; the shell puts the one that arrived in place of SIGTERM.
pub trait ExitOf: Copy + fmt::Debug + 'static {
    /// The exit code.
    fn exit(self) -> Exit;
}

impl<K: ExitOf> From<net::Error<K>> for Failure {
    fn from(error: net::Error<K>) -> Self {
        Self::from_error(error.kind().exit(), &error)
    }
}

impl ExitOf for transfer::Kind {
    fn exit(self) -> Exit {
        match self {
            Self::Cancelled => Exit::Terminated,
            Self::Network
            | Self::Stalled
            | Self::Busy
            | Self::Expired
            | Self::Exhausted
            | Self::Lost => Exit::SourceUnavailable,
            Self::Configuration => Exit::Configuration,
            Self::Credentials => Exit::Credentials,
            Self::Permission => Exit::Permission,
            Self::Missing => Exit::SourceMissing,
            Self::Unusable => Exit::SourceUnusable,
            Self::Protocol => Exit::SourceProtocol,
            Self::Tls => Exit::Tls,
            Self::Hash => Exit::HashMismatch,
            Self::TargetTooSmall => Exit::TargetTooSmall,
            Self::TargetDenied => Exit::TargetDenied,
            Self::TargetFull => Exit::TargetFull,
            Self::TargetIo => Exit::TargetIo,
            Self::TargetExists => Exit::TargetExists,
            Self::Internal => Exit::Internal,
        }
    }
}

impl ExitOf for net::Kind {
    fn exit(self) -> Exit {
        match self {
            Self::Settings => Exit::Configuration,
            Self::Resolve | Self::Connect | Self::Proxy | Self::Stalled | Self::Closed => {
                Exit::SourceUnavailable
            }
            Self::Certificate | Self::Tls => Exit::Tls,
            Self::Protocol | Self::TooLarge | Self::Redirect => Exit::SourceProtocol,
            Self::Cancelled => Exit::Terminated,
        }
    }
}

/// What a user can do about it, in one sentence.
pub(crate) const fn advice(exit: Exit) -> &'static str {
    match exit {
        Exit::Success => "",
        Exit::Internal => "This is a fault of the program; please report it with the log.",
        Exit::Usage => "Correct the arguments; --help lists them.",
        Exit::Configuration => "Correct the named setting or secret key.",
        Exit::Credentials => "Check user and password, or renew the credential, in the secret.",
        Exit::Permission => "Grant the user the right to read this disk or image.",
        Exit::SourceMissing => "Check the id; the disk or image may have been removed.",
        Exit::SourceUnusable => "Bring the disk or image into a state that can be copied.",
        Exit::SourceProtocol => {
            "Check what stands between here and the source (URL, proxy), and that nothing writes to it."
        }
        Exit::HashMismatch => {
            "The source's bytes or its stated hash are wrong; check the source before trying again."
        }
        Exit::Tls => {
            "Correct the server's certificate, the source's address or the secret's cacert, whichever is named."
        }
        Exit::TargetTooSmall => "Give a target of at least the source's size.",
        Exit::TargetDenied => "Make the target writable for the user that the process runs as.",
        Exit::TargetFull => "Make room on the target's file system.",
        Exit::TargetIo => "Check the target's storage; the kernel log of the node says more.",
        Exit::TargetExists => "Another path leaves it as it is.",
        Exit::SourceUnavailable => "Check that the source's hosts can be reached, then run again.",
        Exit::SourceBusy => {
            "Wait until the disk is unlocked (a back-up may be running), then run again."
        }
        Exit::Interrupted | Exit::Terminated => "Run again to start over.",
    }
}

#[cfg(test)]
mod tests {
    use contract::Retry;

    use super::*;

    #[test]
    fn engine_kinds() {
        use transfer::Kind;
        for (kind, exit) in [
            (Kind::Cancelled, Exit::Terminated),
            (Kind::Network, Exit::SourceUnavailable),
            (Kind::Stalled, Exit::SourceUnavailable),
            (Kind::Busy, Exit::SourceUnavailable),
            (Kind::Expired, Exit::SourceUnavailable),
            (Kind::Exhausted, Exit::SourceUnavailable),
            (Kind::Lost, Exit::SourceUnavailable),
            (Kind::Configuration, Exit::Configuration),
            (Kind::Credentials, Exit::Credentials),
            (Kind::Permission, Exit::Permission),
            (Kind::Missing, Exit::SourceMissing),
            (Kind::Unusable, Exit::SourceUnusable),
            (Kind::Protocol, Exit::SourceProtocol),
            (Kind::Tls, Exit::Tls),
            (Kind::Hash, Exit::HashMismatch),
            (Kind::TargetTooSmall, Exit::TargetTooSmall),
            (Kind::TargetDenied, Exit::TargetDenied),
            (Kind::TargetFull, Exit::TargetFull),
            (Kind::TargetIo, Exit::TargetIo),
            (Kind::TargetExists, Exit::TargetExists),
            (Kind::Internal, Exit::Internal),
        ] {
            let failure = Failure::from(transfer::Error::new(kind, "context"));
            assert_eq!(failure.exit(), exit, "{kind:?}");
            if kind.is_transient() {
                assert_eq!(exit.retry(), Retry::Useful, "{kind:?}");
            }
        }
    }

    #[test]
    fn network_kinds() {
        use net::Kind;
        for (kind, exit) in [
            (Kind::Settings, Exit::Configuration),
            (Kind::Resolve, Exit::SourceUnavailable),
            (Kind::Connect, Exit::SourceUnavailable),
            (Kind::Tls, Exit::Tls),
            (Kind::Proxy, Exit::SourceUnavailable),
            (Kind::Stalled, Exit::SourceUnavailable),
            (Kind::Closed, Exit::SourceUnavailable),
            (Kind::Certificate, Exit::Tls),
            (Kind::Protocol, Exit::SourceProtocol),
            (Kind::TooLarge, Exit::SourceProtocol),
            (Kind::Redirect, Exit::SourceProtocol),
            (Kind::Cancelled, Exit::Terminated),
        ] {
            let failure = Failure::from(net::Error::new(kind, "context"));
            assert_eq!(failure.exit(), exit, "{kind:?}");
            if kind.is_transient() {
                assert_eq!(exit.retry(), Retry::Useful, "{kind:?}");
            }
        }
    }

    #[test]
    fn the_whole_chain_is_told() {
        let root = std::io::Error::other("root\ncause");
        let middle = transfer::Error::with_source(transfer::Kind::Network, "middle", root);
        let error = transfer::Error::with_source(transfer::Kind::Exhausted, "outer", middle);
        assert_eq!(
            Failure::from(error).context("copying").message(),
            "copying: outer: middle: root cause"
        );
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let text = format!("a\u{1b}b\n{}", "€".repeat(5_000));
        let failure = Failure::new(Exit::Internal, text);
        assert!(failure.message().starts_with("a b €"), "{failure}");
        assert!(failure.message().ends_with(" [cut]"), "{failure}");
    }

    #[test]
    fn every_failure_has_an_advice() {
        for exit in Exit::ALL {
            assert_eq!(advice(exit).is_empty(), exit == Exit::Success, "{exit:?}");
            if exit != Exit::Success {
                testkit::plain::assert_plain(advice(exit));
                assert!(
                    advice(exit).ends_with('.'),
                    "one sentence: {}",
                    advice(exit)
                );
            }
        }
    }
}
