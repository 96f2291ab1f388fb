//! Tables of the documents, for tests that compare them with the code in both directions.

use std::collections::BTreeSet;

/// A table of a Markdown document.
#[derive(Debug)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The table whose heading begins with these cells.
    ///
    /// # Panics
    /// When the document has none, or more than one.
    #[track_caller]
    pub fn of(document: &str, heading: &[&str]) -> Self {
        let mut found = Vec::new();
        let mut lines = document.lines();
        while let Some(line) = lines.next() {
            let cells = cells(line);
            let begins = cells
                .iter()
                .zip(heading)
                .all(|(cell, wanted)| cell == wanted);
            if cells.len() >= heading.len() && begins {
                // The line below the heading has dashes.
                let table = lines
                    .by_ref()
                    .skip(1)
                    .take_while(|line| line.starts_with('|'));
                found.push(Self {
                    heading: cells,
                    rows: table.map(self::cells).collect(),
                });
            }
        }
        assert_eq!(found.len(), 1, "tables that begin with {heading:?}");
        found.remove(0)
    }

    /// The words in backquotes of the first column.
    pub fn names(&self) -> BTreeSet<&str> {
        let rows = self.rows.iter();
        rows.flat_map(|row| row[0].split('`').skip(1).step_by(2))
            .collect()
    }

    /// How many rows it has below the heading.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has a heading alone.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Fails unless the first column names what the code has: a row without code fails as code without a row does.
    ///
    /// # Panics
    /// When the two differ.
    #[track_caller]
    pub fn assert_names<'a>(&self, code: impl IntoIterator<Item = &'a str>) {
        let code: BTreeSet<&str> = code.into_iter().collect();
        let names = self.names();
        let without_row: Vec<_> = code.difference(&names).collect();
        let without_code: Vec<_> = names.difference(&code).collect();
        assert!(
            without_row.is_empty() && without_code.is_empty(),
            "without a row: {without_row:?}; rows without code: {without_code:?}"
        );
    }

    /// The cell of the only row whose first cell has the name, as a word in backquotes or as its whole text.
    ///
    /// # Panics
    /// When no row or several have the name, or the table lacks the column.
    #[track_caller]
    pub fn cell(&self, name: &str, column: &str) -> &str {
        let index = self.heading.iter().position(|cell| cell == column);
        let index = index.unwrap_or_else(|| panic!("no column {column:?} in {:?}", self.heading));
        let named = |row: &&Vec<String>| {
            row[0] == name
                || row[0]
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .any(|word| word == name)
        };
        let rows: Vec<_> = self.rows.iter().filter(named).collect();
        assert_eq!(rows.len(), 1, "rows of {name:?} below {:?}", self.heading);
        &rows[0][index]
    }
}

/// The cells of a line; none when it is no row of a table.
fn cells(line: &str) -> Vec<String> {
    let Some(row) = line
        .strip_prefix("| ")
        .and_then(|row| row.strip_suffix('|'))
    else {
        return Vec::new();
    };
    row.split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "text\n\n| name | value | why |\n|---|---|---|\n| `a`, `b` | 1 | |\n| c d | 2 | `x` |\n\n\
                        | name | other |\n|---|---|\n| `e` | |\n";

    #[test]
    fn cells_are_found_by_name_and_column() {
        let table = Table::of(PAGE, &["name", "value"]);
        assert_eq!(table.cell("b", "value"), "1");
        assert_eq!(table.cell("c d", "why"), "`x`");
        assert_eq!(table.names(), ["a", "b"].into());
        table.assert_names(["b", "a"]);
    }

    #[test]
    #[should_panic(expected = "without a row: [\"f\"]; rows without code: [\"b\"]")]
    fn both_directions_count() {
        Table::of(PAGE, &["name", "value"]).assert_names(["a", "f"]);
    }

    #[test]
    #[should_panic(expected = "tables that begin with [\"name\"]")]
    fn the_heading_must_be_unique() {
        Table::of(PAGE, &["name"]);
    }
}
