//! The tables of `docs/operations.md` have a row for everything that the code has, and no other one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use clap::{Args, Command};
use contract::{
    Exit, Retry,
    args::{flag, secret},
    metrics,
};
use mover::Arguments;
use testkit::tables::Table;
use transfer::{Phase, RetryReason};

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

#[test]
fn every_exit_code_has_its_row() {
    let table = Table::of(OPERATIONS, &["code", "word"]);
    for exit in Exit::ALL {
        let code = exit.code().to_string();
        let word = serde_json::to_value(exit).unwrap();
        let word = format!("`{}`", word.as_str().unwrap());
        assert_eq!(table.cell(&code, "word"), word, "{exit:?}");
        let expected = match (exit, exit.retry()) {
            (Exit::Success, _) => "",
            (Exit::Internal, _) => "perhaps",
            (_, Retry::Useful) => "yes",
            (_, Retry::Pointless) => "no",
        };
        assert_eq!(table.cell(&code, "again"), expected, "{exit:?}");
    }
    assert_eq!(table.len(), Exit::ALL.len(), "rows without an exit code");
}

#[test]
fn every_flag_has_its_row_and_its_default() {
    /// Flags of one mover, which the other one does not have.
    const OF_ONE: [&str; 15] = [
        flag::CONFIG,
        flag::OS_CLOUD,
        flag::ENGINE_URL,
        flag::DISK_ID,
        flag::INACTIVITY_TIMEOUT,
        flag::LOCKED_WAIT,
        flag::ENDPOINT,
        flag::IMAGE_ID,
        flag::VOLUME_ID,
        flag::SNAPSHOT_ID,
        flag::MIGRATION_ID,
        flag::REQUEST_ID,
        flag::CLEANUP,
        flag::VERBATIM,
        flag::SCRATCH_DIR,
    ];
    let table = Table::of(OPERATIONS, &["flag", "default"]);
    let command = Arguments::augment_args(Command::new("mover"));
    let common = command.get_arguments().filter_map(clap::Arg::get_long);
    let flags: Vec<String> = common
        .chain(OF_ONE)
        .map(|flag| format!("--{flag}"))
        .collect();
    table.assert_names(flags.iter().map(String::as_str));
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long() else {
            continue;
        };
        if !argument.get_action().takes_values() {
            continue;
        }
        for default in argument.get_default_values() {
            let default = format!("`{}`", default.to_str().unwrap());
            assert_eq!(table.cell(&format!("--{long}"), "default"), default);
        }
    }
}

#[test]
fn every_environment_variable_has_its_row() {
    use contract::args::environment;
    let table = Table::of(OPERATIONS, &["variable", "meaning"]);
    let documented = table.names();
    for name in environment::ALL {
        assert!(documented.contains(&name), "{name}: {documented:?}");
    }
    let ours = documented
        .iter()
        .filter(|name| name.starts_with("POPULATOR_"));
    assert_eq!(ours.count(), environment::ALL.len());
}

#[test]
fn every_secret_key_has_its_row() {
    Table::of(OPERATIONS, &["key", "for"]).assert_names(secret::ALL);
}

#[test]
fn every_metric_has_its_row() {
    let table = Table::of(OPERATIONS, &["metric", "type"]);
    // As the code names them: without labels, and without the ending of counters.
    let names = table.names().into_iter().map(|name| {
        let name = name.split('{').next().unwrap();
        name.strip_suffix("_total").unwrap_or(name)
    });
    assert_eq!(
        names.collect::<std::collections::BTreeSet<_>>(),
        metrics::ALL.into()
    );
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
