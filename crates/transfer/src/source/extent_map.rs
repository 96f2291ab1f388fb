//! The extents of a disk as ovirt-imageio reports them, read as a stream and kept small.

use std::{fmt, io};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};

use crate::{ByteRange, Content, Extent, extent::READ_ALONG};

/// Most extents that are kept, of 8 bytes each: 4 MiB, whatever the disk. With the room for growing,
/// a mover stays well below the least memory limit that the controller accepts (32 MiB).
const MAX_EXTENTS: usize = 512 << 10;

/// Where a disk's zeroes are: extents without gaps, neighbours with the same content joined.
///
/// Zeroes between data that are shorter than [`READ_ALONG`] are called data, since the engine reads
/// them along anyway. A disk whose zeroes are still scattered over more extents than are kept has its
/// shorter ones called data as well, twice as long ones each time.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ExtentMap {
    /// Ends of the extents, ascending, each as `end * 2 + is_zero`.
    ends: Vec<u64>,
    /// Shorter zeroes between data are data.
    gap: u64,
    /// How many extents are kept.
    most: usize,
}

impl ExtentMap {
    /// Reads the daemon's answer for a disk of `size` bytes: one array of objects with `start`,
    /// `length` and `zero`. What has no `zero` (or is not `data`, as the oldest daemons say it) is
    /// data; other fields do not matter.
    ///
    /// # Errors
    /// Anything but ascending extents that cover at least the disk, and whatever `body` fails with.
    pub(super) fn read(body: impl io::Read, size: u64) -> Result<Self, serde_json::Error> {
        Self::empty(READ_ALONG, MAX_EXTENTS).filled(body, size)
    }

    const fn empty(gap: u64, most: usize) -> Self {
        Self {
            ends: Vec::new(),
            gap,
            most,
        }
    }

    fn filled(self, body: impl io::Read, size: u64) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_reader(body);
        let map = Entries { map: self, size }.deserialize(&mut json)?;
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

    /// Bytes of the extents that are data.
    pub(super) fn data_bytes(&self) -> u64 {
        let (mut start, mut data) = (0, 0);
        for packed in &self.ends {
            if content_of(*packed) == Content::Data {
                data += end_of(*packed) - start;
            }
            start = end_of(*packed);
        }
        data
    }

    /// Number of extents.
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds an extent that ends at `end`, at most [`i64::MAX`].
    fn push(&mut self, end: u64, content: Content) {
        self.join(end * 2 + u64::from(content == Content::Zero));
        if self.ends.len() >= self.most {
            self.thin_out();
        }
    }

    /// Adds an extent, or lets those before it grow by it.
    fn join(&mut self, packed: u64) {
        let [.., before, last] = self.ends.as_mut_slice() else {
            match self.ends.last_mut() {
                Some(last) if content_of(*last) == content_of(packed) => *last = packed,
                _ => self.ends.push(packed),
            }
            return;
        };
        if content_of(*last) == content_of(packed) {
            *last = packed;
            return;
        }
        let is_gap =
            content_of(*last) == Content::Zero && end_of(*last) - end_of(*before) < self.gap;
        if is_gap {
            // Neighbours differ, so what lies before the gap is data, as what lies behind it.
            *before = packed;
            self.ends.pop();
            return;
        }
        self.ends.push(packed);
    }

    /// Calls longer and longer zeroes data, until half of the room is free.
    fn thin_out(&mut self) {
        while self.ends.len() > self.most / 2 {
            self.gap = self.gap.saturating_mul(2);
            for packed in std::mem::take(&mut self.ends) {
                self.join(packed);
            }
        }
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

/// Reads the array for a disk of this size into the map, one entry in memory at a time.
struct Entries {
    map: ExtentMap,
    size: u64,
}

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
        let Self { mut map, size } = self;
        let mut at = 0_u64;
        while let Some(entry) = entries.next_element::<Entry>()? {
            if entry.start != at {
                return Err(A::Error::custom(format_args!(
                    "an extent starts at {}, the one before ends at {at}",
                    entry.start
                )));
            }
            let end = at
                .checked_add(entry.length)
                .filter(|end| *end > at && i64::try_from(*end).is_ok())
                .ok_or_else(|| {
                    A::Error::custom(format_args!("an extent of {} bytes at {at}", entry.length))
                })?;
            let is_zero = entry
                .zero
                .unwrap_or_else(|| entry.data.is_some_and(|data| !data));
            let content = if is_zero {
                Content::Zero
            } else {
                Content::Data
            };
            // A logical volume may be larger than the disk in it: what lies beyond the disk's end is
            // not read. The sum of the lengths is checked all the same.
            at = end;
            if map.end() < size {
                map.push(end.min(size), content);
            }
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

    /// Every zero is kept, however short.
    fn read(json: &str, size: u64) -> Result<ExtentMap, String> {
        read_into(ExtentMap::empty(0, MAX_EXTENTS), json, size)
    }

    fn read_into(map: ExtentMap, json: &str, size: u64) -> Result<ExtentMap, String> {
        map.filled(json.as_bytes(), size)
            .map_err(|error| error.to_string())
    }

    /// The daemon's answer for extents of these lengths, the first of them data.
    fn alternating(lengths: impl IntoIterator<Item = u64>) -> (String, u64) {
        let (mut json, mut at) = (String::from("["), 0);
        for (index, length) in lengths.into_iter().enumerate() {
            let (comma, zero) = (if index == 0 { "" } else { "," }, index % 2 == 1);
            write!(
                json,
                r#"{comma}{{"start":{at},"length":{length},"zero":{zero}}}"#
            )
            .unwrap();
            at += length;
        }
        (json + "]", at)
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
        assert_eq!(map.data_bytes(), 100);
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
    fn zeroes_that_are_read_along_are_not_kept() {
        let long = READ_ALONG;
        let (json, size) = alternating([5, long - 1, 7, long, 9, 1, 3, long * 2]);
        let map = ExtentMap::read(json.as_bytes(), size).unwrap();
        let first = 5 + long - 1 + 7;
        let second = first + long + 9 + 1 + 3;
        assert_eq!(
            extents(&map, 0, size),
            [
                (0, first, false),
                (first, first + long, true),
                (first + long, second, false),
                (second, size, true)
            ]
        );
        // Not those at an end of the disk, which no data surrounds.
        let (json, size) = alternating([1, 1]);
        let map = ExtentMap::read(json.as_bytes(), size).unwrap();
        assert_eq!(extents(&map, 0, 2), [(0, 1, false), (1, 2, true)]);
    }

    /// What a raw file or a qcow2 image of 4 KiB clusters gives, written at random.
    #[test]
    fn a_disk_of_tiny_extents_is_one_of_data() {
        let (json, size) = alternating(std::iter::repeat_n(4096, 1_000_000));
        let map = ExtentMap::read(json.as_bytes(), size).unwrap();
        assert_eq!((map.len(), map.ends.capacity()), (2, 2));
    }

    #[test]
    fn the_map_is_bounded_whatever_the_disk() {
        let most = 1000;
        // Runs of zeroes of different lengths, the longest of them one in thousand.
        let lengths = (0..100_000).flat_map(|index: u64| {
            let zero = if index.is_multiple_of(1000) {
                512
            } else {
                1 + index % 7
            };
            [READ_ALONG, zero * READ_ALONG]
        });
        let (json, size) = alternating(lengths.clone());
        let map = read_into(ExtentMap::empty(READ_ALONG, most), &json, size).unwrap();
        assert!(map.len() <= most && map.ends.capacity() <= most, "{map:?}");
        // The long ones are still known, and no data is called zero.
        let mut zeroes = extents(&map, 0, size);
        // No data lies behind the last one.
        zeroes.retain(|(_, end, zero)| *zero && *end < size);
        let (mut at, mut long) = (0, Vec::new());
        for (index, length) in lengths.enumerate() {
            if index % 2 == 1 && length >= 512 * READ_ALONG {
                long.push((at, at + length, true));
            }
            at += length;
        }
        assert_eq!(zeroes, long);
    }

    #[test]
    fn what_lies_beyond_the_disk_is_left_out() {
        let json = r#"[{"start":0,"length":8,"zero":false},{"start":8,"length":8,"zero":true},
            {"start":16,"length":8,"zero":false}]"#;
        assert_eq!(
            extents(&read(json, 10).unwrap(), 0, 10),
            [(0, 8, false), (8, 10, true)]
        );
        assert_eq!(extents(&read(json, 8).unwrap(), 0, 8), [(0, 8, false)]);
        assert_eq!(extents(&read(json, 5).unwrap(), 0, 5), [(0, 5, false)]);
        assert!(read(json, 25).is_err());
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
