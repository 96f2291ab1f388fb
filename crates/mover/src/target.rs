//! The target as a job holds it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use contract::Exit;
use transfer::{Sink, sink};

use crate::Failure;

/// An open target. [`crate::Context::copy`] writes it; [`Target::close`] is the last chance to hear
/// of an error, so a run that does not close has not succeeded.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    // The engine runs on another thread for as long as a copy lasts, hence the count; it is one
    // whenever no copy is under way, so that the sink can be taken out again to be closed.
    sink: Arc<Box<dyn Sink>>,
}

impl Target {
    /// Opens the block device or the file at `path`.
    pub(crate) fn open(path: &Path, overwrite: sink::Overwrite) -> Result<Self, Failure> {
        Ok(Self::new(path, sink::open(path, overwrite)?))
    }

    /// A target made of any sink; `path` is used in messages.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, sink: Box<dyn Sink>) -> Self {
        Self {
            path: path.into(),
            sink: Arc::new(sink),
        }
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it can hold; [`u64::MAX`] where only the file system sets a limit.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.sink.capacity()
    }

    /// How many bytes of data its file system still takes; `None` where no file system sets a limit.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        self.sink.room()
    }

    pub(crate) fn sink(&self) -> &dyn Sink {
        self.sink.as_ref().as_ref()
    }

    /// The sink, for a thread of its own.
    pub(crate) fn share(&self) -> Arc<Box<dyn Sink>> {
        Arc::clone(&self.sink)
    }

    /// Syncs and closes. Blocks; see [`crate::Context::close`].
    pub(crate) fn close_now(self) -> Result<(), Failure> {
        let sink = Arc::into_inner(self.sink).ok_or_else(|| {
            Failure::new(
                Exit::Internal,
                "the target is closed while a copy is under way",
            )
        })?;
        Ok(sink.close()?)
    }
}
