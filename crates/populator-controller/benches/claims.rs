//! What many claims at once cost the controller: time from the end of a pod to the bound claim, writes to
//! the API server, and memory. The program is the one that is shipped; the API server and all that acts in a
//! cluster beside it are stand-ins, which take no time, apart from the pods. Linux only.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and fails by panicking"
)]

#[path = "../tests/support/cluster/mod.rs"]
mod cluster;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use cluster::{Cluster, Store, memory};
use testkit::process::Signal;

const USAGE: &str = "claims [CLAIMS...] [--pod-seconds N] [--in-flight N] [--program FILE]";
/// For all claims of a run.
const LIMIT: Duration = Duration::from_mins(30);

/// What is measured.
#[derive(Debug, Clone)]
struct Options {
    /// Numbers of claims, one run each.
    claims: Vec<usize>,
    /// How long each pod runs.
    pod: Duration,
    /// How many claims are served at a time; the program's own limits without it.
    in_flight: Option<String>,
    /// The program that is measured.
    program: PathBuf,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            claims: Vec::new(),
            pod: Duration::from_secs(1),
            in_flight: None,
            program: env!("CARGO_BIN_EXE_populator-controller").into(),
        };
        // cargo adds `--bench`.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--pod-seconds" => {
                    let seconds = arguments.next()?.parse().ok()?;
                    options.pod = Duration::try_from_secs_f64(seconds).ok()?;
                }
                "--in-flight" => options.in_flight = Some(arguments.next()?),
                "--program" => options.program = arguments.next()?.into(),
                number => options.claims.push(number.parse().ok()?),
            }
        }
        if options.claims.is_empty() {
            options.claims = vec![200, 1000];
        }
        Some(options)
    }
}

#[tokio::main]
async fn main() {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        println!("usage: {USAGE}");
        return;
    };
    for claims in &options.claims {
        run(*claims, &options).await;
    }
}

async fn run(claims: usize, options: &Options) {
    let cluster = Cluster::start(options.pod).await;
    let mut program = cluster.controller(&options.program);
    if let Some(limit) = &options.in_flight {
        program = program.env("MAX_POPULATOR_INFLIGHT", limit);
    }
    let controller = program.spawn();
    let reconciled = "all claims are reconciled";
    let controller = tokio::task::spawn_blocking(move || {
        controller.wait_for_line(reconciled);
        controller
    });
    let controller = controller.await.unwrap();
    let idle = memory(&controller, "VmRSS");
    let begun = Instant::now();
    for index in 0..claims {
        cluster.claim(&format!("disk-{index}"));
    }
    let are_done = |store: &Store| {
        let written = store.writes();
        let times = |what: &str| written.get(what).copied().unwrap_or_default();
        times("create events PopulatorFinished") >= claims
            && times("patch openstackvolumepopulators/status Populated") >= claims
    };
    cluster
        .until(LIMIT, "all claims are populated", are_done)
        .await;
    let took = begun.elapsed();
    let (peak, end) = (memory(&controller, "VmHWM"), memory(&controller, "VmRSS"));
    let own = memory(&controller, "RssAnon");
    controller.signal(Signal::TERM);
    tokio::task::spawn_blocking(move || controller.wait())
        .await
        .unwrap();

    let moments = cluster.moments.all();
    let between = |from: Option<Instant>, to: Option<Instant>| Some(to? - from?);
    let given = moments
        .iter()
        .filter_map(|moment| between(moment.succeeded, moment.given));
    let bound = moments
        .iter()
        .filter_map(|moment| between(moment.succeeded, moment.bound));
    let limit = options.in_flight.as_deref().unwrap_or("the default");
    println!(
        "\n{claims} claims at once, pods of {:?}, {limit} of them at a time: {:.1} s",
        options.pod,
        took.as_secs_f64()
    );
    row(
        "pod succeeded, to the write that gives the volume away",
        &percentiles(given.collect()),
    );
    row(
        "pod succeeded, to the claim bound",
        &percentiles(bound.collect()),
    );
    row("resident memory without claims, MiB", &mebibytes(idle));
    row("the same at its peak, MiB", &mebibytes(peak));
    row("the same at the end, MiB", &mebibytes(end));
    row("of this without the program's file, MiB", &mebibytes(own));
    let writes = cluster.store.writes();
    row(
        "writes for each claim",
        &per_claim(writes.values().sum(), claims),
    );
    for (what, times) in writes {
        row(&format!("  {what}"), &per_claim(times, claims));
    }
}

fn row(what: &str, value: &str) {
    println!("| {what} | {value} |");
}

fn mebibytes(kib: u64) -> String {
    let tenths = kib * 10 / 1024;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn per_claim(times: usize, claims: usize) -> String {
    let hundredths = times * 100 / claims.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// The median, the 99th percentile and the largest, in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} claims)",
        at(50),
        at(99),
        at(100),
        times.len()
    )
}
