//! Reads the tables of the documents, so that man pages say what the documents say.

use anyhow::{Context, ensure};
use clap_mangen::roff::{Inline, bold, italic, roman};

/// The rows of the first table under a heading, each with its cells; without the table's own head.
///
/// # Errors
/// The document has no such heading, or no table follows before the next one.
pub(crate) fn rows(document: &str, heading: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let mut lines = document.lines();
    lines
        .find(|line| line.trim_start_matches('#') == format!(" {heading}"))
        .with_context(|| format!("no heading {heading:?}"))?;
    let table: Vec<&str> = lines
        .take_while(|line| !line.starts_with('#'))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .collect();
    ensure!(table.len() > 2, "no table below the heading {heading:?}");
    Ok(table.into_iter().skip(2).map(cells).collect())
}

fn cells(row: &str) -> Vec<String> {
    // A character that no document has stands for the escaped bar.
    let row = row.replace("\\|", "\0");
    let inner = row.trim().trim_start_matches('|').trim_end_matches('|');
    let cells = inner.split('|');
    cells.map(|cell| cell.trim().replace('\0', "|")).collect()
}

/// Text of a cell: code in bold, emphasis in italics, of a link its words.
pub(crate) fn inline(text: &str) -> Vec<Inline> {
    let mut found = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (part, after) = match first {
            '`' | '*' => enclosed(rest, first),
            '[' => link(rest),
            _ => None,
        }
        .unzip();
        let (Some(part), Some(after)) = (part, after) else {
            plain.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        if !plain.is_empty() {
            found.push(roman(std::mem::take(&mut plain)));
        }
        match first {
            '`' => found.push(bold(part)),
            '*' => found.push(italic(part)),
            _ => found.extend(inline(part)),
        }
        rest = after;
    }
    if !plain.is_empty() {
        found.push(roman(plain));
    }
    found
}

/// What stands between two marks, of which one is at the beginning of the text, and what follows.
fn enclosed(text: &str, mark: char) -> Option<(&str, &str)> {
    text.strip_prefix(mark)?.split_once(mark)
}

fn link(text: &str) -> Option<(&str, &str)> {
    let (words, rest) = text.strip_prefix('[')?.split_once("](")?;
    // `[USER]` of a pattern is none.
    let (target, rest) = rest.split_once(')')?;
    (!words.contains(']') && !target.contains(' ')).then_some((words, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# A\n\n## B\n\ntext\n\n| x | y |\n|---|---|\n| `a\\|b` | c |\n| d | |\n\n| z |\n|---|\n| e |\n\n## C\n";

    #[test]
    fn the_first_table_below_a_heading_is_read() {
        assert_eq!(
            rows(DOCUMENT, "B").unwrap(),
            [vec!["`a|b`", "c"], vec!["d", ""]]
        );
        for wrong in ["C", "D", "A"] {
            assert!(rows(DOCUMENT, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn marks_become_fonts_and_links_their_words() {
        assert_eq!(
            inline("see [the `key`](a.md#b), *why*, `http://[USER]` or `*.host`, [X]:1"),
            [
                roman("see "),
                roman("the "),
                bold("key"),
                roman(", "),
                italic("why"),
                roman(", "),
                bold("http://[USER]"),
                roman(" or "),
                bold("*.host"),
                roman(", [X]:1"),
            ]
        );
    }
}
