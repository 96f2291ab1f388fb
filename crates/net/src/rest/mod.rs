//! The REST client of the control calls.

mod client;
mod retry;

pub use client::{Answer, Request, Rest};
pub use retry::{Repeat, retry_after};
