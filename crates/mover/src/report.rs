//! Progress as log lines, at a pace that people can read; on a terminal as one line that changes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use runtime::logging::{Format, Status};
use tokio::time::{self, Instant, MissedTickBehavior};
use transfer::{Phase, Rate, Snapshot};

use crate::{duration, metrics::Shown};

/// How often the counters are read.
const TICK: Duration = Duration::from_secs(1);
/// Before the first line: a short copy needs none.
const FIRST: Duration = Duration::from_secs(2);
/// Between two lines that show progress.
const PACE: Duration = Duration::from_secs(5);
/// Between two lines when less than one percent came into place.
const SLOW_PACE: Duration = Duration::from_secs(30);
/// The rate is an average over this time.
const WINDOW: Duration = Duration::from_secs(10);

/// Logs the progress for ever, or shows it as the `status`.
pub(crate) async fn run(shown: Arc<Shown>, format: Format, status: Status) {
    let start = Instant::now();
    let mut reporter = Reporter::default();
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = shown.progress.snapshot();
        let percent = shown.percent(&snapshot);
        let line = reporter.tick(start.elapsed(), &snapshot, percent);
        shown.rate.store(reporter.rate(), Ordering::Relaxed);
        if status.is_on() {
            // Before the size is known there may be a question on the terminal.
            if snapshot.total > 0 {
                status.show(&reporter.line(&snapshot, percent).text());
            }
        } else if let Some(line) = line {
            line.log(format);
        }
    }
}

/// Logs what `line` says now and then, until `work` has ended.
pub(crate) async fn narrated<T>(line: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    let mut ticks = time::interval_at(Instant::now() + FIRST, PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => tracing::info!("{}", line()),
        }
    }
}

/// Decides when there is something to say.
#[derive(Debug)]
struct Reporter {
    rate: Rate,
    said: Option<Said>,
}

/// What the last line said.
#[derive(Debug)]
struct Said {
    at: Duration,
    phase: Phase,
    percent: f64,
}

/// The values of one progress line.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    snapshot: Snapshot,
    percent: f64,
    rate: u64,
    left: Option<Duration>,
}

impl Reporter {
    /// The counters `at` a time since the start.
    fn tick(&mut self, at: Duration, snapshot: &Snapshot, percent: f64) -> Option<Line> {
        self.rate.observe(at, snapshot);
        let due = match &self.said {
            None => at >= FIRST,
            Some(said) if said.phase != snapshot.phase => true,
            Some(said) => {
                let pace = if percent - said.percent >= 1.0 {
                    PACE
                } else {
                    SLOW_PACE
                };
                at.saturating_sub(said.at) >= pace
            }
        };
        // The last line of all is the shell's.
        if !due || snapshot.phase == Phase::Done {
            return None;
        }
        self.said = Some(Said {
            at,
            phase: snapshot.phase,
            percent,
        });
        Some(self.line(snapshot, percent))
    }

    fn line(&self, snapshot: &Snapshot, percent: f64) -> Line {
        Line {
            snapshot: *snapshot,
            percent,
            rate: self.rate(),
            left: self.rate.eta(snapshot),
        }
    }

    /// Bytes per second that came into place over the last seconds.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and a cast to an integer saturates"
    )]
    fn rate(&self) -> u64 {
        self.rate.done() as u64
    }
}

impl Default for Reporter {
    fn default() -> Self {
        Self {
            rate: Rate::new(WINDOW),
            said: None,
        }
    }
}

impl Line {
    fn log(&self, format: Format) {
        match format {
            Format::Text => tracing::info!("{}", self.text()),
            Format::Json => tracing::info!(
                phase = self.snapshot.phase.name(),
                percent = self.percent,
                total_bytes = self.snapshot.total,
                done_bytes = self.snapshot.done(),
                data_bytes = self.snapshot.data,
                zero_bytes = self.snapshot.zero,
                received_bytes = self.snapshot.received,
                bytes_per_second = self.rate,
                seconds_left = self.left.map(|left| left.as_secs()),
                retries = self.snapshot.retries.sum(),
                "progress"
            ),
        }
    }

    fn text(&self) -> String {
        use std::fmt::Write;
        let Snapshot {
            total,
            data,
            zero,
            phase,
            retries,
            ..
        } = self.snapshot;
        let mut text = phase.name().to_owned();
        if total == 0 {
            return text;
        }
        // Writing to a string does not fail.
        let _ = write!(
            text,
            " {:.1} % of {}: {} data, {} zero",
            self.percent,
            bytes(total),
            bytes(data),
            bytes(zero),
        );
        if phase == Phase::Copying {
            let _ = write!(text, ", {}/s", bytes(self.rate));
            if let Some(left) = self.left {
                let _ = write!(text, ", {} left", duration::show(left));
            }
        }
        match retries.sum() {
            0 => {}
            1 => text.push_str(", 1 retry"),
            n => {
                let _ = write!(text, ", {n} retries");
            }
        }
        text
    }
}

/// `amount` per second of `time`; 0 for no time.
pub(crate) fn per_second(amount: u64, time: Duration) -> u64 {
    u128::from(amount)
        .saturating_mul(1_000_000)
        .checked_div(time.as_micros())
        .map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

/// Bytes for people: `512 B`, `1.5 MiB`, `20.0 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10 / 1024;
    while tenths >= 10_240 && unit < UNITS.len() - 1 {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Mutex,
    };

    use runtime::{Redactor, logging};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn copying(total: u64, data: u64) -> Snapshot {
        Snapshot {
            total,
            data,
            phase: Phase::Copying,
            ..Snapshot::default()
        }
    }

    /// The seconds at which lines appear when the counters follow `percent_at`.
    fn lines(seconds: u64, percent_at: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut reporter = Reporter::default();
        (0..=seconds)
            .filter(|second| {
                let snapshot = copying(100 * MIB, percent_at(*second) * MIB);
                let percent = Shown::default().percent(&snapshot);
                reporter
                    .tick(Duration::from_secs(*second), &snapshot, percent)
                    .is_some()
            })
            .collect()
    }

    #[test]
    fn the_first_line_after_2_s_then_one_in_5_s() {
        assert_eq!(lines(20, |second| second * 4), [2, 7, 12, 17]);
    }

    #[test]
    fn a_standstill_is_told_every_30_s() {
        assert_eq!(lines(65, |_| 7), [2, 32, 62]);
    }

    #[test]
    fn a_new_phase_is_told_at_once_and_the_end_is_not() {
        let mut reporter = Reporter::default();
        let mut said = |second, phase| {
            let snapshot = Snapshot {
                phase,
                ..copying(MIB, MIB)
            };
            reporter
                .tick(Duration::from_secs(second), &snapshot, 99.99)
                .is_some()
        };
        assert!(!said(1, Phase::Preparing));
        assert!(said(2, Phase::Copying));
        assert!(said(3, Phase::Syncing));
        assert!(!said(4, Phase::Syncing));
        assert!(!said(5, Phase::Done));
    }

    #[test]
    fn rate_and_time_left_follow_the_last_seconds() {
        let mut reporter = Reporter::default();
        let mut line = None;
        // 10 MiB/s at first, 1 MiB/s over the last ten seconds.
        for second in 0..=40 {
            let data = if second <= 20 {
                second * 10
            } else {
                200 + (second - 20)
            };
            let snapshot = copying(280 * MIB, data * MIB);
            line = reporter
                .tick(Duration::from_secs(second), &snapshot, 0.0)
                .or(line);
        }
        assert_eq!(reporter.rate(), MIB);
        let line = line.unwrap();
        assert_eq!(
            line.text(),
            "copying 0.0 % of 280.0 MiB: 212.0 MiB data, 0 B zero, 1.0 MiB/s, 1m 08s left"
        );
    }

    #[test]
    fn without_progress_there_is_no_time_left() {
        let mut reporter = Reporter::default();
        for second in 0..2 {
            reporter.tick(Duration::from_secs(second), &copying(MIB, 0), 0.0);
        }
        let line = reporter.tick(FIRST, &copying(MIB, 0), 0.0).unwrap();
        assert_eq!((line.rate, line.left), (0, None));
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged in 3 s at the start of a run.
    async fn logged(format: Format) -> String {
        let shown = Arc::new(Shown::default());
        shown.progress.retried(transfer::RetryReason::Busy);
        log_of(format, async {
            let run = run(shown, format, Status::default());
            let _ = time::timeout(Duration::from_secs(3), run).await;
        })
        .await
    }

    async fn log_of(format: Format, work: impl Future<Output = ()>) -> String {
        let log = Log::default();
        let writer = log.clone();
        let settings = logging::Settings {
            format,
            level: tracing::Level::INFO,
            own: &["mover"],
        };
        let subscriber = logging::subscriber(&settings, &Redactor::new(), move || writer.clone());
        let guard = tracing::subscriber::set_default(subscriber);
        work.await;
        drop(guard);
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_for_people_or_for_programs() {
        let text = logged(Format::Text).await;
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with(" INFO preparing\n"), "{text}");

        let json: serde_json::Value = serde_json::from_str(&logged(Format::Json).await).unwrap();
        assert_eq!(json["message"], "progress");
        assert_eq!(json["phase"], "preparing");
        assert_eq!(json["percent"], 0.0);
        assert_eq!(json["total_bytes"], 0);
        assert_eq!(json["retries"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_progress_of_the_target_has_lines_of_its_own() {
        let text = log_of(Format::Text, async {
            let line = || "downloading: 1 B of 2 B".to_owned();
            let work = time::sleep(Duration::from_secs(13));
            narrated(line, work).await;
        })
        .await;
        // After 2, 7 and 12 s.
        assert_eq!(text.matches("downloading: 1 B of 2 B").count(), 3, "{text}");
    }

    #[test]
    fn sizes_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (MIB - 1, "1023.9 KiB"),
            (20 << 30, "20.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn the_table_of_timers_is_right() {
        let stated = testkit::timers::stated("progress line");
        assert_eq!(stated, [FIRST, PACE, SLOW_PACE]);
    }
}
