//! Texts of other people in messages: of users, servers and certificates.

/// Longest part of such a text that is repeated, in characters.
const MOST: usize = 120;

/// A text without what does not belong into a sentence (control characters, braces, escapes), of at
/// most 120 characters.
#[must_use]
pub fn printable(text: &str) -> String {
    let plain = |letter: char| match letter {
        '\\' | '{' | '}' | '[' | ']' | '"' => '_',
        letter if letter.is_control() => '_',
        letter => letter,
    };
    let mut shown: String = text.chars().take(MOST).map(plain).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The same in quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_plain() {
        assert_eq!(quoted("disk 1 (old)\n"), "\"disk 1 (old)_\"");
        assert_eq!(quoted("Datenträger"), "\"Datenträger\"");
        assert_eq!(quoted(""), "\"\"");
        let long = quoted(&"\u{7}x".repeat(1000));
        assert_eq!(long.chars().count(), MOST + 5);
        testkit::plain::assert_plain(&long);
    }
}
