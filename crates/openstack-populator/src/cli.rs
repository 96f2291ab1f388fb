//! The whole command line, of which the man page and the completions are made too.

use clap::Parser;
use mover::Arguments;

use crate::SourceArguments;

/// Copies a Glance image into a block device or a file.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE, max_term_width = 100)]
pub struct Cli {
    /// Which image, and how it is taken.
    #[command(flatten)]
    pub source: SourceArguments,
    /// What both movers take.
    #[command(flatten)]
    pub mover: Arguments,
}

const EXAMPLE: &str = "\
Example, with a cloud of ~/.config/openstack/clouds.yaml; a password that it lacks is asked for:
  openstack-populator --os-cloud=NAME \\
      --image-id=b815a36a-feef-49e0-85c6-ef61bc83c15f --volume-path=/var/tmp/disk.img

Exit codes, timers and metrics: docs/operations.md of the source code";
