//! `docs/operations.md` tells all there is to tell.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use clap::{Args, Command};
use contract::{Exit, Retry, args::secret, metrics};
use mover::Arguments;
use transfer::{Phase, RetryReason};

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

#[test]
fn every_exit_code_has_its_row() {
    for exit in Exit::ALL {
        let word = serde_json::to_value(exit).unwrap();
        let begin = format!("| {} | `{}` |", exit.code(), word.as_str().unwrap());
        let row = OPERATIONS
            .lines()
            .find(|line| line.starts_with(&begin))
            .unwrap_or_else(|| panic!("no row begins with {begin}"));
        let again = row.split('|').nth(4).unwrap().trim();
        let expected = match (exit, exit.retry()) {
            (Exit::Success, _) => "",
            (Exit::Internal, _) => "perhaps",
            (_, Retry::Useful) => "yes",
            (_, Retry::Pointless) => "no",
        };
        assert_eq!(again, expected, "{row}");
    }
}

#[test]
fn every_flag_is_told_with_its_default() {
    let command = Arguments::augment_args(Command::new("mover"));
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long() else {
            continue;
        };
        let row = OPERATIONS
            .lines()
            .find(|line| line.starts_with("| `--") && line.contains(&format!("`--{long}`")))
            .unwrap_or_else(|| panic!("no row for --{long}"));
        if !argument.get_action().takes_values() {
            continue;
        }
        for default in argument.get_default_values() {
            let default = format!("| `{}` |", default.to_str().unwrap());
            assert!(
                row.contains(&default),
                "--{long}: {default} is not in {row}"
            );
        }
    }
}

#[test]
fn every_secret_key_is_told() {
    for key in secret::ALL {
        assert!(OPERATIONS.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn every_metric_is_told() {
    for name in [
        metrics::OVIRT_PROGRESS,
        metrics::OPENSTACK_PROGRESS,
        metrics::SOURCE_BYTES,
        metrics::COPIED_BYTES,
        metrics::RECEIVED_BYTES,
        metrics::RATE,
        metrics::RETRIES,
        metrics::PHASE,
    ] {
        assert!(OPERATIONS.contains(&format!("`{name}")), "{name}");
    }
    for reason in RetryReason::ALL {
        assert!(
            OPERATIONS.contains(&format!("`{}`", reason.name())),
            "{reason:?}"
        );
    }
    for phase in [
        Phase::Preparing,
        Phase::Copying,
        Phase::Verifying,
        Phase::Syncing,
        Phase::Done,
    ] {
        assert!(
            OPERATIONS.contains(&format!("*{}*", phase.name())),
            "{phase:?}"
        );
    }
}
