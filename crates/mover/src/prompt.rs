//! A question on a terminal, whose answer is not shown.

use std::io::{self, IsTerminal, Write};

use contract::Exit;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use secrecy::{SecretString, zeroize::Zeroizing};

use crate::Failure;

/// Longer than any password; a person who holds a key down gets no further.
const MAX: usize = 4096;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL_LINE: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// The answer; none when standard input is no terminal.
///
/// # Errors
/// [`Exit::Interrupted`] after Ctrl-C; [`Exit::Configuration`] when the terminal fails.
pub(crate) fn ask(question: &str) -> Result<Option<SecretString>, Failure> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Ok(None);
    }
    let failed = |error: io::Error| {
        Failure::from_error(Exit::Configuration, &error).context("asking on the terminal")
    };
    let _quiet = Quiet::start().map_err(failed)?;
    let mut output = io::stderr();
    // A person who does not see the question can answer it.
    let _ = write!(output, "{question}").and_then(|()| output.flush());
    // By the descriptor: a buffered reader would keep copies.
    let answer = answer(|byte| Ok(rustix::io::read(&input, &mut byte[..])? == 1));
    let _ = writeln!(output);
    match answer.map_err(failed)? {
        Some(answer) => Ok(Some(answer)),
        None => Err(Failure::new(
            Exit::Interrupted,
            "ended at the question for the password",
        )),
    }
}

/// Reads keys until the line ends; none after Ctrl-C. `key` says whether there was one.
fn answer(
    mut key: impl FnMut(&mut [u8; 1]) -> io::Result<bool>,
) -> io::Result<Option<SecretString>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX));
    let mut byte = Zeroizing::new([0]);
    while key(&mut byte)? {
        match byte[0] {
            INTERRUPT => return Ok(None),
            END | b'\r' | b'\n' => break,
            BACKSPACE | DELETE => {
                // The whole of a character, which may have several bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            KILL_LINE => line.clear(),
            other if line.len() < MAX => line.push(other),
            _ => {}
        }
    }
    let text = str::from_utf8(&line)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the answer is not UTF-8"))?;
    Ok(Some(SecretString::from(text)))
}

/// The terminal without echo, until it is dropped. Ctrl-C is a key meanwhile: a signal could end the program and
/// leave the terminal so.
struct Quiet(Termios);

impl Quiet {
    fn start() -> io::Result<Self> {
        let input = io::stdin();
        let before = termios::tcgetattr(&input)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed before the question is no answer to it.
        termios::tcsetattr(&input, OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs no modes.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn typed(keys: &[u8]) -> Option<String> {
        let mut keys = keys.iter();
        let answer = answer(|byte| {
            Ok(keys.next().is_some_and(|key| {
                *byte = [*key];
                true
            }))
        });
        let answer = answer.unwrap()?;
        Some(answer.expose_secret().to_owned())
    }

    #[test]
    fn keys_become_a_line() {
        for (keys, line) in [
            (&b"hunter2\n"[..], "hunter2"),
            (b"hunter2\rmore", "hunter2"),
            (b"a b\x04", "a b"),
            (b"", ""),
            (b"hunx\x7fter\x083\x082\n", "hunte2"),
            (b"wrong\x15right\n", "right"),
            (b"\x7f\x7fx\n", "x"),
            ("p\u{e4}\u{20ac}\x7f\x7f\n".as_bytes(), "p"),
        ] {
            assert_eq!(typed(keys).as_deref(), Some(line), "{keys:?}");
        }
        assert_eq!(typed(b"hunt\x03er2\n"), None);
    }
}
