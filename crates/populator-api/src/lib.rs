//! The custom resources that users write, and the Kubernetes names that others read.
//!
//! Nothing here talks to an API server. The names that Forklift relies on (temporary objects,
//! labels, annotations, event reasons, the form of `status.progress`) are defined in this crate and
//! nowhere else.

pub mod definitions;
pub mod names;
pub mod reason;
pub mod resources;
pub mod status;

pub use reason::{Reason, ReasonClass};
pub use resources::{
    OpenstackVolumePopulator, OpenstackVolumePopulatorSpec, OvirtVolumePopulator,
    OvirtVolumePopulatorSpec,
};
pub use status::{ClaimCount, ClaimStatus, ConditionType, PopulatorStatus};

/// API group of both kinds.
pub const GROUP: &str = "forklift.konveyor.io";
/// Version of both kinds.
pub const VERSION: &str = "v1beta1";
