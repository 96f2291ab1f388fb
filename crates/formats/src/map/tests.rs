//! The two orders of a map, against lists.

use proptest::prelude::*;

use super::*;
use crate::Format;

const CLUSTER: u64 = 100;

/// A disk whose clusters lie at these places of the file, in units of clusters: stored, packed, or not at all.
#[derive(Debug)]
struct Listed(Vec<Option<(u64, bool)>>);

impl Layout for Listed {
    fn describe(
        &self,
        _tables: &mut Tables<'_>,
        end: u64,
        pieces: &mut Pieces,
    ) -> Result<(), Error> {
        // Three clusters at a time, as if they were a slice.
        let first = usize::try_from(pieces.at() / CLUSTER).unwrap();
        for place in self.0.iter().skip(first).take(3) {
            if pieces.at() >= end {
                break;
            }
            match place {
                None => pieces.hole(CLUSTER),
                Some((place, false)) => pieces.data(place * CLUSTER, CLUSTER)?,
                Some((place, true)) => pieces.compressed(CLUSTER, place * CLUSTER, 500, 50)?,
            }
        }
        Ok(())
    }

    fn regions(&self, _tables: &mut Tables<'_>, pieces: &mut Pieces) -> Result<(), Error> {
        pieces.table("header", 0, CLUSTER)
    }
}

fn info(clusters: usize) -> Info {
    Info {
        format: Format::Qcow2,
        variant: "",
        version: 3,
        // The last cluster is not whole.
        virtual_size: (clusters as u64 * CLUSTER).saturating_sub(30),
        cluster_size: CLUSTER,
        compression: None,
        features: Vec::new(),
    }
}

fn sorted(disk: &Listed, batch: usize) -> Result<Vec<Extent>, Error> {
    let info = info(disk.0.len());
    let map = Map {
        info: &info,
        layout: disk,
    };
    let file = vec![0; 30_000];
    FileOrder::new(map, &mut &file[..], batch).collect()
}

/// Disks of up to 200 clusters, each of which is a hole or at a place of its own.
fn disks() -> impl Strategy<Value = Listed> {
    let places: Vec<u64> = (1..=200).collect();
    let kinds = proptest::collection::vec((0..3_u8, any::<bool>()), 0..200);
    (Just(places).prop_shuffle(), kinds).prop_map(|(places, kinds)| {
        let cluster = |(place, (kind, packed))| (kind > 0).then_some((place, packed));
        Listed(places.into_iter().zip(kinds).map(cluster).collect())
    })
}

proptest! {
    #[test]
    fn the_files_order_is_the_same_however_few_extents_are_sorted_at_a_time(
        disk in disks(),
        batch in 1_usize..40,
    ) {
        let all = sorted(&disk, usize::MAX).unwrap();
        let place = |extent: &Extent| match extent.content {
            Content::Data { offset } | Content::Compressed { offset, .. } => offset,
            Content::Hole => 0,
        };
        prop_assert!(all.is_sorted_by_key(place));
        let stored: u64 = all.iter().map(|extent| extent.len).sum();
        let clusters = disk.0.iter().flatten().count() as u64 * CLUSTER;
        prop_assert!(stored <= clusters && stored + 30 >= clusters);
        prop_assert_eq!(sorted(&disk, batch).unwrap(), all);
    }

    #[test]
    fn a_packed_cluster_ends_where_the_next_piece_begins(disk in disks()) {
        let all = sorted(&disk, 7).unwrap();
        for pair in all.windows(2) {
            if let Content::Compressed { offset, length, .. } = pair[0].content {
                let (Content::Data { offset: next } | Content::Compressed { offset: next, .. }) =
                    pair[1].content else { panic!("a hole") };
                prop_assert!(offset + length <= next && length >= 50);
            }
        }
    }

    #[test]
    fn a_part_of_the_disk_is_that_part_of_the_whole(
        disk in disks(),
        start in 0_u64..21_000,
        len in 0_u64..9000,
    ) {
        let info = info(disk.0.len());
        let map = Map { info: &info, layout: &disk };
        let file = vec![0; 30_000];
        let extents = |range| {
            Extents::new(map, &mut &file[..], range).collect::<Result<Vec<_>, _>>().unwrap()
        };
        let range = start..start + len;
        let expected: Vec<Extent> = extents(0..u64::MAX)
            .into_iter()
            .filter_map(|extent| clip(extent, &range))
            .collect();
        prop_assert_eq!(extents(range), expected);
    }

    #[test]
    fn a_place_that_is_used_twice_is_noticed(
        mut disk in disks(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        batch in 1_usize..40,
    ) {
        let stored: Vec<usize> = (0..disk.0.len()).filter(|index| disk.0[*index].is_some()).collect();
        prop_assume!(stored.len() > 1);
        let (from, to) = (stored[from.index(stored.len())], stored[to.index(stored.len())]);
        prop_assume!(from != to);
        disk.0[to] = disk.0[from];
        prop_assert_eq!(sorted(&disk, batch).unwrap_err().kind(), Kind::Corrupt);
        disk.0[to] = Some((0, false));
        prop_assert_eq!(sorted(&disk, batch).unwrap_err().kind(), Kind::Corrupt);
    }
}

/// The part of an extent that lies in `range`.
fn clip(extent: Extent, range: &Range<u64>) -> Option<Extent> {
    let start = extent.start.max(range.start);
    let end = (extent.start + extent.len).min(range.end);
    let more = start - extent.start;
    let content = match extent.content {
        Content::Hole => Content::Hole,
        Content::Data { offset } => Content::Data {
            offset: offset + more,
        },
        Content::Compressed {
            offset,
            length,
            skip,
        } => Content::Compressed {
            offset,
            length,
            skip: skip + more,
        },
    };
    (start < end).then(|| Extent {
        start,
        len: end - start,
        content,
    })
}
