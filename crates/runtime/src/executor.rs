//! The executor, sized for a process whose heavy work runs on threads of its own.

use std::{io, time::Duration};

/// Threads that run tasks. With one, a task that blocks by mistake would stop signals and metrics.
const WORKERS: usize = 2;
/// Stack of each thread: memory that is touched counts, address space does not, and optimised code
/// stays far below this also in a TLS handshake.
const STACK: usize = 1 << 20;
/// Threads for blocking code. More than a run ever needs at once, few enough to notice a leak.
const BLOCKING: usize = 16;

/// An executor with timers, sockets and signals.
///
/// Ending it by dropping waits for blocking code; use
/// [`tokio::runtime::Runtime::shutdown_timeout`].
pub fn build() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("runtime")
        .enable_all()
        .build()
}
