//! The built binary on a terminal: the question for a password, and the line that shows the progress.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
};

use contract::{Exit, args::secret};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use testkit::{
    Disk, Fault, Gate, When,
    fake::{
        Engine,
        engine::{DISK, PASSWORD},
    },
};

/// A terminal with a mover on it, which has no password.
struct Terminal {
    screen: File,
    /// Kept open, so that the terminal outlives the mover and what it has shown can be read.
    device: OwnedFd,
    shown: String,
    mover: Child,
}

impl Terminal {
    fn start(engine: &Engine, flags: &[&str]) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let device = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY;
            rustix::fs::open(&name, flags, Mode::empty()).unwrap()
        };
        let keys = engine.secret().into_iter();
        let mover = Command::new(env!("CARGO_BIN_EXE_ovirt-populator"))
            .env_clear()
            .envs(keys.filter(|(key, _)| *key != secret::PASSWORD))
            .arg(format!("--engine-url={}", engine.url()))
            .arg(format!("--disk-id={DISK}"))
            .args(flags)
            .stdin(Stdio::from(device()))
            .stdout(Stdio::null())
            .stderr(Stdio::from(device()))
            .spawn()
            .unwrap();
        Self {
            screen: File::from(screen),
            device: device(),
            shown: String::new(),
            mover,
        }
    }

    /// Reads until the screen has shown this.
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.shown.contains(text) {
            let count = self.screen.read(&mut bytes).unwrap();
            self.shown
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn types(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the mover's end.
    fn end(&mut self) -> ExitStatus {
        self.mover.wait().unwrap()
    }

    fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.device).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let disk = Disk::random(1, 1 << 20);
    let engine = Engine::start(&disk, None);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk.img");
    let path = format!("--volume-path={}", target.display());
    let mut terminal = Terminal::start(&engine, &[&path]);
    terminal.wait_for("Password for oVirt: ");
    assert!(!terminal.echoes());
    terminal.types(&format!("{PASSWORD}\n"));
    terminal.wait_for("copied ");
    assert!(terminal.end().success(), "{}", terminal.shown);
    assert!(terminal.echoes());
    assert!(!terminal.shown.contains(PASSWORD), "{}", terminal.shown);
    disk.assert_on(&target);
}

#[test]
fn ctrl_c_ends_the_question_and_leaves_the_terminal_as_it_was() {
    let engine = Engine::start(&Disk::random(1, 1 << 20), None);
    let mut terminal = Terminal::start(&engine, &["--volume-path=/nonexistent/disk.img"]);
    terminal.wait_for("Password for oVirt: ");
    terminal.types("half\u{3}");
    terminal.wait_for("failed (exit code 130)");
    let code = terminal.end().code();
    assert_eq!(code, Some(Exit::Interrupted.code().into()));
    assert!(terminal.echoes());
    assert!(!terminal.shown.contains("half"), "{}", terminal.shown);
}

#[test]
fn a_controllers_pod_is_asked_nothing() {
    let engine = Engine::start(&Disk::random(1, 1 << 20), None);
    let flags = [
        "--volume-path=/nonexistent/disk.img",
        "--cr-name=x",
        "--metrics-address=off",
        "--termination-log=off",
    ];
    let mut terminal = Terminal::start(&engine, &flags);
    terminal.wait_for("the secret key password is missing");
    let code = terminal.end().code();
    assert_eq!(code, Some(Exit::Configuration.code().into()));
    assert!(!terminal.shown.contains("Password"), "{}", terminal.shown);
}

#[test]
fn progress_is_one_line_that_makes_way_for_the_log() {
    let disk = Disk::random(1, 3 << 20);
    let engine = Engine::start(&disk, None);
    let gate = Gate::new();
    let stall = Fault::stall(1000, &gate);
    engine.data().fault(When::ranged().always(), stall);
    let folder = tempfile::tempdir().unwrap();
    let path = format!("--volume-path={}", folder.path().join("disk.img").display());
    let mut terminal = Terminal::start(&engine, &[&path]);
    terminal.wait_for("Password for oVirt: ");
    terminal.types(&format!("{PASSWORD}\n"));
    terminal.wait_for("\r\u{1b}[Kcopying 0.0 % of 3.0 MiB: 0 B data, 0 B zero, 0 B/s");
    gate.open();
    terminal.wait_for("copied ");
    assert!(terminal.end().success(), "{}", terminal.shown);
    // Each log line begins at the left edge, and nothing is left of the progress when it ends.
    let (_, end) = terminal.shown.rsplit_once("\r\u{1b}[K").unwrap();
    assert!(end.contains(" INFO copied 3.0 MiB"), "{}", terminal.shown);
    assert!(!end.contains('%'), "{}", terminal.shown);
    for line in terminal.shown.lines() {
        let progress = line.rsplit('\r').next().unwrap_or_default();
        assert!(!progress.contains(" INFO copying"), "{line}");
    }
}
