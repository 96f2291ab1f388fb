//! Tests of the whole on a real cluster: a user applies a secret, a populator resource and a claim, and reads
//! the disk's bytes from the volume. The controller is deployed from `manifests/` and runs as a pod, and so do
//! the movers; imageio, Keystone and Glance are real and answer on the node's address.
//!
//! Everything here needs `tests/cluster/cluster run` around it; `make e2e` does that.
//!
//! [`Cluster`] is the API server, [`TestNamespace`] a namespace with all that one test makes, [`Claim`] and [`Source`] are
//! what a user would write. Waiting has a bound, and shows on failure what a user would look at.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "tests fail by panicking, and builders are used where they are made"
)]

pub mod alone;
pub mod claim;
pub mod cluster;
pub mod consumer;
pub mod forklift;
pub mod processes;
pub mod resource;
pub mod source;
pub mod test_namespace;
pub mod trace;

pub use alone::Alone;
pub use claim::{Claim, Mode, NewClaim};
pub use cluster::{Cluster, cluster};
pub use forklift::Migration;
pub use resource::Resource;
pub use source::{Kind, Source};
pub use test_namespace::TestNamespace;

/// Bytes of so many MiB, as a length in memory.
pub const fn mib(count: usize) -> usize {
    count << 20
}
