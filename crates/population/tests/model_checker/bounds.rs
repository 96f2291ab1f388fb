//! The searches in which nothing must be found, and how far they go.

use crate::{
    disturb::Kind,
    planner::Class,
    search::{Counts, Found, Scenario, breadth_first, walk},
    step::Step,
};

/// `make model` builds with optimisation and goes further.
const IS_LONG: bool = !cfg!(debug_assertions);

/// Everything that may happen to one claim and what is created for it.
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
    Kind::Resource,
    Kind::Volume,
    Kind::Steal,
    Kind::Node,
    Kind::Cordon,
    Kind::FullNode,
    Kind::GiveUp,
    Kind::Evict,
    Kind::Secret,
    Kind::Retry,
];

pub(crate) const AT_ONCE: Class = Class {
    waits: false,
    local: false,
    retains: false,
    in_tree: false,
    is_forklifts: false,
    bind_immediately: false,
};

pub(crate) const LATE: Class = Class {
    waits: true,
    local: true,
    ..AT_ONCE
};

/// One claim, one controller.
pub(crate) fn scenario(class: Class, budget: u8, allowed: &[Kind]) -> Scenario {
    Scenario {
        class,
        users: 1,
        replicas: 1,
        limit: 1,
        budget,
        allowed: allowed.to_vec(),
        fault: None,
        wrong_image: false,
        is_restored: false,
        broken: [false; 2],
        quota: usize::MAX,
        most_states: if IS_LONG { 1_000_000 } else { 15_000 },
    }
}

pub(crate) fn show(found: &Found) -> String {
    let lines = |steps: &[Step]| {
        let lines: Vec<String> = steps.iter().map(|step| format!("  {step:?}\n")).collect();
        lines.concat()
    };
    format!(
        "{:?}\n{}  -- and then the cluster behaves --\n{}  {}",
        found.violation,
        lines(&found.trace),
        lines(&found.end),
        found.counts
    )
}

fn passes(what: &str, result: Result<Counts, Box<Found>>) {
    match result {
        Ok(counts) => println!("{what}: {counts}"),
        Err(found) => panic!("{what}: {}", show(&found)),
    }
}

fn search(what: &str, scenario: &Scenario) {
    passes(what, breadth_first(scenario));
}

fn class_name(class: Class) -> &'static str {
    if class.waits {
        "late binding"
    } else {
        "immediate binding"
    }
}

/// A pod that was decided on before another controller has taken the volume is left: see
/// docs/reliability.md.
fn without_theft() -> Vec<Kind> {
    let all = ALL.iter().copied();
    all.filter(|kind| *kind != Kind::Steal).collect()
}

#[test]
fn a_cluster_that_behaves() {
    for class in [AT_ONCE, LATE] {
        search(class_name(class), &scenario(class, 0, &[]));
    }
}

#[test]
fn everything_may_happen_once() {
    for class in [AT_ONCE, LATE] {
        for kind in ALL {
            let what = format!("{}, {kind:?}", class_name(class));
            search(&what, &scenario(class, 1, &[*kind]));
        }
    }
}

#[test]
fn everything_may_happen_twice() {
    // Complete in neither form: breadth first as far as the bound allows.
    let kinds = without_theft();
    search("two of everything", &scenario(AT_ONCE, 2, &kinds));
}

#[test]
fn a_node_is_lost() {
    let kinds = [Kind::Node, Kind::DeleteNode, Kind::Pod, Kind::Stall];
    search("a lost node", &scenario(AT_ONCE, 3, &kinds));
    let kinds = [Kind::Node, Kind::DeleteNode];
    search("a lost node, late binding", &scenario(LATE, 2, &kinds));
}

#[test]
fn volumes_are_recycled() {
    let kinds = [Kind::Target, Kind::Recycle, Kind::Stall, Kind::Crash];
    let class = Class {
        retains: true,
        ..AT_ONCE
    };
    search("recycled volumes", &scenario(class, 3, &kinds));
}

#[test]
fn a_claim_is_created_again() {
    search(
        "a claim and the next one",
        &scenario(AT_ONCE, 1, &[Kind::Target]),
    );
}

#[test]
fn two_claims_and_one_slot() {
    let kinds = [
        Kind::Crash,
        Kind::Answers,
        Kind::Refusal,
        Kind::Stall,
        Kind::Mover,
        Kind::Resource,
    ];
    let scenario = Scenario {
        users: 2,
        ..scenario(AT_ONCE, 1, &kinds)
    };
    search("two claims and one slot", &scenario);
}

#[test]
fn two_active_controllers() {
    let kinds = [Kind::Answers, Kind::Stall, Kind::Mover];
    let scenario = Scenario {
        replicas: 2,
        ..scenario(AT_ONCE, 1, &kinds)
    };
    search("two active controllers", &scenario);
}

/// A claim that cannot start stops no other claim.
#[test]
fn a_secret_is_missing() {
    for kind in [Kind::Stall, Kind::Crash, Kind::Secret] {
        let scenario = Scenario {
            users: 2,
            broken: [true, false],
            ..scenario(AT_ONCE, 1, &[kind])
        };
        search("a missing secret, two claims and one slot", &scenario);
    }
}

#[test]
fn the_settings_name_a_wrong_image() {
    let scenario = Scenario {
        wrong_image: true,
        ..scenario(AT_ONCE, 1, &[Kind::Crash, Kind::Stall])
    };
    search("a wrong image", &scenario);
}

/// The quota counts the claims that finished pods keep.
#[test]
fn a_quota_is_exhausted() {
    let class = Class {
        is_forklifts: true,
        ..AT_ONCE
    };
    let scenario = Scenario {
        users: 2,
        limit: 2,
        quota: 1,
        ..scenario(class, 0, &[])
    };
    search("a quota of one claim", &scenario);
}

#[test]
fn a_claim_is_restored() {
    let scenario = Scenario {
        is_restored: true,
        ..scenario(AT_ONCE, 1, &[Kind::Crash, Kind::Resource, Kind::Stall])
    };
    search("a restored claim", &scenario);
}

#[test]
fn a_class_is_built_into_kubernetes() {
    let class = Class {
        in_tree: true,
        ..LATE
    };
    search(
        "an in-tree class",
        &scenario(class, 1, &[Kind::Stall, Kind::GiveUp]),
    );
}

#[test]
fn a_claim_wants_no_consumer() {
    let class = Class {
        bind_immediately: true,
        ..LATE
    };
    let kinds = [Kind::Stall, Kind::GiveUp, Kind::FullNode, Kind::Pod];
    search(
        "late binding without a consumer",
        &scenario(class, 1, &kinds),
    );
}

#[test]
fn walks_beyond_the_bounds() {
    let seed = 0x0005_eed0;
    let walks = if IS_LONG { 5_000 } else { 60 };
    let kinds = without_theft();
    let runs = [(1, 1, AT_ONCE), (1, 1, LATE), (2, 1, AT_ONCE), (2, 1, LATE)];
    for (seed, (users, replicas, class)) in (seed..).zip(runs) {
        let scenario = Scenario {
            users,
            replicas,
            limit: 2,
            ..scenario(class, 40, &kinds)
        };
        let what = format!(
            "walks, {users} claims, {}, seed {seed:#x}",
            class_name(class)
        );
        passes(&what, walk(&scenario, seed, walks, 150));
    }
}
