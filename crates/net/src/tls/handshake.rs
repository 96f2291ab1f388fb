//! When a handshake is tried again.

use crate::{Error, Kind};

/// Tries of one handshake.
const TRIES: u32 = 3;

/// The tries of a handshake so far. A bit that was flipped on its way makes a handshake fail like a
/// server that cannot be spoken to; only that one fails again.
#[derive(Debug, Default)]
pub(crate) struct HandshakeTries(u32);

impl HandshakeTries {
    /// Counts a failed try. Another one may follow at once, on a new connection.
    ///
    /// # Errors
    /// The error itself when it is not of the handshake, or the last try's.
    pub(crate) fn count(&mut self, error: Error) -> Result<(), Error> {
        self.0 += 1;
        let may_be_damage = matches!(error.kind(), Kind::Tls | Kind::Certificate);
        if self.0 >= TRIES || !may_be_damage {
            return Err(error);
        }
        tracing::debug!("trying the handshake again: {}", error.chain());
        Ok(())
    }
}
