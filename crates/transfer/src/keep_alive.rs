//! A sign of life for the server while nothing is read from it.

use std::{thread, time::Duration};

use net::{Cancel, Clock};
use tracing::{debug, error};

use crate::{Error, Kind};

/// Shortest interval of the signs of life.
const SHORTEST: Duration = Duration::from_secs(1);

/// When a server has to be told that its client is alive, and how.
pub(crate) struct KeepAlive<'a> {
    /// Longest time without a word to the server.
    pub(crate) idle: Duration,
    /// The clock of the waits.
    pub(crate) clock: &'a dyn Clock,
    /// Ends a sign that is under way.
    pub(crate) cancel: &'a Cancel,
    /// When the server last heard of its client otherwise, on the clock.
    pub(crate) last: &'a (dyn Fn() -> Duration + Sync),
    /// Gives the sign; ends soon after the flag is pulled.
    pub(crate) sign: &'a (dyn Fn(&Cancel) -> Result<(), Error> + Sync),
}

impl KeepAlive<'_> {
    /// Runs `work`, and meanwhile gives a sign whenever the server has heard nothing for the time.
    ///
    /// The thread ends as soon as `work` does, even in the middle of a sign. Its own failures
    /// change nothing: a server that is gone is found by the next read.
    pub(crate) fn during<T>(self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let over = self.cancel.child();
        // Before the thread has started: what it is late with counts.
        let since = (self.last)();
        thread::scope(|scope| {
            let thread = match thread::Builder::new()
                .name("keep-alive".to_owned())
                .spawn_scoped(scope, || self.run(since, &over))
            {
                Ok(thread) => thread,
                Err(cause) => {
                    let text = "cannot start the thread \"keep-alive\"";
                    return Err(Error::with_source(Kind::Internal, text, cause));
                }
            };
            let result = work();
            over.cancel();
            if thread.join().is_err() {
                error!("the thread that keeps the source alive panicked");
            }
            result
        })
    }

    fn run(&self, since: Duration, over: &Cancel) {
        let idle = self.idle.max(SHORTEST);
        let mut spoken = since;
        loop {
            spoken = spoken.max((self.last)());
            let silence = self.clock.now().saturating_sub(spoken);
            if let Some(left) = idle.checked_sub(silence).filter(|left| !left.is_zero()) {
                if self.clock.wait(left, over) {
                    return;
                }
                continue;
            }
            // The server may have heard the sign long before its answer is here.
            spoken = self.clock.now();
            if let Err(error) = (self.sign)(over) {
                debug!("the source did not take a sign of life: {}", error.chain());
            }
        }
    }
}
