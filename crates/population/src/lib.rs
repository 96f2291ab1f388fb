//! The decisions of the controller: what to do next about a claim, as functions from values to values.
//!
//! [`model`] has what the cluster shows, as plain values. [`plan()`] decides the next step of one claim from them, with
//! [`objects`] as they are to be, and says whether it needs a slot; [`slots`] admits or defers. [`status`] sums up for a
//! populator resource how its claims stand, with the [`progress`] that their pods report.
//!
//! Nothing here has a client, a clock or chance in it, and cargo holds that: the crate depends on none.

pub mod model;
pub mod objects;
pub mod plan;
pub mod progress;
pub mod settings;
pub mod slots;
pub mod status;

pub use plan::{Plan, plan};
pub use settings::Settings;
