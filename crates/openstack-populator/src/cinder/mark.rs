//! By what the objects of one migration are told from all others.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value, json};

/// How the name of each object begins, and the keys of its metadata.
const OURS: &str = "openstack-populator";
const CLAIM: &str = "openstack_populator_claim";
const MIGRATION: &str = "openstack_populator_migration";
const SOURCE: &str = "openstack_populator_source";
const REQUEST: &str = "openstack_populator_request";

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A volume.
    Volume(PlaceId),
    /// A snapshot of a volume.
    Snapshot(PlaceId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(id) => write!(f, "volume {id}"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// The UUID of a volume or a snapshot, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceId(String);

impl FromStr for PlaceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let dashed = [8, 13, 18, 23];
        let fits = |(at, byte): (usize, u8)| {
            if dashed.contains(&at) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        };
        if text.len() != 36 || !text.bytes().enumerate().all(fits) {
            return Err(
                "the id of a volume or of a snapshot is a UUID, such as 9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11"
                    .into(),
            );
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for PlaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What all attempts of one migration, or of one request, have in common, and no other one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkId(String);

impl FromStr for MarkId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=64).contains(&text.len()) || !text.bytes().all(safe) {
            return Err("must have 1 to 64 letters, digits, dashes, dots and underscores".into());
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for MarkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The mark of one migration's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    claim: String,
    migration: MarkId,
    /// `None` in a run that only cleans up.
    source: Option<Place>,
    /// `None` where nothing tells one request from another.
    request: Option<MarkId>,
}

impl Mark {
    /// `claim` is the UID of the claim, empty when there is none.
    #[must_use]
    pub fn new(claim: &str, migration: MarkId, source: Option<Place>) -> Self {
        let claim = if claim.is_empty() { "none" } else { claim };
        Self {
            claim: claim.to_owned(),
            migration,
            source,
            request: None,
        }
    }

    /// The same for one request of the migration. Another request takes over nothing of this one: the disk may have
    /// changed since.
    #[must_use]
    pub fn of_request(self, request: Option<MarkId>) -> Self {
        Self { request, ..self }
    }

    /// The name of every object, by which it is looked up.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{OURS}-{}-{}", self.claim, self.migration)
    }

    /// The metadata of every object.
    #[must_use]
    pub fn metadata(&self) -> Value {
        let source = self.source.as_ref().map(ToString::to_string);
        let mut metadata = json!({CLAIM: self.claim, MIGRATION: self.migration.to_string(), SOURCE: source.unwrap_or_default()});
        if let Some(request) = &self.request {
            metadata[REQUEST] = json!(request.to_string());
        }
        metadata
    }

    /// Whether these are an object of this migration.
    #[must_use]
    pub fn is_on(&self, metadata: &Map<String, Value>) -> bool {
        let is = |key: &str, value: &str| metadata.get(key).is_some_and(|found| found == value);
        is(CLAIM, &self.claim) && is(MIGRATION, &self.migration.to_string())
    }

    /// Whether it was made of the same source for the same request, so that this run may take it over.
    #[must_use]
    pub fn may_take_over(&self, metadata: &Map<String, Value>) -> bool {
        let source = self.source.as_ref().map(ToString::to_string);
        let request = self.request.as_ref().map(ToString::to_string);
        self.is_on(metadata)
            && source.is_some()
            && text(metadata, SOURCE) == source.as_deref()
            && text(metadata, REQUEST) == request.as_deref()
    }

    /// Whether no mark of any migration is there.
    #[must_use]
    pub fn is_missing(metadata: &Map<String, Value>) -> bool {
        [CLAIM, MIGRATION, SOURCE, REQUEST]
            .iter()
            .all(|key| !metadata.contains_key(*key))
    }
}

fn text<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    metadata.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";

    fn mark(claim: &str, migration: &str, source: Place) -> Mark {
        Mark::new(claim, migration.parse().unwrap(), Some(source))
    }

    fn volume() -> Place {
        Place::Volume(ID.parse().unwrap())
    }

    #[test]
    fn another_claim_migration_or_source_is_another_mark() {
        let mine = mark("u-1", "m-1", volume());
        let of = |mark: &Mark| mark.metadata().as_object().unwrap().clone();
        assert!(mine.is_on(&of(&mine)) && mine.may_take_over(&of(&mine)));
        for other in [
            mark("u-2", "m-1", volume()),
            mark("u-1", "m-2", volume()),
            mark("", "m-1", volume()),
        ] {
            assert!(!mine.is_on(&of(&other)), "{other:?}");
            assert_ne!(mine.name(), other.name());
        }
        let snapshot = mark("u-1", "m-1", Place::Snapshot(ID.parse().unwrap()));
        assert!(mine.is_on(&of(&snapshot)) && !mine.may_take_over(&of(&snapshot)));
        let cleaner = Mark::new("u-1", "m-1".parse().unwrap(), None);
        assert!(cleaner.is_on(&of(&mine)) && !cleaner.may_take_over(&of(&cleaner)));
        let [first, second] =
            ["r-1", "r-2"].map(|request| mine.clone().of_request(Some(request.parse().unwrap())));
        assert!(first.may_take_over(&of(&first)));
        for (one, other) in [(&first, &second), (&first, &mine), (&mine, &first)] {
            assert_eq!(one.name(), other.name());
            assert!(one.is_on(&of(other)) && !one.may_take_over(&of(other)));
        }
        assert!(!mine.is_on(&Map::new()) && Mark::is_missing(&Map::new()));
        assert!(!Mark::is_missing(&of(&mine)));
    }

    #[test]
    fn ids_cannot_leave_their_place_in_a_path() {
        let upper = ID.to_uppercase();
        assert_eq!(upper.parse::<PlaceId>().unwrap().to_string(), ID);
        for text in [
            "",
            "..",
            "a/b",
            &ID[1..],
            &ID.replace('-', "a"),
            &format!("{ID}/"),
            "%",
        ] {
            assert!(text.parse::<PlaceId>().is_err(), "{text}");
        }
        for text in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
            assert!(text.parse::<MarkId>().is_err(), "{text}");
        }
    }
}
