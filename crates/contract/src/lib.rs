//! The seam between the controller and the movers.
//!
//! The controller starts a mover as a container and learns how it went from three things only: the
//! exit code, the termination message and the metrics. This crate names all three, and the flags
//! and environment variables on the way in, so that neither side spells them by hand. It holds no
//! logic beyond that and depends on nothing of ours.

pub mod args;
mod ca_bundle;
pub mod exit;
pub mod metrics;
pub mod termination;

pub use ca_bundle::MountedBundle;
pub use exit::{Exit, Retry};
pub use termination::Termination;
