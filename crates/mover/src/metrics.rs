//! The movers' metrics, read from the counters at each scrape.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use contract::metrics as names;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use transfer::{Phase, Progress, RetryReason, Snapshot};

/// Every phase, in order.
const PHASES: [Phase; 5] = [
    Phase::Preparing,
    Phase::Copying,
    Phase::Verifying,
    Phase::Syncing,
    Phase::Done,
];

/// What is shown beside the engine's own counters.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) progress: Arc<Progress>,
    /// Bytes per second over the last seconds.
    pub(crate) rate: AtomicU64,
    /// The whole run has succeeded. Only then is it 100 percent: closing the target and leaving the
    /// source tidy come after the engine's end, and can fail.
    pub(crate) succeeded: AtomicBool,
}

impl Shown {
    /// Percent in hundredths, rounded down, so that the text never needs an exponent.
    fn hundredths(&self, snapshot: &Snapshot) -> u32 {
        const ALL: u32 = 10_000;
        if self.succeeded.load(Ordering::Acquire) {
            return ALL;
        }
        let done = u128::from(snapshot.done()) * u128::from(ALL);
        let hundredths = done
            .checked_div(u128::from(snapshot.total))
            .unwrap_or_default();
        u32::try_from(hundredths).unwrap_or(ALL).min(ALL - 1)
    }

    /// Percent done, 0 to 100 in steps of 0.01; 100 only after [`Shown::succeeded`].
    pub(crate) fn percent(&self, snapshot: &Snapshot) -> f64 {
        f64::from(self.hundredths(snapshot)) / 100.0
    }
}

/// A registry with all the metrics of one run.
pub(crate) fn registry(
    progress_metric: &'static str,
    owner_uid: &str,
    shown: Arc<Shown>,
) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics {
        progress_metric,
        owner_uid: owner_uid.to_owned(),
        shown,
    }));
    registry
}

#[derive(Debug)]
struct Metrics {
    progress_metric: &'static str,
    owner_uid: String,
    shown: Arc<Shown>,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.shown.progress.snapshot();

        let mut progress = encoder.encode_descriptor(
            self.progress_metric,
            "Percent of the source that is in place. 100 when durable.",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.shown.percent(&snapshot))
            .encode(progress.encode_family(&[(names::OWNER_UID, self.owner_uid.as_str())])?)?;

        let size = encoder.encode_descriptor(
            names::SOURCE_BYTES,
            "Size of the source in bytes",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(snapshot.total).encode(size)?;

        let mut copied = encoder.encode_descriptor(
            names::COPIED_BYTES,
            "Bytes of the source that are in place",
            None,
            MetricType::Counter,
        )?;
        for (kind, bytes) in [("data", snapshot.data), ("zero", snapshot.zero)] {
            ConstCounter::new(bytes).encode(copied.encode_family(&[("kind", kind)])?)?;
        }

        let received = encoder.encode_descriptor(
            names::RECEIVED_BYTES,
            "Body bytes received from the source, repeats included",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(snapshot.received).encode(received)?;

        let rate = encoder.encode_descriptor(
            names::RATE,
            "Bytes per second that came into place over the last seconds",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.shown.rate.load(Ordering::Relaxed)).encode(rate)?;

        let mut retries = encoder.encode_descriptor(
            names::RETRIES,
            "Requests that were repeated",
            None,
            MetricType::Counter,
        )?;
        for reason in RetryReason::ALL {
            ConstCounter::new(snapshot.retries.of(reason))
                .encode(retries.encode_family(&[("reason", reason.name())])?)?;
        }

        let mut phase = encoder.encode_descriptor(
            names::PHASE,
            "1 for the phase that the process is in",
            None,
            MetricType::Gauge,
        )?;
        for candidate in PHASES {
            ConstGauge::new(u32::from(candidate == snapshot.phase))
                .encode(phase.encode_family(&[("phase", candidate.name())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    fn snapshot(total: u64, data: u64, zero: u64) -> Snapshot {
        Snapshot {
            total,
            data,
            zero,
            ..Snapshot::default()
        }
    }

    fn encoded(owner_uid: &str, shown: Shown) -> String {
        let registry = registry(names::OVIRT_PROGRESS, owner_uid, Arc::new(shown));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    /// Percent as the exposition writes it.
    fn written(snapshot: &Snapshot) -> String {
        let shown = Shown::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(One(shown.percent(snapshot))));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find(|line| line.starts_with("p ")).unwrap();
        line[2..].to_owned()
    }

    #[derive(Debug)]
    struct One(f64);

    impl Collector for One {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            let gauge = encoder.encode_descriptor("p", "p", None, MetricType::Gauge)?;
            ConstGauge::new(self.0).encode(gauge)
        }
    }

    #[test]
    fn percents_have_no_exponent_and_stay_below_100() {
        for (snapshot, text) in [
            (snapshot(0, 0, 0), "0.0"),
            (snapshot(u64::MAX, 0, 0), "0.0"),
            // 5e-18 and 9e-6 percent.
            (snapshot(u64::MAX, 1, 0), "0.0"),
            (snapshot(1_000_000_000, 90, 0), "0.0"),
            (snapshot(10_000, 1, 0), "0.01"),
            (snapshot(10_000, 1_000, 234), "12.34"),
            (snapshot(3, 1, 0), "33.33"),
            (snapshot(u64::MAX, u64::MAX - 1, 0), "99.99"),
            (snapshot(u64::MAX, 0, u64::MAX), "99.99"),
            (snapshot(512, 512, 0), "99.99"),
        ] {
            assert_eq!(written(&snapshot), text, "{snapshot:?}");
        }
    }

    #[test]
    fn the_engines_end_is_not_yet_100() {
        let shown = Shown::default();
        let mut done = snapshot(512, 512, 0);
        done.phase = Phase::Done;
        assert!(shown.percent(&done) < 100.0);
        shown.succeeded.store(true, Ordering::Release);
        assert!(shown.percent(&done) >= 100.0);
    }

    #[test]
    fn forklifts_reader_understands_the_line() {
        for owner_uid in ["", "5b7a6f1e-0000-4000-8000-000000000001"] {
            let shown = Shown::default();
            shown.succeeded.store(true, Ordering::Release);
            let text = encoded(owner_uid, shown);
            // The pattern of its reader, by hand: progress\{ownerUID="<uid>"\} (\d+\.?\d*)
            let before = format!("progress{{ownerUID=\"{owner_uid}\"}} ");
            let at = text.find(&before).unwrap() + before.len();
            let number: String = text[at..]
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            assert_eq!(number, "100.0");
            assert_eq!(&text[at + number.len()..=at + number.len()], "\n");
        }
    }

    #[test]
    fn the_whole_exposition() {
        let progress = Arc::new(Progress::new());
        progress.enter(Phase::Copying);
        progress.retried(RetryReason::Stalled);
        let shown = Shown {
            progress,
            rate: AtomicU64::new(1 << 60),
            ..Shown::default()
        };
        assert_eq!(
            encoded("u", shown),
            r#"# HELP ovirt_progress Percent of the source that is in place. 100 when durable.
# TYPE ovirt_progress gauge
ovirt_progress{ownerUID="u"} 0.0
# HELP populator_source_bytes Size of the source in bytes
# TYPE populator_source_bytes gauge
populator_source_bytes 0
# HELP populator_copied_bytes Bytes of the source that are in place
# TYPE populator_copied_bytes counter
populator_copied_bytes_total{kind="data"} 0
populator_copied_bytes_total{kind="zero"} 0
# HELP populator_received_bytes Body bytes received from the source, repeats included
# TYPE populator_received_bytes counter
populator_received_bytes_total 0
# HELP populator_rate_bytes_per_second Bytes per second that came into place over the last seconds
# TYPE populator_rate_bytes_per_second gauge
populator_rate_bytes_per_second 1152921504606846976
# HELP populator_retries Requests that were repeated
# TYPE populator_retries counter
populator_retries_total{reason="network"} 0
populator_retries_total{reason="stalled"} 1
populator_retries_total{reason="busy"} 0
populator_retries_total{reason="expired"} 0
populator_retries_total{reason="lost"} 0
populator_retries_total{reason="unexpected"} 0
# HELP populator_phase 1 for the phase that the process is in
# TYPE populator_phase gauge
populator_phase{phase="preparing"} 0
populator_phase{phase="copying"} 1
populator_phase{phase="verifying"} 0
populator_phase{phase="syncing"} 0
populator_phase{phase="done"} 0
# EOF
"#
        );
    }
}
