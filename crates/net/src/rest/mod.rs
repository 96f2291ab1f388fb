//! The REST client of the control calls.

mod client;
mod message;
mod retry;

pub use client::Rest;
pub use message::{Answer, Repeat, Request};
pub use retry::retry_after;
