//! The session against an engine and a data path in memory, with a clock that moves by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod acquire;
mod copy;
mod fakes;
mod release;
mod stop;
