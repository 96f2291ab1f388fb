//! What every source and every sink promises, as suites that run against any implementation.
//!
//! A test file says `mod contract;` and calls the suites with a way to make a fresh object.

#![allow(dead_code, reason = "a test file uses the suite of its own kind")]

use std::thread;

use net::Cancel;
use transfer::{Access, ByteRange, Content, Kind, Reader, Sink, Source};

/// Bytes that differ at every offset that matters: never zero, and different in each 64 KiB.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    (0..length).map(|_| random.u8(1..)).collect()
}

/// Holds a source against the bytes that it must have. `make` gives a fresh source each time; the
/// disk should be some hundred KiB to some MiB long and contain zeroes that the extents know of, if
/// the source knows any.
pub(crate) fn source_contract<S: Source>(expected: &[u8], make: impl Fn() -> S) {
    let source = make();
    assert_eq!(source.size(), expected.len() as u64, "size");
    let cancel = Cancel::new();
    extents_cover_without_gaps_and_tell_the_truth(&source, expected);
    if source.access() == Access::Ordered {
        an_ordered_source_gives_everything_in_pieces_of_any_length(&source, expected);
    } else {
        exact_bytes_of_many_ranges(&source, expected);
        begin_gives_up_what_is_left(&source, expected);
        readers_do_not_disturb_each_other(&source, expected);
        a_reader_serves_range_after_range(&source, expected);
    }
    source.keep_alive(&cancel).unwrap();
    a_pulled_flag_ends_reading(&make());
}

/// Holds a sink against its promises. `make` gives a fresh sink of at least `capacity` bytes,
/// dirty if it can be, and `content` what a sink holds once it is closed (at least as much as was
/// prepared).
pub(crate) fn sink_contract<S: Sink + 'static, H>(
    capacity: u64,
    make: impl Fn() -> (S, H),
    content: impl Fn(&H) -> Vec<u8>,
) {
    let size = usize::try_from(capacity).unwrap();
    assert!(size > 3 << 20, "the suite needs more than 3 MiB");
    for size in [size, size - 512, size - (1 << 20), 512, 0] {
        let (sink, handle) = make();
        written_bytes_and_zeroes_are_there(Box::new(sink), size, || content(&handle));
    }
    a_second_preparation_starts_over(&make, &content, size);
    writes_beside_each_other_from_many_threads(&make, &content, size);
}

fn read(reader: &mut dyn Reader, range: ByteRange) -> Vec<u8> {
    reader.begin(range).unwrap();
    let mut bytes = vec![0xee; usize::try_from(range.len()).unwrap()];
    reader.fill(&mut bytes).map_err(|(_, error)| error).unwrap();
    bytes
}

fn slice(bytes: &[u8], range: ByteRange) -> &[u8] {
    &bytes[usize::try_from(range.start()).unwrap()..usize::try_from(range.end()).unwrap()]
}

fn ranges(size: u64) -> Vec<ByteRange> {
    let mut ranges = vec![
        ByteRange::new(0, 1),
        ByteRange::new(0, size),
        ByteRange::new(size - 1, size),
        ByteRange::new(size / 2, size),
        ByteRange::new(511, 513),
        ByteRange::new(4095, 4097),
        ByteRange::new(65_535, 131_073),
    ];
    let mut random = fastrand::Rng::with_seed(size);
    for _ in 0..20 {
        let start = random.u64(0..size);
        ranges.push(ByteRange::new(start, random.u64(start + 1..=size)));
    }
    ranges.retain(|range| range.end() <= size && !range.is_empty());
    ranges
}

fn extents_cover_without_gaps_and_tell_the_truth(source: &dyn Source, expected: &[u8]) {
    for asked in ranges(source.size()) {
        let mut at = asked.start();
        for extent in source.extents(asked).unwrap() {
            assert_eq!(extent.range.start(), at, "a gap in the extents of {asked}");
            assert!(!extent.range.is_empty(), "an empty extent in {asked}");
            at = extent.range.end();
            assert!(at <= asked.end(), "an extent beyond {asked}");
            if extent.content == Content::Zero {
                let zero = slice(expected, extent.range).iter().all(|byte| *byte == 0);
                assert!(zero, "{} is not zero", extent.range);
            }
        }
        assert_eq!(at, asked.end(), "the extents of {asked} end early");
    }
}

fn exact_bytes_of_many_ranges(source: &dyn Source, expected: &[u8]) {
    for range in ranges(source.size()) {
        let mut reader = source.reader(&Cancel::new()).unwrap();
        assert!(
            read(&mut *reader, range) == slice(expected, range),
            "{range}"
        );
    }
}

fn a_reader_serves_range_after_range(source: &dyn Source, expected: &[u8]) {
    let mut reader = source.reader(&Cancel::new()).unwrap();
    for range in ranges(source.size()) {
        assert!(
            read(&mut *reader, range) == slice(expected, range),
            "{range}"
        );
    }
}

fn begin_gives_up_what_is_left(source: &dyn Source, expected: &[u8]) {
    let size = source.size();
    let mut reader = source.reader(&Cancel::new()).unwrap();
    reader.begin(ByteRange::new(0, size)).unwrap();
    let mut some = [0; 100];
    reader.fill(&mut some).map_err(|(_, error)| error).unwrap();
    assert!(some == expected[..100]);
    let range = ByteRange::new(size / 3, size / 3 + 1000);
    assert!(read(&mut *reader, range) == slice(expected, range));
}

fn readers_do_not_disturb_each_other(source: &dyn Source, expected: &[u8]) {
    let Access::Ranged { connections } = source.access() else {
        return;
    };
    let size = source.size();
    thread::scope(|scope| {
        for index in 0..connections.get().min(4) as u64 {
            scope.spawn(move || {
                let mut reader = source.reader(&Cancel::new()).unwrap();
                for step in 0..8 {
                    let start = (index * 7919 + step * 104_729) % (size - 1);
                    let range = ByteRange::new(start, (start + 70_001).min(size));
                    assert!(
                        read(&mut *reader, range) == slice(expected, range),
                        "{range}"
                    );
                }
            });
        }
    });
}

fn an_ordered_source_gives_everything_in_pieces_of_any_length(
    source: &dyn Source,
    expected: &[u8],
) {
    for length in [1000, 65_536, 1 << 20] {
        let mut reader = source.reader(&Cancel::new()).unwrap();
        reader.begin(ByteRange::new(0, source.size())).unwrap();
        let mut bytes = vec![0xee; expected.len()];
        for piece in bytes.chunks_mut(length) {
            reader.fill(piece).map_err(|(_, error)| error).unwrap();
        }
        assert!(bytes == expected, "in pieces of {length}");
    }
}

fn a_pulled_flag_ends_reading(source: &dyn Source) {
    let cancel = Cancel::new();
    cancel.cancel();
    let attempt = || {
        let mut reader = source.reader(&cancel)?;
        reader.begin(ByteRange::new(0, source.size()))?;
        reader.fill(&mut [0; 16]).map_err(|(_, error)| error)
    };
    assert_eq!(attempt().unwrap_err().kind(), Kind::Cancelled);
}

/// Positional writes in any order, an unaligned tail, zeroes over bytes that were written before,
/// at odd offsets as well.
fn written_bytes_and_zeroes_are_there(
    sink: Box<dyn Sink>,
    size: usize,
    content: impl Fn() -> Vec<u8>,
) {
    assert!(sink.capacity() >= size as u64, "capacity");
    sink.prepare(size as u64).unwrap();
    let noise = noise(size);
    let mut expected = noise.clone();
    let mut pieces: Vec<_> = (0..size).step_by(1 << 20).collect();
    pieces.reverse();
    for start in pieces {
        let end = (start + (1 << 20)).min(size);
        sink.write_at(&noise[start..end], start as u64).unwrap();
    }
    for (start, end) in [
        (0, 4096),
        (65_536, 65_537),
        (100_001, 200_003),
        (1 << 20, 2 << 20),
        (size.saturating_sub(5000), size),
    ] {
        let (start, end) = (start.min(size), end.min(size));
        sink.zero(ByteRange::new(start as u64, end as u64)).unwrap();
        expected[start..end].fill(0);
    }
    if size > 80_000 {
        sink.write_at(&noise[70_001..70_008], 70_001).unwrap();
        sink.write_at(b"odd", 110_001).unwrap();
        expected[110_001..110_004].copy_from_slice(b"odd");
    }
    sink.sync().unwrap();
    sink.close().unwrap();
    let held = content();
    assert!(held.len() >= size, "{} bytes of {size}", held.len());
    assert!(held[..size] == expected, "content of {size} bytes");
}

/// Preparing again, for less or for more, tells the truth about what is blank.
fn a_second_preparation_starts_over<S: Sink + 'static, H>(
    make: &impl Fn() -> (S, H),
    content: &impl Fn(&H) -> Vec<u8>,
    size: usize,
) {
    let (sink, handle) = make();
    sink.prepare((1 << 20) + 512).unwrap();
    sink.write_at(&noise((1 << 20) + 512), 0).unwrap();
    sink.prepare(size as u64).unwrap();
    if !sink.is_blank() {
        sink.zero(ByteRange::new(0, size as u64)).unwrap();
    }
    sink.write_at(b"end", size as u64 - 3).unwrap();
    sink.sync().unwrap();
    Box::new(sink).close().unwrap();
    let held = content(&handle);
    assert!(
        held[..size - 3].iter().all(|byte| *byte == 0),
        "old bytes are left"
    );
    assert_eq!(&held[size - 3..size], b"end");
}

fn writes_beside_each_other_from_many_threads<S: Sink + 'static, H>(
    make: &impl Fn() -> (S, H),
    content: &impl Fn(&H) -> Vec<u8>,
    size: usize,
) {
    let (sink, handle) = make();
    sink.prepare(size as u64).unwrap();
    let noise = noise(size);
    let mut expected = noise.clone();
    let threads = 4;
    thread::scope(|scope| {
        for thread in 0..threads {
            let (sink, noise) = (&sink, &noise);
            scope.spawn(move || {
                // Neighbouring blocks of 4096 belong to different threads.
                for start in (thread * 4096..size).step_by(threads * 4096) {
                    let end = (start + 4096).min(size);
                    if start % 5 == 0 {
                        sink.zero(ByteRange::new(start as u64, end as u64)).unwrap();
                    } else {
                        sink.write_at(&noise[start..end], start as u64).unwrap();
                    }
                }
            });
        }
    });
    for start in (0..size).step_by(4096).filter(|start| start % 5 == 0) {
        let end = (start + 4096).min(size);
        expected[start..end].fill(0);
    }
    sink.sync().unwrap();
    Box::new(sink).close().unwrap();
    assert!(content(&handle)[..size] == expected);
}
