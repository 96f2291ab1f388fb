//! What an installation says of all pods and temporary claims.

use std::collections::{BTreeMap, BTreeSet};

use population::{Settings, objects, settings::Placement};
use serde_json::{Value, json};

use crate::{assert_is, claim, forklifts_claim, openstack, plain_claim, settings, temporary};

/// An installation that says everything it can.
fn placed() -> Settings {
    let variables = BTreeMap::from([
        ("POPULATOR_TOLERATIONS", "[{key: dedicated, value: storage, effect: NoSchedule}]"),
        ("POPULATOR_NODE_SELECTOR", "{disktype: ssd}"),
        (
            "POPULATOR_AFFINITY",
            "{podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {
              topologyKey: kubernetes.io/hostname,
              labelSelector: {matchExpressions: [{key: forklift.konveyor.io/populated-claim, operator: Exists}]}}}]}}",
        ),
        ("POPULATOR_PRIORITY_CLASS", "migration"),
        ("POPULATOR_RUNTIME_CLASS", "kata"),
        ("POPULATOR_IMAGE_PULL_SECRETS", "mirror,hub"),
        ("POPULATOR_LABELS", "{team: storage}"),
        ("POPULATOR_ANNOTATIONS", "{example.org/cost: '7'}"),
    ]);
    let get = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let placement = Placement::from_environment(get).unwrap();
    Settings {
        placement,
        ..settings()
    }
}

/// What placement adds is what the installation said; without that the pod is the golden one.
#[test]
fn the_installation_places_pods_and_changes_nothing_else() {
    let claim = claim(plain_claim());
    let temporary = temporary(&claim, None);
    let pod = objects::pod(&claim, &openstack(), &temporary, &placed()).unwrap();
    let mut pod = serde_json::to_value(&pod).unwrap();
    let mut take = |path: &str, field: &str| {
        let parent = pod.pointer_mut(path).unwrap().as_object_mut().unwrap();
        parent.remove(field).unwrap_or_default()
    };
    assert_eq!(
        take("/spec", "tolerations"),
        json!([{"key": "dedicated", "value": "storage", "effect": "NoSchedule"}])
    );
    assert_eq!(take("/spec/nodeSelector", "disktype"), "ssd");
    let affinity = take("/spec", "affinity");
    let preferred = &affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        preferred[0]["podAffinityTerm"]["topologyKey"],
        "kubernetes.io/hostname"
    );
    assert_eq!(take("/spec", "priorityClassName"), "migration");
    assert_eq!(take("/spec", "runtimeClassName"), "kata");
    assert_eq!(
        take("/spec", "imagePullSecrets"),
        json!([{"name": "mirror"}, {"name": "hub"}])
    );
    assert_eq!(take("/metadata/labels", "team"), "storage");
    assert_eq!(take("/metadata/annotations", "example.org/cost"), "7");
    let hash = "forklift.konveyor.io/spec-hash";
    let golden: Value = serde_json::from_str(include_str!("../golden/pod-plain.json")).unwrap();
    assert_ne!(
        take("/metadata/annotations", hash),
        golden["metadata"]["annotations"][hash]
    );
    pod["metadata"]["annotations"][hash] = golden["metadata"]["annotations"][hash].clone();
    assert_is(&pod, include_str!("../golden/pod-plain.json"));
}

pub(crate) fn bundled(value: &str) -> Placement {
    let get = |name: &str| (name == "POPULATOR_CA_BUNDLE").then(|| value.to_owned());
    Placement::from_environment(get).unwrap()
}

#[test]
fn the_ca_bundle_of_the_installation_is_a_config_map_of_the_claims_namespace() {
    // The resource may be of another namespace.
    let mut populator = openstack();
    populator.namespace = "images".to_owned();
    let claim = claim(plain_claim());
    let settings = Settings {
        placement: bundled("my.bundle/Root_CA.pem"),
        ..settings()
    };
    let pod = objects::pod(&claim, &populator, &temporary(&claim, None), &settings).unwrap();
    let pod = serde_json::to_value(&pod).unwrap();
    let container = &pod["spec"]["containers"][0];
    let folder = "/etc/populator/ca-bundle/vms/my.bundle";
    assert_eq!(
        pod["spec"]["volumes"].as_array().unwrap()[2..],
        [json!({"name": "ca-bundle", "configMap": {
            "name": "my.bundle", "items": [{"key": "Root_CA.pem", "path": "Root_CA.pem"}],
            "optional": true, "defaultMode": 0o444,
        }})]
    );
    assert_eq!(
        container["volumeMounts"].as_array().unwrap()[2..],
        [json!({"name": "ca-bundle", "mountPath": folder, "readOnly": true})]
    );
    let flag = json!(format!("--ca-bundle={folder}/Root_CA.pem"));
    let arguments = container["args"].as_array().unwrap();
    assert!(arguments.contains(&flag), "{arguments:?}");
}

#[test]
fn the_installation_labels_temporary_claims_and_changes_nothing_else() {
    let claim = claim(forklifts_claim());
    for node in [None, Some("node-1")] {
        let made = |settings: &Settings| {
            let made = objects::temporary_claim(&claim, node, &settings.placement);
            serde_json::to_value(made).unwrap()
        };
        let mut expected = made(&settings());
        expected["metadata"]["labels"]["team"] = json!("storage");
        expected["metadata"]["annotations"]["example.org/cost"] = json!("7");
        assert_eq!(made(&placed()), expected);
    }
}

/// Whatever the controller sets itself, the installation may not.
#[test]
fn the_installation_takes_the_place_of_no_label_or_annotation_of_ours() {
    let goldens = [
        include_str!("../golden/pod-forklift.json"),
        include_str!("../golden/pod-plain.json"),
        include_str!("../golden/temporary-claim-forklift.json"),
    ];
    let mut refused = BTreeSet::new();
    for golden in goldens {
        let golden: Value = serde_json::from_str(golden).unwrap();
        for (field, variable) in [
            ("labels", "POPULATOR_LABELS"),
            ("annotations", "POPULATOR_ANNOTATIONS"),
        ] {
            for key in golden["metadata"][field].as_object().unwrap().keys() {
                let value = json!({ key: "x" }).to_string();
                let get = |name: &str| (name == variable).then(|| value.clone());
                let error = Placement::from_environment(get).unwrap_err();
                assert!(error.problem.starts_with(key), "{error}");
                refused.insert(key.clone());
            }
        }
    }
    assert!(refused.len() > 12, "{refused:?}");
}
