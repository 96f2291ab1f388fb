//! A sign of life for the server while nothing is read from it.

use std::{thread, time::Duration};

use tracing::{debug, error};

use super::{Controls, activity::Activity};
use crate::{Error, Kind, Source};

/// Shortest interval of the signs of life.
const SHORTEST: Duration = Duration::from_secs(1);

/// Runs `work`, and meanwhile calls [`Source::keep_alive`] whenever no byte has arrived for `idle`.
///
/// The thread ends as soon as `work` does, even in the middle of a call. Its own failures change
/// nothing: a server that is gone is found by the next read.
pub(super) fn during<T>(
    source: &dyn Source,
    idle: Duration,
    controls: &Controls,
    activity: &Activity<'_>,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let idle = idle.max(SHORTEST);
    let over = controls.cancel.child();
    thread::scope(|scope| {
        let keep = || {
            let clock = &*controls.clock;
            let mut spoken = activity.last();
            loop {
                spoken = spoken.max(activity.last());
                let silence = clock.now().saturating_sub(spoken);
                if let Some(left) = idle.checked_sub(silence).filter(|left| !left.is_zero()) {
                    if clock.wait(left, &over) {
                        return;
                    }
                    continue;
                }
                if let Err(error) = source.keep_alive(&over) {
                    debug!("the source did not take a sign of life: {}", error.chain());
                }
                spoken = clock.now();
            }
        };
        let thread = match thread::Builder::new()
            .name("keep-alive".to_owned())
            .spawn_scoped(scope, keep)
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
