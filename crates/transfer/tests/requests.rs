//! How many requests a copy costs its server, and how much memory it holds meanwhile: the same on every
//! machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
};

use net::Cancel;
use support::{buffers, options, run};
use transfer::{
    Access, Algorithm, ByteRange, Content, Error, Extent, Kind, Options, Reader, Source,
    Verification, first_range, sink::NullSink,
};

const MIB: u64 = 1 << 20;

/// A disk whose data is made when it is read.
#[derive(Debug)]
struct Disk {
    size: u64,
    /// Data at each multiple of the first number, of so many bytes; or all data.
    pieces: Option<(u64, u64)>,
    access: Access,
    requests: AtomicU64,
    /// End of the range that begins at the first byte.
    first: AtomicU64,
}

impl Disk {
    const fn new(size: u64) -> Self {
        Self {
            size,
            pieces: None,
            access: Access::Ranged {
                connections: NonZeroUsize::MAX,
            },
            requests: AtomicU64::new(0),
            first: AtomicU64::new(0),
        }
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Source for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn access(&self) -> Access {
        self.access
    }

    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        let (every, length) = self.pieces.unwrap_or((self.size, self.size));
        let mut extents = Vec::new();
        for piece in range.start() / every..range.end().div_ceil(every) {
            let (start, middle) = (piece * every, piece * every + length);
            for (range, content) in [
                (ByteRange::new(start, middle), Content::Data),
                (ByteRange::new(middle, start + every), Content::Zero),
            ] {
                extents.push(Extent { range, content });
            }
        }
        for extent in &mut extents {
            extent.range = extent.range.intersect(range);
        }
        extents.retain(|extent| !extent.range.is_empty());
        Ok(extents)
    }

    fn data_bytes(&self) -> Option<u64> {
        self.pieces
            .map(|(every, length)| self.size / every * length)
    }

    fn reader(&self, _cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        Ok(Box::new(Made(self)))
    }

    fn checksum(&self, _algorithm: Algorithm, _cancel: &Cancel) -> Result<String, Error> {
        Ok("00".into())
    }
}

struct Made<'a>(&'a Disk);

impl Reader for Made<'_> {
    fn begin(&mut self, range: ByteRange) -> Result<(), Error> {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        if range.start() == 0 {
            self.0.first.store(range.end(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), (usize, Error)> {
        buf.fill(1);
        Ok(())
    }
}

fn verified(connections: usize, algorithm: Algorithm) -> Options {
    Options {
        verification: Verification::Asked(algorithm),
        ..options(connections)
    }
}

#[test]
fn a_gib_takes_16_requests_at_most_and_one_connection_asks_once() {
    for (connections, most) in [(1, 1), (2, 16), (4, 16), (8, 20)] {
        let disk = Disk::new(1 << 30);
        let report = run(&disk, &NullSink, &options(connections)).unwrap();
        let plain = disk.requests();
        assert!((1..=most).contains(&plain), "{plain} for {connections}");
        let bound = buffers(connections, false) * (MIB + 4096);
        assert!(report.buffer_bytes <= bound);
    }
}

#[test]
fn a_gib_takes_no_more_requests_when_it_is_verified() {
    for (connections, most) in [(1, 1), (4, 16)] {
        let disk = Disk::new(1 << 30);
        // The checksum is wrong, which only a copy finds out that has read and hashed everything.
        let options = verified(connections, Algorithm::Sha256);
        let error = run(&disk, &NullSink, &options).unwrap_err();
        assert_eq!(error.kind(), Kind::Hash);
        assert!((1..=most).contains(&disk.requests()), "{}", disk.requests());
    }
}

/// Workers hash the blocks that they read, in any order.
#[test]
fn a_block_hash_costs_neither_requests_nor_memory() {
    let disk = Disk::new(256 * MIB);
    run(&disk, &NullSink, &options(4)).unwrap();
    let plain = disk.requests();
    let hashed = Disk::new(256 * MIB);
    let options = verified(4, Algorithm::Blkhash);
    let error = run(&hashed, &NullSink, &options).unwrap_err();
    assert_eq!((error.kind(), hashed.requests()), (Kind::Hash, plain));
}

/// So that a source may ask for it before the copy.
#[test]
fn the_first_request_of_a_copy_is_known_before() {
    for size in [1, 40 * MIB, 200 * MIB + 1] {
        for connections in [1, 2, 4, 9] {
            for options in [
                options(connections),
                verified(connections, Algorithm::Sha256),
                verified(connections, Algorithm::Blkhash),
            ] {
                let disk = Disk::new(size);
                // A verified copy ends with a digest that is not the one of the source.
                drop(run(&disk, &NullSink, &options));
                let first = disk.first.load(Ordering::Relaxed);
                assert_eq!(first, first_range(size, &options), "{size} {options:?}");
            }
        }
    }
}

#[test]
fn an_ordered_gib_takes_one_request() {
    let disk = Disk {
        access: Access::Ordered,
        ..Disk::new(1 << 30)
    };
    run(&disk, &NullSink, &options(4)).unwrap();
    assert_eq!(disk.requests(), 1);
}

#[test]
fn a_sparse_disk_takes_a_request_for_each_extent() {
    for (every, length) in [(MIB, 64 << 10), (20 * MIB, 2 * MIB), (64 * MIB, 40 * MIB)] {
        let disk = Disk {
            pieces: Some((every, length)),
            ..Disk::new(640 * MIB)
        };
        run(&disk, &NullSink, &options(4)).unwrap();
        let extents = 640 * MIB / every;
        // The longest extents are cut so that all connections have work.
        let cuts = 640 * MIB / every * length / (32 * MIB);
        let requests = disk.requests();
        assert!((extents..=extents + cuts).contains(&requests), "{requests}");
    }
}

/// What is at the beginning of a large disk is shared among the connections too.
#[test]
fn data_at_one_end_of_a_disk_is_cut_for_all_connections() {
    let disk = Disk {
        pieces: Some((1 << 40, 256 * MIB)),
        ..Disk::new(1 << 40)
    };
    run(&disk, &NullSink, &options(4)).unwrap();
    assert_eq!(disk.requests(), 7);
}
