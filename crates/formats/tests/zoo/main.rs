//! Images that QEMU has made, read by this crate and compared with what QEMU reads from them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod failing;
mod hostile;
mod large;
mod qcow2;
mod read;
mod stream;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;
mod wrapped;
