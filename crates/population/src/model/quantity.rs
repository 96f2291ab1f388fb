//! Quantities: Kubernetes' numbers with units.

/// A number that is not negative, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    thousandths: u128,
}

impl Quantity {
    /// Parses `1500m`, `0.5`, `10Gi`, `1e3` and the like
    /// (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>). Digits
    /// beyond a thousandth round up, as in Kubernetes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let (up, down) = scale(unit)?;
        let down = down.checked_mul(10_u128.checked_pow(fraction.len().try_into().ok()?)?)?;
        let thousandths = digits.checked_mul(up)?.checked_mul(1000)?.div_ceil(down);
        Some(Self { thousandths })
    }

    /// The number as bytes, rounded up; `None` above 2^64.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        self.thousandths.div_ceil(1000).try_into().ok()
    }

    /// Whether the number is 0.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.thousandths == 0
    }
}

/// Factor and divisor of a unit.
fn scale(unit: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| 1024_u128.checked_pow(power).map(|up| (up, 1));
    let decimal = |power: u32| 10_u128.checked_pow(power);
    match unit {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => Some((decimal(3)?, 1)),
        "M" => Some((decimal(6)?, 1)),
        "G" => Some((decimal(9)?, 1)),
        "T" => Some((decimal(12)?, 1)),
        "P" => Some((decimal(15)?, 1)),
        "E" => Some((decimal(18)?, 1)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = decimal(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_kubernetes() {
        for (text, bytes) in [
            ("10Gi", Some(10 << 30)),
            ("1073741824", Some(1 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("0.1", Some(1)),
            ("1001m", Some(2)),
            ("5k", Some(5000)),
            ("1e3", Some(1000)),
            ("12E", Some(12_000_000_000_000_000_000)),
            ("100E", None),
            (".5Ki", Some(512)),
            ("2.", Some(2)),
            ("0", Some(0)),
        ] {
            let parsed = Quantity::parse(text).unwrap();
            assert_eq!(parsed.bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", ".", "Gi", "1.2.3", "-1", "10 Gi", "1gi", "1ee3", "0x10", "1e999", "٣",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_zero_but_zero() {
        assert!(Quantity::parse("0m").unwrap().is_zero());
        assert!(!Quantity::parse("1n").unwrap().is_zero());
        assert!(Quantity::parse("100m").unwrap() < Quantity::parse("1").unwrap());
    }
}
