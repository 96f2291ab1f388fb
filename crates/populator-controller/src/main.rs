//! Entry point: reads arguments and environment, installs the log, and returns the exit code.

use std::{io::Write, process::ExitCode, time::Duration};

use contract::Exit;
use populator_controller::{
    cli::{Command, Options},
    run,
};
use runtime::{executor, logging};

fn main() -> ExitCode {
    match Command::of_process() {
        Ok(Command::Serve(options)) => serve(*options),
        Ok(Command::Definitions) => print_definitions(),
        Err(error) => {
            // If standard error is closed, there is no way to report it.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Success.into()
            }
        }
    }
}

fn serve(options: Options) -> ExitCode {
    logging::init(&logging::Settings {
        format: options.log_format,
        level: options.log_level,
        own: &["populator_controller", "runtime"],
    });
    runtime::crypto::install();
    let executor = match executor::build() {
        Ok(executor) => executor,
        Err(error) => {
            tracing::error!("the executor cannot be started: {error}");
            return Exit::Internal.into();
        }
    };
    let outcome = executor.block_on(run::run(options));
    // Dropping the executor would wait for a blocked thread.
    executor.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::Internal.into()
        }
    }
}

fn print_definitions() -> ExitCode {
    let mut out = std::io::stdout().lock();
    for definition in populator_api::definitions::all() {
        let written = populator_api::definitions::to_yaml(&definition)
            .map_err(anyhow::Error::from)
            .and_then(|yaml| Ok(write!(out, "---\n{yaml}")?));
        if written.is_err() {
            return Exit::Internal.into();
        }
    }
    Exit::Success.into()
}
