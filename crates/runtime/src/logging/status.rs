//! A line at the end of a terminal that changes in place, below the log lines.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::termios::tcgetwinsize;
use tracing_subscriber::fmt::MakeWriter;

/// To the line's begin, and nothing from there on.
const ERASE: &str = "\r\u{1b}[K";
/// Of a terminal that does not say how wide it is.
const COLUMNS: usize = 80;

/// The line, and the standard error that log lines share with it. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Status(Option<Arc<Mutex<Text>>>);

#[derive(Debug, Default)]
struct Text {
    shown: String,
    ended: bool,
}

impl Status {
    /// A line on standard error, if that is a terminal; else none.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self(io::stderr().is_terminal().then(Arc::default))
    }

    /// Whether there is such a line.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Shows this text, as much of it as fits into one row, in place of the last one.
    pub fn show(&self, text: &str) {
        let Some(mut line) = self.line().filter(|line| !line.ended) else {
            return;
        };
        // A text of several rows could not be erased.
        line.shown = text.chars().take(columns() - 1).collect();
        draw(&[ERASE, &line.shown]);
    }

    /// Takes the line away for good.
    pub fn end(&self) {
        let Some(mut line) = self.line() else {
            return;
        };
        line.ended = true;
        if !std::mem::take(&mut line.shown).is_empty() {
            draw(&[ERASE]);
        }
    }

    fn line(&self) -> Option<MutexGuard<'_, Text>> {
        let line = self.0.as_ref()?;
        Some(line.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One log line at a time, each above the status.
impl Write for &Status {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let line = self.line().filter(|line| !line.shown.is_empty());
        let mut output = io::stderr().lock();
        let Some(line) = line else {
            return output.write_all(bytes);
        };
        output.write_all(ERASE.as_bytes())?;
        output.write_all(bytes)?;
        output.write_all(line.shown.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Status {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

fn draw(parts: &[&str]) {
    // Progress that cannot be shown changes nothing else.
    let _ = io::stderr().lock().write_all(parts.concat().as_bytes());
}

fn columns() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col.into());
    if columns < 2 { COLUMNS } else { columns }
}
