//! What it costs to open TLS records, without a network: CPU seconds for each GiB, by our record layer
//! and by rustls, in turns. The bytes come from memory, and go into a buffer of 1 MiB, like those of a
//! mover.
//!
//!     cargo run --release -p net --example records

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program to measure with; it ends by a panic when something is wrong"
)]

#[path = "../tests/memory/mod.rs"]
mod memory;

use memory::{DATA, World};
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};

/// Content of a run.
const SIZE: usize = 64 << 20;
const RECORD: usize = 1 << 14;
const ROUNDS: usize = 15;

fn main() {
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
    let (server, mut tls) = world.connect(&world.client(own_records));
    server.borrow_mut().take_keys();
    let record = vec![7; RECORD];
    for _ in 0..SIZE / RECORD {
        server.borrow_mut().record(DATA, &record, 0);
    }
    let mut buffer = vec![0; 1 << 20];
    let start = cpu();
    for piece in 0..SIZE / buffer.len() {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = SIZE - piece * buffer.len() - filled;
            filled += tls.read(&mut buffer[filled..], left as u64).unwrap();
        }
    }
    (cpu() - start) * f64::from(1 << 30) / SIZE as f64
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
