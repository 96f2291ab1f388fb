//! Progress from a pod's log, for networks in which the controller cannot reach the pod's metrics.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use population::progress::Measured;
use populator_api::names;
use serde_json::Value;
use tokio::{sync::watch, time};

use super::ScrapeTarget;
use crate::permissions::Permissions;

/// Lines that are read: the mover logs its progress every 5 to 30 s, and little else.
const LINES: i64 = 20;
/// Limit in bytes, far more than that many lines have.
const MOST_BYTES: i64 = 64 << 10;
/// The API server reads the log from the kubelet, which may be gone; other pods wait meanwhile.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads logs through the API server.
#[derive(Clone)]
pub struct LogReader {
    client: Client,
    permissions: watch::Receiver<Permissions>,
}

impl LogReader {
    /// A reader that uses `client` while the permission to get `pods/log` is there.
    #[must_use]
    pub const fn new(client: Client, permissions: watch::Receiver<Permissions>) -> Self {
        Self {
            client,
            permissions,
        }
    }

    /// The progress that the pod logged last.
    pub async fn measure(&self, target: &ScrapeTarget) -> Option<Measured> {
        if !self.permissions.borrow().logs {
            return None;
        }
        let parameters = LogParams {
            container: Some(names::CONTAINER.to_owned()),
            tail_lines: Some(LINES),
            limit_bytes: Some(MOST_BYTES),
            ..LogParams::default()
        };
        let api = Api::<Pod>::namespaced(self.client.clone(), &target.namespace);
        match time::timeout(TIMEOUT, api.logs(&target.pod, &parameters)).await {
            Ok(Ok(log)) => measured_of_log(&log),
            Ok(Err(error)) => {
                tracing::debug!(pod = target.pod, "the log cannot be read: {error}");
                None
            }
            Err(_) => {
                tracing::debug!(pod = target.pod, "the log cannot be read in time");
                None
            }
        }
    }
}

/// The percentage in the last line of a mover's log that has one: `copying 42.1 % of 10.0 GiB:
/// ...`, or the field
/// `percent` of a line in JSON.
#[must_use]
pub fn measured_of_log(log: &str) -> Option<Measured> {
    let percent = log
        .lines()
        .rev()
        .find_map(|line| of_json(line).or_else(|| of_text(line)))?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounding down is the purpose, and a cast to an integer saturates"
    )]
    Some(Measured {
        percent: (percent as u8).min(100),
        bytes: None,
    })
}

fn of_json(line: &str) -> Option<f64> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["percent"].as_f64()
}

fn of_text(line: &str) -> Option<f64> {
    let (before, _) = line.split_once(" % of ")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(log: &str) -> Option<u8> {
        measured_of_log(log).map(|measured| measured.percent)
    }

    #[test]
    fn the_last_progress_counts() {
        let text = "2026-11-26T22:47:46Z  INFO copying 1.0 % of 10.0 GiB: 0 B data, 0 B zero\n\
            2026-11-26T22:47:51Z  INFO copying 42.9 % of 10.0 GiB: 3.0 GiB data, 1.2 GiB zero, 9 MiB/s\n\
            2026-11-26T22:47:52Z  WARN the connection was lost, and is reopened\n";
        assert_eq!(percent(text), Some(42));
        let json = "{\"timestamp\":\"t\",\"phase\":\"copying\",\"percent\":7.25,\"message\":\"progress\"}\n";
        assert_eq!(percent(json), Some(7));
        assert_eq!(percent(&format!("{text}{json}")), Some(7));
    }

    #[test]
    fn a_log_without_progress_gives_none() {
        for log in [
            "",
            "preparing\n",
            "{}\n",
            "x % of y\n",
            "{\"percent\":\"7\"}",
            "\0 % of ",
        ] {
            assert_eq!(percent(log), None, "{log:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_clamped() {
        assert_eq!(percent("copying 250.0 % of 1 B"), Some(100));
        assert_eq!(percent("copying -3 % of 1 B"), Some(0));
        assert_eq!(percent("copying NaN % of 1 B"), Some(0));
    }
}
