//! Texts of a bounded length.

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

#[cfg(test)]
mod tests {
    use super::*;

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
