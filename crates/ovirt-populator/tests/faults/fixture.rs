//! The binary, a disk behind TLS, and what must hold after every run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use contract::{Exit, Termination};
use tempfile::TempDir;
use testkit::{
    Command, Disk, Finished, LoopDevice, Request, When,
    fake::{
        Engine,
        engine::{self, IMAGES},
    },
    pki::{Authority, LOCAL},
};

const MIB: u64 = 1 << 20;

/// A disk with data, zeroes between, and an end that is no multiple of 4096, served over TLS, and a
/// place for the copy.
pub(crate) struct Fixture {
    pub(crate) authority: Authority,
    pub(crate) disk: Disk,
    pub(crate) engine: Engine,
    folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let size = 20 * MIB + 512;
        let data = [0..9 * MIB, 12 * MIB..size];
        Self::with(Disk::sparse(11, usize::try_from(size).unwrap(), &data))
    }

    pub(crate) fn with(disk: Disk) -> Self {
        let authority = Authority::new("authority");
        let config = authority.server(LOCAL).server_config();
        Self {
            engine: Engine::start(&disk, Some(&config)),
            authority,
            disk,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// The mover with everything it needs, and with one connection, so that requests come in order.
    pub(crate) fn command(&self) -> Command {
        self.command_to(&self.target()).flag("connections", "1")
    }

    pub(crate) fn command_to(&self, target: &Path) -> Command {
        let command = Command::new(env!("CARGO_BIN_EXE_ovirt-populator"))
            .flag("engine-url", self.engine.url())
            .flag("disk-id", engine::DISK)
            .flag("volume-path", target)
            .flag("termination-log", self.folder.path().join("termination"))
            .env("cacert", self.authority.pem())
            .arg("-vv");
        let secret = self.engine.secret().into_iter();
        secret.fold(command, |command, (key, value)| command.env(key, value))
    }

    /// Runs it; the bytes must be equal in the end.
    #[track_caller]
    pub(crate) fn copies(&self) -> Termination {
        self.copies_with(&self.command())
    }

    #[track_caller]
    pub(crate) fn copies_with(&self, command: &Command) -> Termination {
        self.has_copied(&command.run())
    }

    /// Equal bytes, and the transfer finalized.
    #[track_caller]
    pub(crate) fn has_copied(&self, run: &Finished) -> Termination {
        let termination = self.ended(run, Exit::Success);
        self.disk.assert_on(&self.target());
        assert!(self.asked_for("finalize"), "{}", run.output());
        termination
    }

    /// Runs it; it must fail in this way, within a message that holds the words.
    #[track_caller]
    pub(crate) fn fails(&self, exit: Exit, words: &[&str]) {
        self.fails_with(&self.command(), exit, words);
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, command: &Command, exit: Exit, words: &[&str]) {
        let run = command.run();
        let message = self.ended(&run, exit).message;
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message:?}");
        }
    }

    /// Exit code and termination message agree, nothing secret was told, and no transfer is left.
    #[track_caller]
    pub(crate) fn ended(&self, run: &Finished, exit: Exit) -> Termination {
        let output = run.output();
        assert_eq!(run.code(), Some(exit.code().into()), "{output}");
        let text = fs::read_to_string(self.folder.path().join("termination")).unwrap();
        for secret in [
            engine::PASSWORD,
            engine::TOKEN_PREFIX,
            engine::TICKET_PREFIX,
        ] {
            assert!(
                !text.contains(secret) && !output.contains(secret),
                "{text}\n{output}"
            );
        }
        let termination: Termination = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (termination.exit, termination.exit_code),
            (exit, exit.code())
        );
        assert_eq!(self.engine.transfers().1, 0, "a transfer is left: {output}");
        termination
    }

    /// Whether the engine was asked to end a transfer in this way.
    pub(crate) fn asked_for(&self, action: &str) -> bool {
        let requests = self.engine.api().requests();
        requests
            .iter()
            .any(|request| request.path().ends_with(action))
    }

    /// First and last byte of every request for data.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        let range = |request: &Request| {
            let (first, last) = request.range().unwrap();
            (first, last.unwrap())
        };
        self.engine.data_requests().iter().map(range).collect()
    }

    /// A device of the disk's size or a little more, full of `0xFF`.
    pub(crate) fn device(&self) -> LoopDevice {
        LoopDevice::new(self.disk.size().next_multiple_of(4096), 512)
    }
}

/// The request for data number `n`.
pub(crate) fn request(n: usize) -> When {
    When::path(IMAGES).with_range().skip(n)
}
