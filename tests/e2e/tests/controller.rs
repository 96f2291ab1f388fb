//! The controller's process: restarts at any point, two replicas, limits, what a claim costs the API server. Each test
//! changes the one Deployment, so they run one at a time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use e2e::{
    Alone, Claim, Kind, Mode, Source, TestNamespace,
    cluster::{CONTROLLER, DEADLINE, NAMESPACE, cluster, name_of, uid_of},
    mib,
    resource::{CLAIMS, DEPLOYMENTS, PODS},
    trace::Trace,
};
use populator_api::names::{self, event};
use serde_json::{Value, json};
use suite::{curl, variable};
use testkit::Disk;

fn kill(controller: &str) {
    cluster().delete(PODS, NAMESPACE, controller, Some(0));
}

/// What a controller says of itself. One that has just started has no address yet, and says nothing.
fn metrics(controller: &str) -> String {
    let pod = cluster().get(PODS, NAMESPACE, controller).unwrap();
    let Some(address) = pod["status"]["podIP"].as_str() else {
        return String::new();
    };
    let call = curl::call("GET", &format!("http://{address}:8080/metrics"));
    call.send().expect(200).text()
}

/// Whether a controller says of itself that it leads.
fn leads(controller: &str) -> bool {
    metrics(controller).contains("populator_controller_leader 1\n")
}

#[test]
fn a_restart_in_the_middle_of_a_copy_is_not_noticed() {
    let _alone = Alone::new();
    let case = TestNamespace::new();
    let disk = Disk::random(41, mib(64));
    let (source, claim) = case.held(&disk);
    let mover = uid_of(&claim.pod().unwrap());
    let old = cluster().controller();
    kill(&old);
    cluster().wait_for("another controller leads", || {
        cluster().leader().filter(|holder| *holder != old)
    });
    source.let_go();
    claim.assert_populated(&source, &disk);
    assert_eq!(uid_of(&claim.pod().unwrap()), mover);
    assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
    assert!(claim.annotation(names::annotation::RECREATIONS).is_none());
    case.finish();
}

/// As in every update of the Deployment.
#[test]
fn a_controller_that_is_asked_to_stop_gives_its_lease_up_and_leaves_the_mover_alone() {
    let _alone = Alone::new();
    let case = TestNamespace::new();
    let disk = Disk::random(51, mib(64));
    let (source, claim) = case.held(&disk);
    let mover = uid_of(&claim.pod().unwrap());
    let old = cluster().controller();
    // The log goes with the container, and how it ended goes with the pod: one is followed from before, the other one kept.
    let log = cluster().follow(NAMESPACE, &old);
    let keep = |keep: bool| {
        let finalizers = keep.then_some(["e2e.test/looks"]);
        let metadata = json!({ "metadata": { "finalizers": finalizers } });
        cluster().patch(PODS, NAMESPACE, &old, &metadata);
    };
    keep(true);
    cluster().delete(PODS, NAMESPACE, &old, None);
    let ended = cluster().within(DEADLINE, || {
        let pod = cluster().get(PODS, NAMESPACE, &old)?;
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        (!ended.is_null()).then(|| ended.clone())
    });
    keep(false);
    assert_eq!(ended.unwrap()["exitCode"], 0);
    let log = log.join().unwrap();
    let told = format!("{old} has released the lease");
    assert!(log.contains(&told), "{log}");
    cluster().wait_for("another controller leads", || {
        cluster().leader().filter(|holder| *holder != old)
    });
    assert!(!claim.is_bound());
    source.let_go();
    claim.assert_populated(&source, &disk);
    assert_eq!(uid_of(&claim.pod().unwrap()), mover);
    assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
    case.finish();
}

#[test]
fn what_ended_while_no_controller_ran_is_finished_by_the_next_one() {
    let alone = Alone::new();
    let case = TestNamespace::new();
    let disk = Disk::random(42, mib(64));
    let (source, claim) = case.held(&disk);
    alone.scale(0);
    source.let_go();
    claim.wait_for_pod("Succeeded");
    let late = case
        .claim(&source)
        .mode(Mode::Filesystem)
        .size("96Mi")
        .create();
    assert!(!claim.is_bound());
    alone.scale(1);
    late.wait_until_bound();
    claim.assert_populated(&source, &disk);
    case.assert_content(&late, &disk);
    case.finish();
}

/// A job that deletes finished pods, a drain, the pod garbage collector: none of them knows that the result is still wanted.
#[test]
fn a_finished_copy_outlives_its_pods_deletion_while_no_controller_runs() {
    let alone = Alone::new();
    let case = TestNamespace::new();
    let disk = Disk::random(52, mib(64));
    let (source, claim) = case.held(&disk);
    alone.scale(0);
    source.let_go();
    claim.wait_for_pod("Succeeded");
    case.delete(PODS, &claim.pod_name());
    let pod = claim.pod().expect("its finalizer keeps it");
    assert!(!pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
    alone.scale(1);
    claim.assert_populated(&source, &disk);
    assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
    // Nothing keeps it once its volume is the claim's.
    claim.wait_until_cleared();
    case.finish();
}

/// The pod has succeeded, and its volume is not given away yet.
#[test]
fn a_finished_copy_of_a_disk_that_is_no_longer_named_is_not_used() {
    let alone = Alone::new();
    let case = TestNamespace::new();
    let (wrong, claim) = case.held(&Disk::random(53, mib(32)));
    alone.scale(0);
    wrong.let_go();
    claim.wait_for_pod("Succeeded");
    let right = Disk::random(54, mib(16));
    let source = case.replace(&wrong, &right);
    alone.scale(1);
    claim.wait_for_event(event::SOURCE_CHANGED, "starts over");
    claim.assert_populated(&source, &right);
    case.finish();
}

/// Forklift's order: the claim first, without its finalizers, and its pods last.
#[test]
fn nothing_of_a_claim_that_went_while_no_controller_ran_stays() {
    let alone = Alone::new();
    let case = TestNamespace::new();
    let (source, claim) = case.held(&Disk::random(55, mib(16)));
    alone.scale(0);
    source.let_go();
    claim.wait_for_pod("Succeeded");
    claim.delete();
    case.wait_until_gone(CLAIMS, &claim.name);
    alone.scale(1);
    claim.wait_until_cleared();
    case.finish();
}

/// Wherever it is killed, the next one goes on, and makes nothing twice.
#[test]
fn a_controller_that_is_killed_again_and_again_gets_there() {
    let _alone = Alone::new();
    let case = TestNamespace::new();
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
            cluster().leader().filter(|holder| *holder != old)
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
fn of_two_replicas_one_leads_and_the_other_takes_over() {
    let alone = Alone::new();
    alone.scale(2);
    let case = TestNamespace::new();
    let disk = Disk::random(44, mib(64));
    let (source, claim) = case.held(&disk);
    let first = cluster().wait_for("one leads", || cluster().leader());
    let pods = cluster().controllers();
    let other = pods
        .iter()
        .map(name_of)
        .find(|name| *name != first)
        .unwrap();
    assert!(leads(&first) && !leads(&other), "{first} {other}");
    kill(&first);
    let second = cluster().wait_for("another one leads", || {
        cluster().leader().filter(|holder| *holder != first)
    });
    cluster().wait_for("it says so", || leads(&second).then_some(()));
    source.let_go();
    claim.assert_populated(&source, &disk);
    let late = case.source(Kind::Openstack, &Disk::random(45, mib(4)));
    case.claim(&late).create().wait_until_bound();
    case.finish();
}

#[test]
fn twenty_claims_under_a_limit_of_five() {
    let alone = Alone::new();
    alone.set(&[("MAX_POPULATOR_INFLIGHT", "5")]);
    let case = TestNamespace::new();
    let disk = Disk::random(46, mib(4));
    let source = case.source(Kind::Openstack, &disk);
    let trace = Trace::start(&case);
    let claims: Vec<Claim<'_>> = (0..20).map(|_| case.claim(&source).create()).collect();
    let told = |claim: &Claim<'_>| {
        let told = claim.events_with(event::THROTTLED);
        told.iter().any(|told| {
            told.message
                .contains("the controller serves 5 claims at a time")
        })
    };
    cluster().wait_for("those that wait are told so", || {
        (claims.iter().filter(|claim| told(claim)).count() >= 10).then_some(())
    });
    // The next one counts who holds a place before it lets anybody in.
    kill(&cluster().controller());
    for claim in &claims {
        claim.wait_until_bound();
    }
    let seen = trace.end();
    assert_eq!(seen.most, 5, "the limit, and no less");
    assert_eq!(seen.made.len(), 20, "one pod each: {:?}", seen.made);

    // By age, in seconds as the API server gives it. Who has got its pod holds a place, and so do all that are older and have
    // none yet, however long theirs take: no claim is overtaken by more than the four that are served beside it.
    let created: BTreeMap<String, String> = claims
        .iter()
        .map(|claim| {
            let created = claim.object().unwrap()["metadata"]["creationTimestamp"].to_string();
            (claim.pod_name(), created)
        })
        .collect();
    for (index, pod) in seen.made.iter().enumerate() {
        let later = seen.made[index + 1..].iter();
        let overtaken = later.filter(|later| created[*later] < created[pod]).count();
        assert!(
            overtaken <= 4,
            "{pod} was made before {overtaken} older ones: {:?}",
            seen.made
        );
    }
    case.assert_content(claims.last().unwrap(), &disk);
    let leader = cluster().leader().unwrap();
    cluster().wait_for("nothing is in flight", || {
        metrics(&leader)
            .contains("volume_populator_operations_in_flight 0\n")
            .then_some(())
    });
    case.finish();
}

#[test]
fn an_image_that_cannot_be_pulled_is_reported() {
    let alone = Alone::new();
    let missing = "localhost/populators/no-such-image:1";
    alone.set(&[("OPENSTACK_POPULATOR_IMAGE", missing)]);
    let case = TestNamespace::new();
    let disk = Disk::random(50, mib(4));
    let source = case.source(Kind::Openstack, &disk);
    let claim = case.claim(&source).create();
    claim.wait_for_event(event::STUCK, missing);
    let condition = case.wait_for_reason(&source, "Progressing", "PodStuck");
    assert_eq!(condition["status"], "True", "{condition}");
    let image = "localhost/populators/openstack-populator:test";
    // What has not started follows the settings.
    alone.set(&[("OPENSTACK_POPULATOR_IMAGE", image)]);
    claim.assert_populated(&source, &disk);
    case.finish();
}

/// Exit code 0 is what any program ends with that has nothing to do.
#[test]
fn an_image_that_is_no_populator_populates_nothing() {
    let alone = Alone::new();
    alone.set(&[("OVIRT_POPULATOR_IMAGE", "localhost/test/idle:1")]);
    let case = TestNamespace::new();
    let disk = Disk::random(56, mib(4));
    let source = case.source(Kind::Ovirt, &disk);
    let claim = case.claim(&source).create();
    claim.wait_for_event(event::RETRYING, "did not report that the disk is complete");
    assert!(!claim.is_bound());
    let image = "localhost/populators/ovirt-populator:test";
    alone.set(&[("OVIRT_POPULATOR_IMAGE", image)]);
    claim.assert_populated(&source, &disk);
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
    let case = TestNamespace::new();
    let disk = Disk::random(47, mib(4));
    let (source, first) = case.held(&disk);
    let second = case.claim(&source).create();
    second.wait_for_event(event::THROTTLED, "source serves 1 claims at a time");
    let other = case.source(Kind::Openstack, &Disk::random(48, mib(4)));
    case.claim(&other).create().wait_until_bound();
    assert!(!first.is_bound() && second.temporary().is_none());
    source.let_go();
    first.wait_until_bound();
    second.assert_populated(&source, &disk);
    case.finish();
}

/// Writes of the controller about objects of one namespace and one volume, from the API server's audit log.
fn writes(namespace: &str, volume: &str) -> BTreeMap<String, usize> {
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
            && (object["namespace"] == namespace || object["name"] == volume)
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
    let case = TestNamespace::new();
    let disk = Disk::random(49, mib(4));
    let source = case.source(Kind::Openstack, &disk);
    let claim = case.claim(&source).create();
    claim.assert_populated(&source, &disk);
    let volume = name_of(&claim.wait_until_bound());
    let counted = cluster().wait_for("the log tells the end", || {
        let counted = writes(&case.namespace, &volume);
        counted
            .contains_key("delete persistentvolumeclaims")
            .then_some(counted)
    });
    let once = |what: &str| counted.get(what).copied().unwrap_or_default();
    assert_eq!(once("create persistentvolumeclaims"), 1, "{counted:?}");
    assert_eq!(once("create pods"), 1, "{counted:?}");
    assert_eq!(once("patch persistentvolumes"), 1, "{counted:?}");
    assert_eq!(once("delete persistentvolumeclaims"), 1, "{counted:?}");
    assert_eq!(once("delete pods"), 0, "{counted:?}");
    // Events: made, finished, at most three quarters. Status: where it stands, and every few seconds how far.
    let all: usize = counted.values().sum();
    assert!(all <= 20, "{counted:?}");
}
