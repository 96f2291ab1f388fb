//! Whole runs of the job against the scripted cloud.

use std::{fs, path::PathBuf, sync::Arc};

use clap::Parser;
use contract::Exit;
use mover::{
    Arguments, Context, Done, Environment, Failure, Given, Redactor, Secrets, Stop, StopHandle,
};
use net::{Clock, SystemClock};
use openstack_populator::SourceArguments;
use serde_json::Value;

use super::{Cloud, IMAGE, PASSWORD, assert_discreet};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    mover: Arguments,
}

/// One run into a folder of its own.
pub struct Run {
    pub folder: tempfile::TempDir,
    /// The target; without it, a file in the folder.
    pub device: Option<PathBuf>,
    pub stop: Option<StopHandle>,
    pub clock: Arc<dyn Clock>,
}

impl Run {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            device: None,
            stop: None,
            clock: Arc::new(SystemClock::default()),
        }
    }

    pub fn target(&self) -> PathBuf {
        let file = || self.folder.path().join("disk.img");
        self.device.clone().unwrap_or_else(file)
    }

    pub fn job(
        &mut self,
        cloud: &Cloud,
        keys: &[(&'static str, &str)],
        flags: &[&str],
    ) -> impl Future<Output = Result<Done, Failure>> + Send + 'static {
        let endpoint = format!("--endpoint={}", cloud.identity());
        let image = format!("--image-id={IMAGE}");
        let target = format!("--volume-path={}", self.target().display());
        let arguments = [&["x", &endpoint, &image, &target], flags].concat();
        let cli = Cli::try_parse_from(arguments).unwrap();
        let environment: Environment = keys.iter().copied().collect();
        let (handle, stop) = Stop::new();
        self.stop = Some(handle);
        let context = Context::new(
            "test/0",
            Given {
                secrets: Secrets::of(&cli.mover, &environment).unwrap(),
                environment: &environment,
            },
            &cli.mover,
            Arc::clone(&self.clock),
            stop,
            Arc::default(),
            Redactor::new(),
        )
        .unwrap();
        openstack_populator::run(context, cli.source)
    }

    pub async fn go(
        &mut self,
        cloud: &Cloud,
        keys: &[(&'static str, &str)],
        flags: &[&str],
    ) -> Result<Done, Failure> {
        self.job(cloud, keys, flags).await
    }
}

/// One run as a user with a password: how it ends, and what is in the target if there is one.
pub async fn run(cloud: &Cloud, flags: &[&str]) -> (Result<Done, Failure>, Option<Vec<u8>>) {
    let mut run = Run::new();
    let result = run.go(cloud, PASSWORD, flags).await;
    if let Err(failure) = &result {
        assert_discreet(failure.message());
    }
    (result, fs::read(run.target()).ok())
}

/// A cloud with an image of this record and data.
pub fn image(record: &Value, data: &[u8]) -> Cloud {
    Cloud::new(record, data.to_vec())
}

/// Fails unless the run ended so, with these words.
#[track_caller]
pub fn failure(result: Result<Done, Failure>, exit: Exit, needles: &[&str]) {
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), exit, "{failure}");
    testkit::plain::assert_plain(failure.message());
    for needle in needles {
        assert!(failure.message().contains(needle), "{needle}: {failure}");
    }
}
