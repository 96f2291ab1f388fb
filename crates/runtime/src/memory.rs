//! Facts about the process's memory.

/// Size of a page, in bytes.
#[must_use]
pub fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}
