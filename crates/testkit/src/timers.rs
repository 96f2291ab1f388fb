//! The table of timers in `docs/operations.md`, for tests that hold the code against it.

use std::time::Duration;

use crate::tables::Table;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// The durations that the row of this timer states, in order: `0.5 s to 30 s` is two.
///
/// # Panics
/// When the table has no such row.
pub fn stated(name: &str) -> Vec<Duration> {
    durations(Table::of(OPERATIONS, &["timer", "value"]).cell(name, "value"))
}

fn durations(text: &str) -> Vec<Duration> {
    let words: Vec<&str> = text.split([' ', ',']).collect();
    let pairs = words.windows(2).filter_map(|pair| {
        let number: f64 = pair[0].parse().ok()?;
        match pair[1] {
            "s" => Some(Duration::from_secs_f64(number)),
            "min" => Some(Duration::from_secs_f64(number * 60.0)),
            _ => None,
        }
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_of_a_value_is_found() {
        let seconds = |text| -> Vec<f64> {
            let found = durations(text);
            found.iter().map(Duration::as_secs_f64).collect()
        };
        assert_eq!(seconds("0.5 s to 30 s, doubling"), [0.5, 30.0]);
        assert_eq!(seconds("2 s, then 5 s or 30 s"), [2.0, 5.0, 30.0]);
        assert_eq!(seconds("10 min, and 1 s for each 32 MiB"), [600.0, 1.0]);
        assert!(seconds("12 in a row").is_empty());
    }
}
