//! One event as one line. Every text of it passes the redactor.

use std::{error, fmt};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::Format;
use crate::Redactor;

/// The field that holds an event's sentence.
const MESSAGE: &str = "message";

/// How events become lines.
pub(super) struct Line {
    pub(super) format: Format,
    /// Whether a line names the module that it comes from.
    pub(super) with_target: bool,
    pub(super) redactor: Redactor,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = event.metadata().level();
        let target = self.with_target.then(|| event.metadata().target());
        let mut fields = Fields {
            redactor: &self.redactor,
            format: self.format,
            written: String::new(),
        };
        event.record(&mut fields);
        let fields = fields.written;
        match self.format {
            Format::Text => {
                write!(writer, "{time} {level:>5}")?;
                if let Some(target) = target {
                    write!(writer, " {target}:")?;
                }
                writeln!(writer, "{fields}")
            }
            Format::Json => {
                write!(
                    writer,
                    r#"{{"timestamp":"{time}","level":"{level}"{fields}"#
                )?;
                if let Some(target) = target {
                    write!(writer, r#","target":{}"#, json(target))?;
                }
                writeln!(writer, "}}")
            }
        }
    }
}

/// The fields of an event, each with what separates it from the one before.
struct Fields<'a> {
    redactor: &'a Redactor,
    format: Format,
    written: String,
}

impl Fields<'_> {
    fn text(&mut self, field: &Field, text: &str, is_quoted: bool) {
        let text = self.redactor.apply(text);
        match self.format {
            Format::Json => self.value(field, &json(&text)),
            Format::Text if is_quoted => self.value(field, &format!("{text:?}")),
            Format::Text => self.value(field, &text),
        }
    }

    fn number(&mut self, field: &Field, number: impl Into<serde_json::Value> + fmt::Debug) {
        match self.format {
            Format::Text => self.value(field, &format!("{number:?}")),
            Format::Json => self.value(field, &number.into().to_string()),
        }
    }

    fn value(&mut self, field: &Field, value: &str) {
        let name = field.name();
        match self.format {
            Format::Text => {
                self.written.push(' ');
                if name != MESSAGE {
                    self.written.push_str(name);
                    self.written.push('=');
                }
            }
            Format::Json => {
                self.written.push(',');
                self.written.push_str(&json(name));
                self.written.push(':');
            }
        }
        self.written.push_str(value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value, field.name() != MESSAGE);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn error::Error + 'static)) {
        self.text(field, &value.to_string(), false);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }
}

/// A text as JSON.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
