//! Log lines on standard error: for people, or as JSON.

use std::{io, panic};

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
};

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
/// returns false and changes nothing.
pub fn init(settings: &Settings<'_>) -> bool {
    if tracing::subscriber::set_global_default(subscriber(settings, io::stderr)).is_err() {
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
pub fn subscriber<W>(settings: &Settings<'_>, writer: W) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = LevelFilter::from_level(settings.level);
    let filter = settings.own.iter().fold(
        Targets::new().with_default(level.min(LevelFilter::WARN)),
        |filter, own| filter.with_target(*own, level),
    );
    let lines = fmt::layer().with_writer(writer);
    let lines = match settings.format {
        Format::Text => lines
            .with_ansi(false)
            // Only a reader of the code needs the module that a line comes from.
            .with_target(settings.level >= Level::DEBUG)
            .boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    Registry::default().with(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

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
        let subscriber = subscriber(&settings, move || writer.clone());
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
        assert_eq!(lines[0]["message"], "asked\nagain");
        assert_eq!(lines[0]["answer"], 42);
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
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
