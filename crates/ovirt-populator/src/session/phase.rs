//! What to do in which phase of an image transfer. Pure, so that every decision is a row of a test.

use crate::engine::Phase;

/// After the transfer was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Data can be read.
    Ready,
    /// The engine still prepares it.
    Wait,
    /// It ended before a byte was read.
    Lost,
}

/// What to do with a transfer that was asked for.
#[must_use]
pub const fn opening(phase: &Phase) -> Opening {
    match phase {
        Phase::Transferring => Opening::Ready,
        Phase::Unknown | Phase::Initializing | Phase::Resuming | Phase::Other(_) => Opening::Wait,
        Phase::PausedSystem
        | Phase::PausedUser
        | Phase::CancelledSystem
        | Phase::CancelledUser
        | Phase::FinalizingSuccess
        | Phase::FinalizingFailure
        | Phase::FinalizingCleanup
        | Phase::FinishedSuccess
        | Phase::FinishedFailure
        | Phase::FinishedCleanup => Opening::Lost,
    }
}

/// Whether reading may go on in this phase.
///
/// The engine finalizes a download by itself once every byte has been read and nothing happens for
/// two of its polls, which is no reason to stop writing and syncing what was read.
#[must_use]
pub const fn is_alive(phase: &Phase) -> bool {
    match phase {
        Phase::Unknown
        | Phase::Initializing
        | Phase::Transferring
        | Phase::Resuming
        | Phase::FinalizingSuccess
        | Phase::FinishedSuccess
        | Phase::Other(_) => true,
        Phase::PausedSystem
        | Phase::PausedUser
        | Phase::CancelledSystem
        | Phase::CancelledUser
        | Phase::FinalizingFailure
        | Phase::FinalizingCleanup
        | Phase::FinishedFailure
        | Phase::FinishedCleanup => false,
    }
}

/// After every byte is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Ask the engine to finalize.
    Finalize,
    /// It finalizes already, at our request or on its own.
    Wait,
    /// The transfer is finished.
    Done,
    /// It ended in another way while the last bytes were in flight.
    Lost,
}

/// What to do with a transfer whose data has been copied.
///
/// A transfer that was paused or cancelled is not finalized: the engine would take it for a
/// success.
#[must_use]
pub const fn closing(phase: &Phase) -> Closing {
    match phase {
        Phase::Unknown
        | Phase::Initializing
        | Phase::Transferring
        | Phase::Resuming
        | Phase::Other(_) => Closing::Finalize,
        Phase::FinalizingSuccess => Closing::Wait,
        Phase::FinishedSuccess => Closing::Done,
        Phase::PausedSystem
        | Phase::PausedUser
        | Phase::CancelledSystem
        | Phase::CancelledUser
        | Phase::FinalizingFailure
        | Phase::FinalizingCleanup
        | Phase::FinishedFailure
        | Phase::FinishedCleanup => Closing::Lost,
    }
}

/// After a failure, or when the run is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Ask the engine to cancel.
    Cancel,
    /// It ends without us. A cancellation now would turn a success into a failure.
    Nothing,
}

/// What to do with a transfer that is given up.
///
/// One that is `transferring` is cancelled, not finalized: both unlock the disk, and only the
/// cancellation says in the engine's log what happened.
#[must_use]
pub const fn ending(phase: &Phase) -> Ending {
    match phase {
        Phase::Unknown
        | Phase::Initializing
        | Phase::Transferring
        | Phase::Resuming
        | Phase::PausedSystem
        | Phase::PausedUser
        | Phase::Other(_) => Ending::Cancel,
        Phase::CancelledSystem
        | Phase::CancelledUser
        | Phase::FinalizingSuccess
        | Phase::FinalizingFailure
        | Phase::FinalizingCleanup
        | Phase::FinishedSuccess
        | Phase::FinishedFailure
        | Phase::FinishedCleanup => Ending::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_decisions() {
        use Closing::{Done, Finalize};
        use Ending::{Cancel, Nothing};
        use Opening::{Lost, Ready, Wait};
        for (phase, open, alive, close, end) in [
            (Phase::Unknown, Wait, true, Finalize, Cancel),
            (Phase::Initializing, Wait, true, Finalize, Cancel),
            (Phase::Transferring, Ready, true, Finalize, Cancel),
            (Phase::Resuming, Wait, true, Finalize, Cancel),
            (Phase::PausedSystem, Lost, false, Closing::Lost, Cancel),
            (Phase::PausedUser, Lost, false, Closing::Lost, Cancel),
            (Phase::CancelledSystem, Lost, false, Closing::Lost, Nothing),
            (Phase::CancelledUser, Lost, false, Closing::Lost, Nothing),
            (Phase::FinalizingSuccess, Lost, true, Closing::Wait, Nothing),
            (
                Phase::FinalizingFailure,
                Lost,
                false,
                Closing::Lost,
                Nothing,
            ),
            (
                Phase::FinalizingCleanup,
                Lost,
                false,
                Closing::Lost,
                Nothing,
            ),
            (Phase::FinishedSuccess, Lost, true, Done, Nothing),
            (Phase::FinishedFailure, Lost, false, Closing::Lost, Nothing),
            (Phase::FinishedCleanup, Lost, false, Closing::Lost, Nothing),
            (Phase::Other("new".into()), Wait, true, Finalize, Cancel),
        ] {
            assert_eq!(opening(&phase), open, "{phase}");
            assert_eq!(is_alive(&phase), alive, "{phase}");
            assert_eq!(closing(&phase), close, "{phase}");
            assert_eq!(ending(&phase), end, "{phase}");
        }
    }
}
