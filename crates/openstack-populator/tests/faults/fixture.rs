//! The binary, an image behind TLS, and what must hold after every run.

use std::{fs, path::PathBuf};

use contract::{Exit, Termination};
use tempfile::TempDir;
use testkit::{
    Command, Disk, Finished, Request,
    fake::{Glance, glance},
    pki::{Authority, LOCAL},
};

/// An image of several requests and an odd size, served over TLS, and a place for the copy.
pub(crate) struct Fixture {
    pub(crate) authority: Authority,
    pub(crate) disk: Disk,
    pub(crate) glance: Glance,
    folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(Disk::random(7, (5 << 20) + 777))
    }

    pub(crate) fn with(disk: Disk) -> Self {
        let authority = Authority::new("authority");
        let config = authority.server(LOCAL).server_config();
        Self {
            glance: Glance::start(&disk, Some(config)),
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

    pub(crate) fn command_to(&self, target: &std::path::Path) -> Command {
        self.command_with(&self.glance.identity_url(), target)
    }

    pub(crate) fn command_with(&self, endpoint: &str, target: &std::path::Path) -> Command {
        let command = Command::new(env!("CARGO_BIN_EXE_openstack-populator"))
            .flag("endpoint", endpoint)
            .flag("image-id", glance::IMAGE)
            .flag("volume-path", target)
            .flag("termination-log", self.folder.path().join("termination"))
            .env("cacert", self.authority.pem())
            .arg("-vv");
        let secret = self.glance.secret().into_iter();
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

    #[track_caller]
    pub(crate) fn has_copied(&self, run: &Finished) -> Termination {
        let termination = self.ended(run, Exit::Success);
        self.disk.assert_on(&self.target());
        assert_eq!(termination.copied_bytes, self.disk.size());
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

    /// Exit code and termination message agree, and nothing secret was told.
    #[track_caller]
    pub(crate) fn ended(&self, run: &Finished, exit: Exit) -> Termination {
        let output = run.output();
        assert_eq!(run.code(), Some(exit.code().into()), "{output}");
        let text = fs::read_to_string(self.folder.path().join("termination")).unwrap();
        for secret in [glance::PASSWORD, glance::TOKEN_PREFIX] {
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
        termination
    }

    /// First and last byte of every request for data from `after` on.
    pub(crate) fn ranges(&self, after: usize) -> Vec<(u64, u64)> {
        let requests = self.glance.data_requests();
        let range = |request: &Request| {
            let (first, last) = request.range().unwrap();
            (first, last.unwrap())
        };
        requests[after..].iter().map(range).collect()
    }
}
