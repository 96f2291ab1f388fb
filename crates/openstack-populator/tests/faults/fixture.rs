//! The mover of OpenStack against a scripted Keystone and Glance.

use testkit::{
    Disk, When,
    fake::Glance,
    mover::{Fixture, Source},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_openstack-populator");

pub(crate) fn start() -> Fixture<Glance> {
    Fixture::new(PROGRAM)
}

pub(crate) fn start_with(disk: Disk) -> Fixture<Glance> {
    Fixture::with(PROGRAM, disk)
}

/// The copy's request number `n`.
pub(crate) fn request(n: usize) -> When {
    Glance::request(n)
}
