//! The process's memory: facts about it, and who may read it.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps the memory, which holds secrets, from others: no core is written, and no other process of the same
/// user may attach to this one or read its memory and environment (prctl(2), `PR_SET_DUMPABLE`).
///
/// # Errors
/// Those of the kernel; what could be set is.
pub fn protect() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = setrlimit(Resource::Core, none);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(limited?)
}

/// Size of a page, in bytes.
#[must_use]
pub fn page_size() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}
