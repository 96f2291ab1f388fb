//! The controller: populates claims from oVirt disks and OpenStack images.
//!
//! Data flows one way. [`observe`] watches the cluster and assembles the world of one claim from
//! plain values. The crate `population` decides the next step from it. [`apply`] takes the step and
//! reports it in events. [`reconcile`] is the loop around these three. [`status`] is a second loop:
//! it writes the status of populator resources.

#![allow(
    missing_debug_implementations,
    reason = "`kube::Client` has none, and this is the library of one program"
)]

pub mod apply;
pub mod cli;
pub mod client;
pub mod election;
mod klog;
pub mod namespaces;
pub mod observe;
pub mod pace;
pub mod permissions;
pub mod progress;
pub mod reconcile;
pub mod run;
pub mod status;
pub mod telemetry;
