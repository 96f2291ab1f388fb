//! The status of a populator resource for its claims.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use population::{
    model::Claim,
    plan::Status,
    progress::{Bytes, Measured},
    status::{Served, summarise},
};
use populator_api::{PopulatorStatus, Reason};
use serde_json::json;

fn claim(name: &str) -> Claim {
    let object: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"namespace": "vms", "name": name, "uid": format!("uid-of-{name}")},
        "spec": {"dataSourceRef": {"kind": "OvirtVolumePopulator", "name": "disk"}},
    }))
    .unwrap();
    Claim::from_object(&object).unwrap()
}

fn status(reason: Reason, message: &str) -> Status {
    Status {
        reason,
        message: message.to_owned(),
    }
}

fn measured(percent: u8, rate: u64) -> Measured {
    Measured {
        percent,
        bytes: Some(Bytes {
            copied: u64::from(percent) * 10,
            size: 1000,
            rate,
        }),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The status of claims that are named by a letter each.
fn of(
    claims: &[(Reason, &str, Option<Measured>)],
    previous: &PopulatorStatus,
    now: i64,
) -> PopulatorStatus {
    let claims: Vec<(Claim, Status, Option<Measured>)> = claims
        .iter()
        .zip('a'..)
        .map(|((reason, message, measured), name)| {
            (
                claim(&name.to_string()),
                status(*reason, message),
                *measured,
            )
        })
        .collect();
    let served: Vec<Served<'_>> = claims
        .iter()
        .map(|(claim, status, measured)| Served {
            claim,
            status,
            measured: *measured,
            shown: None,
        })
        .collect();
    summarise(&served, previous, Some(3), at(now))
}

fn none() -> PopulatorStatus {
    PopulatorStatus::default()
}

/// `Ready`, `Progressing` and `Failed`, as one letter each; `S` and `R` for `Stalled` and
/// `Reconciling`, which are there only while they hold.
fn conditions(status: &PopulatorStatus) -> String {
    let types: Vec<&str> = status
        .conditions
        .iter()
        .map(|one| one.type_.as_str())
        .collect();
    assert_eq!(types[..3], ["Ready", "Progressing", "Failed"]);
    let conditions = status.conditions.iter();
    conditions
        .map(|one| match one.type_.as_str() {
            "Stalled" | "Reconciling" => {
                assert_eq!(one.status, "True");
                &one.type_[..1]
            }
            _ => &one.status[..1],
        })
        .collect()
}

/// Reason and message of a condition.
fn told<'a>(status: &'a PopulatorStatus, type_: &str) -> (&'a str, &'a str) {
    let condition = status.conditions.iter().find(|one| one.type_ == type_);
    let condition = condition.unwrap();
    (&condition.reason, &condition.message)
}

#[test]
fn conditions_follow_from_the_claims() {
    use Reason::{Copying, CredentialsRefused, Populated, Throttled};
    let cases: &[(&[Reason], &str, Reason)] = &[
        (&[], "FFF", Reason::NoClaim),
        (&[Populated], "TFF", Populated),
        (&[Populated, Copying], "FTFR", Copying),
        (&[Throttled], "FFFR", Throttled),
        (&[Copying, Throttled], "FTFR", Throttled),
        (
            &[Copying, CredentialsRefused, Populated],
            // The first one that holds decides for kstatus: a failure is a failure.
            "FTTSR",
            CredentialsRefused,
        ),
        (&[CredentialsRefused], "FFTS", CredentialsRefused),
    ];
    for (reasons, expected, worst) in cases {
        let claims: Vec<_> = reasons.iter().map(|reason| (*reason, "m", None)).collect();
        let status = of(&claims, &none(), 0);
        assert_eq!(conditions(&status), *expected, "{reasons:?}");
        assert_eq!(told(&status, "Ready").0, worst.to_string(), "{reasons:?}");
        for condition in &status.conditions {
            assert_eq!(condition.observed_generation, Some(3));
        }
    }
}

#[test]
fn each_condition_has_its_own_reason_and_message() {
    let mixed = of(
        &[
            (Reason::Copying, "it copies", None),
            (Reason::CredentialsRefused, "wrong password", None),
            (Reason::Throttled, "it waits", None),
            (Reason::Populated, "it is there", None),
        ],
        &none(),
        0,
    );
    let failed = ("CredentialsRefused", "b: wrong password");
    for (type_, expected) in [
        (
            "Ready",
            (
                "CredentialsRefused",
                "b: wrong password; a: it copies; c: it waits",
            ),
        ),
        ("Progressing", ("Copying", "a: it copies")),
        ("Failed", failed),
        ("Stalled", failed),
        ("Reconciling", ("Copying", "a: it copies; c: it waits")),
    ] {
        assert_eq!(told(&mixed, type_), expected, "{type_}");
    }
    let done = of(&[(Reason::Populated, "", None)], &none(), 0);
    assert_eq!(
        told(&done, "Ready"),
        ("Populated", "a is populated and bound")
    );
    assert_eq!(told(&done, "Progressing").0, "NoneProgressing");
    assert_eq!(told(&done, "Failed").0, "NoneFailed");
}

#[test]
fn progress_is_the_least_and_never_falls() {
    let first = of(
        &[
            (Reason::Copying, "", Some(measured(70, 0))),
            (Reason::Copying, "", Some(measured(30, 0))),
        ],
        &none(),
        0,
    );
    assert_eq!(first.progress.as_deref(), Some("30"));

    let again = of(
        &[
            (Reason::Copying, "", Some(measured(71, 0))),
            (Reason::Copying, "", Some(measured(2, 0))),
        ],
        &first,
        1,
    );
    assert_eq!(
        again.progress.as_deref(),
        Some("30"),
        "a new attempt has just begun"
    );
    let unknown = of(
        &[(Reason::Copying, "", None), (Reason::Copying, "", None)],
        &again,
        2,
    );
    assert_eq!(unknown.progress.as_deref(), Some("30"));
    assert_eq!(
        (unknown.transferred_bytes, unknown.rate.as_deref()),
        (None, None),
        "no old number is shown as a new one"
    );

    let done = of(
        &[(Reason::Populated, "", None), (Reason::Populated, "", None)],
        &unknown,
        3,
    );
    assert_eq!(done.progress.as_deref(), Some("100"));
    assert_eq!(
        of(&[(Reason::Copying, "", None)], &none(), 0)
            .progress
            .as_deref(),
        Some("0")
    );
    assert_eq!(of(&[], &first, 0).progress, None);
}

#[test]
fn what_forklifts_definition_has_kept_is_of_a_claim_that_copies() {
    let kept = PopulatorStatus {
        progress: Some("100".to_owned()),
        ..PopulatorStatus::default()
    };
    for (reason, expected) in [
        (Reason::Copying, "99"),
        (Reason::Retrying, "99"),
        // Another claim has finished before.
        (Reason::Provisioning, "0"),
        (Reason::Throttled, "0"),
    ] {
        let found = of(&[(reason, "", None)], &kept, 0);
        assert_eq!(found.progress.as_deref(), Some(expected), "{reason}");
    }
}

#[test]
fn bytes_and_rates_are_added() {
    let both = of(
        &[
            (Reason::Copying, "", Some(measured(70, 100 << 20))),
            (Reason::Copying, "", Some(measured(30, 18 << 20))),
        ],
        &none(),
        0,
    );
    assert_eq!(both.transferred_bytes, Some(1000));
    assert_eq!(both.total_bytes, Some(2000));
    assert_eq!(both.rate.as_deref(), Some("118 MiB/s"));
    for (rate, text) in [
        (0, "0 B/s"),
        (10_239, "10239 B/s"),
        (10_240, "10 KiB/s"),
        (10 << 20, "10 MiB/s"),
        ((10 << 30) - 1, "10239 MiB/s"),
        (10 << 30, "10 GiB/s"),
    ] {
        let one = of(
            &[(Reason::Copying, "", Some(measured(1, rate)))],
            &none(),
            0,
        );
        assert_eq!(one.rate.as_deref(), Some(text));
    }
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_change() {
    let first = of(&[(Reason::Copying, "1 %", None)], &none(), 10);
    let later = of(&[(Reason::Copying, "2 %", None)], &first, 20);
    let done = of(&[(Reason::Populated, "", None)], &later, 30);
    let times = |status: &PopulatorStatus| -> Vec<i64> {
        let conditions = status.conditions.iter();
        conditions
            .map(|one| one.last_transition_time.0.as_second())
            .collect()
    };
    assert_eq!(times(&first), [10, 10, 10, 10]);
    assert_eq!(times(&later), [10, 10, 10, 10]);
    assert_eq!(later.conditions[0].message, "a: 2 %");
    assert_eq!(times(&done), [30, 30, 10]);
}

#[test]
fn every_claim_is_named_and_very_many_are_counted() {
    let two = of(
        &[
            (Reason::Copying, "", None),
            (Reason::Throttled, "2 before it", None),
        ],
        &none(),
        0,
    );
    assert_eq!(told(&two, "Ready").1, "a: Copying; b: 2 before it");
    let many = vec![(Reason::Copying, "", None); 23];
    let many = of(&many, &none(), 0);
    assert!(told(&many, "Ready").1.ends_with("t: Copying; and 3 more"));
    assert_eq!(many.claims.len(), 23);
    let none = of(&[], &none(), 0);
    assert_eq!(told(&none, "Ready").1, "no claim refers to this resource");
}

/// The status of thousands of claims is far smaller than what the API server stores, and has first
/// what needs attention first.
#[test]
fn the_status_has_a_bound() {
    let long = "€".repeat(4000);
    let mut claims = vec![(Reason::Populated, "", None); 3000];
    claims.extend(vec![(Reason::Throttled, long.as_str(), None); 3000]);
    claims.extend(vec![(Reason::Copying, "", Some(measured(7, 0))); 30]);
    claims.extend(vec![(Reason::Retrying, long.as_str(), None); 5]);
    claims.extend(vec![(Reason::VolumeFull, long.as_str(), None); 5]);
    let status = of(&claims, &none(), 0);
    let bytes = serde_json::to_string(&status).unwrap().len();
    assert!(bytes < 200_000, "{bytes}");
    assert_eq!(status.claim_count, Some(6040));
    let counts: Vec<(String, i32)> = status
        .counts
        .iter()
        .map(|count| (count.reason.to_string(), count.claims))
        .collect();
    let expected = [
        ("Throttled", 3000),
        ("Copying", 30),
        ("Retrying", 5),
        ("Populated", 3000),
        ("VolumeFull", 5),
    ];
    assert_eq!(
        counts,
        expected.map(|(word, count)| (word.to_owned(), count))
    );
    let listed: Vec<Reason> = status.claims.iter().map(|claim| claim.reason).collect();
    assert_eq!(listed.len(), 50);
    assert_eq!(listed[..5], [Reason::VolumeFull; 5]);
    assert_eq!(listed[5..10], [Reason::Retrying; 5]);
    assert_eq!(listed[10..40], [Reason::Copying; 30]);
    assert_eq!(listed[40..], [Reason::Throttled; 10]);
    let longest = status
        .claims
        .iter()
        .filter_map(|claim| claim.message.as_ref());
    assert_eq!(longest.map(String::len).max(), Some(1023));
    assert!(status.last_error.unwrap().len() <= 1024);
    assert_eq!(
        status.progress.as_deref(),
        Some("0"),
        "of all, not of those that are listed"
    );
}

#[test]
fn what_was_shown_of_a_claim_counts_whether_it_is_listed_or_not() {
    let (claim, status) = (claim("a"), status(Reason::Copying, ""));
    let served = |shown, percent| Served {
        claim: &claim,
        status: &status,
        measured: Some(measured(percent, 0)),
        shown,
    };
    for (shown, percent, expected) in [
        (None, 3, 3),
        (Some(40), 3, 40),
        (Some(40), 41, 41),
        (Some(100), 3, 99),
    ] {
        let found = population::status::percent(&served(shown, percent), &none());
        assert_eq!(found, Some(expected), "{shown:?} {percent}");
    }
}

#[test]
fn the_last_error_is_kept_until_all_is_well() {
    let wrong = of(
        &[
            (Reason::Retrying, "the engine was away", None),
            (Reason::VolumeTooSmall, "too small", None),
        ],
        &none(),
        0,
    );
    assert_eq!(wrong.last_error.as_deref(), Some("b: too small"));
    let better = of(
        &[(Reason::Copying, "", None), (Reason::Copying, "", None)],
        &wrong,
        1,
    );
    assert_eq!(better.last_error.as_deref(), Some("b: too small"));
    let well = of(
        &[(Reason::Populated, "", None), (Reason::Populated, "", None)],
        &better,
        2,
    );
    assert_eq!(well.last_error, None);
}

/// Only a claim that holds the disk has 100, and it loses that when it does not.
#[test]
fn what_is_not_there_any_more_is_not_100() {
    let done = of(&[(Reason::Populated, "", None)], &none(), 0);
    assert_eq!(done.progress.as_deref(), Some("100"));
    for (reason, expected) in [
        (Reason::VolumeLost, "99"),
        (Reason::BoundElsewhere, "99"),
        (Reason::Rebinding, "99"),
        // The resource names another disk, of which nothing is there.
        (Reason::SourceChanged, "0"),
    ] {
        let status = of(&[(reason, "", None)], &done, 1);
        assert_eq!(status.progress.as_deref(), Some(expected), "{reason}");
        assert_eq!(&conditions(&status)[..1], "F", "{reason}");
    }
}
