//! The whole command line, of which the man page and the completions are made too.

use clap::Parser;
use mover::Arguments;

use crate::SourceArguments;

/// Copies a disk from oVirt into a block device or a file.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE, max_term_width = 100)]
pub struct Cli {
    /// Which disk, and how it is taken.
    #[command(flatten)]
    pub source: SourceArguments,
    /// What both movers take.
    #[command(flatten)]
    pub mover: Arguments,
}

const EXAMPLE: &str = "\
Example, with a section of ~/.config/ovirt-img.conf; a password that it lacks is asked for:
  ovirt-populator --config=NAME \\
      --disk-id=b815a36a-feef-49e0-85c6-ef61bc83c15f --volume-path=/var/tmp/disk.img

Exit codes, timers and metrics: docs/operations.md of the source code";
