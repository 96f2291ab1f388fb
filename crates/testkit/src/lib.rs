//! What tests need and products do not: certificates, servers that misbehave on command, disk
//! images, block devices, guarded processes, and a fixture with scenarios for both movers.
//!
//! Nothing here sleeps. A test waits for events ([`Server::wait_for`], [`Gate`]) with a deadline
//! that is generous and that fails with the log of what did happen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "tests fail by panicking, and builders are used where they are made"
)]

pub mod fake;
mod gate;
pub mod image;
pub mod loopdev;
pub mod mover;
pub mod pki;
pub mod plain;
pub mod process;
pub mod proxy;
pub mod qemu;
pub mod server;
pub mod tables;
pub mod timers;
pub mod volume;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use gate::Gate;
pub use image::Disk;
pub use loopdev::LoopDevice;
pub use process::{Command, Finished, Running};
pub use proxy::Proxy;
pub use qemu::Qemu;
pub use server::{
    Body, ConnectionFault, Cut, Event, Fault, Object, Reply, Request, Server, ServerBuilder, When,
};
pub use volume::Volume;

/// How long a test waits for an event before it fails. Generous: it passes only when something
/// hangs.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Locks although another thread panicked: what matters then is its panic, not the poison.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
