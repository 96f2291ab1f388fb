//! Many claims at a time: a limit that holds, an order that is fair, and a controller that is replaced meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Case, Claim, Kind,
    cluster::{CONTROLLER, NAMESPACE, cluster, name_of},
    mib,
    resource::{LEASES, PODS},
    trace::Trace,
};
use populator_api::names::event;
use serde_json::json;
use testkit::Disk;

/// What `MAX_POPULATOR_INFLIGHT` is set to.
const LIMIT: usize = 5;

/// The environment of a container wins over what it takes from a config map.
fn environment(variables: &[(&str, &str)]) -> serde_json::Value {
    let pairs = [("MAX_POPULATOR_INFLIGHT", "20")].iter().chain(variables);
    let list: Vec<_> = pairs
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({"spec": {"template": {"spec": {"containers": [{"name": CONTROLLER, "env": list}]}}}})
}

/// The Deployment is one for all tests of this file, so that they are one.
#[test]
fn a_limit_holds_whatever_happens_to_the_controller() {
    twenty_claims_under_a_limit_of_five();
    the_other_replica_takes_over();
}

fn twenty_claims_under_a_limit_of_five() {
    let case = Case::new();
    let cluster = case.cluster;
    let limit = LIMIT.to_string();
    cluster.change_controller(&environment(&[("MAX_POPULATOR_INFLIGHT", &limit)]));
    let disk = Disk::random(3, mib(2));
    let source = case.source(Kind::Openstack, &disk);
    let trace = Trace::start(&case);
    let claims: Vec<Claim<'_>> = (0..20).map(|_| case.claim(&source).create()).collect();
    // Some wait, and are told their place.
    let last = claims.last().unwrap();
    let told = last.wait_for_event(event::THROTTLED, "claims at a time");
    assert!(
        told.message.contains(&format!("serves {LIMIT} claims")),
        "{told:?}"
    );

    // A new controller counts who holds a place before it lets anybody in.
    let first = cluster.controller();
    cluster.delete(PODS, NAMESPACE, &first, None);

    for claim in &claims {
        claim.wait_until_bound();
    }
    let seen = trace.end();
    assert!(seen.most <= LIMIT, "{} pods at a time", seen.most);
    assert_eq!(seen.most, LIMIT, "the limit is used");
    assert_eq!(
        seen.made.len(),
        claims.len(),
        "one pod each: {:?}",
        seen.made
    );
    // First come, first served; those that are let in together start in any order.
    let place = |claim: &Claim<'_>| {
        seen.made
            .iter()
            .position(|name| *name == claim.pod_name())
            .unwrap()
    };
    for (order, claim) in claims.iter().enumerate() {
        let place = place(claim);
        assert!(
            place.abs_diff(order) < 2 * LIMIT,
            "claim {order} was served as number {place}"
        );
    }
    case.assert_content(last, &disk);
    cluster.change_controller(&environment(&[]));
}

fn the_other_replica_takes_over() {
    let cluster = cluster();
    let holder = || {
        let lease = cluster.get(LEASES, NAMESPACE, CONTROLLER)?;
        lease["spec"]["holderIdentity"]
            .as_str()
            .map(str::to_owned)
            .filter(|name| !name.is_empty())
    };
    cluster.change_controller(&json!({"spec": {"replicas": 2}}));
    let leader = cluster.wait_for("somebody leads", holder);
    let pods = cluster.controllers();
    assert!(pods.iter().any(|pod| name_of(pod) == leader), "{leader}");
    cluster.delete(PODS, NAMESPACE, &leader, Some(0));
    let next = cluster.wait_for("another one leads", || {
        holder().filter(|name| *name != leader)
    });
    assert_ne!(next, leader);

    let case = Case::new();
    let disk = Disk::random(4, mib(2));
    let source = case.source(Kind::Openstack, &disk);
    let claim = case.claim(&source).create();
    claim.wait_until_bound();
    case.assert_content(&claim, &disk);
    cluster.change_controller(&json!({"spec": {"replicas": 1}}));
}
