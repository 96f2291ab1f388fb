//! What the fixture needs to know of a scripted source.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::{
    Command, Disk, Request, Server, When,
    fake::{Engine, Glance, engine, glance},
};

const MIB: u64 = 1 << 20;

/// A scripted source that a mover copies from.
pub trait Source {
    /// Texts that no output may hold.
    const SECRETS: &'static [&'static str];
    /// Path of the control server that takes the password.
    const LOGIN: &'static str;
    /// Path of the control server that describes the disk or the image.
    const RECORD: &'static str;
    /// Requests for data before the first one of the copy.
    const BEFORE: usize;
    /// Whether the source says where its zeroes are.
    const KNOWS_ZEROES: bool;

    /// A disk of an odd size. Where the source knows zeroes, several requests read it.
    fn disk() -> Disk;

    /// Starts it.
    fn start(disk: &Disk, tls: Arc<ServerConfig>) -> Self;

    /// Adds the source's arguments and the keys of its secret.
    fn configure(&self, command: Command) -> Command;

    /// The server of the control calls.
    fn control(&self) -> &Server;

    /// The server of the data, which may be the same.
    fn data(&self) -> &Server;

    /// The requests for data so far.
    fn data_requests(&self) -> Vec<Request>;

    /// The copy's request number `n`.
    fn request(n: usize) -> When;

    /// Fails unless the source was told of a success.
    fn assert_copied(&self, _output: &str) {}

    /// Fails if the mover left something open.
    fn assert_released(&self, _output: &str) {}
}

impl Source for Engine {
    const SECRETS: &'static [&'static str] = &[
        engine::PASSWORD,
        engine::TOKEN_PREFIX,
        engine::TICKET_PREFIX,
    ];
    const LOGIN: &'static str = engine::TOKEN;
    const RECORD: &'static str = "/ovirt-engine/api/disks";
    const BEFORE: usize = 0;
    const KNOWS_ZEROES: bool = true;

    /// Data, zeroes between, and an end that is no multiple of 4096.
    fn disk() -> Disk {
        let size = 20 * MIB + 512;
        let data = [
            0..5 * MIB,
            6 * MIB..9 * MIB,
            12 * MIB..16 * MIB,
            17 * MIB..size,
        ];
        Disk::sparse(11, usize::try_from(size).unwrap(), &data)
    }

    fn start(disk: &Disk, tls: Arc<ServerConfig>) -> Self {
        Self::start(disk, Some(&tls))
    }

    fn configure(&self, command: Command) -> Command {
        let command = command
            .flag("engine-url", self.url())
            .flag("disk-id", engine::DISK);
        let secret = self.secret().into_iter();
        secret.fold(command, |command, (key, value)| command.env(key, value))
    }

    fn control(&self) -> &Server {
        self.api()
    }

    fn data(&self) -> &Server {
        self.data()
    }

    fn data_requests(&self) -> Vec<Request> {
        self.data_requests()
    }

    fn request(n: usize) -> When {
        When::path(engine::IMAGES).with_range().skip(n)
    }

    fn assert_copied(&self, output: &str) {
        assert!(self.asked_for("finalize"), "{output}");
    }

    fn assert_released(&self, output: &str) {
        assert_eq!(self.transfers().1, 0, "a transfer is left: {output}");
    }
}

impl Source for Glance {
    const SECRETS: &'static [&'static str] = &[glance::PASSWORD, glance::TOKEN_PREFIX];
    const LOGIN: &'static str = glance::TOKENS;
    const RECORD: &'static str = glance::RECORD;
    const BEFORE: usize = 0;
    const KNOWS_ZEROES: bool = false;

    fn disk() -> Disk {
        Disk::random(7, (5 << 20) + 777)
    }

    fn start(disk: &Disk, tls: Arc<ServerConfig>) -> Self {
        Self::start(disk, Some(tls))
    }

    fn configure(&self, command: Command) -> Command {
        let command = command
            .flag("endpoint", self.identity_url())
            .flag("image-id", glance::IMAGE);
        let secret = self.secret().into_iter();
        secret.fold(command, |command, (key, value)| command.env(key, value))
    }

    fn control(&self) -> &Server {
        self.server()
    }

    fn data(&self) -> &Server {
        self.server()
    }

    fn data_requests(&self) -> Vec<Request> {
        self.data_requests()
    }

    fn request(n: usize) -> When {
        When::path(glance::FILE).skip(Self::BEFORE + n)
    }
}
