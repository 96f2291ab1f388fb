//! Thin entry point.

use std::process::ExitCode;

use populator_controller::{Settings, run};
use runtime::{Signals, executor, logging};

fn main() -> ExitCode {
    logging::init(&logging::Settings {
        format: logging::Format::Text,
        level: tracing::Level::INFO,
        own: &["populator_controller", "runtime"],
    });
    runtime::crypto::install();
    #[allow(clippy::disallowed_methods, reason = "main reads the environment")]
    let (settings, warnings) = Settings::from_environment(|name| std::env::var(name).ok());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let Ok(executor) = executor::build() else {
        return ExitCode::FAILURE;
    };
    let outcome = executor.block_on(async move {
        let client = kube::Client::try_default().await?;
        let mut signals = Signals::install()?;
        run::serve(client, settings, 10, async move {
            signals.next().await;
        })
        .await;
        anyhow::Ok(())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
