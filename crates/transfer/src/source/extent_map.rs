//! The extents of a disk as ovirt-imageio reports them, read as a stream and kept small.

use std::{fmt, io};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};

use crate::{ByteRange, Content, Extent};

/// Extents after joining neighbours; 8 bytes each. A disk of 64 TiB that alternates every 4 MiB has
/// as many.
const MAX_EXTENTS: usize = 16 << 20;

/// Where a disk's zeroes are: extents without gaps, neighbours with the same content joined.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ExtentMap {
    /// Ends of the extents, ascending, each as `end * 2 + is_zero`.
    ends: Vec<u64>,
}

impl ExtentMap {
    /// Reads the daemon's answer for a disk of `size` bytes: one array of objects with `start`,
    /// `length` and `zero`. What has no `zero` (or is not `data`, as the oldest daemons say it) is
    /// data; other fields do not matter.
    ///
    /// # Errors
    /// Anything but ascending extents that cover exactly the disk, and whatever `body` fails with.
    pub(super) fn read(body: impl io::Read, size: u64) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_reader(body);
        let map = Entries(size).deserialize(&mut json)?;
        json.end()?;
        Ok(map)
    }

    /// The extents of `range`, as far as it lies on the disk.
    pub(super) fn of(&self, range: ByteRange) -> Vec<Extent> {
        let first = self
            .ends
            .partition_point(|packed| end_of(*packed) <= range.start());
        let mut start = range.start();
        let mut found = Vec::new();
        for packed in self.ends.get(first..).unwrap_or_default() {
            if start >= range.end() {
                break;
            }
            let end = end_of(*packed).min(range.end());
            found.push(Extent {
                range: ByteRange::new(start, end),
                content: content_of(*packed),
            });
            start = end;
        }
        found
    }

    /// Number of extents.
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    fn push(&mut self, end: u64, content: Content) -> Result<(), &'static str> {
        let packed = end
            .checked_mul(2)
            .ok_or("an extent ends beyond any disk")?
            .saturating_add(u64::from(content == Content::Zero));
        if let Some(last) = self.ends.last_mut()
            && content_of(*last) == content
        {
            *last = packed;
            return Ok(());
        }
        if self.ends.len() >= MAX_EXTENTS {
            return Err("too many extents");
        }
        self.ends.push(packed);
        Ok(())
    }

    fn end(&self) -> u64 {
        self.ends.last().map_or(0, |packed| end_of(*packed))
    }
}

impl fmt::Debug for ExtentMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtentMap({} extents)", self.ends.len())
    }
}

const fn end_of(packed: u64) -> u64 {
    packed / 2
}

const fn content_of(packed: u64) -> Content {
    if packed % 2 == 1 {
        Content::Zero
    } else {
        Content::Data
    }
}

/// Reads the array for a disk of this size, one entry in memory at a time.
struct Entries(u64);

#[derive(Deserialize)]
struct Entry {
    start: u64,
    length: u64,
    zero: Option<bool>,
    data: Option<bool>,
}

impl<'de> DeserializeSeed<'de> for Entries {
    type Value = ExtentMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ExtentMap, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = ExtentMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of extents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<ExtentMap, A::Error> {
        let Self(size) = self;
        let mut map = ExtentMap { ends: Vec::new() };
        while let Some(entry) = entries.next_element::<Entry>()? {
            let at = map.end();
            if entry.start != at {
                return Err(A::Error::custom(format_args!(
                    "an extent starts at {}, the one before ends at {at}",
                    entry.start
                )));
            }
            let end = at
                .checked_add(entry.length)
                .filter(|end| *end > at && *end <= size)
                .ok_or_else(|| {
                    A::Error::custom(format_args!(
                        "an extent of {} bytes at {at} on a disk of {size}",
                        entry.length
                    ))
                })?;
            let is_zero = entry
                .zero
                .unwrap_or_else(|| entry.data.is_some_and(|data| !data));
            let content = if is_zero {
                Content::Zero
            } else {
                Content::Data
            };
            map.push(end, content).map_err(A::Error::custom)?;
        }
        if map.end() != size {
            return Err(A::Error::custom(format_args!(
                "the extents end at {}, the disk has {size} bytes",
                map.end()
            )));
        }
        map.ends.shrink_to_fit();
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    fn read(json: &str, size: u64) -> Result<ExtentMap, String> {
        ExtentMap::read(json.as_bytes(), size).map_err(|error| error.to_string())
    }

    fn extents(map: &ExtentMap, start: u64, end: u64) -> Vec<(u64, u64, bool)> {
        map.of(ByteRange::new(start, end))
            .into_iter()
            .map(|extent| {
                let is_zero = extent.content == Content::Zero;
                (extent.range.start(), extent.range.end(), is_zero)
            })
            .collect()
    }

    #[test]
    fn the_daemons_own_form() {
        let map = read(
            r#"[{"start": 0, "length": 100, "zero": true, "hole": false},
                {"start": 100, "length": 50, "zero": false, "hole": false},
                {"start": 150, "length": 50, "zero": false, "hole": false},
                {"start": 200, "length": 100, "zero": true, "hole": true}]"#,
            300,
        )
        .unwrap();
        assert_eq!(map.len(), 3);
        assert_eq!(
            extents(&map, 0, 300),
            [(0, 100, true), (100, 200, false), (200, 300, true)]
        );
        assert_eq!(
            extents(&map, 99, 201),
            [(99, 100, true), (100, 200, false), (200, 201, true)]
        );
        assert_eq!(extents(&map, 100, 150), [(100, 150, false)]);
        assert_eq!(extents(&map, 150, 150), []);
        assert_eq!(extents(&map, 300, 400), []);
    }

    #[test]
    fn old_forms() {
        let json = r#"[{"start":0,"length":1,"zero":true},{"start":1,"length":1,"data":true},
            {"start":2,"length":1,"data":false},{"start":3,"length":1},
            {"start":4,"length":1,"zero":false,"hole":true}]"#;
        assert_eq!(
            extents(&read(json, 5).unwrap(), 0, 5),
            [(0, 1, true), (1, 2, false), (2, 3, true), (3, 5, false)]
        );
    }

    #[test]
    fn an_empty_disk_has_no_extents() {
        assert_eq!(read("[]", 0).unwrap().len(), 0);
        assert!(read("[]", 1).is_err());
    }

    #[test]
    fn what_does_not_cover_the_disk_is_refused() {
        for json in [
            r#"[{"start":0,"length":5,"zero":true}]"#,
            r#"[{"start":0,"length":11,"zero":true}]"#,
            r#"[{"start":1,"length":9,"zero":true}]"#,
            r#"[{"start":0,"length":5,"zero":true},{"start":6,"length":4,"zero":true}]"#,
            r#"[{"start":0,"length":6,"zero":true},{"start":5,"length":5,"zero":true}]"#,
            r#"[{"start":5,"length":5,"zero":true},{"start":0,"length":5,"zero":true}]"#,
            r#"[{"start":0,"length":0,"zero":true},{"start":0,"length":10,"zero":true}]"#,
            r#"[{"start":0,"length":10,"zero":true},{"start":10,"length":18446744073709551615,"zero":true}]"#,
            r#"[{"start":0,"length":-10,"zero":true}]"#,
            r#"[{"start":0,"length":10.5,"zero":true}]"#,
            r#"[{"start":0,"zero":true}]"#,
            r#"[{"start":0,"length":10,"zero":"yes"}]"#,
            r#"[{"start":0,"length":10,"zero":true}] x"#,
            r#"[{"start":0,"length":10,"zero":true}"#,
            r#"{"start":0,"length":10,"zero":true}"#,
            "null",
            "",
        ] {
            assert!(read(json, 10).is_err(), "{json}");
        }
    }

    #[test]
    fn a_million_extents_take_eight_megabytes() {
        let count = 1_000_000_u64;
        let mut json = String::from("[");
        for index in 0..count {
            let comma = if index == 0 { "" } else { "," };
            let (start, zero) = (index * 4096, index % 2 == 0);
            write!(
                json,
                r#"{comma}{{"start":{start},"length":4096,"zero":{zero}}}"#
            )
            .unwrap();
        }
        json.push(']');
        let map = read(&json, count * 4096).unwrap();
        assert_eq!(map.ends.capacity() as u64, count);
        let at = 777_777 * 4096;
        assert_eq!(
            extents(&map, at - 1, at + 4097),
            [
                (at - 1, at, true),
                (at, at + 4096, false),
                (at + 4096, at + 4097, true)
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_covers_the_disk(json in "[\\[\\]{}:,\"a-z0-9 ]{0,80}", size in 0_u64..100) {
            if let Ok(map) = read(&json, size) {
                prop_assert_eq!(map.end(), size);
            }
        }

        #[test]
        fn what_was_written_is_read(blocks in prop::collection::vec((1_u64..50, any::<bool>()), 1..40), from in 0_u64..2000, len in 0_u64..2000) {
            let mut json = Vec::new();
            let mut bytes = Vec::new();
            for (length, zero) in blocks {
                json.push(format!(r#"{{"start":{},"length":{length},"zero":{zero}}}"#, bytes.len()));
                bytes.resize(bytes.len() + usize::try_from(length).unwrap(), zero);
            }
            let size = bytes.len() as u64;
            let map = read(&format!("[{}]", json.join(",")), size).unwrap();
            let range = ByteRange::new(from.min(size), (from + len).min(size));
            let mut at = range.start();
            for extent in map.of(range) {
                prop_assert_eq!(extent.range.start(), at);
                prop_assert!(!extent.range.is_empty());
                at = extent.range.end();
                let whole = usize::try_from(extent.range.start()).unwrap()..usize::try_from(at).unwrap();
                prop_assert!(bytes[whole].iter().all(|zero| *zero == (extent.content == Content::Zero)));
            }
            prop_assert_eq!(at, range.end());
        }
    }
}
