//! `plan` and the slots against a model of a cluster: docs/reliability.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a search reports how far it came"
)]

mod api;
mod bounds;
mod check;
mod disturb;
mod faults;
mod kubelet;
mod kubernetes;
mod planner;
mod renumber;
mod replica;
mod search;
mod seeded;
mod state;
mod step;
mod translate;
