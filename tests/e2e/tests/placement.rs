//! Where the installation has populator pods run. The one node takes no other pods meanwhile, so these tests run one at a
//! time, beside nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Alone, Kind, TestNamespace,
    cluster::{cluster, name_of},
    mib,
    resource::{NODES, PRIORITIES},
};
use populator_api::names::event;
use serde_json::{Value, json};
use testkit::Disk;

/// Label and taint of a node that is kept for populators.
const RESERVED: &str = "e2e.test/reserved";

/// The node, kept for populators until this is dropped.
struct Reserved(String);

impl Reserved {
    fn new(node: &str) -> Self {
        let taint = json!([{ "key": RESERVED, "value": "populators", "effect": "NoSchedule" }]);
        let reserved = Self(node.to_owned());
        reserved.set(&json!("true"), &taint);
        reserved
    }

    fn set(&self, label: &Value, taints: &Value) {
        let patch =
            json!({ "metadata": { "labels": { RESERVED: label } }, "spec": { "taints": taints } });
        cluster().patch(NODES, "", &self.0, &patch);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.set(&Value::Null, &Value::Null);
    }
}

#[test]
fn a_claim_is_served_on_the_node_that_is_kept_for_populators() {
    let alone = Alone::new();
    let case = TestNamespace::new();
    let priority = case.namespace.clone();
    let object = json!({ "metadata": { "name": priority }, "value": 1000 });
    cluster().create(PRIORITIES, "", object).unwrap();
    let node = name_of(&cluster().list(NODES, "", "")[0]);
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] }],
    } } });
    alone.set(&[
        (
            "POPULATOR_TOLERATIONS",
            &format!("[{{key: {RESERVED}, operator: Exists}}]"),
        ),
        (
            "POPULATOR_NODE_SELECTOR",
            &format!("{{{RESERVED}: 'true'}}"),
        ),
        ("POPULATOR_AFFINITY", &affinity.to_string()),
        ("POPULATOR_PRIORITY_CLASS", &priority),
        ("POPULATOR_IMAGE_PULL_SECRETS", "mirror"),
        ("POPULATOR_LABELS", "{team: storage}"),
        ("POPULATOR_ANNOTATIONS", "{e2e.test/list: 'a=1,b=2'}"),
    ]);
    let reserved = Reserved::new(&node);
    let disk = Disk::random(57, mib(16));
    // Nothing runs on this node but what tolerates its taint: the copy begins.
    let (source, claim) = case.held(&disk);
    let pod = claim.pod().unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["affinity"], affinity, "{pod}");
    assert_eq!(
        spec["nodeSelector"],
        json!({ RESERVED: "true", "kubernetes.io/os": "linux" }),
        "{pod}"
    );
    let tolerates = |toleration: &Value| toleration["key"] == RESERVED;
    assert!(
        spec["tolerations"]
            .as_array()
            .unwrap()
            .iter()
            .any(tolerates),
        "{pod}"
    );
    assert_eq!(
        (&spec["priorityClassName"], &spec["priority"]),
        (&json!(priority), &json!(1000)),
        "{pod}"
    );
    assert_eq!(
        spec["imagePullSecrets"],
        json!([{ "name": "mirror" }]),
        "{pod}"
    );
    for object in [pod, claim.temporary().unwrap()] {
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"]["team"], "storage", "{object}");
        assert_eq!(
            metadata["annotations"]["e2e.test/list"], "a=1,b=2",
            "{object}"
        );
    }
    source.let_go();
    claim.wait_until_bound();
    // What reads the volume tolerates nothing.
    drop(reserved);
    claim.assert_populated(&source, &disk);
    cluster().delete(PRIORITIES, "", &priority, None);
    case.finish();
}

#[test]
fn a_pod_that_no_node_takes_is_reported_and_follows_the_settings() {
    let alone = Alone::new();
    alone.set(&[("POPULATOR_NODE_SELECTOR", "{e2e.test/nowhere: 'true'}")]);
    let case = TestNamespace::new();
    let disk = Disk::random(58, mib(4));
    let source = case.source(Kind::Openstack, &disk);
    let claim = case.claim(&source).create();
    claim.wait_for_event(event::STUCK, "node affinity/selector");
    alone.set(&[("POPULATOR_NODE_SELECTOR", "")]);
    claim.assert_populated(&source, &disk);
    case.finish();
}
