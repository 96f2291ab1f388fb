//! Durations as people write them.

use std::time::Duration;

/// Parses a duration such as `30s`, `10m`, `1h30m`, `500ms` or `0`.
///
/// Units are `ms`, `s`, `m`, `h` and `d`, each with a whole number before it. A bare number other
/// than 0 is refused, since its unit is not known.
///
/// # Errors
/// A sentence that says what is wrong and shows an example.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err("an empty duration; write for example 30s or 10m".into());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.len()
            - tail
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let (unit, tail) = tail.split_at(unit_len);
        if number.is_empty() || (unit.is_empty() && !tail.is_empty()) {
            return Err(format!(
                "{text:?} is not a duration; write whole numbers with units, for example 30s, 10m or 1h30m"
            ));
        }
        let millis_per_unit: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => {
                return Err(format!(
                    "{text:?} ends without a unit; write for example {number}s or {number}m"
                ));
            }
            unit => return Err(format!("unknown unit {unit:?}; use ms, s, m, h or d")),
        };
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(millis_per_unit))
            .and_then(|millis| total.checked_add(Duration::from_millis(millis)))
            .ok_or_else(|| format!("{text:?} is too long"))?;
        rest = tail;
    }
    Ok(total)
}

/// Writes a duration for people: two units at most, `1h 05m`, `2m 03s`, `4.2s`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000),
            (" 10m ", 600_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1d", 86_400_000),
            ("1m1s1ms", 61_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("10", "without a unit"),
            ("1h30", "without a unit"),
            ("ten", "not a duration"),
            ("-5s", "not a duration"),
            ("1.5h", "not a duration"),
            ("5 m", "not a duration"),
            ("5weeks", "unknown unit"),
            ("99999999999999999999s", "too long"),
            ("18446744073709551615d", "too long"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn shows() {
        for (millis, text) in [
            (0, "0.0s"),
            (4_250, "4.2s"),
            (123_000, "2m 03s"),
            (3_900_000, "1h 05m"),
            (90_000_000, "1d 01h"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }
}
