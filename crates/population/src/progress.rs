//! Progress of a pod, parsed from the text of its metrics.

use contract::metrics::{
    COPIED_BYTES, OPENSTACK_PROGRESS, OVIRT_PROGRESS, OWNER_UID, RATE, SOURCE_BYTES,
};

use crate::model::Uid;

/// Progress of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Percent of the source that is in place, rounded down: 100 means all of it.
    pub percent: u8,
    /// The same in bytes. Forklift's own movers do not report it.
    pub bytes: Option<Bytes>,
}

/// Progress of a pod in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes of the source that are in place.
    pub copied: u64,
    /// Size of the source, in bytes.
    pub size: u64,
    /// Bytes per second that come into place.
    pub rate: u64,
}

impl Measured {
    /// Parses the answer of the pod that fills the claim with this UID; `None` when another pod
    /// answered, or the text holds no progress.
    #[must_use]
    pub fn from_text(text: &str, claim_uid: &Uid) -> Option<Self> {
        let value = |name: &str, label: &str| {
            text.lines()
                .find_map(|line| Sample::parse(line)?.value_of(name, label))
        };
        let owner = format!("{OWNER_UID}=\"{claim_uid}\"");
        let percent = [OVIRT_PROGRESS, OPENSTACK_PROGRESS]
            .into_iter()
            .find_map(|name| value(name, &owner))?;
        let copied_metric = format!("{COPIED_BYTES}_total");
        let data = value(&copied_metric, "kind=\"data\"");
        let zero = value(&copied_metric, "kind=\"zero\"");
        let copied = data.zip(zero).and_then(|(data, zero)| whole(data + zero));
        // 0 means that the size is not known yet.
        let size = value(SOURCE_BYTES, "").and_then(whole);
        let size = size.filter(|size| *size > 0);
        let rate = value(RATE, "").and_then(whole);
        let bytes = copied.zip(size).zip(rate);
        Some(Self {
            percent: u8::try_from(whole(percent)?.min(100)).ok()?,
            bytes: bytes.map(|((copied, size), rate)| Bytes { copied, size, rate }),
        })
    }
}

/// A line of the text format: a name, labels, a value.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (name, labels, value) = if let Some((name, rest)) = line.split_once('{') {
            let (labels, value) = rest.split_once('}')?;
            (name, labels, value)
        } else {
            let (name, value) = line.split_once(' ')?;
            (name, "", value)
        };
        // A timestamp may follow the value.
        let value = value.split_whitespace().next()?.parse().ok()?;
        Some(Self {
            name,
            labels,
            value,
        })
    }

    fn value_of(&self, name: &str, label: &str) -> Option<f64> {
        (self.name == name && self.labels == label).then_some(self.value)
    }
}

/// The whole part of a number that is one: neither negative nor infinite.
fn whole(value: f64) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounding down is the purpose, and the sign was tested; beyond 2^64 the cast saturates"
    )]
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "# HELP populator_source_bytes Size of the source.\n\
        # TYPE ovirt_progress gauge\n\
        ovirt_progress{ownerUID=\"u\"} 42.99\n\
        populator_source_bytes 1000\n\
        populator_copied_bytes_total{kind=\"data\"} 300\n\
        populator_copied_bytes_total{kind=\"zero\"} 129\n\
        populator_rate_bytes_per_second 12.5\n\
        # EOF\n";

    #[test]
    fn all_that_our_movers_say() {
        let bytes = Bytes {
            copied: 429,
            size: 1000,
            rate: 12,
        };
        let expected = Measured {
            percent: 42,
            bytes: Some(bytes),
        };
        assert_eq!(Measured::from_text(OURS, &Uid::from("u")), Some(expected));
        assert_eq!(Measured::from_text(OURS, &Uid::from("another")), None);
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (text, percent) in [
            ("0", Some(0)),
            ("9.5e-06", Some(0)),
            ("1e2", Some(100)),
            ("99.99", Some(99)),
            ("100.0", Some(100)),
            ("250", Some(100)),
            ("12 1700000000", Some(12)),
            ("NaN", None),
            ("-1", None),
            ("+Inf", None),
            ("", None),
        ] {
            let line = format!("openstack_populator_progress{{ownerUID=\"u\"}} {text}");
            let measured = Measured::from_text(&line, &Uid::from("u"));
            assert_eq!(
                measured.map(|measured| measured.percent),
                percent,
                "{text:?}"
            );
        }
    }

    #[test]
    fn forklifts_movers_say_the_percentage_only() {
        let text = "go_goroutines 7\novirt_progress{ownerUID=\"u\"} 7\n";
        let measured = Measured::from_text(text, &Uid::from("u")).unwrap();
        assert_eq!((measured.percent, measured.bytes), (7, None));
    }

    #[test]
    fn a_size_that_is_not_known_yet_is_none() {
        let text = OURS.replace("bytes 1000", "bytes 0");
        assert_eq!(
            Measured::from_text(&text, &Uid::from("u")).unwrap().bytes,
            None
        );
    }

    #[test]
    fn what_is_no_metric_is_nothing() {
        for text in [
            "",
            "{",
            "}",
            "a{",
            "<html>{}</html>",
            "ovirt_progress{ownerUID=\"u\"}",
            "\0",
        ] {
            assert_eq!(Measured::from_text(text, &Uid::from("u")), None, "{text:?}");
        }
    }
}
