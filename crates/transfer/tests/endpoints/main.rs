//! The real sinks on real devices and file systems, and the network sources against scripted
//! servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod block;
mod checksum;
#[path = "../support/mod.rs"]
mod clocks;
#[path = "../contract/mod.rs"]
mod contract;
mod contracts;
mod file;
mod first;
mod http;
mod imageio;
mod redirects;
mod support;
mod target;
