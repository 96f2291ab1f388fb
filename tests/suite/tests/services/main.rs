//! The built binaries on the real services. `make services` runs these.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cinder_copy;
mod cinder_ends;
mod credentials;
mod forklift;
mod openstack_auth;
mod openstack_copy;
mod openstack_errors;
mod ovirt_copy;
mod ovirt_faults;
mod ovirt_refusals;
mod ovirt_signals;
mod runner;
mod stand_in;
mod targets;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// The same as a length in memory.
const fn mib(count: usize) -> usize {
    count << 20
}
