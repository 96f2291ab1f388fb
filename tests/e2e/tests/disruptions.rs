//! What the cluster does to a mover that it wants out of the way: preempts it, evicts it, ends it for lack of memory. Another one
//! follows, and the claim's owner reads why. Each test needs the node for itself, so they run one at a time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Alone, Claim, Kind, Source, TestNamespace, cluster,
    cluster::uid_of,
    mib,
    resource::{NODES, PODS, PRIORITIES},
};
use populator_api::names::{annotation, event};
use serde_json::{Value, json};
use testkit::Disk;

fn disk() -> Disk {
    Disk::random(51, mib(64))
}

/// A claim whose copy is under way and slow; the next one is fast. And the UID of its pod.
fn copying(case: &TestNamespace) -> (Source, Claim<'_>, String) {
    let (source, claim) = case.copying(&disk());
    let pod = uid_of(&claim.pod().unwrap());
    (source, claim, pod)
}

/// A drain asks for each pod's eviction (<https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>).
#[test]
fn a_mover_that_is_drained_from_its_node_is_followed_by_another_one() {
    let _alone = Alone::new();
    let case = TestNamespace::new();
    let (source, claim, first) = copying(&case);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": claim.pod_name(), "namespace": case.namespace },
    });
    let path = format!("{}/eviction", PODS.path(&case.namespace, &claim.pod_name()));
    case.cluster
        .send("POST", &path, "application/json", Some(&eviction))
        .unwrap();
    claim.wait_for_event(event::RETRYING, "EvictionByEvictionAPI");
    claim.wait_for_other_pod(&first, "Succeeded");
    // It is not the mover's failure, and does not count as one.
    assert_eq!(claim.annotation(annotation::RECREATIONS), None);
    claim.assert_populated(&source, &disk());
    // Each had a transfer of its own.
    assert_eq!(source.engine_disk().tickets().len(), 2);
    source.engine_disk().assert_tidy("finished_success");
    case.finish();
}

/// Thousandths of a core, in one of the two forms that Kubernetes writes.
fn millicores(quantity: &Value) -> u64 {
    let Some(text) = quantity.as_str() else {
        return 0;
    };
    match text.strip_suffix('m') {
        Some(number) => number.parse().unwrap(),
        None => text.parse::<u64>().unwrap() * 1000,
    }
}

/// What the pods of the one node ask for. A pod has its place before it is said to run.
fn asked_for() -> u64 {
    let placed = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
    let pods = cluster().list(PODS, "", &format!("fieldSelector={placed}"));
    let containers = pods
        .iter()
        .flat_map(|pod| pod["spec"]["containers"].as_array().unwrap());
    containers
        .map(|container| millicores(&container["resources"]["requests"]["cpu"]))
        .sum()
}

#[test]
fn a_mover_whose_place_is_needed_comes_back_when_there_is_room() {
    const MOVER: u64 = 200;
    let alone = Alone::new();
    let request = format!("{MOVER}m");
    alone.set(&[("POPULATOR_CONTAINER_REQUESTS_CPU", &request)]);
    let case = TestNamespace::new();
    let priority = case.namespace.clone();
    let object = json!({ "metadata": { "name": priority }, "value": 1_000_000 });
    cluster().create(PRIORITIES, "", object).unwrap();
    let (source, claim, first) = copying(&case);

    let node = &cluster().list(NODES, "", "")[0];
    let room = millicores(&node["status"]["allocatable"]["cpu"]) - asked_for();
    let occupant = case.occupant(&priority, room + MOVER / 2);
    claim.wait_for_event(event::RETRYING, "PreemptionByScheduler");
    let waiting = claim.wait_for_other_pod(&first, "Pending");
    assert!(!claim.is_bound(), "{waiting}");
    assert_eq!(claim.annotation(annotation::RECREATIONS), None);
    case.delete(PODS, &occupant);
    claim.assert_populated(&source, &disk());
    source.engine_disk().assert_tidy("finished_success");
    cluster().delete(PRIORITIES, "", &priority, None);
    case.finish();
}

/// The real mover gets along with less than the smallest limit that the controller takes, so one that never has enough goes first.
#[test]
fn a_mover_that_runs_out_of_memory_is_reported_and_replaced() {
    let alone = Alone::new();
    alone.set(&[
        ("OVIRT_POPULATOR_IMAGE", "localhost/test/glutton:1"),
        ("POPULATOR_CONTAINER_REQUESTS_MEMORY", "32Mi"),
        ("POPULATOR_CONTAINER_LIMITS_MEMORY", "32Mi"),
    ]);
    let case = TestNamespace::new();
    let source = case.source(Kind::Ovirt, &disk());
    let claim = case.claim(&source).create();
    claim.wait_for_event(event::RETRYING, "OOMKilled");
    let image = "localhost/populators/ovirt-populator:test";
    alone.set(&[("OVIRT_POPULATOR_IMAGE", image)]);
    claim.assert_populated(&source, &disk());
    assert!(claim.annotation(annotation::RECREATIONS).is_some());
    case.finish();
}
