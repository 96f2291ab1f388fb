//! Thin entry point.

use std::process::ExitCode;

use clap::Parser;
use mover::{Arguments, Environment, Program};
use ovirt_populator::SourceArguments;

const PROGRAM: Program = Program {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    progress_metric: contract::metrics::OVIRT_PROGRESS,
};

/// Copies a disk from oVirt into a block device or a file.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    mover: Arguments,
}

const EXAMPLE: &str = "\
Example, with a section of ~/.config/ovirt-img.conf; a password that it lacks is asked for:
  ovirt-populator --config=NAME \\
      --disk-id=b815a36a-feef-49e0-85c6-ef61bc83c15f --volume-path=/var/tmp/disk.img

Exit codes, timers and metrics: docs/operations.md of the source code";

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
