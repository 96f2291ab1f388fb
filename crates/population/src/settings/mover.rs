//! How the movers copy, where the installation or a claim says otherwise than their defaults.
//!
//! The list is closed, and each value is read and written again: what reaches the arguments of a pod is a number, a
//! duration or a word of this file.

use std::{collections::BTreeMap, fmt};

use contract::args::flag;
use populator_api::names::annotation::MOVER;

use super::duration;
use crate::{model::Kind, text};

/// So much of a wrong name or value is shown, in bytes.
const MOST_SHOWN: usize = 64;
const DAY: u64 = 86_400;

/// A flag of the movers that installations and claims may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MoverFlag {
    /// Connections that read data.
    Connections,
    /// Whether zero blocks inside data become holes.
    DetectZeroes,
    /// oVirt: after how long without a read the engine ends the transfer.
    InactivityTimeout,
    /// oVirt: how long a locked disk is waited for.
    LockedWait,
    /// Form of the log lines.
    LogFormat,
    /// Lowest level that is logged.
    LogLevel,
    /// When a copy without a byte is given up.
    NoProgressTimeout,
    /// When a connection without a byte is replaced.
    StallTimeout,
    /// What is compared with the source.
    Verify,
}

/// What a flag may be set to.
enum Allowed {
    Words(&'static [&'static str]),
    /// A whole number, from the first to the second.
    Number(u64, u64),
    /// A duration, from the first to the second, in seconds.
    Seconds(u64, u64),
}

/// Flags that are set, each to a value that its mover takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MoverSettings(BTreeMap<MoverFlag, String>);

/// An annotation of a claim that sets no flag of its mover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// No setting has this name.
    #[error(
        "the annotation {MOVER}{0} is no setting of a populator; remove it, or use one of {names}",
        names = Names
    )]
    Unknown(String),
    /// The mover of the claim's source has no such flag.
    #[error("the annotation {MOVER}{0} is for oVirt disks alone; remove it")]
    OfAnotherMover(MoverFlag),
    /// The value is none of those that are allowed.
    #[error(
        "the annotation {MOVER}{flag}: {value:?} is not {allowed}; correct it, or remove it",
        allowed = .flag.allowed()
    )]
    Value {
        /// The flag.
        flag: MoverFlag,
        /// The value, or the beginning of it.
        value: String,
    },
}

/// The names of all flags, for people.
struct Names;

impl MoverFlag {
    /// Each of them.
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::DetectZeroes,
        Self::InactivityTimeout,
        Self::LockedWait,
        Self::LogFormat,
        Self::LogLevel,
        Self::NoProgressTimeout,
        Self::StallTimeout,
        Self::Verify,
    ];

    /// The mover's flag, without the leading dashes.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Connections => flag::CONNECTIONS,
            Self::DetectZeroes => flag::DETECT_ZEROES,
            Self::InactivityTimeout => flag::INACTIVITY_TIMEOUT,
            Self::LockedWait => flag::LOCKED_WAIT,
            Self::LogFormat => flag::LOG_FORMAT,
            Self::LogLevel => flag::LOG_LEVEL,
            Self::NoProgressTimeout => flag::NO_PROGRESS_TIMEOUT,
            Self::StallTimeout => flag::STALL_TIMEOUT,
            Self::Verify => flag::VERIFY,
        }
    }

    /// The controller's environment variable that sets it for the installation.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Connections => "POPULATOR_CONNECTIONS",
            Self::DetectZeroes => "POPULATOR_DETECT_ZEROES",
            Self::InactivityTimeout => "POPULATOR_INACTIVITY_TIMEOUT",
            Self::LockedWait => "POPULATOR_LOCKED_WAIT",
            Self::LogFormat => "POPULATOR_LOG_FORMAT",
            Self::LogLevel => "POPULATOR_LOG_LEVEL",
            Self::NoProgressTimeout => "POPULATOR_NO_PROGRESS_TIMEOUT",
            Self::StallTimeout => "POPULATOR_STALL_TIMEOUT",
            Self::Verify => "POPULATOR_VERIFY",
        }
    }

    /// The annotation that sets it for a claim.
    #[must_use]
    pub fn annotation(self) -> String {
        format!("{MOVER}{self}")
    }

    /// Whether the mover of this kind has the flag.
    #[must_use]
    pub const fn is_of(self, kind: Kind) -> bool {
        !matches!(self, Self::InactivityTimeout | Self::LockedWait) || matches!(kind, Kind::Ovirt)
    }

    /// As the movers' own parsers allow it, with an upper bound for what would hold a slot for ever.
    const fn allowed(self) -> Allowed {
        match self {
            Self::Connections => Allowed::Number(1, 64),
            Self::DetectZeroes => Allowed::Words(&["on", "off"]),
            Self::InactivityTimeout => Allowed::Seconds(60, DAY),
            Self::LockedWait => Allowed::Seconds(0, DAY),
            Self::LogFormat => Allowed::Words(&["text", "json"]),
            Self::LogLevel => Allowed::Words(&["error", "warn", "info", "debug", "trace"]),
            Self::NoProgressTimeout | Self::StallTimeout => Allowed::Seconds(1, DAY),
            Self::Verify => Allowed::Words(&["auto", "full", "off"]),
        }
    }

    /// The value in the form that the mover gets, if it is allowed.
    fn parse(self, value: &str) -> Option<String> {
        match self.allowed() {
            Allowed::Words(words) => {
                let found = words.iter().find(|word| **word == value)?;
                Some((*found).to_owned())
            }
            Allowed::Number(least, most) => {
                let number: u64 = value.parse().ok()?;
                (least..=most).contains(&number).then(|| number.to_string())
            }
            Allowed::Seconds(least, most) => {
                let seconds = duration(value).ok()?.as_secs();
                (least..=most)
                    .contains(&seconds)
                    .then(|| format!("{seconds}s"))
            }
        }
    }
}

impl fmt::Display for MoverFlag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.flag())
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => write!(formatter, "one of {}", words.join(", ")),
            Self::Number(least, most) => write!(formatter, "a whole number from {least} to {most}"),
            Self::Seconds(least, most) => write!(
                formatter,
                "a duration from {} to {}, such as 90s or 1h30m",
                shown(*least),
                shown(*most)
            ),
        }
    }
}

/// A duration that is written with one unit.
fn shown(seconds: u64) -> String {
    match seconds {
        0 => "0".to_owned(),
        DAY => "1d".to_owned(),
        other => format!("{other}s"),
    }
}

impl fmt::Display for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = MoverFlag::ALL.map(|flag| format!("mover-{flag}"));
        formatter.write_str(&names.join(", "))
    }
}

impl MoverSettings {
    /// Sets one of the flags.
    ///
    /// # Errors
    /// What the value must be.
    pub fn set(&mut self, flag: MoverFlag, value: &str) -> Result<(), String> {
        let Some(value) = flag.parse(value.trim()) else {
            return Err(format!("give {}", flag.allowed()));
        };
        self.0.insert(flag, value);
        Ok(())
    }

    /// What the annotations of a claim say, whose source has this kind. Empty values count as absent.
    ///
    /// # Errors
    /// The first annotation that sets no flag of its mover.
    pub fn of_claim<'a>(
        annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
        kind: Option<Kind>,
    ) -> Result<Self, InvalidSetting> {
        let mut settings = Self::default();
        for (name, value) in annotations {
            let Some(name) = name.strip_prefix(MOVER) else {
                continue;
            };
            let known = MoverFlag::ALL
                .into_iter()
                .find(|known| known.flag() == name);
            let Some(flag) = known else {
                return Err(InvalidSetting::Unknown(text::plain(name, MOST_SHOWN)));
            };
            if value.is_empty() {
                continue;
            }
            if kind.is_some_and(|kind| !flag.is_of(kind)) {
                return Err(InvalidSetting::OfAnotherMover(flag));
            }
            if settings.set(flag, value).is_err() {
                return Err(InvalidSetting::Value {
                    flag,
                    value: text::plain(value, MOST_SHOWN),
                });
            }
        }
        Ok(settings)
    }

    /// These, and in place of each that the claim sets the claim's.
    #[must_use]
    pub fn overridden_by(&self, claim: Option<&Self>) -> Self {
        let mut all = self.0.clone();
        all.extend(claim.into_iter().flat_map(|claim| claim.0.clone()));
        Self(all)
    }

    /// The flags that the mover of this kind has, with their values.
    pub fn arguments(&self, kind: Kind) -> impl Iterator<Item = (&'static str, &str)> {
        let of_kind = self.0.iter().filter(move |(flag, _)| flag.is_of(kind));
        of_kind.map(|(flag, value)| (flag.flag(), value.as_str()))
    }

    /// The flags and values as one text (`connections=2,verify=full`), by which two are compared; `None` when nothing is set.
    #[must_use]
    pub fn to_annotation(&self) -> Option<String> {
        let pairs = self.0.iter().map(|(flag, value)| format!("{flag}={value}"));
        let pairs: Vec<String> = pairs.collect();
        (!pairs.is_empty()).then(|| pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_claim(annotations: &[(&str, &str)], kind: Kind) -> Result<MoverSettings, InvalidSetting> {
        let owned: BTreeMap<String, String> = annotations
            .iter()
            .map(|(name, value)| (format!("{MOVER}{name}"), (*value).to_owned()))
            .collect();
        MoverSettings::of_claim(&owned, Some(kind))
    }

    fn arguments(settings: &MoverSettings, kind: Kind) -> Vec<String> {
        let all = settings.arguments(kind);
        all.map(|(flag, value)| format!("{flag}={value}")).collect()
    }

    #[test]
    fn values_are_read_and_written_again() {
        for (name, value, written) in [
            ("connections", "64", "64"),
            ("connections", "+2", "2"),
            ("detect-zeroes", "off", "off"),
            ("inactivity-timeout", "1m", "60s"),
            ("inactivity-timeout", "1d", "86400s"),
            ("locked-wait", "0", "0s"),
            ("log-format", "json", "json"),
            ("log-level", "trace", "trace"),
            ("no-progress-timeout", "1h30m", "5400s"),
            ("stall-timeout", " 5s ", "5s"),
            ("verify", "full", "full"),
        ] {
            let settings = of_claim(&[(name, value)], Kind::Ovirt).unwrap();
            let expected = format!("{name}={written}");
            assert_eq!(arguments(&settings, Kind::Ovirt), [expected], "{value}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_annotation_and_what_is_allowed() {
        for (name, value, allowed) in [
            ("connections", "0", "a whole number from 1 to 64"),
            ("connections", "65", "a whole number from 1 to 64"),
            ("connections", "4 --verify=off", "a whole number"),
            ("detect-zeroes", "yes", "one of on, off"),
            ("inactivity-timeout", "59s", "a duration from 60s to 1d"),
            ("locked-wait", "25h", "a duration from 0 to 1d"),
            ("locked-wait", "5", "such as 90s or 1h30m"),
            ("log-format", "JSON", "one of text, json"),
            (
                "log-level",
                "loud",
                "one of error, warn, info, debug, trace",
            ),
            ("no-progress-timeout", "0", "a duration from 1s to 1d"),
            ("stall-timeout", "-1s", "a duration from 1s to 1d"),
            ("verify", "$(HOME)", "one of auto, full, off"),
        ] {
            let error = of_claim(&[(name, value)], Kind::Ovirt)
                .unwrap_err()
                .to_string();
            let begins = format!("the annotation forklift.konveyor.io/mover-{name}: {value:?}");
            assert!(error.starts_with(&begins), "{error}");
            assert!(error.contains(allowed), "{error}");
        }
        let long = "x\u{202e}".repeat(5000);
        let error = of_claim(&[("verify", &long)], Kind::Ovirt)
            .unwrap_err()
            .to_string();
        assert!(error.len() < 400 && !error.contains('\u{202e}'), "{error}");
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_those_that_are() {
        let error = of_claim(&[("verfy", "full")], Kind::Ovirt).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("mover-verfy"), "{error}");
        for flag in MoverFlag::ALL {
            assert!(error.contains(&format!("mover-{flag}")), "{error}");
        }
    }

    #[test]
    fn each_mover_gets_its_own_flags() {
        for name in ["locked-wait", "inactivity-timeout"] {
            assert!(of_claim(&[(name, "5m")], Kind::Ovirt).is_ok());
            let error = of_claim(&[(name, "5m")], Kind::Openstack).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let mut installation = MoverSettings::default();
        installation.set(MoverFlag::LockedWait, "10m").unwrap();
        installation.set(MoverFlag::Verify, "off").unwrap();
        assert_eq!(
            arguments(&installation, Kind::Openstack),
            ["verify=off"],
            "the installation's are for both"
        );
        assert_eq!(arguments(&installation, Kind::Ovirt).len(), 2);
    }

    #[test]
    fn the_claim_wins_over_the_installation() {
        let mut installation = MoverSettings::default();
        installation.set(MoverFlag::Verify, "off").unwrap();
        installation.set(MoverFlag::Connections, "8").unwrap();
        let claim = of_claim(&[("verify", "full"), ("log-level", "")], Kind::Ovirt).unwrap();
        let both = installation.overridden_by(Some(&claim));
        assert_eq!(both.to_annotation().unwrap(), "connections=8,verify=full");
        assert_eq!(installation.overridden_by(None), installation);
        assert_eq!(MoverSettings::default().to_annotation(), None);
    }
}
