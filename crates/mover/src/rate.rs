//! Rates as people write them.

use net::LeastRate;

use crate::duration;

/// Units of sizes, with their bytes.
const UNITS: [(&str, u64); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("B", 1),
];

/// Parses a rate such as `64KiB/5m`, or `off`.
///
/// # Errors
/// A sentence that says what is wrong and shows an example.
pub(crate) fn parse(text: &str) -> Result<LeastRate, String> {
    let text = text.trim();
    if text == "off" {
        return Ok(LeastRate {
            bytes: 0,
            ..LeastRate::default()
        });
    }
    let wrong = |why: &str| format!("{text:?} {why}; write for example 64KiB/5m, or off");
    let (size, period) = text
        .split_once('/')
        .ok_or_else(|| wrong("is not a size and a time"))?;
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((size.strip_suffix(unit)?, *bytes)))
        .ok_or_else(|| wrong("has a size without a unit"))?;
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| wrong("has a size that is no number above 0"))?;
    let period = duration::parse(period)?;
    if period.as_secs() == 0 {
        return Err(wrong("has a time of less than a second"));
    }
    Ok(LeastRate { bytes, period })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates() {
        for (text, bytes, seconds) in [
            ("64KiB/5m", 64 << 10, 300),
            (" 1MiB/1s ", 1 << 20, 1),
            ("100B/1h30m", 100, 5400),
        ] {
            let period = Duration::from_secs(seconds);
            assert_eq!(parse(text), Ok(LeastRate { bytes, period }), "{text}");
        }
        assert_eq!(parse("off").unwrap().bytes, 0);
        assert_eq!(parse("64KiB/5m").unwrap(), LeastRate::default());
        for text in [
            "",
            "64",
            "64KiB",
            "64/5m",
            "0B/5m",
            "KiB/5m",
            "64KiB/5",
            "64KiB/0",
            "64KiB/10ms",
            "-1B/1s",
        ] {
            let error = parse(text).unwrap_err();
            testkit::plain::assert_plain(&error);
        }
    }
}
