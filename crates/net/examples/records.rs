//! What it costs to open TLS records, without a network: CPU seconds for each GiB, by our record layer
//! and by rustls, in turns. The bytes come from memory, and go into a buffer of 1 MiB, like those of a
//! mover.
//!
//!     cargo run --release -p net --example records
//!
//! `records once ours` and `records once rustls` open them a single time, for a tool that counts
//! instructions (`bench/bounds`): all that counts happens in [`open_records`].

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program to measure with; it ends by a panic when something is wrong"
)]

#[path = "../tests/memory/mod.rs"]
mod memory;

use memory::{DATA, Server, World};
use net::testing::Tls;
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};

/// Content of a run.
const SIZE: usize = 64 << 20;
/// The same of `once`.
const ONCE: usize = 16 << 20;
const RECORD: usize = 1 << 14;
const BUFFER: usize = 1 << 20;
const ROUNDS: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [once, who] = &arguments[..] {
        assert!(once == "once" && (who == "ours" || who == "rustls"));
        let world = World::with(TLS13_AES_256_GCM_SHA384, &rustls::version::TLS13);
        let mut tls = canned(&world, who == "ours", ONCE);
        open_records(&mut tls, &mut vec![0; BUFFER], ONCE);
        println!("{ONCE}");
        return;
    }
    for suite in [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384] {
        let world = World::with(suite, &rustls::version::TLS13);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(run(&world, true));
            theirs.push(run(&world, false));
        }
        let suite = suite.suite();
        for (who, seconds) in [("ours", &mut ours), ("rustls", &mut theirs)] {
            seconds.sort_by(f64::total_cmp);
            println!(
                "{suite:?} {who}: {:.3} s/GiB ({:.3}-{:.3}, {ROUNDS} runs)",
                seconds[ROUNDS / 2],
                seconds[0],
                seconds[ROUNDS - 1]
            );
        }
    }
}

/// CPU seconds for each GiB.
#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn run(world: &World, own_records: bool) -> f64 {
    let mut tls = canned(world, own_records, SIZE);
    let mut buffer = vec![0; BUFFER];
    let start = cpu();
    open_records(&mut tls, &mut buffer, SIZE);
    (cpu() - start) * f64::from(1 << 30) / SIZE as f64
}

/// A connection whose records, with so many bytes of content, have arrived.
fn canned(world: &World, own_records: bool, size: usize) -> Tls<Server> {
    let (server, tls) = world.connect(&world.client(own_records));
    server.borrow_mut().take_keys();
    let record = vec![7; RECORD];
    for _ in 0..size / RECORD {
        server.borrow_mut().record(DATA, &record, 0);
    }
    tls
}

/// Fills the buffer again and again, as a mover does.
#[inline(never)]
fn open_records(tls: &mut Tls<Server>, buffer: &mut [u8], size: usize) {
    let mut opened = 0;
    while opened < size {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = size - opened - filled;
            filled += tls.read(&mut buffer[filled..], left as u64).unwrap();
        }
        opened += filled;
    }
}

/// Of this thread, in seconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "a process that lives for seconds"
)]
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
