//! A built mover, a scripted source behind TLS, and what must hold after every run.

pub mod scenarios;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use contract::{Exit, Termination};
use tempfile::TempDir;

pub use source::Source;

use crate::{
    Command, Disk, Finished, Request,
    pki::{Authority, Identity, LOCAL},
    plain::assert_plain,
};

/// A disk that a source serves over TLS, and a place for the copy.
#[derive(Debug)]
pub struct Fixture<S> {
    program: &'static str,
    /// The authority of the source's certificate.
    pub authority: Authority,
    /// The disk that the source serves.
    pub disk: Disk,
    /// The source.
    pub source: S,
    folder: TempDir,
}

impl<S: Source> Fixture<S> {
    /// The mover `program` with the source's own disk.
    pub fn new(program: &'static str) -> Self {
        Self::with(program, S::disk())
    }

    /// The mover `program` with another disk.
    pub fn with(program: &'static str, disk: Disk) -> Self {
        let authority = Authority::new("authority");
        Self {
            program,
            source: S::start(&disk, authority.server(LOCAL).server_config()),
            authority,
            disk,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The same with another disk.
    pub fn with_disk(self, disk: Disk) -> Self {
        Self::with(self.program, disk)
    }

    /// The same, but the source's servers have another identity.
    pub fn with_identity(mut self, identity: &Identity) -> Self {
        self.source = S::start(&self.disk, identity.server_config());
        self
    }

    /// The file that receives the copy.
    pub fn target(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// A file with this text, which goes with the fixture.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The mover with everything it needs, and with one connection, so that requests come in order.
    pub fn command(&self) -> Command {
        self.command_to(&self.target()).flag("connections", "1")
    }

    /// The same to another target, with the default number of connections.
    pub fn command_to(&self, target: &Path) -> Command {
        self.source.configure(self.command_without_source(target))
    }

    /// The same without the arguments and the secret that name the source.
    pub fn command_without_source(&self, target: &Path) -> Command {
        Command::new(self.program)
            .flag("volume-path", target)
            .flag("termination-log", self.folder.path().join("termination"))
            .env("cacert", self.authority.pem())
            .arg("-vv")
    }

    /// Runs it; the bytes must be equal in the end.
    #[track_caller]
    pub fn copies(&self) -> Termination {
        self.copies_with(&self.command())
    }

    /// Runs `command`; the bytes must be equal in the end.
    #[track_caller]
    pub fn copies_with(&self, command: &Command) -> Termination {
        self.has_copied(&command.run())
    }

    /// The run has succeeded, the bytes are equal, and the source was left as after a success.
    #[track_caller]
    pub fn has_copied(&self, run: &Finished) -> Termination {
        let termination = self.ended(run, Exit::Success);
        self.disk.assert_on(&self.target());
        assert_eq!(termination.copied_bytes, self.disk.size());
        self.source.assert_copied(&run.output());
        termination
    }

    /// Runs it; it must fail in this way, within a message that holds the words.
    #[track_caller]
    pub fn fails(&self, exit: Exit, words: &[&str]) {
        self.fails_with(&self.command(), exit, words);
    }

    /// The same with another command.
    #[track_caller]
    pub fn fails_with(&self, command: &Command, exit: Exit, words: &[&str]) {
        let message = self.ended(&command.run(), exit).message;
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message:?}");
        }
    }

    /// Exit code and termination message agree, nothing secret was shown, and the source was released.
    #[track_caller]
    pub fn ended(&self, run: &Finished, exit: Exit) -> Termination {
        let output = run.output();
        assert_eq!(run.code(), Some(exit.code().into()), "{output}");
        let text = fs::read_to_string(self.folder.path().join("termination")).unwrap();
        for secret in S::SECRETS {
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
        if exit != Exit::Success {
            assert_plain(&termination.message);
        }
        self.source.assert_released(&output);
        termination
    }

    /// First and last byte of every request of the copy.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let range = |request: &Request| {
            let (first, last) = request.range().unwrap();
            (first, last.unwrap())
        };
        let requests = self.source.data_requests();
        requests[S::BEFORE..].iter().map(range).collect()
    }
}
