//! The decisions of the controller: what to do next about a claim, as functions from values to
//! values.
//!
//! [`model`] has what the cluster shows, as plain values. [`plan()`] decides from them the next
//! step of one claim, with the [`objects`] to create, and which slot that step needs; [`slots`]
//! admits or defers it. [`status`] summarises for a populator resource the state of its claims,
//! with the [`progress`] that their pods report.
//!
//! Nothing here has a client, a clock or randomness in it. Cargo guarantees that: the crate depends
//! on none.

pub mod model;
pub mod objects;
pub mod plan;
pub mod progress;
pub mod settings;
pub mod slots;
pub mod status;
mod text;

pub use plan::{Plan, plan};
pub use settings::Settings;
