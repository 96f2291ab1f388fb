//! What is written, in which form, and what the API server's answers mean.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/api.rs"]
mod api;
mod events;
mod status;
mod writer;

fn telemetry() -> populator_controller::telemetry::Telemetry {
    populator_controller::telemetry::Telemetry::new("test").0
}
