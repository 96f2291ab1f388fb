//! Guarded runs of a built binary.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{self, Child, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use rustix::process::Signal;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{DEADLINE, lock};

/// A command with an empty environment, apart from what the test sets.
#[derive(Debug, Clone)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
}

impl Command {
    /// A run of the program, such as `env!("CARGO_BIN_EXE_name")`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds `--name=value`.
    pub fn flag(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut argument = OsString::from(format!("--{name}="));
        argument.push(value);
        self.arg(argument)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().into());
        self
    }

    /// Starts it.
    pub fn spawn(&self) -> Running {
        let mut child = process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let pid = Pid::from_child(&child);
        let output = Arc::new(Output::default());
        let stdout = output.follow(child.stdout.take().unwrap(), false);
        let stderr = output.follow(child.stderr.take().unwrap(), true);
        Running {
            pidfd: pidfd_open(pid, PidfdFlags::empty()).unwrap(),
            child,
            output,
            readers: vec![stdout, stderr],
            peak: 0,
        }
    }

    /// Runs it to its end, which must come within [`DEADLINE`].
    pub fn run(&self) -> Finished {
        self.spawn().wait()
    }
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    peak: u64,
}

impl Running {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).unwrap();
    }

    /// Waits for a line of standard output or standard error that holds the text; fails with all
    /// output after [`DEADLINE`], or when the process closes both without it.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        let begun = Instant::now();
        let mut lines = lock(&self.output.lines);
        loop {
            if let Some((_, line)) = lines.list.iter().find(|(_, line)| line.contains(text)) {
                return line.clone();
            }
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let over = left.is_zero() || lines.ended == 2;
            assert!(!over, "no line with {text:?} in {:#?}", lines.list);
            lines = self
                .output
                .changed
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The lines so far, of standard output and standard error.
    pub fn lines(&self) -> Vec<String> {
        let lines = lock(&self.output.lines);
        lines.list.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Waits for its end; kills it and fails with all output after [`DEADLINE`].
    #[track_caller]
    pub fn wait(self) -> Finished {
        self.wait_within(DEADLINE)
    }

    /// The same with another limit, where a service that the process waits for is slow.
    #[track_caller]
    pub fn wait_within(mut self, limit: Duration) -> Finished {
        let begun = Instant::now();
        while !self.has_ended(Duration::from_millis(10)) {
            self.sample();
            if begun.elapsed() > limit {
                self.child.kill().unwrap();
                panic!("still running; output: {:#?}", self.lines());
            }
        }
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let lines = lock(&self.output.lines);
        let text = |wanted| {
            let of_stream = lines.list.iter().filter(|(stream, _)| *stream == wanted);
            of_stream.fold(String::new(), |text, (_, line)| text + line + "\n")
        };
        Finished {
            status,
            stdout: text(false),
            stderr: text(true),
            peak_rss: self.peak,
        }
    }

    fn has_ended(&self, within: Duration) -> bool {
        let timeout = Timespec::try_from(within).unwrap();
        let mut wanted = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut wanted, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// The kernel keeps the high-water mark, so that looking now and then misses little.
    fn sample(&mut self) {
        let path = Path::new("/proc")
            .join(self.pid().to_string())
            .join("status");
        let status = fs::read_to_string(path).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|value| value.parse::<u64>().ok());
        self.peak = self.peak.max(kib.unwrap_or(0) << 10);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Peak resident memory in bytes, as last seen before the end.
    pub peak_rss: u64,
}

impl Finished {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output and standard error, for a message.
    pub fn output(&self) -> String {
        format!("{}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    /// Whether it came on standard error, and the line.
    list: Vec<(bool, String)>,
    ended: usize,
}

impl Output {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static, error: bool) -> JoinHandle<()> {
        let output = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                lock(&output.lines).list.push((error, line));
                output.changed.notify_all();
            }
            lock(&output.lines).ended += 1;
            output.changed.notify_all();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("/bin/sh").arg("-c").arg(script)
    }

    #[test]
    fn captures_everything_of_a_run() {
        let done = shell("echo out; echo \"$A$HOME\" >&2; exit 3")
            .env("A", "b")
            .run();
        assert_eq!(done.code(), Some(3));
        assert_eq!(
            (done.stdout.as_str(), done.stderr.as_str()),
            ("out\n", "b\n")
        );
    }

    #[test]
    fn waits_for_a_line_and_signals() {
        // `wait` is interrupted by the trap; the child must not keep the pipes open.
        // A milder signal could be lost between the child's fork and its exec.
        let script = "trap 'kill -9 $!; echo caught; exit 7' TERM; sleep 1000 & echo ready; wait";
        let running = shell(script).spawn();
        running.wait_for_line("ready");
        running.signal(Signal::TERM);
        let done = running.wait();
        assert_eq!(done.code(), Some(7), "{}", done.output());
        assert!(done.stdout.contains("caught"));
    }

    #[test]
    fn a_signal_that_nobody_catches_is_no_exit_code() {
        let running = Command::new("/bin/sleep").arg("1000").spawn();
        running.signal(Signal::KILL);
        let done = running.wait();
        assert_eq!((done.code(), done.signal()), (None, Some(9)));
    }
}
