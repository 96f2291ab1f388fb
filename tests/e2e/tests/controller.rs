//! The controller's process: restarts at any point, the limit of one source, what a claim costs the API server. Each test changes the one
//! Deployment, so they run one at a time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use e2e::{
    Case, Claim, Kind, Mode, Source,
    cluster::{CONTROLLER, NAMESPACE, cluster, is_ready, uid_of},
    mib,
    resource::{DEPLOYMENTS, LEASES, PODS},
};
use populator_api::names::{self, event};
use serde_json::{Value, json};
use suite::variable;
use testkit::Disk;

/// The controller is this test's alone; afterwards it is deployed as the manifests say.
struct Alone {
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        cluster().wait_for_rollout();
        Self { _turn: turn }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Replacing takes back what was added beside the manifests, which applying would leave.
        let deployment = [
            "-n",
            NAMESPACE,
            "delete",
            "deployment",
            CONTROLLER,
            "--wait=true",
        ];
        e2e::cluster::kubectl(&deployment);
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/manifests");
        e2e::cluster::kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            manifests,
        ]);
    }
}

/// So many replicas, all ready.
fn scale(_: &Alone, replicas: u32) {
    let patch = json!({ "spec": { "replicas": replicas } });
    cluster().change_controller(&patch);
    cluster().wait_for("the replicas are there", || {
        let pods = cluster().controllers();
        let ready = pods.iter().all(is_ready);
        (ready && pods.len() == usize::try_from(replicas).ok()?).then_some(())
    });
}

/// The holder of the lease.
fn leader() -> Option<String> {
    let lease = cluster().get(LEASES, NAMESPACE, CONTROLLER)?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

fn kill(controller: &str) {
    cluster().delete(PODS, NAMESPACE, controller, Some(0));
}

/// A claim whose copy from oVirt is under way, half a minute long.
fn copying<'a>(case: &'a Case, disk: &Disk) -> (Source, Claim<'a>) {
    let source = case.prepare(Kind::Ovirt, disk).slow(2 << 20);
    case.apply(&source);
    let claim = case.claim(&source).create();
    source.engine_disk().wait_until_read(1);
    (source, claim)
}

#[test]
fn a_restart_in_the_middle_of_a_copy_is_not_noticed() {
    let _alone = Alone::new();
    let case = Case::new();
    let disk = Disk::random(41, mib(64));
    let (source, claim) = copying(&case, &disk);
    let mover = uid_of(&claim.pod().unwrap());
    let old = cluster().controller();
    kill(&old);
    cluster().wait_for("another controller leads", || {
        leader().filter(|holder| *holder != old)
    });
    claim.assert_populated(&source, &disk);
    assert_eq!(uid_of(&claim.pod().unwrap()), mover);
    assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
    assert!(claim.annotation(names::annotation::RECREATIONS).is_none());
    case.finish();
}

#[test]
fn what_ended_while_no_controller_ran_is_finished_by_the_next_one() {
    let alone = Alone::new();
    let case = Case::new();
    let disk = Disk::random(42, mib(64));
    let (source, claim) = copying(&case, &disk);
    scale(&alone, 0);
    claim.wait_for_pod("Succeeded");
    let late = case
        .claim(&source)
        .mode(Mode::Filesystem)
        .size("96Mi")
        .create();
    assert!(!claim.is_bound());
    scale(&alone, 1);
    source.hurry();
    late.wait_until_bound();
    claim.assert_populated(&source, &disk);
    case.assert_content(&late, &disk);
    case.finish();
}

/// Wherever it is killed, the next one goes on, and makes nothing twice.
#[test]
fn a_controller_that_is_killed_again_and_again_gets_there() {
    let _alone = Alone::new();
    let case = Case::new();
    let disk = Disk::random(43, mib(4));
    let sources: Vec<Source> = (0..4).map(|_| case.source(Kind::Ovirt, &disk)).collect();
    let claims: Vec<Claim<'_>> = sources
        .iter()
        .map(|source| case.claim(source).create())
        .collect();
    for _ in 0..4 {
        let old = cluster().controller();
        kill(&old);
        cluster().wait_for("another controller leads", || {
            leader().filter(|holder| *holder != old)
        });
    }
    for (source, claim) in sources.iter().zip(&claims) {
        claim.wait_until_bound();
        case.assert_content(claim, &disk);
        claim.wait_until_settled();
        assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
        case.wait_for_condition(source, "Ready", "True");
    }
    case.finish();
}

#[test]
fn a_source_that_is_full_keeps_no_other_waiting() {
    let _alone = Alone::new();
    let patch = json!([{ "op": "add", "path": "/spec/template/spec/containers/0/args/-",
                         "value": "--max-in-flight-per-source=1" }]);
    let target = DEPLOYMENTS.path(NAMESPACE, CONTROLLER);
    let body = Some(&patch);
    cluster()
        .send("PATCH", &target, "application/json-patch+json", body)
        .unwrap();
    cluster().wait_for_rollout();
    let case = Case::new();
    let disk = Disk::random(47, mib(64));
    let (source, first) = copying(&case, &disk);
    let second = case.claim(&source).create();
    second.wait_for_event(event::THROTTLED, "source serves 1 claims at a time");
    let other = case.source(Kind::Openstack, &Disk::random(48, mib(4)));
    case.claim(&other).create().wait_until_bound();
    assert!(!first.is_bound() && second.temporary().is_none());
    source.hurry();
    first.wait_until_bound();
    second.assert_populated(&source, &disk);
    case.finish();
}

/// Writes of the controller about objects of one namespace, from the API server's audit log.
fn writes(namespace: &str) -> BTreeMap<String, usize> {
    let log = std::fs::read_to_string(variable("CLUSTER_AUDIT_LOG")).unwrap();
    let account = format!("system:serviceaccount:{NAMESPACE}:{CONTROLLER}");
    let mut count = BTreeMap::new();
    for line in log.lines() {
        // The last line may be half written.
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let verb = entry["verb"].as_str().unwrap_or_default();
        let object = &entry["objectRef"];
        if entry["user"]["username"] == account
            && entry["stage"] == "ResponseComplete"
            && ["create", "update", "patch", "delete"].contains(&verb)
            && (object["namespace"] == namespace || object["resource"] == "persistentvolumes")
        {
            let what = format!("{verb} {}", object["resource"].as_str().unwrap_or_default());
            *count.entry(what).or_default() += 1;
        }
    }
    count
}

#[test]
fn a_claim_costs_few_writes() {
    let _alone = Alone::new();
    let case = Case::new();
    let disk = Disk::random(49, mib(4));
    let source = case.source(Kind::Openstack, &disk);
    let before = writes(&case.namespace)
        .get("patch persistentvolumes")
        .copied()
        .unwrap_or_default();
    let claim = case.claim(&source).create();
    claim.assert_populated(&source, &disk);
    let counted = cluster().wait_for("the log tells the end", || {
        let counted = writes(&case.namespace);
        counted
            .contains_key("delete persistentvolumeclaims")
            .then_some(counted)
    });
    let once = |what: &str| counted.get(what).copied().unwrap_or_default();
    assert_eq!(once("create persistentvolumeclaims"), 1, "{counted:?}");
    assert_eq!(once("create pods"), 1, "{counted:?}");
    assert_eq!(once("patch persistentvolumes") - before, 1, "{counted:?}");
    assert_eq!(once("delete persistentvolumeclaims"), 1, "{counted:?}");
    assert_eq!(once("delete pods"), 0, "{counted:?}");
    // Events: made, finished, at most three quarters. Status: where it stands, and every few seconds how far.
    let all: usize = counted.values().sum::<usize>() - before;
    assert!(all <= 20, "{counted:?}");
}
