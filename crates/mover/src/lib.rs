//! What the movers share: arguments, secrets, target, progress, and how a run ends.
//!
//! A mover's `main` is four steps, and everything after it is testable without a process:
//!
//! ```text
//! fn main() -> ExitCode {
//!     let environment = Environment::of_process();
//!     let cli = match mover::parse::<Cli>() {
//!         Ok(cli) => cli,
//!         Err(code) => return code,
//!     };
//!     mover::run(&PROGRAM, &environment, &cli.mover, keys, |context| copy(context, cli.source))
//! }
//! ```
//!
//! `keys` finds the keys of the secret: [`Secrets::of`], or that and the files that people keep for other clients of
//! the same source. The job gets a [`Context`], prepares a source, and moves it with [`Context::copy`]. It ends with
//! [`Done`] or with a [`Failure`], whose [`contract::Exit`] becomes the exit code.

mod args;
mod ca_bundle;
mod context;
mod duration;
mod end;
mod environment;
mod failure;
mod files;
mod metrics;
mod prompt;
mod rate;
mod report;
mod retry;
mod secrets;
mod shell;
mod target;

pub use args::{Arguments, Check, MetricsAddress, Switch, Verify, parse};
pub use ca_bundle::CaBundle;
pub use context::{Context, Given, Stop, StopHandle};
pub use duration::parse as parse_duration;
pub use end::Done;
pub use environment::Environment;
pub use failure::{ExitOf, Failure};
pub use files::read_secret;
pub use retry::PollBackoff;
pub use runtime::Redactor;
pub use secrets::Secrets;
pub use shell::{Program, run};
pub use target::Target;
