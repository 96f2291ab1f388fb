//! A whole run in this process, against a scripted engine and daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use contract::Exit;
use mover::{
    Arguments, Context, Done, Environment, Failure, Given, Redactor, Secrets, Stop, StopHandle,
};
use net::{Cancel, Clock, SystemClock};
use ovirt_populator::{SourceArguments, run};
use tempfile::TempDir;
use testkit::{
    Disk, Fault, Gate, Reply, When,
    fake::{
        Engine,
        engine::{DISK, IMAGES, PASSWORD, TRANSFERS},
    },
};
use transfer::Progress;

const SIZE: usize = 9 << 20;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    mover: Arguments,
}

struct Run {
    engine: Engine,
    disk: Disk,
    folder: TempDir,
    handle: StopHandle,
    stop: Stop,
    password: &'static str,
    options: Vec<String>,
    /// In place of one in the folder.
    target: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
struct Still(AtomicU64);

impl Still {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        let end = self.now().saturating_add(period);
        while self.now() < end {
            if cancel.wait(Duration::from_millis(1)) {
                return true;
            }
        }
        cancel.is_cancelled()
    }
}

impl Run {
    fn new() -> Self {
        let disk = Disk::sparse(7, SIZE, &[0..3 << 20, 5 << 20..6 << 20]);
        let (handle, stop) = Stop::new();
        Self {
            engine: Engine::start(&disk, None),
            disk,
            folder: tempfile::tempdir().unwrap(),
            handle,
            stop,
            password: PASSWORD,
            options: Vec::new(),
            target: None,
            clock: Arc::new(SystemClock::default()),
        }
    }

    fn with(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    fn target(&self) -> PathBuf {
        let in_folder = || self.folder.path().join("disk.img");
        self.target.clone().unwrap_or_else(in_folder)
    }

    async fn run(&self) -> Result<Done, Failure> {
        let mut arguments = vec![
            "ovirt-populator".to_owned(),
            format!("--engine-url={}/ovirt-engine/api/", self.engine.url()),
            format!("--disk-id={DISK}"),
            format!("--volume-path={}", self.target().display()),
        ];
        arguments.extend(self.options.iter().cloned());
        let cli = Cli::try_parse_from(arguments).unwrap();
        let environment: Environment = [("user", "admin@internal"), ("password", self.password)]
            .into_iter()
            .collect();
        let context = Context::new(
            "test/1",
            Given {
                secrets: Secrets::of(&cli.mover, &environment)?,
                environment: &environment,
            },
            &cli.mover,
            Arc::clone(&self.clock),
            self.stop.clone(),
            Arc::new(Progress::default()),
            Redactor::new(),
        )?;
        run(context, cli.source).await
    }

    fn logouts(&self) -> usize {
        let requests = self.engine.api().requests();
        requests
            .iter()
            .filter(|one| one.path().ends_with("/sso-logout"))
            .count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_copied_and_everything_left_tidy() {
    let run = Run::new();
    assert_eq!(run.run().await, Ok(Done::Copied { verified: None }));
    run.disk.assert_on(&run.target());
    assert_eq!(run.engine.transfers(), (1, 0));
    assert_eq!(run.logouts(), 1);
    // Every data connection was closed before the engine was asked to finalize.
    run.engine.data().wait_for_idle();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_verification_compares_with_the_daemon() {
    let run = Run::new().with("--verify=full");
    let Ok(Done::Copied {
        verified: Some(digest),
    }) = run.run().await
    else {
        panic!("not verified");
    };
    assert_eq!(digest.algorithm, transfer::Algorithm::Blkhash);

    let run = Run::new().with("--verify=full");
    run.engine
        .change(|knobs| knobs.checksum = Some("00".repeat(32)));
    assert_eq!(run.run().await.unwrap_err().exit(), Exit::HashMismatch);
    assert_eq!(run.engine.transfers(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_the_system_cancels_starts_over() {
    let run = Run::new().with("--connections=1");
    let gate = Gate::new();
    run.engine
        .data()
        .fault(When::ranged(), Fault::HoldHead(gate.clone()));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            run.engine.data().wait_for_held(1);
            run.engine.cancel_by_system();
            gate.open();
        });
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run.run()))
    });
    assert_eq!(outcome, Ok(Done::Copied { verified: None }));
    run.disk.assert_on(&run.target());
    assert_eq!(run.engine.transfers().1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_copying_cancels_the_transfer() {
    let run = Run::new();
    let gate = Gate::new();
    run.engine
        .data()
        .fault(When::ranged().always(), Fault::stall(1000, &gate));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            run.engine.data().wait_for_held(1);
            run.handle.pull();
        });
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run.run()))
    });
    assert_eq!(outcome.unwrap_err().exit(), Exit::Terminated);
    assert_eq!(run.engine.transfers(), (1, 0));
    assert_eq!(run.logouts(), 1);
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_copying_is_renewed() {
    let run = Run::new();
    let gate = Gate::new();
    run.engine
        .data()
        .fault(When::ranged(), Fault::HoldHead(gate.clone()));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            run.engine.data().wait_for_held(1);
            run.engine.expire_tokens();
            gate.open();
        });
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run.run()))
    });
    assert_eq!(outcome, Ok(Done::Copied { verified: None }));
    assert_eq!(run.engine.transfers(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_too_small_is_found_before_a_transfer_is_made() {
    let run = Run::new();
    let device = testkit::LoopDevice::new(SIZE as u64 / 2, 512);
    std::os::unix::fs::symlink(device.path(), run.target()).unwrap();
    let failure = run.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::TargetTooSmall);
    assert_eq!(run.engine.transfers(), (0, 0));
    assert_eq!(run.logouts(), 1);
}

/// However it is started, and whatever the target holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_data_is_no_disk() {
    for options in [
        &["--force"][..],
        &["--verify=full", "--force"],
        &["--cr-name=c", "--owner-uid=u"],
        &["--check", "--force"],
        &["--check=transfer", "--force"],
    ] {
        let disk = Disk::empty(0);
        let mut run = Run {
            engine: Engine::start(&disk, None),
            disk,
            ..Run::new()
        };
        run.options.extend(options.iter().map(|&one| one.into()));
        let refused = async || {
            let failure = run.run().await.unwrap_err();
            assert_eq!(failure.exit(), Exit::SourceUnusable, "{failure}");
            assert!(failure.message().contains("holds no data"), "{failure}");
        };
        refused().await;
        assert!(!run.target().exists());
        std::fs::write(run.target(), "precious").unwrap();
        refused().await;
        assert_eq!(std::fs::read(run.target()).unwrap(), b"precious");

        std::fs::remove_file(run.target()).unwrap();
        let device = testkit::LoopDevice::new(SIZE as u64, 512);
        std::os::unix::fs::symlink(device.path(), run.target()).unwrap();
        refused().await;
        let held = std::fs::read(device.path()).unwrap();
        assert!(held.len() == SIZE && held.iter().all(|byte| *byte == 0xFF));
        assert_eq!(run.engine.transfers(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_keeps_for_itself_is_no_disk() {
    for (content, is_copied) in [("ovf_store", false), ("iso", true)] {
        let run = Run::new();
        let size = SIZE.to_string();
        let body = serde_json::json!({"name": "d", "provisioned_size": size, "status": "ok",
                                      "storage_type": "image", "content_type": content});
        run.engine.api().fault(
            When::path("/ovirt-engine/api/disks").always(),
            Fault::Answer(Reply::json(200, &body)),
        );
        let result = run.run().await;
        if is_copied {
            assert_eq!(result, Ok(Done::Copied { verified: None }));
            run.disk.assert_on(&run.target());
            continue;
        }
        let failure = result.unwrap_err();
        assert_eq!(failure.exit(), Exit::SourceUnusable);
        assert!(failure.message().contains(content), "{failure}");
        assert_eq!(run.engine.transfers(), (0, 0));
        assert!(!run.target().exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_makes_no_transfer_unless_asked() {
    let run = Run::new().with("--check");
    assert_eq!(run.run().await, Ok(Done::Checked));
    assert_eq!(run.engine.transfers(), (0, 0));
    assert!(!run.target().exists());

    let run = Run::new().with("--check=transfer");
    assert_eq!(run.run().await, Ok(Done::Checked));
    assert_eq!(run.engine.transfers(), (1, 0));
    assert!(run.engine.data_requests().is_empty());
    assert!(!run.target().exists());

    let run = Run::new().with("--check");
    run.engine
        .change(|knobs| knobs.disk_status = "locked".into());
    assert_eq!(run.run().await.unwrap_err().exit(), Exit::SourceBusy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_without_room_for_the_data_is_found_before_a_byte_is_written() {
    // 4 MiB of data, and what the file system needs itself.
    for (room, fits) in [(4 << 20, false), (12 << 20, true)] {
        for flag in ["--check=transfer", "--verify=off"] {
            let run = Run::new().with(flag);
            let volume = testkit::Volume::ext4(room);
            let run = Run {
                target: Some(volume.path("disk.img")),
                ..run
            };
            std::fs::write(volume.path("disk.img"), "").unwrap();
            let result = run.run().await;
            assert_eq!(result.is_ok(), fits, "{room} {flag}: {result:?}");
            if let Err(failure) = result {
                assert_eq!(failure.exit(), Exit::TargetFull);
                assert!(
                    failure.message().contains("nothing was written"),
                    "{failure}"
                );
                assert_eq!(std::fs::read(volume.path("disk.img")).unwrap(), b"");
            }
            assert_eq!(run.engine.transfers().1, 0);
        }
    }
}

/// Opens the gate also when the test fails, or the mover would wait for ever.
struct Opening(Gate);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A daemon that walks a huge disk for longer than the ticket lives without a use.
#[tokio::test(flavor = "multi_thread")]
async fn extents_that_take_long_do_not_cost_the_ticket() {
    let mut run = Run::new();
    let clock = Arc::new(Still::default());
    run.clock = clock.clone();
    let gate = Gate::new();
    let extents = When::path(IMAGES).method("GET");
    run.engine
        .data()
        .fault(extents, Fault::HoldHead(gate.clone()));
    let signs = || {
        let requests = run.engine.data().requests();
        requests.iter().filter(|it| it.method == "OPTIONS").count() - 1
    };
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            run.engine.data().wait_for_held(1);
            let opening = Opening(gate);
            // Twice the inactivity time.
            for count in 1..=12 {
                let mut begun = std::time::Instant::now();
                let mut passed = 0;
                while signs() < count {
                    // Time that passes just before the mover begins to wait is lost on it.
                    if passed == 0 || begun.elapsed() > Duration::from_secs(2) {
                        assert!(passed < 5, "no sign of life");
                        clock.pass(Duration::from_secs(20));
                        begun = std::time::Instant::now();
                        passed += 1;
                    }
                    std::thread::yield_now();
                }
            }
            drop(opening);
        });
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run.run()))
    });
    assert_eq!(outcome, Ok(Done::Copied { verified: None }));
    assert_eq!(run.engine.transfers(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_end_the_run_with_their_own_code() {
    let mut run = Run::new();
    run.password = "wrong";
    assert_eq!(run.run().await.unwrap_err().exit(), Exit::Credentials);

    let run = Run::new().with("--locked-wait=0");
    run.engine
        .change(|knobs| knobs.disk_status = "locked".into());
    let failure = run.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceBusy);
    assert!(failure.message().contains("disks are locked"), "{failure}");

    let run = Run::new();
    let detail = serde_json::json!({"detail": "[The disk d is plugged to non-Down VMs: vm1]"});
    run.engine.api().fault(
        When::path(TRANSFERS).method("POST"),
        Fault::Answer(Reply::json(409, &detail)),
    );
    let failure = run.run().await.unwrap_err();
    assert_eq!(failure.exit(), Exit::SourceUnusable);
    assert!(failure.message().contains("vm1"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_refuses_the_ticket_makes_a_new_transfer() {
    let run = Run::new();
    let refused = Reply::text(403, "You are not allowed to access this resource\n");
    run.engine
        .data()
        .fault(When::path(IMAGES).times(1), Fault::Answer(refused));
    assert_eq!(run.run().await, Ok(Done::Copied { verified: None }));
    assert_eq!(run.engine.transfers(), (2, 0));
    run.disk.assert_on(&run.target());
}
