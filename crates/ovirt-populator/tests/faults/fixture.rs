//! The mover of oVirt against a scripted engine and daemon.

use testkit::{
    When,
    fake::Engine,
    mover::{Fixture, Source},
};

pub(crate) fn start() -> Fixture<Engine> {
    Fixture::new(env!("CARGO_BIN_EXE_ovirt-populator"))
}

/// The request for data number `n`.
pub(crate) fn request(n: usize) -> When {
    Engine::request(n)
}
