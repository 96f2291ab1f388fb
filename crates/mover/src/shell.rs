//! The process around a job.

use std::{future::Future, path::Path, process::ExitCode};

use contract::Termination;
use transfer::Digest;

use crate::{Arguments, Context, Environment, Failure};

/// Which mover this is.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Name of the binary, such as `ovirt-populator`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Name of its progress metric.
    pub progress_metric: &'static str,
}

/// How a job succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Every byte is in place, on stable storage, and the source has been left tidy.
    Copied {
        /// The digest that was compared and found equal.
        verified: Option<Digest>,
    },
    /// A preflight found nothing wrong; nothing was written.
    Checked,
}

/// Runs a job as a process: logging, metrics, signals, termination message, exit code.
///
/// A signal pulls the job's [`crate::Stop`]; the job then has 20 s to leave the source tidy. What it
/// returns after that is told, and the exit code is the signal's unless it still succeeds.
pub fn run<J, F>(
    _program: &Program,
    _environment: &Environment,
    _arguments: &Arguments,
    _job: J,
) -> ExitCode
where
    J: FnOnce(Context) -> F + Send + 'static,
    F: Future<Output = Result<Done, Failure>> + Send + 'static,
{
    todo!()
}

/// Writes the termination message; a failure to do so is only told.
pub(crate) fn write_termination(_path: &Path, _message: Termination) {
    todo!()
}
