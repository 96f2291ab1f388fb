use std::collections::BTreeSet;

use contract::Exit;
use populator_api::Reason;
use populator_controller::{
    Settings,
    admission::{Candidate, Stand, admit, server_of},
    model::Lookup,
    plan::{Admission, Full},
};

use crate::support::{
    Case, ago, begun, bound, failed, fresh, late_binding, now, pending, provisioned, rebound,
    running, succeeded,
};

/// Claims by a letter for the source and a digit for the age; capital letters hold a place.
fn candidates(names: &[&str]) -> Vec<Candidate> {
    let candidate = |name: &&str| {
        let (source, age) = name.split_at(1);
        Candidate {
            uid: (*name).to_owned(),
            created: ago(100 - age.parse::<u64>().unwrap()),
            server: source.to_lowercase(),
            stand: if source == source.to_lowercase() {
                Stand::Waits
            } else {
                Stand::Holds
            },
        }
    };
    names.iter().map(candidate).collect()
}

/// Who may go on, and the place of everybody else: `s` for its source's queue, `c` for the controller's.
fn outcome(names: &[&str], granted: &[&str], total: usize, per_source: usize) -> Vec<String> {
    let settings = Settings {
        max_in_flight: total,
        max_in_flight_per_source: per_source,
        ..Settings::default()
    };
    let granted: BTreeSet<String> = granted.iter().map(|name| (*name).to_owned()).collect();
    let outcome = admit(&candidates(names), &granted, &settings);
    assert_eq!(outcome.len(), names.len(), "everybody gets an answer");
    let word = |(uid, admission): (String, Admission)| match admission {
        Admission::Granted => uid,
        Admission::Waiting { ahead, limit, full } => {
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
fn a_full_source_keeps_nobody_else_waiting() {
    assert_eq!(
        outcome(&["A1", "A2", "a3", "a4", "b5"], &[], 9, 2),
        ["A1", "A2", "a3:s0", "a4:s1", "b5"]
    );
    assert_eq!(
        outcome(&["a1", "a2", "b3"], &[], 2, 1),
        ["a1", "a2:s0", "b3"]
    );
}

#[test]
fn who_holds_a_place_keeps_it_when_the_limit_is_lowered() {
    assert_eq!(
        outcome(&["A1", "A2", "A3", "b4"], &[], 2, 1),
        ["A1", "A2", "A3", "b4:c0"]
    );
}

#[test]
fn a_grant_that_is_not_seen_yet_counts() {
    assert_eq!(outcome(&["a1", "a2"], &["a2"], 1, 9), ["a1:c0", "a2"]);
    assert_eq!(
        outcome(&["a1"], &["gone"], 1, 9),
        ["a1"],
        "a claim that is gone holds nothing"
    );
}

#[test]
fn equal_ages_are_told_apart_by_uid() {
    let mut twins = candidates(&["a1", "a2"]);
    twins[0].created = twins[1].created;
    twins.reverse();
    let settings = Settings {
        max_in_flight: 1,
        ..Settings::default()
    };
    let outcome = admit(&twins, &BTreeSet::new(), &settings);
    assert_eq!(outcome["a1"], Admission::Granted);
}

type Stage = fn() -> Case;

#[test]
fn what_holds_a_place() {
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
    let cases: [(&str, Stage, Option<Stand>); 15] = [
        ("could begin", fresh, Some(Stand::Waits)),
        ("waits for a consumer", late_binding, None),
        ("begun", begun, Some(Stand::Resumes)),
        ("after the pause", provisioned, Some(Stand::Resumes)),
        ("its pod is starting", pending, Some(Stand::Holds)),
        ("copying", running, Some(Stand::Holds)),
        (
            "failed, and another attempt follows",
            || failed(30, ""),
            Some(Stand::Holds),
        ),
        ("failed for good", || failed(16, ""), None),
        (
            "failed for good, and asked for again",
            again,
            Some(Stand::Waits),
        ),
        (
            "failed in a way that heals, and asked for again",
            healing,
            Some(Stand::Resumes),
        ),
        ("failed too often", exhausted, None),
        ("copied", succeeded, None),
        ("rebound", rebound, None),
        ("bound", bound, None),
        ("being deleted", terminating, None),
    ];
    for (name, case, stand) in cases {
        let case = case();
        let candidate = Candidate::of(&case.world, &case.settings, now());
        assert_eq!(
            candidate.as_ref().map(|candidate| candidate.stand),
            stand,
            "{name}"
        );
        if let Some(candidate) = candidate {
            assert_eq!(candidate.server, "https://engine.example.org");
        }
    }
}

#[test]
fn the_pod_tells_the_server_when_the_resource_is_gone() {
    let mut case = running();
    case.world.source = Lookup::Missing;
    let candidate = Candidate::of(&case.world, &case.settings, now()).unwrap();
    assert_eq!(candidate.server, "https://engine.example.org");
}

#[test]
fn a_claim_that_may_not_begin_says_why() {
    let mut case = fresh();
    let mut others = candidates(&["A1"]);
    others.extend(Candidate::of(&case.world, &case.settings, now()));
    case.settings.max_in_flight = 1;
    let outcome = admit(&others, &BTreeSet::new(), &case.settings);
    case.admission = outcome[&case.world.claim.uid].clone();
    assert_eq!(case.plan().status.reason, Reason::Throttled);
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
