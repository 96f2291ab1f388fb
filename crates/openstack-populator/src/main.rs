//! Thin entry point.

use std::process::ExitCode;

use clap::Parser;
use mover::{Arguments, Environment, Program};
use openstack_populator::SourceArguments;

const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    progress_metric: contract::metrics::OPENSTACK_PROGRESS,
};

/// Copies a Glance image into a block device or a file.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    mover: Arguments,
}

const EXAMPLE: &str = "\
Example, with a cloud of ~/.config/openstack/clouds.yaml; a password that it lacks is asked for:
  openstack-populator --os-cloud=NAME \\
      --image-id=b815a36a-feef-49e0-85c6-ef61bc83c15f --volume-path=/var/tmp/disk.img

Exit codes, timers and metrics: docs/operations.md of the source code";

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
