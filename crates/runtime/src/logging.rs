//! Log lines on standard error: for people, or as JSON.

mod line;
mod status;

use std::panic;

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
};

use crate::Redactor;
use line::Line;
pub use status::Status;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Time, level, sentence, fields.
    Text,
    /// One object per line; an event's fields stand beside `timestamp`, `level` and `message`.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// How a line looks.
    pub format: Format,
    /// Lowest level of the crates in `own`.
    pub level: Level,
    /// Crates that are logged at `level`. All others are logged from warnings upwards only: what
    /// libraries say below that may hold addresses and headers.
    pub own: &'a [&'a str],
}

/// Starts logging to standard error, and has panics logged too. The first call decides; a later one
/// returns false and changes nothing. Texts are [sanitised](crate::redact::sanitised).
#[allow(
    clippy::must_use_candidate,
    reason = "a program that calls it once need not ask whether it was the first"
)]
pub fn init(settings: &Settings<'_>) -> bool {
    init_redacted(settings, &Redactor::new(), &Status::default())
}

/// Like [`init`]; the secrets that `redactor` knows, or learns later, are masked, and lines are written above `status`.
#[allow(
    clippy::must_use_candidate,
    reason = "a program that calls it once need not ask whether it was the first"
)]
pub fn init_redacted(settings: &Settings<'_>, redactor: &Redactor, status: &Status) -> bool {
    let subscriber = subscriber(settings, redactor, status.clone());
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        return false;
    }
    panic::set_hook(Box::new(|panic| {
        tracing::error!(
            location = panic.location().map(tracing::field::display),
            "panic: {}",
            panic.payload_as_str().unwrap_or("without a message")
        );
    }));
    true
}

/// A subscriber that writes lines with UTC times to `writer`.
pub fn subscriber<W>(
    settings: &Settings<'_>,
    redactor: &Redactor,
    writer: W,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = LevelFilter::from_level(settings.level);
    let filter = settings.own.iter().fold(
        Targets::new().with_default(level.min(LevelFilter::WARN)),
        |filter, own| filter.with_target(*own, level),
    );
    let lines = fmt::layer().with_writer(writer).event_format(Line {
        format: settings.format,
        // Only a reader of the code needs the module that a line comes from.
        with_target: settings.format == Format::Json || settings.level >= Level::DEBUG,
        redactor: redactor.clone(),
    });
    Registry::default().with(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, level: Level, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = Settings {
            format,
            level,
            own: &["ours"],
        };
        let redactor = Redactor::new();
        redactor.add_secret("hunter2");
        let subscriber = subscriber(&settings, &redactor, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_has_a_utc_time_and_no_escapes() {
        let text = logged(Format::Text, Level::INFO, || {
            tracing::info!(target: "ours", answer = 42, "asked");
        });
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.len() > 20 && time.ends_with('Z'), "{text}");
        assert_eq!(rest, " INFO asked answer=42\n");
    }

    #[test]
    fn json_lines_are_flat() {
        let text = logged(Format::Json, Level::INFO, || {
            tracing::info!(target: "ours::deep", answer = 42, "asked\nagain");
            tracing::warn!(target: "ours", "second");
        });
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "asked again");
        assert_eq!(lines[0]["answer"], 42);
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn every_kind_of_value_is_written() {
        let log = || {
            tracing::warn!(target: "ours", debug = ?Some("a\"b"), display = %"c d", text = "e \"f\"",
                yes = true, less = -1, half = 0.5, nothing = f64::NAN, "all of {}", "them");
        };
        let text = logged(Format::Text, Level::DEBUG, log);
        assert!(
            text.ends_with(
                "Z  WARN ours: all of them debug=Some(\"a\\\"b\") display=c d text=\"e \\\"f\\\"\" \
                 yes=true less=-1 half=0.5 nothing=NaN\n"
            ),
            "{text}"
        );
        let json = logged(Format::Json, Level::INFO, log);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        for (field, value) in [
            ("message", serde_json::json!("all of them")),
            ("debug", "Some(\"a\\\"b\")".into()),
            ("display", "c d".into()),
            ("text", "e \"f\"".into()),
            ("yes", true.into()),
            ("less", (-1).into()),
            ("half", 0.5.into()),
            ("nothing", serde_json::Value::Null),
            ("target", "ours".into()),
        ] {
            assert_eq!(json[field], value, "{json}");
        }
    }

    #[test]
    fn secrets_controls_and_line_ends_are_in_no_line() {
        let forged = "x\n2026-11-28T00:00:00Z  INFO forged \u{1b}[2J\u{202e}";
        let log = || {
            tracing::error!(target: "ours", text = forged, shown = %forged, debug = ?forged,
                secret = "a hunter2 b", coded = %"aHVudGVyMg==", "{forged} hunter2");
        };
        for format in [Format::Text, Format::Json] {
            let lines = logged(format, Level::INFO, log);
            assert_eq!(lines.lines().count(), 1, "{lines}");
            let line = lines.trim_end_matches('\n');
            for bad in ["hunter2", "HVudGVyM", "\u{1b}", "\u{202e}", "\\u001b", "\n"] {
                assert!(!line.contains(bad), "{line}");
            }
            assert!(line.contains("a *** b"), "{line}");
        }
    }

    #[test]
    fn others_are_heard_from_warnings_upwards() {
        let log = || {
            tracing::debug!(target: "ours", "a");
            tracing::debug!(target: "theirs", "b");
            tracing::info!(target: "theirs", "c");
            tracing::warn!(target: "theirs", "d");
            tracing::error!(target: "theirs", "e");
        };
        let heard = |level| {
            logged(Format::Json, level, log)
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .map(|line| line["message"].as_str().unwrap().to_owned())
                .collect::<String>()
        };
        assert_eq!(heard(Level::DEBUG), "ade");
        assert_eq!(heard(Level::INFO), "de");
        assert_eq!(heard(Level::ERROR), "e");
    }
}
