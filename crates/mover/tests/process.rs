//! A mover as a process: exit codes, signals, termination message, metrics, log.
//!
//! The test starts its own program once more, with a job that the test chooses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking and says what it does"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use libtest_mimic::Trial;
use mover::{Arguments, Context, Done, Environment, Failure, Program, Secrets, Target};
use rustix::process::{Pid, Resource, Signal, dumpable_behavior, getrlimit, kill_process};
use tempfile::TempDir;
use transfer::{
    Kind, Verification,
    sink::{MemorySink, SinkOperation},
    source::MemorySource,
};

const PROGRAM: Program = Program {
    name: "fake-populator",
    version: "1.2.3",
    progress_metric: contract::metrics::OVIRT_PROGRESS,
};
/// Forbids endless tests, nothing else.
const AT_LAST: Duration = Duration::from_mins(2);

const TESTS: &[(&str, fn())] = &[
    ("a copy ends with 0 and its figures", a_copy),
    ("a source without a byte is no copy", nothing_to_copy),
    (
        "what is left at the source is a warning of a success",
        an_untidy_copy,
    ),
    (
        "a file is not overwritten without --force",
        an_existing_file,
    ),
    ("a check writes nothing", a_check),
    ("a target that fails to close ends with 23", a_failing_close),
    ("a mover leaves no core", a_mover_leaves_no_core),
    ("a panic ends with 1 and a message", a_panic),
    ("unknown flags end with 2 and a hint", unknown_flags),
    ("a bad secret ends with 10", a_bad_secret),
    ("--help and --version end with 0", help_and_version),
    ("SIGTERM ends with 143 after tidying up", sigterm),
    ("SIGINT during a blocking call ends with 130", sigint),
    ("a scrape after the end sees 100", last_scrape),
    ("metrics that cannot be had end with 10", no_metrics),
    (
        "a run that a controller started goes on without metrics",
        no_metrics_for_a_controller,
    ),
];

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument.starts_with("--volume-path")) {
        return child();
    }
    let trial = |(name, test): &(&'static str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit_code()
}

#[derive(Debug, Parser)]
#[command(version = "1.2.3")]
struct Cli {
    /// What to do
    #[arg(long, default_value = "copy")]
    job: String,
    #[command(flatten)]
    mover: Arguments,
}

fn child() -> ExitCode {
    let environment = Environment::of_process();
    let cli = match mover::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    mover::run(&PROGRAM, &environment, &cli.mover, Secrets::of, |context| {
        job(context, cli.job)
    })
}

async fn job(context: Context, name: String) -> Result<Done, Failure> {
    match name.as_str() {
        "copy" => copy(&context, disk()).await,
        "untidy" => {
            copy(&context, disk()).await?;
            Ok(Done::Untidy {
                verified: None,
                warning: "left in the cloud: volume v-1".into(),
            })
        }
        "nothing" => copy(&context, Vec::new()).await,
        "close" => {
            let sink = MemorySink::file().failing(SinkOperation::Close, 0, Kind::TargetIo);
            copy_to(&context, disk(), Target::new("disk", Box::new(sink))).await
        }
        "memory" => {
            let core = getrlimit(Resource::Core);
            tracing::warn!(
                "dumpable {:?}, core {:?} {:?}",
                dumpable_behavior().unwrap(),
                core.current,
                core.maximum
            );
            copy(&context, disk()).await
        }
        "panic" => panic!("no such luck"),
        "tidy" => {
            tracing::warn!("ready");
            context.stop.asked().await;
            tracing::warn!("tidied up, {} s left", context.stop.time_left().as_secs());
            Err(Failure::new(contract::Exit::SourceUnavailable, "cut off"))
        }
        "block" => {
            let cancel = context.cancel.clone();
            context
                .blocking(move || {
                    tracing::warn!("ready");
                    let _ = cancel.wait(AT_LAST);
                })
                .await?;
            Err(transfer::Error::new(Kind::Cancelled, "cancelled").into())
        }
        other => Err(Failure::new(contract::Exit::Internal, other)),
    }
}

async fn copy(context: &Context, disk: Vec<u8>) -> Result<Done, Failure> {
    let target = context.open_target().await?;
    if context.check.is_some() {
        return Ok(Done::Checked);
    }
    copy_to(context, disk, target).await
}

async fn copy_to(context: &Context, disk: Vec<u8>, target: Target) -> Result<Done, Failure> {
    let source = Arc::new(MemorySource::new(disk));
    let report = context.copy(source, Verification::None, &target).await?;
    context.close(target).await?;
    Ok(Done::Copied {
        verified: report.verified,
    })
}

/// 3 MiB and a sector, with a hole in the middle.
fn disk() -> Vec<u8> {
    let mut disk = vec![0x5a; (3 << 20) + 512];
    disk[1 << 20..2 << 20].fill(0);
    disk
}

/// A started mover, ended with its test.
struct Mover {
    child: Child,
    log: BufReader<ChildStderr>,
    folder: TempDir,
}

struct Ended {
    code: Option<i32>,
    log: String,
    termination: Option<serde_json::Value>,
    folder: TempDir,
}

impl Mover {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, arguments, environment)
    }

    fn start_in(folder: TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(format!("--volume-path={}", path(&folder, "disk").display()))
            .arg(format!(
                "--termination-log={}",
                path(&folder, "end").display()
            ))
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, folder }
    }

    /// Reads the log up to the line that contains `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let count = self.log.read_line(&mut line).unwrap();
            assert!(count > 0, "the log ends without {text:?}: {seen}");
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
        }
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn end(mut self) -> Ended {
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.log, &mut log).unwrap();
        let code = self.child.wait().unwrap().code();
        let termination = fs::read(path(&self.folder, "end"))
            .ok()
            .map(|bytes| serde_json::from_slice(&bytes).unwrap());
        Ended {
            code,
            log,
            termination,
            folder: self.folder,
        }
    }
}

impl Ended {
    fn said(&self, key: &str) -> &serde_json::Value {
        &self.termination.as_ref().expect("a termination message")[key]
    }
}

fn path(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn a_copy() {
    for format in ["--log-format=text", "--json"] {
        let ended = Mover::start(&[format], &[]).end();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(fs::read(path(&ended.folder, "disk")).unwrap() == disk());
        assert_eq!(ended.said("version"), 1);
        assert_eq!(ended.said("exit"), "success");
        assert_eq!(ended.said("sourceBytes"), disk().len());
        assert_eq!(ended.said("copiedBytes"), disk().len());
        let last = ended.log.lines().last().unwrap();
        assert!(last.contains("copied 3.0 MiB"), "{last}");
        if format == "--json" {
            let last: serde_json::Value = serde_json::from_str(last).unwrap();
            assert_eq!(last["total_bytes"], disk().len());
            assert_eq!(last["exit_code"], 0);
        }
    }
}

fn an_untidy_copy() {
    let ended = Mover::start(&["--job=untidy"], &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(ended.said("exit"), "success");
    assert_eq!(ended.said("copiedBytes"), disk().len());
    assert_eq!(ended.said("warning"), "left in the cloud: volume v-1");
    let lines: Vec<&str> = ended.log.lines().collect();
    let [.., warning, last] = lines[..] else {
        panic!("{lines:?}");
    };
    assert!(warning.contains("WARN left in the cloud"), "{warning}");
    assert!(last.contains("copied 3.0 MiB"), "{last}");
    let tidy = Mover::start(&[], &[]).end();
    assert!(tidy.said("warning").is_null(), "{:?}", tidy.termination);
}

fn nothing_to_copy() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(path(&folder, "disk"), "precious").unwrap();
    let ended = Mover::start_in(folder, &["--job=nothing", "--force"], &[]).end();
    assert_eq!(ended.code, Some(14), "{}", ended.log);
    assert_eq!(ended.said("exit"), "source-unusable");
    assert_eq!(fs::read(path(&ended.folder, "disk")).unwrap(), b"precious");
    assert!(!ended.log.contains("copied 0"), "{}", ended.log);
}

fn an_existing_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(path(&folder, "disk"), "precious").unwrap();
    let ended = Mover::start_in(folder, &[], &[]).end();
    assert_eq!(ended.code, Some(24), "{}", ended.log);
    assert_eq!(ended.said("exit"), "target-exists");
    assert_eq!(fs::read(path(&ended.folder, "disk")).unwrap(), b"precious");
    for permission in ["--force", "--cr-name=by-a-controller"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(&folder, "disk"), "old").unwrap();
        let arguments = [permission, "--metrics-address=off"];
        let ended = Mover::start_in(folder, &arguments, &[]).end();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
}

fn a_check() {
    let ended = Mover::start(&["--check"], &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!path(&ended.folder, "disk").exists());
    assert!(ended.log.contains("nothing was written"), "{}", ended.log);
}

fn a_failing_close() {
    let ended = Mover::start(&["--job=close"], &[]).end();
    assert_eq!(ended.code, Some(23), "{}", ended.log);
    assert_eq!(ended.said("exit"), "target-io");
    assert!(!ended.log.contains("copied"), "{}", ended.log);
}

fn a_mover_leaves_no_core() {
    let ended = Mover::start(&["--job=memory"], &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let is_said = ended
        .log
        .contains("dumpable NotDumpable, core Some(0) Some(0)");
    assert!(is_said, "{}", ended.log);
}

fn a_panic() {
    let ended = Mover::start(&["--job=panic"], &[]).end();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert_eq!(ended.said("exit"), "internal");
    let message = ended.said("message").as_str().unwrap();
    assert!(message.contains("no such luck"), "{message}");
}

fn unknown_flags() {
    let ended = Mover::start(&["--conections=3"], &[]).end();
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("'--connections'"), "{}", ended.log);
    assert_eq!(ended.said("exit"), "usage");
}

fn a_bad_secret() {
    let ended = Mover::start(
        &[],
        &[("insecureSkipVerify", "maybe"), ("password", "hunter2")],
    )
    .end();
    assert_eq!(ended.code, Some(10), "{}", ended.log);
    assert!(ended.log.contains("insecureSkipVerify"), "{}", ended.log);
    assert!(!ended.log.contains("hunter2"), "{}", ended.log);
    assert_eq!(ended.said("exit"), "configuration");
}

fn help_and_version() {
    for flag in ["--help", "--version"] {
        let ended = Mover::start(&[flag], &[]).end();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert_eq!(ended.termination, None);
    }
}

fn sigterm() {
    let mut mover = Mover::start(&["--job=tidy"], &[]);
    mover.wait_for("ready");
    mover.send(Signal::TERM);
    let ended = mover.end();
    assert_eq!(ended.code, Some(143), "{}", ended.log);
    assert!(ended.log.contains("tidied up"), "{}", ended.log);
    assert_eq!(ended.said("exit"), "terminated");
    let message = ended.said("message").as_str().unwrap();
    assert!(
        message.starts_with("ended by SIGTERM: cut off"),
        "{message}"
    );
}

fn sigint() {
    let mut mover = Mover::start(&["--job=block"], &[]);
    mover.wait_for("ready");
    mover.send(Signal::INT);
    let ended = mover.end();
    assert_eq!(ended.code, Some(130), "{}", ended.log);
    assert_eq!(ended.said("exit"), "interrupted");
}

fn last_scrape() {
    // Were it not for the scrape, this would last an hour.
    let mut mover = Mover::start(
        &[
            "--metrics-address=127.0.0.1:0",
            "--metrics-linger=1h",
            "--owner-uid=u-1",
        ],
        &[],
    );
    let line = mover.wait_for("metrics: https://");
    let url = line.split_whitespace().last().unwrap().to_owned();
    mover.wait_for("copied 3.0 MiB");
    let body = scrape(&url);
    assert!(
        body.contains("\novirt_progress{ownerUID=\"u-1\"} 100.0\n"),
        "{body}"
    );
    let ended = mover.end();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

fn no_metrics() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!("--metrics-address={}", taken.local_addr().unwrap());
    let ended = Mover::start(&[&flag], &[]).end();
    assert_eq!(ended.code, Some(10), "{}", ended.log);
    assert!(ended.log.contains("cannot listen on"), "{}", ended.log);
}

/// The disk matters more: a controller gets the progress from the log as well.
fn no_metrics_for_a_controller() {
    // Whoever has the port already takes it as well.
    let _taken = std::net::TcpListener::bind(contract::args::METRICS_ADDRESS);
    let ended = Mover::start(&["--cr-name=disk"], &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        ended.log.contains("going on without metrics"),
        "{}",
        ended.log
    );
}

fn scrape(url: &str) -> String {
    let settings = net::Settings {
        trust: net::Trust::Insecure,
        proxies: net::Proxies::none(),
        egress: net::Egress::anywhere(),
        timeouts: net::Timeouts::default(),
        user_agent: "test".into(),
    };
    let clock = Arc::new(net::SystemClock::default());
    let connector = net::Connector::new(&settings, clock, net::Cancel::new()).unwrap();
    let url = url.parse().unwrap();
    let mut connection = connector.connect(&url).unwrap();
    let head = connection.get(&url, &http::HeaderMap::new()).unwrap();
    assert_eq!(head.status, 200);
    String::from_utf8(connection.read_to_end(1 << 20).unwrap()).unwrap()
}
