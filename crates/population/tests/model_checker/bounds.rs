//! The searches that find nothing, and how far they go.

use crate::{
    disturb::Kind,
    planner::Class,
    search::{Counts, Found, Scenario, breadth_first, walk},
};

/// Everything that may happen to one claim of a class that provisions at once.
const ALL: &[Kind] = &[
    Kind::Crash,
    Kind::Answers,
    Kind::Refusal,
    Kind::Stall,
    Kind::StallVolumes,
    Kind::Mover,
    Kind::Silent,
    Kind::Pod,
    Kind::ForcePod,
    Kind::Temporary,
    Kind::ForceTemporary,
    Kind::Target,
    Kind::Resource,
    Kind::Volume,
    Kind::Recycle,
    Kind::Steal,
    Kind::Node,
    Kind::DeleteNode,
    Kind::Cordon,
];

pub(crate) fn scenario(class: Class, budget: u8, allowed: &[Kind]) -> Scenario {
    Scenario {
        class,
        users: 1,
        replicas: 1,
        limit: 1,
        budget,
        allowed: allowed.to_vec(),
        fault: None,
        most_states: 400_000,
    }
}

pub(crate) fn show(found: &Found) -> String {
    let lines = |steps: &[crate::step::Step]| {
        let lines: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
        lines.join("\n")
    };
    format!(
        "  {:?}\n{}\n  -- then the cluster behaves --\n{}\n  {:?}",
        found.violation,
        lines(&found.trace),
        lines(&found.end),
        found.counts
    )
}

fn passes(what: &str, result: Result<Counts, Box<Found>>) {
    match result {
        Ok(counts) => println!("{what}: {counts:?}"),
        Err(found) => panic!("{what}\n{}", show(&found)),
    }
}

fn search(what: &str, scenario: &Scenario) {
    passes(what, breadth_first(scenario));
}

const AT_ONCE: Class = Class {
    waits: false,
    local: false,
    retains: false,
    in_tree: false,
    bind_immediately: false,
};

const LATE: Class = Class {
    waits: true,
    local: true,
    ..AT_ONCE
};

#[test]
fn a_cluster_that_behaves() {
    search("immediate", &scenario(AT_ONCE, 0, &[]));
    search("late", &scenario(LATE, 0, &[]));
}

#[test]
fn one_disturbance() {
    search("one claim, one disturbance", &scenario(AT_ONCE, 1, ALL));
}

#[test]
fn one_claim() {
    search("one claim, two disturbances", &scenario(AT_ONCE, 2, ALL));
}

#[test]
fn one_claim_of_a_class_that_waits() {
    search("one claim that waits, one disturbance", &scenario(LATE, 1, &ALL[..ALL.len() - 1]));
}

#[test]
fn one_claim_and_a_lost_node() {
    let kinds = [Kind::Node, Kind::DeleteNode, Kind::ForcePod, Kind::Pod, Kind::Stall];
    search("nodes", &scenario(AT_ONCE, 3, &kinds));
}

#[test]
fn one_claim_and_recycled_volumes() {
    let kinds = [Kind::Target, Kind::Recycle, Kind::Stall, Kind::Crash];
    let class = Class {
        retains: true,
        ..AT_ONCE
    };
    search("recycled volumes", &scenario(class, 3, &kinds));
}

#[test]
fn two_claims_and_one_slot() {
    let kinds = [
        Kind::Crash,
        Kind::Answers,
        Kind::Refusal,
        Kind::Stall,
        Kind::Mover,
        Kind::Target,
        Kind::Resource,
    ];
    let scenario = Scenario {
        users: 2,
        ..scenario(AT_ONCE, 1, &kinds)
    };
    search("two claims", &scenario);
}

#[test]
fn two_controllers() {
    let kinds = [Kind::Answers, Kind::Stall, Kind::Mover];
    let scenario = Scenario {
        replicas: 2,
        ..scenario(AT_ONCE, 1, &kinds)
    };
    search("two controllers", &scenario);
}

#[test]
fn walks() {
    let seed = 0x5eed;
    let scenario = Scenario {
        users: 2,
        replicas: 2,
        ..scenario(AT_ONCE, 40, ALL)
    };
    println!("seed {seed:#x}");
    passes("walks", walk(&scenario, seed, 300, 200));
}
