//! What follows when the installation places its pods elsewhere.

use population::settings::Placement;
use populator_api::Reason;

use crate::support::{PlanCase, pending, running, words};

/// The plan after the installation has set a variable.
fn after(mut case: PlanCase, variable: &str, value: &str) -> (Reason, Vec<String>) {
    let get = |name: &str| (name == variable).then(|| value.to_owned());
    case.settings.placement = Placement::from_environment(get).unwrap();
    let plan = case.plan();
    (plan.status.reason, words(&plan))
}

#[test]
fn a_pod_that_has_not_started_follows_each_setting_and_one_that_has_runs_on() {
    for (variable, value) in [
        ("POPULATOR_TOLERATIONS", "[{operator: Exists}]"),
        ("POPULATOR_NODE_SELECTOR", "{disktype: ssd}"),
        (
            "POPULATOR_AFFINITY",
            "{podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}}",
        ),
        ("POPULATOR_PRIORITY_CLASS", "low"),
        ("POPULATOR_RUNTIME_CLASS", "kata"),
        ("POPULATOR_IMAGE_PULL_SECRETS", "mirror"),
        ("POPULATOR_LABELS", "{team: storage}"),
        ("POPULATOR_ANNOTATIONS", "{team: storage}"),
    ] {
        let expected = (Reason::Clearing, vec!["delete pod".to_owned()]);
        assert_eq!(after(pending(), variable, value), expected, "{variable}");
        let expected = (Reason::Copying, Vec::new());
        assert_eq!(after(running(), variable, value), expected, "{variable}");
    }
    let nothing = after(pending(), "POPULATOR_TOLERATIONS", "");
    assert_eq!(nothing, (Reason::PodPending, Vec::new()));
}
