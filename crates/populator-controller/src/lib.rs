//! The controller: populates claims from oVirt disks and OpenStack images.
//!
//! Data flows one way. [`observe`] watches the cluster and puts the world of one claim together, as plain values
//! ([`model`]). [`plan()`] decides the next step from them, and says whether it needs a slot; [`slots`] admits or defers. [`apply`] does what was decided, with [`objects`] as they are to be, and says so in events and
//! in the [`status`] of populator resources. [`reconcile`] is the loop around these three.
//!
//! What decides has no I/O, clock or chance in it, so that every decision is a row of a table of tests.

pub mod apply;
pub mod cli;
pub mod election;
pub mod model;
pub mod objects;
pub mod observe;
pub mod plan;
pub mod progress;
pub mod reconcile;
pub mod rights;
pub mod run;
pub mod settings;
pub mod slots;
pub mod status;
pub mod telemetry;

pub use plan::{Plan, plan};
pub use settings::Settings;
