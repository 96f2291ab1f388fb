//! Thin entry point.

use std::process::ExitCode;

use mover::{Environment, Program};
use openstack_populator::Cli;

const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    progress_metric: contract::metrics::OPENSTACK_PROGRESS,
};

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let cli = match mover::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let cloud = cli.source.os_cloud.clone();
    mover::run(
        &PROGRAM,
        &environment,
        &cli.mover,
        |arguments, environment| {
            openstack_populator::secrets(cloud.as_deref(), arguments, environment)
        },
        |context| openstack_populator::run(context, cli.source),
    )
}
