//! Every decision of the plan as a row of a table: what the cluster shows, and what follows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::too_many_lines,
    reason = "a table has as many rows as there are cases"
)]

mod attempt;
mod begin;
mod deadline;
mod failure;
mod finish;
mod keep;
mod late_binding;
mod leftovers;
mod mover;
mod nodes;
mod placement;
mod rebind;
mod slots;
mod support;
mod way;
