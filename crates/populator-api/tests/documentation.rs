//! The documentation and the alerts name every reason, every event and every annotation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use populator_api::{Reason, ReasonClass};
use testkit::tables::Table;

const CLAIMS: &str = include_str!("../../../docs/claims.md");
const CONTROLLER: &str = include_str!("../../../docs/controller.md");
const NAMES: &str = include_str!("../src/names.rs");
const ALERTS: &str = include_str!("../../../manifests/components/monitoring/prometheus-rule.yaml");

/// The constants of a module of names.rs, with their values.
fn constants(module: &str) -> Vec<&'static str> {
    let begin = NAMES.find(&format!("pub mod {module} {{")).unwrap();
    let text = &NAMES[begin..];
    let text = &text[..text.find("\n}").unwrap()];
    let value = |line: &'static str| {
        let line = line.trim().strip_prefix("pub const ")?;
        line.split('"').nth(1)
    };
    text.lines().filter_map(value).collect()
}

#[test]
fn every_reason_has_one_row_with_its_class() {
    let table = Table::of(CLAIMS, &["reason", "stands"]);
    let reasons: Vec<String> = Reason::ALL.iter().map(ToString::to_string).collect();
    table.assert_names(reasons.iter().map(String::as_str));
    for reason in Reason::ALL {
        let cell = |column| table.cell(&reason.to_string(), column);
        let class = match reason.class() {
            ReasonClass::Failed => "failed",
            ReasonClass::Waiting => "waiting",
            ReasonClass::Progressing => "on its way",
            ReasonClass::Done => "done",
        };
        assert_eq!(cell("stands"), class, "{reason}");
        assert!(!cell("meaning").is_empty(), "{reason}");
        if reason.class() == ReasonClass::Failed {
            assert!(!cell("what to do").is_empty(), "{reason}: what to do?");
        }
    }
}

#[test]
fn every_event_has_one_row() {
    let events = constants("event");
    assert!(events.contains(&"PopulatorCreated") && events.contains(&"PopulatorNodeGone"));
    Table::of(CLAIMS, &["event", "type"]).assert_names(events);
}

#[test]
fn every_annotation_of_a_claim_has_one_row() {
    use populator_api::names::annotation as key;
    Table::of(CONTROLLER, &["annotation of the claim"]).assert_names([
        key::BIND_IMMEDIATELY,
        key::CDI_BIND_IMMEDIATELY,
        key::RETRY,
        key::SERVICE_ACCOUNT,
        key::SECRET,
        key::REQUIRES_CONVERSION,
        key::MOVER,
        key::BETA_STORAGE_CLASS,
        key::RECREATIONS,
        key::LAST_FAILURE,
        key::REJECTED_NODES,
    ]);
    for of_others in [
        key::POPULATED_FROM,
        key::POPULATED_FOR,
        key::POPULATED_DISK,
        key::NETWORKS,
        key::TRANSFER_NETWORK,
    ] {
        assert!(
            CONTROLLER.contains(&format!("`{of_others}`")),
            "{of_others}"
        );
    }
}

#[test]
fn the_reasons_that_alerts_name_exist() {
    let all: BTreeSet<String> = Reason::ALL.iter().map(ToString::to_string).collect();
    let named: Vec<&str> = ALERTS
        .split("reason")
        .filter_map(|rest| {
            rest.trim_start_matches(['=', '!', '~'])
                .strip_prefix('"')?
                .split('"')
                .next()
        })
        .flat_map(|pattern| pattern.split('|'))
        .collect();
    assert!(named.len() > 3, "{named:?}");
    for reason in named {
        assert!(all.contains(reason), "{reason}");
    }
    // Restored claims stand so for ever: they count when they come to stand so.
    for part in [
        r#"populator_controller_claims{standing="failed",reason!="BoundElsewhere"}"#,
        r#"increase(populator_controller_failures_total{reason="BoundElsewhere"}"#,
    ] {
        assert!(ALERTS.contains(part), "{part}");
    }
}
