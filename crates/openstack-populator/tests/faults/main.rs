//! The built mover against a cloud that fails on command, over TLS. Every run ends in equal bytes,
//! or in the right error by its name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cloud;
mod data;
mod egress;
mod fixture;
mod proxy;
mod tls;

testkit::mover_scenarios!(fixture::start);
