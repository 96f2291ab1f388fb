//! The controller: populates claims from oVirt disks and OpenStack images.
//!
//! Data flows one way. [`observe`] watches the cluster and puts the world of one claim together, as plain values. The crate
//! `population` decides the next step from them. [`apply`] does it, and reports it in events and in the status of populator
//! resources. [`reconcile`] is the loop around these three.

pub mod apply;
pub mod cli;
pub mod election;
pub mod observe;
pub mod permissions;
pub mod progress;
pub mod reconcile;
pub mod run;
pub mod status;
pub mod telemetry;
