//! What a claim costs: every write of the whole program for it, by name, and the program's memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/cluster/mod.rs"]
mod cluster;

use std::time::Duration;

use cluster::{Cluster, Store, memory};
use testkit::{DEADLINE, process::Signal};

const FINISHED: &str = "create events PopulatorFinished";
const CREATED: &str = "create events PopulatorCreated";
const COPYING: &str = "patch openstackvolumepopulators/status Copying";
const POPULATED: &str = "patch openstackvolumepopulators/status Populated";
/// What a copy costs that takes a moment. Each of the first five must survive the controller's death, the
/// event tells the claim's owner, and the status tells Forklift and whoever waits for the resource.
const SHORT: [&str; 7] = [
    "create events PopulatorFinished",
    "create persistentvolumeclaims",
    "create pods",
    "delete persistentvolumeclaims",
    "patch openstackvolumepopulators/status Populated",
    "patch persistentvolumes",
    "patch pods",
];

/// The writes for a claim, sorted: events and statuses are written beside the steps.
fn sorted(store: &Store, claim: &str) -> Vec<String> {
    let mut writes = store.writes_of(claim);
    writes.sort();
    writes
}

fn has(claim: &'static str, write: &'static str) -> impl Fn(&Store) -> bool {
    move |store| {
        store
            .writes_of(claim)
            .iter()
            .any(|of_claim| of_claim == write)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_claim_costs_seven_writes_and_a_longer_one_says_what_it_does() {
    let cluster = Cluster::start(Duration::ZERO).await;
    let program = env!("CARGO_BIN_EXE_populator-controller");
    let controller = cluster.controller(program).spawn();
    cluster.claim("short");
    for write in [FINISHED, POPULATED] {
        cluster.until(DEADLINE, write, has("short", write)).await;
    }
    // Its pod runs until all was written that is held for a moment: of the short claim, too, if there were
    // anything left.
    cluster.pods.hold(true);
    cluster.claim("long");
    for write in [COPYING, CREATED] {
        cluster.until(DEADLINE, write, has("long", write)).await;
    }
    cluster.pods.hold(false);
    for write in [FINISHED, POPULATED] {
        cluster.until(DEADLINE, write, has("long", write)).await;
    }
    controller.signal(Signal::TERM);
    let ended = tokio::task::spawn_blocking(move || controller.wait())
        .await
        .unwrap();
    assert_eq!(ended.code(), Some(0), "{}", ended.output());
    assert_eq!(sorted(&cluster.store, "short"), SHORT);
    let mut long = [SHORT.as_slice(), &[CREATED, COPYING]].concat();
    long.sort_unstable();
    assert_eq!(sorted(&cluster.store, "long"), long);
}

/// Most of what the program takes when it starts is its own file. This is what claims add to it, whatever
/// the build.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_takes_some_kibibytes_of_memory() {
    const CLAIMS: usize = 400;
    const MOST: usize = 22; // KiB for each claim
    let cluster = Cluster::start(Duration::ZERO).await;
    let program = cluster.controller(env!("CARGO_BIN_EXE_populator-controller"));
    let controller = program.env("MAX_POPULATOR_INFLIGHT", "50").spawn();
    cluster.claim("first");
    cluster
        .until(DEADLINE, FINISHED, has("first", FINISHED))
        .await;
    let before = memory(&controller, "RssAnon");
    for index in 0..CLAIMS {
        cluster.claim(&format!("disk-{index}"));
    }
    let all = |store: &Store| {
        store
            .writes()
            .get(POPULATED)
            .is_some_and(|times| *times > CLAIMS)
    };
    cluster.until(DEADLINE * 3, "all are populated", all).await;
    let grown = memory(&controller, "RssAnon").saturating_sub(before);
    controller.signal(Signal::TERM);
    let each = usize::try_from(grown).unwrap() / CLAIMS;
    assert!(each > 0 && each < MOST, "{each} KiB for each claim");
}
