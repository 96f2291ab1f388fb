//! Thin entry point.

use std::process::ExitCode;

use mover::{Environment, Program};
use ovirt_populator::Cli;

const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    progress_metric: contract::metrics::OVIRT_PROGRESS,
};

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let cli = match mover::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let section = cli.source.config.clone();
    mover::run(
        &PROGRAM,
        &environment,
        &cli.mover,
        |arguments, environment| {
            ovirt_populator::secrets(section.as_deref(), arguments, environment)
        },
        |context| ovirt_populator::run(context, cli.source),
    )
}
