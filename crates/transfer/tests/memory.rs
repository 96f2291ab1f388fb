//! The memory source and the memory sink keep the promises that every source and sink makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod contract;

use contract::{noise, sink_contract, source_contract};
use transfer::{Access, sink::MemorySink, source::MemorySource};

#[test]
fn a_memory_source_is_a_source() {
    let picture = MemorySource::picture("A-B--CC0D-E0", 65_536);
    source_contract(picture.content(), || picture.clone());
    let noise = noise(300_001);
    source_contract(&noise, || MemorySource::new(noise.clone()));
    source_contract(&noise, || {
        MemorySource::new(noise.clone()).with_access(Access::Ordered)
    });
}

#[test]
fn a_memory_sink_is_a_sink() {
    let capacity = (4 << 20) + 512;
    let with_handle = |sink: MemorySink| (sink.clone(), sink);
    sink_contract(
        capacity,
        || with_handle(MemorySink::device((4 << 20) + 512)),
        MemorySink::content,
    );
    sink_contract(
        capacity,
        || with_handle(MemorySink::file()),
        MemorySink::content,
    );
}
