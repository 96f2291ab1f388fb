use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::Exit;
use population::{
    Settings,
    model::{Lookup, Nodes, Uid},
    plan::{Full, Queued, SlotUse},
    slots::{Admission, Request, admit, server_of},
};

use populator_api::Reason;

use crate::support::{
    NODE, PlanCase, ago, begun, bound, chosen, failed, fresh, late_binding, pending, provisioned,
    rebound, running, succeeded, unprovisioned, words,
};

/// Claims by a letter for the source and a digit for the age; capital letters hold a slot, `~` are
/// stalled, and `!` stalled and late.
fn requests(names: &[&str]) -> Vec<Request> {
    let request = |name: &&str| {
        let (populator, age) = name.split_at(1);
        let stalled = age.find(['~', '!']);
        let age = age.trim_end_matches(['~', '!']);
        Request {
            uid: (*name).into(),
            created: ago(100 - age.parse::<u64>().unwrap()),
            server: populator.to_lowercase(),
            namespace: "vms".to_owned(),
            usage: if stalled.is_some() {
                SlotUse::Stalled {
                    is_late: name.ends_with('!'),
                }
            } else if populator == populator.to_lowercase() {
                SlotUse::Acquire
            } else {
                SlotUse::Held
            },
        }
    };
    names.iter().map(request).collect()
}

/// The claims that may continue, and the position of the others: `s` for its source's queue, `c`
/// for the controller's.
fn outcome(names: &[&str], admitted: &[&str], total: usize, per_source: usize) -> Vec<String> {
    let settings = Settings {
        max_in_flight: total,
        max_in_flight_per_source: per_source,
        ..Settings::default()
    };
    let admitted: BTreeSet<Uid> = admitted.iter().map(|name| (*name).into()).collect();
    let outcome = admit(&requests(names), &admitted, &BTreeMap::new(), &settings);
    assert_eq!(outcome.len(), names.len(), "everybody gets an answer");
    let word = |(uid, admission): (Uid, Admission)| match admission {
        Admission::Admitted => uid.to_string(),
        Admission::Queued(Queued { ahead, limit, full }) => {
            assert_eq!(
                limit,
                if full == Full::Source {
                    per_source
                } else {
                    total
                }
            );
            format!(
                "{uid}:{}{ahead}",
                if full == Full::Source { "s" } else { "c" }
            )
        }
    };
    outcome.into_iter().map(word).collect()
}

#[test]
fn first_come_first_served() {
    assert_eq!(
        outcome(&["a3", "a1", "a2"], &[], 2, 9),
        ["a1", "a2", "a3:c0"]
    );
    assert_eq!(
        outcome(&["A1", "a4", "a3", "a2"], &[], 2, 9),
        ["A1", "a2", "a3:c0", "a4:c1"]
    );
}

#[test]
fn a_full_source_blocks_no_other_one() {
    assert_eq!(
        outcome(&["A1", "A2", "a3", "a4", "b5"], &[], 9, 2),
        ["A1", "A2", "a3:s0", "a4:s1", "b5"]
    );
    assert_eq!(
        outcome(&["a1", "a2", "b3"], &[], 2, 1),
        ["a1", "a2:s0", "b3"]
    );
}

/// Whatever sources it names: a tenant must not stop the others.
#[test]
fn a_full_namespace_blocks_no_other_one() {
    let settings = Settings {
        max_in_flight_per_namespace: 2,
        ..Settings::default()
    };
    let mut requests = requests(&["A1", "b2", "c3", "d4", "e5"]);
    "others".clone_into(&mut requests[4].namespace);
    let outcome = admit(&requests, &BTreeSet::new(), &BTreeMap::new(), &settings);
    let queued = |ahead| {
        Admission::Queued(Queued {
            ahead,
            limit: 2,
            full: Full::Namespace,
        })
    };
    let expected = [
        Admission::Admitted,
        Admission::Admitted,
        queued(0),
        queued(1),
        Admission::Admitted,
    ];
    assert_eq!(outcome.into_values().collect::<Vec<_>>(), expected);
}

#[test]
fn a_claim_with_a_slot_keeps_it_when_the_limit_is_lowered() {
    assert_eq!(
        outcome(&["A1", "A2", "A3", "b4"], &[], 2, 1),
        ["A1", "A2", "A3", "b4:c0"]
    );
}

#[test]
fn an_admission_that_is_not_seen_yet_counts() {
    assert_eq!(outcome(&["a1", "a2"], &["a2"], 1, 9), ["a1:c0", "a2"]);
    assert_eq!(
        outcome(&["a1"], &["gone"], 1, 9),
        ["a1"],
        "a claim that is gone holds nothing"
    );
}

#[test]
fn a_stalled_claim_blocks_no_other_claim() {
    assert_eq!(
        outcome(&["A1~", "A2~", "a3", "a4", "a5"], &[], 2, 2),
        ["A1~", "A2~", "a3", "a4", "a5:s0"]
    );
    // Of another source too.
    assert_eq!(
        outcome(&["A1~", "A2~", "b3"], &[], 2, 1),
        ["A1~", "A2~", "b3"]
    );
}

/// A pod of a stalled claim may start by itself: together there are at most two for each slot.
#[test]
fn pods_that_may_start_by_themselves_are_bounded() {
    // They have not had their time yet: attaching a volume may take minutes.
    assert_eq!(
        outcome(&["A1~", "A2~", "A3~", "A4~", "a5"], &[], 2, 9),
        ["A1~", "A2~", "A3~", "A4~", "a5:c0"]
    );
    // They have had it: as many go as others need room.
    assert_eq!(
        outcome(&["A1!", "A2!", "A3!", "A4!", "a5", "a6", "a7"], &[], 2, 9),
        ["A1!", "A2!", "A3!:c0", "A4!:c0", "a5", "a6", "a7:c0"]
    );
    assert_eq!(
        outcome(&["A1!", "A2!", "A3!"], &[], 2, 1),
        ["A1!", "A2!", "A3!:s0"],
        "the limit was lowered"
    );
}

#[test]
fn who_gave_a_slot_up_comes_after_all_others() {
    let turns = BTreeMap::from([(Uid::from("a1"), 2), (Uid::from("a2"), 1)]);
    let settings = Settings {
        max_in_flight: 2,
        ..Settings::default()
    };
    let requests = requests(&["a1", "a2", "a9"]);
    let outcome = admit(&requests, &BTreeSet::new(), &turns, &settings);
    let admitted = |uid: &str| outcome[&Uid::from(uid)] == Admission::Admitted;
    assert!(admitted("a9") && admitted("a2") && !admitted("a1"));
}

#[test]
fn equal_ages_are_ordered_by_uid() {
    let mut twins = requests(&["a1", "a2"]);
    twins[0].created = twins[1].created;
    twins.reverse();
    let settings = Settings {
        max_in_flight: 1,
        ..Settings::default()
    };
    let outcome = admit(&twins, &BTreeSet::new(), &BTreeMap::new(), &settings);
    assert_eq!(outcome[&Uid::from("a1")], Admission::Admitted);
}

type Stage = fn() -> PlanCase;

#[test]
fn what_holds_a_slot() {
    let terminating: Stage = || {
        let mut case = running();
        case.world.claim.terminating = true;
        case
    };
    let exhausted: Stage = || {
        let mut case = failed(Exit::SourceBusy.code().into(), "");
        case.world.claim.attempts.recreations = 3;
        case
    };
    let again: Stage = || {
        let mut case = failed(16, "");
        case.world.claim.retry = Some("2".to_owned());
        case
    };
    let healing: Stage = || {
        let mut case = failed(30, "");
        case.world.claim.retry = Some("2".to_owned());
        case
    };
    let cases: [(&str, Stage, Option<SlotUse>); 15] = [
        ("could begin", fresh, Some(SlotUse::Acquire)),
        ("waits for a consumer", late_binding, None),
        ("begun", begun, Some(SlotUse::Resume)),
        ("after the pause", provisioned, Some(SlotUse::Resume)),
        ("its pod is starting", pending, Some(SlotUse::Held)),
        ("copying", running, Some(SlotUse::Held)),
        (
            "failed, and another attempt follows",
            || failed(30, ""),
            Some(SlotUse::Held),
        ),
        ("failed for good", || failed(16, ""), None),
        (
            "failed for good, and asked for again",
            again,
            Some(SlotUse::Acquire),
        ),
        (
            "failed in a way that may pass, and asked for again",
            healing,
            Some(SlotUse::Resume),
        ),
        ("failed too often", exhausted, None),
        ("copied", succeeded, None),
        ("rebound", rebound, None),
        ("bound", bound, None),
        ("being deleted", terminating, None),
    ];
    for (name, case, usage) in cases {
        let case = case();
        assert_eq!(case.plan().slot, usage, "{name}");
        let request = Request::new(&case.world, SlotUse::Held);
        assert_eq!(request.server, "https://engine.example.org");
    }
}

/// A slot is for bytes.
#[test]
fn a_claim_that_moves_nothing_gives_its_slot_up() {
    let stalled = |is_late| Some(SlotUse::Stalled { is_late });
    let held = Some(SlotUse::Held);
    let scheduled = |case: &mut PlanCase, seconds| {
        case.pod().created = ago(seconds);
        case.pod().node = Some(NODE.to_owned());
    };
    let cases: Vec<(&str, PlanCase, Option<SlotUse>)> = vec![
        ("provisioning", chosen_for(299), held),
        ("provisioning for too long", chosen_for(300), None),
        (
            "with a pod that waits for the volume",
            changed(unprovisioned, &|case| scheduled(case, 300)),
            stalled(true),
        ),
        (
            "the image is being pulled",
            changed(pending, &|case| scheduled(case, 299)),
            held,
        ),
        (
            "and does not come",
            changed(pending, &|case| scheduled(case, 300)),
            stalled(true),
        ),
        (
            "the image cannot be pulled, at once",
            changed(pending, &|case| {
                scheduled(case, 45);
                case.pod().waiting = Some("ImagePullBackOff: no such image".to_owned());
            }),
            stalled(false),
        ),
        (
            "the secret is missing, at once",
            changed(pending, &|case| {
                scheduled(case, 45);
                case.world.pod_warning = Some("FailedMount: secret not found".to_owned());
            }),
            stalled(false),
        ),
        (
            "no node has room for it: another one would find none either",
            changed(pending, &|case| {
                case.pod().created = ago(299);
                case.pod().unschedulable = Some("Unschedulable: 0/1".to_owned());
                case.world.pod_warning = Some("FailedScheduling: 0/1".to_owned());
            }),
            held,
        ),
        (
            "its resource is gone",
            changed(pending, &|case| case.world.populator = Lookup::Missing),
            None,
        ),
        (
            "its node is lost",
            changed(running, &|case| {
                case.world.nodes = Nodes::Known([].into());
            }),
            None,
        ),
        (
            "its pod is being deleted",
            changed(running, &|case| case.pod().terminating = Some(ago(30))),
            held,
        ),
        (
            "its temporary claim does not go",
            changed(provisioned, &|case| {
                case.temporary().terminating = Some(ago(300));
            }),
            None,
        ),
        (
            "bytes move, however old the pod is",
            changed(running, &|case| scheduled(case, 86_400)),
            held,
        ),
    ];
    for (name, case, usage) in cases {
        assert_eq!(case.plan().slot, usage, "{name}: {:#?}", case.plan());
    }
}

fn changed(base: Stage, change: &dyn Fn(&mut PlanCase)) -> PlanCase {
    let mut case = base();
    change(&mut case);
    case
}

fn chosen_for(seconds: u64) -> PlanCase {
    changed(chosen, &|case| case.temporary().created = ago(seconds))
}

/// Without room its pod is deleted, so that it does not start by itself; the cause stays readable.
#[test]
fn a_stalled_claim_without_room_is_parked() {
    let mut case = pending();
    case.pod().created = ago(300);
    case.pod().waiting = Some("ImagePullBackOff: no such image".to_owned());
    let plan = case.plan();
    let message = plan.status.message.clone();
    let parked = plan.deferred(&Queued {
        ahead: 0,
        limit: 2,
        full: Full::Source,
    });
    assert_eq!(words(&parked), ["delete pod"]);
    assert_eq!(parked.status.reason, Reason::PodStuck);
    assert_eq!(parked.status.message, message);
    assert_eq!(parked.events[0].reason, "PopulatorStuck");
    assert!(parked.requeue_after > Some(Duration::ZERO));
}

#[test]
fn the_pod_names_the_server_when_the_resource_is_gone() {
    let mut case = running();
    case.world.populator = Lookup::Missing;
    let request = Request::new(&case.world, SlotUse::Held);
    assert_eq!(request.server, "https://engine.example.org");
}

#[test]
fn one_server_has_many_urls() {
    let server = "https://engine.example.org";
    for url in [
        "https://engine.example.org",
        "https://Engine.Example.org/",
        "https://engine.example.org:443/ovirt-engine/api",
        "HTTPS://engine.example.org?x",
    ] {
        assert_eq!(server_of(url), server, "{url}");
    }
    assert_eq!(server_of("https://k:5000/v3"), "https://k:5000");
    assert_eq!(server_of("http://k:80"), "http://k");
    assert_eq!(server_of("https://[fd00::1]:443/x"), "https://[fd00::1]");
}
