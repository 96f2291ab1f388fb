//! What opening records costs in allocations, on any machine. Alone in its program, because it counts
//! those of the whole process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod memory;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use memory::{DATA, World};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(
    unsafe_code,
    reason = "an allocator is unsafe; this one counts, and hands on"
)]
// SAFETY: every call goes to the system's allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; `pointer` comes from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn records_are_opened_without_an_allocation() {
    const SIZE: usize = 16 << 20;
    let world = World::new();
    let record = vec![7; 1 << 14];
    let read = |own_records: bool| {
        let (server, mut tls) = world.connect(&world.client(own_records));
        server.borrow_mut().take_keys();
        for _ in 0..SIZE / record.len() {
            server.borrow_mut().record(DATA, &record, 0);
        }
        let mut buffer = vec![0; 1 << 20];
        let before = (COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
        for piece in 0..SIZE / buffer.len() {
            let mut filled = 0;
            while filled < buffer.len() {
                let left = SIZE - piece * buffer.len() - filled;
                filled += tls.read(&mut buffer[filled..], left as u64).unwrap();
            }
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
        (
            COUNT.load(Ordering::Relaxed) - before.0,
            BYTES.load(Ordering::Relaxed) - before.1,
        )
    };
    let (count, bytes) = read(true);
    // The tickets that come behind the handshake, and the room for the record at the end of a
    // buffer, which has no place for the record's type: once, and no byte of it for each record.
    assert!(count < 100, "{count} allocations");
    assert!(bytes < 100_000, "{bytes} bytes");
    // The count means something: rustls allocates for each record.
    let (count, bytes) = read(false);
    assert!(count >= SIZE / record.len(), "{count} allocations");
    assert!(bytes >= SIZE, "{bytes} bytes");
}
