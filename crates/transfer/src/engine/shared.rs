//! What the threads of one pass over the disk share.

use net::Cancel;

use super::{
    Controls, Options,
    activity::Activity,
    retry_budget::{RetryBudget, cancelled},
};
use crate::{Error, Sink, Source};

/// What a pass works on and with.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) sink: &'a dyn Sink,
    pub(super) options: &'a Options,
    pub(super) controls: &'a Controls,
    pub(super) activity: &'a Activity<'a>,
    /// Pulled from outside, and by the first failure.
    pub(super) stop: Cancel,
    /// Whether the sink read as zero when the pass began.
    pub(super) is_blank: bool,
    /// One reader from start to end, whose errors end the pass.
    pub(super) is_ordered: bool,
}

impl<'a> Shared<'a> {
    /// What a pass over `source` needs. Its stop flag is a child of the caller's.
    pub(super) fn new(
        source: &'a dyn Source,
        sink: &'a dyn Sink,
        options: &'a Options,
        controls: &'a Controls,
        activity: &'a Activity<'a>,
        is_ordered: bool,
    ) -> Self {
        Self {
            source,
            sink,
            options,
            controls,
            activity,
            stop: controls.cancel.child(),
            is_blank: sink.is_blank(),
            is_ordered,
        }
    }

    /// What a thread does before it touches the sink.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(cancelled());
        }
        Ok(())
    }

    /// A budget for the requests of one thread, whose number is the salt of its jitter.
    pub(super) fn retry_budget(&'a self, thread: u64) -> RetryBudget<'a> {
        RetryBudget::new(
            self.options.retry,
            self.controls,
            &self.stop,
            self.activity,
            thread,
        )
    }
}
