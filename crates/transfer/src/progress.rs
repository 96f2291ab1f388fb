//! What has happened so far: counters that cost nothing, read by whoever shows them.

/// What the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not started.
    Preparing,
    /// Reading, writing and zeroing.
    Copying,
    /// Waiting for the digest.
    Verifying,
    /// Waiting for stable storage.
    Syncing,
    /// Done.
    Done,
}

/// Counters of one copy, shared by its workers. Lives across attempts: what is shown never falls.
#[derive(Debug, Default)]
pub struct Progress {}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Size of the source in bytes, 0 while unknown.
    pub total: u64,
    /// Bytes of the source in place because they were read and written.
    pub data: u64,
    /// Bytes of the source in place because they are zeroes that needed no transfer.
    pub zero: u64,
    /// Body bytes received, repeats included.
    pub received: u64,
    /// Requests that were repeated.
    pub retries: u64,
    /// What the engine is doing.
    pub phase: Phase,
}

impl Progress {
    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }
}
