//! The controller, so far without its hands: what the cluster shows, as plain values ([`model`]), what to
//! do about it ([`plan()`]), the objects that are made ([`objects`]), which claims may begin
//! ([`admission`]), what a pod's metrics say ([`metrics`]), and what is written into the populator resource
//! ([`status`]).
//!
//! Nothing in here does I/O, reads a clock, or depends on chance. What is decided follows from the
//! arguments alone, so that every decision is a row of a table of tests.

pub mod admission;
pub mod metrics;
pub mod model;
pub mod objects;
pub mod plan;
pub mod settings;
pub mod status;

pub use plan::{Plan, plan};
pub use settings::Settings;
