//! Faults that are put back: the model finds each, and a rule names it.

use crate::{
    bounds::{AT_ONCE, LATE, scenario, show},
    check::Rule,
    disturb::Kind,
    faults::Fault,
    planner::Class,
    search::{Scenario, breadth_first},
};

/// One seeded fault, where it is searched, and the rule that catches it.
fn check(fault: Fault, scenario: Scenario, rule: Rule) {
    let scenario = Scenario {
        fault: Some(fault),
        most_states: 600_000,
        ..scenario
    };
    match breadth_first(&scenario) {
        Ok(counts) => panic!("{fault:?} is not found in {counts}"),
        Err(found) => {
            println!("{fault:?}:\n{}", show(&found));
            assert_eq!(found.violation.rule, rule);
        }
    }
}

#[test]
fn a_disk_that_is_not_compared() {
    let scenario = scenario(AT_ONCE, 1, &[Kind::Resource]);
    check(Fault::DiskNotCompared, scenario, Rule::OwnDisk);
}

#[test]
fn a_volume_that_was_filled_for_another_claim() {
    let class = Class {
        retains: true,
        ..AT_ONCE
    };
    let kinds = [Kind::Target, Kind::Recycle, Kind::Resource];
    check(
        Fault::AnyFilledVolume,
        scenario(class, 3, &kinds),
        Rule::Populated,
    );
}

#[test]
fn a_volume_that_another_controller_gave_away() {
    let scenario = scenario(AT_ONCE, 1, &[Kind::Steal]);
    check(Fault::AnyOwnVolume, scenario, Rule::Populated);
}

#[test]
fn a_pod_that_is_lost_and_forgotten() {
    let kinds = [Kind::Node, Kind::DeleteNode];
    let scenario = scenario(AT_ONCE, 2, &kinds);
    check(Fault::LostPodForgotten, scenario, Rule::OneWriter);
}

#[test]
fn evictions_that_count() {
    let scenario = scenario(AT_ONCE, 2, &[Kind::Evict]);
    check(Fault::EvictionsCount, scenario, Rule::Attempts);
}

#[test]
fn a_result_that_is_not_kept() {
    let scenario = scenario(AT_ONCE, 1, &[Kind::Pod]);
    check(Fault::ResultNotKept, scenario, Rule::CopyUsed);
}

#[test]
fn a_record_that_a_late_watch_hides() {
    let kinds = [Kind::Node, Kind::DeleteNode, Kind::Stall];
    let scenario = scenario(AT_ONCE, 3, &kinds);
    // One step further there are two writers; the copy of the second is dropped before.
    check(Fault::RecordFromCache, scenario, Rule::CopyKept);
}

#[test]
fn a_volume_that_is_not_seen_and_called_lost() {
    let scenario = Scenario {
        replicas: 2,
        ..scenario(AT_ONCE, 1, &[Kind::StallVolumes])
    };
    check(Fault::VolumeFromCache, scenario, Rule::Cause);
}

#[test]
fn a_slot_that_is_kept() {
    let scenario = Scenario {
        users: 2,
        broken: [true, false],
        ..scenario(AT_ONCE, 0, &[])
    };
    check(Fault::SlotKept, scenario, Rule::Ends);
}

#[test]
fn a_slot_that_is_leaked() {
    check(
        Fault::SlotLeaked,
        scenario(AT_ONCE, 0, &[]),
        Rule::SlotsFree,
    );
}

#[test]
fn a_node_that_is_kept() {
    let scenario = scenario(LATE, 1, &[Kind::FullNode]);
    check(Fault::NodeKept, scenario, Rule::Ends);
}

#[test]
fn settings_that_are_ignored() {
    let scenario = Scenario {
        wrong_image: true,
        ..scenario(AT_ONCE, 0, &[])
    };
    check(Fault::SettingsIgnored, scenario, Rule::Ends);
}

#[test]
fn a_quota_that_is_ignored() {
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
    // The creation is refused for ever.
    check(Fault::QuotaIgnored, scenario, Rule::Quiet);
}

#[test]
fn a_restored_claim_that_is_called_failed() {
    let scenario = Scenario {
        is_restored: true,
        ..scenario(AT_ONCE, 0, &[])
    };
    check(Fault::RestoredIsOurs, scenario, Rule::Cause);
}

#[test]
fn a_class_that_is_refused_early() {
    let class = Class {
        in_tree: true,
        ..LATE
    };
    check(Fault::RefusedEarly, scenario(class, 0, &[]), Rule::Cause);
}

#[test]
fn a_verdict_that_is_forgotten() {
    let scenario = scenario(AT_ONCE, 2, &[Kind::Mover, Kind::Pod]);
    check(Fault::VerdictForgotten, scenario, Rule::Verdict);
}

#[test]
fn a_pod_that_comes_too_late() {
    let scenario = Scenario {
        replicas: 2,
        ..scenario(AT_ONCE, 1, &[Kind::Pod])
    };
    check(Fault::LatePodKept, scenario, Rule::NothingLeft);
}

#[test]
fn a_temporary_claim_that_is_out_of_date() {
    let scenario = Scenario {
        wrong_image: true,
        ..scenario(AT_ONCE, 1, &[Kind::Stall])
    };
    check(Fault::OldTemporary, scenario, Rule::CopyKept);
}
