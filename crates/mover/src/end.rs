//! How a job ends, and what is said of it in the log and in the termination message.

use std::{path::Path, time::Duration};

use contract::{Exit, Termination};
use runtime::{Redactor, logging::Format};
use transfer::{Digest, Phase, Snapshot};

use crate::{Failure, duration, failure::advice, report};

/// How a job succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Every byte is in place, on stable storage, and the source has been left tidy.
    Copied {
        /// The digest that was compared and found equal.
        verified: Option<Digest>,
    },
    /// As [`Self::Copied`], but something that was made at the source for the copy is there still.
    Untidy {
        /// The digest that was compared and found equal.
        verified: Option<Digest>,
        /// What is left, and what to do about it: one sentence, for the log and the termination message.
        warning: String,
    },
    /// A preflight found nothing wrong; nothing was written.
    Checked,
    /// What earlier runs had left at the source was removed; nothing was written.
    CleanedUp,
}

/// Writes the termination message, without secrets; a failure to do so is only a warning.
pub(crate) fn write_termination(path: &Path, redactor: &Redactor, mut message: Termination) {
    message.message = redactor.apply(&message.message);
    message.warning = message.warning.map(|warning| redactor.apply(&warning));
    let encoded = |message: &Termination| serde_json::to_vec(message).unwrap_or_default();
    message.fit(|message| encoded(message).len());
    if let Err(error) = runtime::termination::write(path, &encoded(&message)) {
        tracing::warn!(
            "the termination message cannot be written to {}: {error}",
            path.display()
        );
    }
}

/// The end of a run.
#[derive(Debug)]
pub(crate) struct End {
    /// The log's.
    pub(crate) format: Format,
    /// Since the start.
    pub(crate) elapsed: Duration,
    /// The counters at the end.
    pub(crate) snapshot: Snapshot,
}

impl End {
    /// Logs how it ended; returns the message that says the same.
    pub(crate) fn told(&self, result: Result<Done, Failure>) -> Termination {
        let mut termination = match result {
            Ok(Done::Checked) => without_copy("the check found nothing wrong; nothing was written"),
            Ok(Done::CleanedUp) => {
                without_copy("nothing of earlier runs is left at the source; nothing was written")
            }
            Ok(Done::Copied { verified }) => self.copied(verified),
            Ok(Done::Untidy { verified, warning }) => {
                // The last line is the one that says how it ended.
                tracing::warn!("{warning}");
                let mut termination = self.copied(verified);
                termination.warning = Some(warning);
                termination
            }
            Err(failure) => self.failed(&failure),
        };
        let snapshot = &self.snapshot;
        termination.source_bytes =
            Some(snapshot.total).filter(|total| *total > 0 || snapshot.phase != Phase::Preparing);
        termination.copied_bytes = snapshot.done();
        termination.seconds = self.elapsed.as_secs();
        termination.retries = snapshot.retries.sum();
        termination
    }

    fn copied(&self, verified: Option<Digest>) -> Termination {
        let Self {
            elapsed, snapshot, ..
        } = self;
        let verified = verified.map(|digest| format!("{}:{}", digest.algorithm, digest.hex));
        let rate = report::per_second(snapshot.total, *elapsed);
        let retries = snapshot.retries.sum();
        let message = format!(
            "copied {} ({} data, {} zero) in {}, {}/s; {}",
            report::bytes(snapshot.total),
            report::bytes(snapshot.data),
            report::bytes(snapshot.zero),
            duration::show(*elapsed),
            report::bytes(rate),
            match &verified {
                Some(digest) => format!("verified {digest}"),
                None => "not verified".to_owned(),
            },
        );
        match self.format {
            Format::Text => tracing::info!("{message}"),
            Format::Json => tracing::info!(
                total_bytes = snapshot.total,
                data_bytes = snapshot.data,
                zero_bytes = snapshot.zero,
                received_bytes = snapshot.received,
                seconds = elapsed.as_secs_f64(),
                bytes_per_second = rate,
                retries,
                verified,
                exit_code = Exit::Success.code(),
                "{message}"
            ),
        }
        let mut termination = Termination::new(Exit::Success, message);
        termination.verified = verified;
        termination
    }

    fn failed(&self, failure: &Failure) -> Termination {
        let exit = failure.exit();
        let cause = failure.message().trim_end_matches('.');
        let message = format!("{cause}. {}", advice(exit));
        match self.format {
            Format::Text => {
                tracing::error!("failed (exit code {}): {message}", exit.code());
            }
            Format::Json => tracing::error!(
                exit_code = exit.code(),
                cause,
                advice = advice(exit),
                phase = self.snapshot.phase.name(),
                "failed"
            ),
        }
        Termination::new(exit, message)
    }
}

fn without_copy(message: &str) -> Termination {
    tracing::info!("{message}");
    Termination::new(Exit::Success, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_termination_message_fits_whatever_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let message = "\"ü\\".repeat(4000);
        let redactor = Redactor::new();
        write_termination(&path, &redactor, Termination::new(Exit::Internal, message));
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() <= contract::termination::MAX_BYTES);
        let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["exitCode"], 1);
        // Nothing to see, nothing to fail: only a warning.
        write_termination(
            &folder.path().join("no/log"),
            &redactor,
            Termination::new(Exit::Tls, ""),
        );
    }

    #[test]
    fn a_termination_message_is_one_line_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let redactor = Redactor::new();
        redactor.add_secret("hunter2");
        let mut message = Termination::new(Exit::Tls, "says \u{1b}[2Jhunter2\n\u{202e}x");
        message.warning = Some("hunter2\nis left".to_owned());
        write_termination(&path, &redactor, message);
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read["message"], "says  [2J***  x");
        assert_eq!(read["warning"], "*** is left");
    }
}
