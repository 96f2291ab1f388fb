//! `docs/controller.md`, the manifests and the alerts agree with the program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{cell::RefCell, collections::BTreeSet, process::Command, time::Duration};

use population::{
    model::Kind,
    settings::{MoverFlag, MoverSettings, Placement, Settings, variable},
};
use populator_api::Reason;
use populator_controller::telemetry::{Ended, Standing, Telemetry};
use prometheus_client::encoding::text::encode;
use testkit::tables::Table;

const PAGE: &str = include_str!("../../../docs/controller.md");
const DEFINITIONS: [&str; 2] = [
    include_str!("../../../manifests/crds/forklift.konveyor.io_ovirtvolumepopulators.yaml"),
    include_str!("../../../manifests/crds/forklift.konveyor.io_openstackvolumepopulators.yaml"),
];
const MOVERS: &str = include_str!("../../../docs/operations.md");
const SCHEMA: &str = include_str!("../../../chart/values.schema.json");
const SETTINGS: &str = include_str!("../../../manifests/base/settings.env");
const ALERTS: &str = include_str!("../../../manifests/components/monitoring/prometheus-rule.yaml");

/// Every metric in the exposed text.
fn exposed() -> String {
    let (telemetry, registry) = Telemetry::new("1.2.3");
    telemetry.ended(Ended::success, Duration::ZERO);
    telemetry.left(Reason::Copying, Duration::ZERO);
    telemetry.failed(Reason::VolumeFull);
    telemetry.copied(Kind::Ovirt, 1);
    telemetry.wrote("create", "pods");
    telemetry.reconciled(Duration::ZERO, Some("late"));
    telemetry.claims(|_| Standing::default());
    telemetry.dropped_event();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

/// Names of samples, with the names of their labels as the page writes them: `name{label}`.
fn samples(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let end = line.find([' ', '{']).unwrap();
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| line[..end].strip_suffix(part))
            .unwrap_or(&line[..end]);
        let labels = line[end..].split_once('}').map_or("", |(labels, _)| labels);
        let labels: Vec<&str> = labels
            .trim_start_matches('{')
            .split("\",")
            .filter_map(|label| label.split('=').next())
            .filter(|label| !label.is_empty() && *label != "le")
            .collect();
        if labels.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", labels.join(","))
        }
    };
    lines.map(sample).collect()
}

#[test]
fn every_metric_is_documented_with_its_labels() {
    let samples = samples(&exposed());
    assert!(samples.len() > 10, "{samples:?}");
    let table = Table::of(PAGE, &["metric", "type"]);
    table.assert_names(samples.iter().map(String::as_str));
}

#[test]
fn alerts_ask_for_metrics_and_labels_that_exist_and_each_has_its_row() {
    let samples = samples(&exposed());
    let expressions = ALERTS.split("populator_controller_").skip(1);
    let mut asked = 0;
    for rest in expressions {
        let end = rest
            .find(|c: char| !c.is_ascii_lowercase() && c != '_')
            .unwrap();
        let name = format!("populator_controller_{}", &rest[..end]);
        let asked_for = rest[end..]
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let sample = samples
            .iter()
            .find(|sample| sample.split('{').next() == Some(&name));
        let sample = sample.unwrap_or_else(|| panic!("{name} is not in {samples:?}"));
        let labels = |list: &str| -> BTreeSet<String> {
            let parts = list
                .split(',')
                .map(|part| part.split(['=', '!']).next().unwrap());
            parts.map(str::to_owned).collect()
        };
        let given = sample
            .split_once('{')
            .map(|(_, rest)| rest.trim_end_matches('}'));
        let (asked_for, given) = (asked_for.map(labels), given.map(labels).unwrap_or_default());
        assert!(
            asked_for.is_none_or(|asked_for| asked_for.is_subset(&given)),
            "{name}: {rest} asks for labels beside {given:?}"
        );
        asked += 1;
    }
    assert!(asked >= 4, "{asked}");
    let names = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    Table::of(PAGE, &["alert", "when"]).assert_names(names);
}

/// What the program prints.
fn printed(argument: &str) -> String {
    let program = env!("CARGO_BIN_EXE_populator-controller");
    let output = Command::new(program).arg(argument).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_definitions_of_the_manifests_are_those_that_it_prints() {
    let printed = printed("crd");
    let documents: Vec<&str> = printed.split("---\n").skip(1).collect();
    assert_eq!(documents.len(), DEFINITIONS.len(), "{printed}");
    for definition in DEFINITIONS {
        assert!(documents.iter().any(|one| definition.ends_with(one)));
    }
}

#[test]
fn durations_are_distinguished_up_to_days() {
    let samples = exposed();
    for name in [
        "volume_populator_operation_seconds",
        "populator_controller_phase_seconds",
    ] {
        let bounds = samples
            .lines()
            .filter(|line| line.starts_with(&format!("{name}_bucket")))
            .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next()?.parse().ok())
            .filter(|bound: &f64| bound.is_finite());
        let longest = bounds.fold(0.0, f64::max);
        assert!(longest >= 2.0 * 86_400.0, "{name}: {longest}");
    }
}

#[test]
fn every_flag_is_documented() {
    let help = printed("--help");
    let words = help.split_whitespace();
    let flags: BTreeSet<&str> = words
        .filter(|word| word.starts_with("--"))
        .map(|word| word.trim_end_matches([',', '.', ')']))
        .filter(|flag| !["--help", "--version"].contains(flag))
        .collect();
    assert!(flags.contains("--metrics-address"), "{help}");
    let table = Table::of(PAGE, &["flag", "default"]);
    table.assert_names(flags);
    let per_source = Settings::default().max_in_flight_per_source;
    let stated = table.cell("--max-in-flight-per-source", "default");
    assert_eq!(stated, format!("`{per_source}`"));
}

#[test]
fn every_setting_of_the_movers_has_its_row() {
    let table = Table::of(PAGE, &["mover setting", "allowed"]);
    table.assert_names(MoverFlag::ALL.iter().map(|flag| flag.flag()));
    let of_movers = Table::of(MOVERS, &["flag", "default"]);
    let properties: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let properties = &properties["properties"]["movers"]["properties"];
    assert_eq!(properties.as_object().unwrap().len(), MoverFlag::ALL.len());
    for flag in MoverFlag::ALL {
        let flags_row = format!("--{flag}");
        assert_eq!(
            table.cell(flag.flag(), "default"),
            of_movers.cell(&flags_row, "default"),
            "{flag}: the movers' own default"
        );
        // Every word that the row allows is allowed, and so is the default.
        let words = |column| {
            let cell = table.cell(flag.flag(), column);
            cell.split('`').skip(1).step_by(2)
        };
        for word in words("allowed").chain(words("default")) {
            let mut settings = MoverSettings::default();
            assert_eq!(settings.set(flag, word), Ok(()), "{flag}: {word}");
        }
        let mut parts = flag.flag().split('-');
        let first = parts.next().unwrap().to_owned();
        let value = parts.fold(first, |name, part| {
            name + &part[..1].to_uppercase() + &part[1..]
        });
        let property = &properties[&value];
        assert!(!property.is_null(), "the chart has no value {value}");
        if let Some(allowed) = property["enum"].as_array() {
            let allowed = allowed.iter().filter_map(serde_json::Value::as_str);
            assert!(allowed.eq(words("allowed")), "{flag}: {property}");
        }
    }
}

#[test]
fn each_placement_has_its_row_with_a_value_of_the_chart_and_an_example_that_is_taken() {
    let asked = RefCell::new(BTreeSet::new());
    let nothing = Placement::from_environment(|name| {
        asked.borrow_mut().insert(name.to_owned());
        None
    });
    let nothing = nothing.unwrap();
    let asked = asked.into_inner();
    let table = Table::of(PAGE, &["placement", "chart"]);
    table.assert_names(asked.iter().map(String::as_str));
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let properties = schema["properties"]["pods"]["properties"]
        .as_object()
        .unwrap();
    assert_eq!(properties.len(), asked.len());
    for variable in &asked {
        let cell = |column| table.cell(variable, column).trim_matches('`');
        let value = cell("chart").strip_prefix("pods.").unwrap();
        assert!(
            properties.contains_key(value),
            "the chart has no value {value}"
        );
        let example = cell("example");
        let given =
            Placement::from_environment(|name| (name == variable).then(|| example.to_owned()));
        assert_ne!(given, Ok(nothing.clone()), "{variable}");
        assert!(given.is_ok(), "{given:?}");
    }
}

#[test]
fn every_variable_of_the_environment_has_its_row() {
    let asked = RefCell::new(BTreeSet::new());
    let _ = Settings::from_environment(|name| {
        asked.borrow_mut().insert(name.to_uppercase());
        None
    });
    let asked = asked.into_inner();
    assert!(asked.contains(variable::MAX_IN_FLIGHT), "{asked:?}");
    let of_the_process = [
        "POD_NAMESPACE",
        "POD_NAME",
        "POPULATOR_HEALTH_ADDRESS",
        "POPULATOR_NAMESPACES",
    ];
    let all = asked.iter().map(String::as_str).chain(of_the_process);
    Table::of(PAGE, &["variable", "default"]).assert_names(all);
}

#[test]
fn the_settings_of_the_manifests_are_those_that_are_read_with_their_defaults() {
    let set = |name: &str| {
        let lines = SETTINGS.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.next().map(str::to_owned)
    };
    let (settings, warnings) = Settings::from_environment(set).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let defaults = Settings::default();
    assert_eq!(
        settings.images.keys().collect::<Vec<_>>(),
        [&Kind::Ovirt, &Kind::Openstack]
    );
    assert_eq!(settings.max_in_flight, defaults.max_in_flight);
    assert_eq!(
        settings.max_in_flight_per_source,
        defaults.max_in_flight_per_source
    );
    assert_eq!(settings.cpu, defaults.cpu);
    // What a mover needs; the default is Forklift's, for its Deployment.
    let memory = [settings.memory.request, settings.memory.limit];
    assert_eq!(memory, ["64Mi", "256Mi"]);
    for name in [
        variable::OVIRT_IMAGE,
        variable::OPENSTACK_IMAGE,
        variable::MAX_IN_FLIGHT,
        variable::MAX_IN_FLIGHT_PER_SOURCE,
        variable::CPU_LIMIT,
        variable::CPU_REQUEST,
        variable::MEMORY_LIMIT,
        variable::MEMORY_REQUEST,
    ] {
        assert!(set(name).is_some(), "{name} is not in settings.env");
    }
}
