//! Small services for fault tests: right enough for a mover to work with, and scripted underneath
//! ([`crate::Server::fault`]). They prove nothing about the real services.

pub mod engine;
pub mod glance;

pub use engine::Engine;
pub use glance::Glance;

use std::fmt::Write as _;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
