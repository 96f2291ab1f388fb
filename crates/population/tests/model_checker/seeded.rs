//! Faults that are put back: the model finds each, and a rule names it.

use crate::{
    bounds::{scenario, show},
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
    let scenario = scenario(Class::default(), 1, &[Kind::Resource]);
    check(Fault::DiskNotCompared, scenario, Rule::OwnDisk);
}

#[test]
fn a_volume_that_was_filled_for_another_claim() {
    let class = Class {
        retains: true,
        ..Class::default()
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
    let scenario = scenario(Class::default(), 1, &[Kind::Steal]);
    check(Fault::AnyOwnVolume, scenario, Rule::Populated);
}

#[test]
fn a_pod_that_is_lost_and_forgotten() {
    let kinds = [Kind::Node, Kind::DeleteNode];
    let scenario = scenario(Class::default(), 2, &kinds);
    check(Fault::LostPodForgotten, scenario, Rule::OneWriter);
}

#[test]
fn evictions_that_count() {
    let scenario = scenario(Class::default(), 2, &[Kind::Evict]);
    check(Fault::EvictionsCount, scenario, Rule::Attempts);
}

#[test]
fn a_result_that_is_not_kept() {
    let scenario = scenario(Class::default(), 1, &[Kind::Pod]);
    check(Fault::ResultNotKept, scenario, Rule::CopyUsed);
}

#[test]
fn a_record_that_a_late_watch_hides() {
    let kinds = [Kind::Node, Kind::DeleteNode, Kind::Stall];
    let scenario = scenario(Class::default(), 3, &kinds);
    // One step further there are two writers; the copy of the second is dropped before.
    check(Fault::RecordFromCache, scenario, Rule::CopyKept);
}

#[test]
fn a_volume_that_is_not_seen_and_called_lost() {
    let scenario = Scenario {
        replicas: 2,
        ..scenario(Class::default(), 1, &[Kind::StallVolumes])
    };
    check(Fault::VolumeFromCache, scenario, Rule::Cause);
}
