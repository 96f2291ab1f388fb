//! Texts that come from outside: of a bounded length, and in one line that shows what it says.

const CUT: &str = " [cut]";

/// The text, or as much of its beginning as `most` bytes hold, and a mark that it was cut. Whole
/// characters are kept.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(CUT.len()));
    format!("{}{CUT}", &text[..end])
}

/// The text in one line, [cut](cut): a blank stands for each control character, end of a line and mark of
/// the direction of writing. Such characters forge lines in logs, and reorder what a terminal shows
/// (<https://www.unicode.org/reports/tr36/>).
pub(crate) fn plain(text: &str, most: usize) -> String {
    let shown = |character: char| match character {
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => ' ',
        character if character.is_control() => ' ',
        character => character,
    };
    cut(text, most).chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_and_moves_no_cursor() {
        let hostile = "a\r\n2026 INFO forged\u{1b}[2J\u{202e}b\u{2028}c\u{0}";
        assert_eq!(plain(hostile, 1024), "a  2026 INFO forged [2J b c ");
        assert_eq!(plain("größe 3 €", 1024), "größe 3 €");
        assert_eq!(plain(&"x".repeat(2000), 1024).len(), 1024);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        for (text, bytes) in [
            ("x".repeat(1024), 1024),
            ("x".repeat(1025), 1024),
            ("€".repeat(400), 1023),
        ] {
            let short = cut(&text, 1024);
            assert_eq!(short.len(), bytes);
            assert_eq!(short.ends_with(CUT), text.len() > 1024);
        }
    }
}
