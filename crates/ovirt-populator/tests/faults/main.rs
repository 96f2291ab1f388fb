//! The built mover against an engine and a daemon that fail on command, over TLS. Every run ends in
//! equal bytes, or in the right error by its name; and no transfer is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod data;
mod egress;
mod engine;
mod fixture;
mod tls;

testkit::mover_scenarios!(fixture::start);
