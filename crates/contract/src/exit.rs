//! Exit codes of the movers: one per kind of failure.

use serde::{Deserialize, Serialize};

/// How a mover ended. The discriminant is the process's exit code.
///
/// Numbers are part of the contract: they never change their meaning, and new ones are added at the
/// end of their group. 1 and 2 are what a panic and the argument parser give; 128 and above are
/// signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Exit {
    /// Every byte is in place, verified as asked, and on stable storage.
    Success = 0,
    /// A fault of the program itself.
    Internal = 1,
    /// Unknown or malformed arguments.
    Usage = 2,

    /// A secret or a setting is missing or malformed.
    Configuration = 10,
    /// The source refuses the credentials.
    Credentials = 11,
    /// The credentials are good, but do not permit this disk or image.
    Permission = 12,
    /// The disk or the image does not exist.
    SourceMissing = 13,
    /// The disk or the image is there, but cannot be copied as it is (its state or its format).
    SourceUnusable = 14,
    /// The source answered outside its protocol, or changed while it was read.
    SourceProtocol = 15,
    /// The bytes arrived, but their hash is not the one that the source states.
    HashMismatch = 16,
    /// The certificate of the source is not trusted, or there can be no TLS connection with it.
    Tls = 17,

    /// The target is smaller than the source.
    TargetTooSmall = 20,
    /// The target may not be opened or written.
    TargetDenied = 21,
    /// The target's file system is full.
    TargetFull = 22,
    /// Writing, zeroing, syncing or closing the target failed.
    TargetIo = 23,
    /// The target file exists and `--force` was not given.
    TargetExists = 24,

    /// The source could not be reached, or made no progress, within the budget.
    SourceUnavailable = 30,
    /// The disk stayed locked, or the engine busy, for longer than the wait allows.
    SourceBusy = 31,

    /// Ended by SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

/// Whether a new attempt can end differently although nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// A new attempt may succeed.
    Useful,
    /// A new attempt ends in the same way until a user changes something.
    Pointless,
}

impl Exit {
    /// Every way to end, in order of its code.
    pub const ALL: [Self; 20] = [
        Self::Success,
        Self::Internal,
        Self::Usage,
        Self::Configuration,
        Self::Credentials,
        Self::Permission,
        Self::SourceMissing,
        Self::SourceUnusable,
        Self::SourceProtocol,
        Self::HashMismatch,
        Self::Tls,
        Self::TargetTooSmall,
        Self::TargetDenied,
        Self::TargetFull,
        Self::TargetIo,
        Self::TargetExists,
        Self::SourceUnavailable,
        Self::SourceBusy,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The way to end that has this code, if there is one.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }

    /// Whether a new attempt, unchanged, can end differently.
    ///
    /// [`Exit::Internal`] counts as useful once more: a panic may depend on timing, and the
    /// controller bounds the number of attempts.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::Internal
            | Self::SourceUnavailable
            | Self::SourceBusy
            | Self::Interrupted
            | Self::Terminated => Retry::Useful,
            Self::Success
            | Self::Usage
            | Self::Configuration
            | Self::Credentials
            | Self::Permission
            | Self::SourceMissing
            | Self::SourceUnusable
            | Self::SourceProtocol
            | Self::HashMismatch
            | Self::Tls
            | Self::TargetTooSmall
            | Self::TargetDenied
            | Self::TargetFull
            | Self::TargetIo
            | Self::TargetExists => Retry::Pointless,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        assert!(
            Exit::ALL
                .windows(2)
                .all(|pair| pair[0].code() < pair[1].code())
        );
    }

    #[test]
    fn every_code_finds_its_exit() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code().into()), Some(exit));
        }
        assert_eq!(Exit::from_code(99), None);
    }

    #[test]
    fn signals_follow_the_shell() {
        assert_eq!(
            (Exit::Interrupted.code(), Exit::Terminated.code()),
            (128 + 2, 128 + 15)
        );
    }
}
