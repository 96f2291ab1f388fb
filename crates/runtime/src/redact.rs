//! Text that leaves the process, in logs and in the termination message: without secrets, on one line,
//! and of bounded length.
//!
//! Servers echo requests, in faults, headers, redirects and certificates, and a message quotes what they
//! say. So the values of secrets are masked at the end, where every text passes, and not where a message
//! is made.

mod find;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use find::Needle;

/// What stands in place of a secret.
const MASK: &str = "***";
/// Longest text, in bytes: the termination message holds 4096 with everything else in it.
const LONGEST: usize = 2048;
/// Stands at the end of a text that was cut.
const CUT: &str = " [cut]";
/// How much of a text is searched, in characters: what is beyond it is cut off in any case, unless most of
/// the text is masked.
const SEARCHED: usize = 4 * LONGEST;
/// Most forms of secrets that are known; a server can give any number of tickets. The first ones stay: those
/// of the user's own secrets.
const MOST: usize = 2048;
const FIRST: usize = 256;
/// Shortest secret that is masked, in bytes. Shorter ones would be found everywhere.
const SHORTEST: usize = 4;

/// The secrets of a run. Cheap to clone; clones share what they know. `Debug` shows nothing of it.
///
/// A secret is found as it is and percent-encoded, as base64 (alone or within a longer text), with the
/// escapes of JSON and HTML, in either case, with other characters in place of controls, blanks, quotes and
/// braces, and where a text was cut within it.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<Needle>>>);

impl Redactor {
    /// Knows no secret yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, `value` is masked wherever it stands. Values of less than 4 bytes are not.
    pub fn add_secret(&self, value: &str) {
        self.add(value, Needle::of_secret);
    }

    /// From now on, `value` is masked where it stands as a word: the name of a user, which may be a part of
    /// common words. Values of less than 4 bytes are not.
    pub fn add_name(&self, value: &str) {
        self.add(value, Needle::of_name);
    }

    /// The text as it may leave the process: masked, then [`sanitised`].
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let needles = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if needles.is_empty() {
            return sanitised(text).into_owned();
        }
        let text: Vec<char> = text.chars().take(SEARCHED).collect();
        let folded: Vec<char> = text.iter().copied().map(find::fold).collect();
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(letter) = text.get(at) {
            let found = needles
                .iter()
                .filter_map(|needle| needle.found_at(&text, &folded, at))
                .max();
            if let Some(end) = found {
                masked.push_str(MASK);
                at = end;
            } else {
                masked.push(*letter);
                at += 1;
            }
        }
        sanitised(&masked).into_owned()
    }

    fn add(&self, value: &str, needles: fn(&str) -> Vec<Needle>) {
        let value = value.trim();
        if value.len() < SHORTEST {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for needle in needles(value) {
            if known.contains(&needle) {
                continue;
            }
            if known.len() >= MOST {
                known.remove(FIRST);
            }
            known.push(needle);
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// A text on one line, of at most 2 KiB: a blank in place of each control character, line end and
/// invisible character that changes the direction or the look of what stands beside it.
#[must_use]
pub fn sanitised(text: &str) -> Cow<'_, str> {
    let is_plain = !text.contains(is_unprintable);
    if is_plain && text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for letter in text.chars() {
        if line.len() + letter.len_utf8() > LONGEST {
            let mut end = LONGEST - CUT.len();
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            line.push_str(CUT);
            break;
        }
        line.push(if is_unprintable(letter) { ' ' } else { letter });
    }
    Cow::Owned(line)
}

/// Controls (C0, C1, DEL), separators of lines and paragraphs, marks of direction, joiners, the byte order
/// mark, and tags (Unicode 16, the general categories Cc, Zl, Zp and most of Cf).
fn is_unprintable(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests;
