//! What others do to a claim while it is populated: they delete, kill, and take away. Nothing leaks, and what can go on
//! goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Kind, Source, TestNamespace,
    cluster::uid_of,
    mib,
    resource::{CLAIMS, OVIRT, PODS, SECRETS, VOLUMES},
};
use populator_api::names::{annotation, event};
use serde_json::json;
use testkit::Disk;

/// Small ones of oVirt go through at once where the source is slow, since there the bound is one of the mean.
fn disk() -> Disk {
    Disk::random(21, mib(64))
}

#[test]
fn a_mover_that_is_killed_is_followed_by_another_one() {
    let case = TestNamespace::new();
    let disk = Disk::random(22, mib(48));
    let source = case.prepare(Kind::Openstack, &disk).slow(0);
    case.apply(&source);
    let claim = case.claim(&source).size("64Mi").create();
    let first = uid_of(&claim.wait_for_pod("Running"));
    claim.kill_mover();
    let told = claim.wait_for_event(event::RETRYING, "137");
    assert_eq!(told.kind, "Warning");
    claim.wait_for_other_pod(&first, "Running");
    assert_eq!(
        claim.annotation(annotation::RECREATIONS).as_deref(),
        Some("1")
    );
    claim.assert_populated(&source, &disk);
    case.finish();
}

#[test]
fn a_claim_that_is_deleted_in_the_middle_leaves_no_transfer_at_the_engine() {
    let case = TestNamespace::new();
    let (source, claim) = case.copying(&disk());
    claim.delete();
    source.engine_disk().wait_until_tidy();
    claim.wait_until_cleared();
    case.wait_until_gone(CLAIMS, &claim.name);
    case.cluster.wait_for("its volume is gone", || {
        case.volumes().is_empty().then_some(())
    });
    assert_eq!(source.engine_disk().posts(), 1, "the copy was restarted");
    case.finish();
}

#[test]
fn an_openstack_claim_that_is_deleted_in_the_middle_leaves_nothing() {
    let case = TestNamespace::new();
    let source = case.prepare(Kind::Openstack, &disk()).slow(0);
    case.apply(&source);
    let claim = case.claim(&source).create();
    let condition = case.cluster.wait_for("it is on its way", || {
        let status = case.status(&source);
        let moved = status["progress"].as_str()?.parse::<u8>().ok()? > 0;
        moved.then(|| status["conditions"].clone())
    });
    assert!(!claim.is_bound(), "{condition}");
    claim.delete();
    claim.wait_until_cleared();
    case.wait_until_gone(CLAIMS, &claim.name);
    case.cluster.wait_for("its volume is gone", || {
        case.volumes().is_empty().then_some(())
    });
    // The resource serves the next claim from the beginning.
    let next = case.claim(&source).create();
    next.assert_populated(&source, &disk());
    case.finish();
}

#[test]
fn a_pod_that_is_deleted_is_recreated() {
    let case = TestNamespace::new();
    let (source, claim) = case.copying(&disk());
    let first = uid_of(&claim.pod().unwrap());
    case.delete(PODS, &claim.pod_name());
    claim.wait_for_other_pod(&first, "Succeeded");
    claim.assert_populated(&source, &disk());
    source.engine_disk().assert_tidy("finished_success");
    case.finish();
}

#[test]
fn a_temporary_claim_that_is_deleted_is_recreated() {
    let case = TestNamespace::new();
    let (source, claim) = case.copying(&disk());
    let first = uid_of(&claim.temporary().unwrap());
    case.delete(CLAIMS, &claim.temporary_name());
    case.cluster.wait_for("another temporary claim", || {
        claim.temporary().filter(|found| uid_of(found) != first)
    });
    claim.assert_populated(&source, &disk());
    case.finish();
}

/// A user removes the finalizer that keeps the claim as long as its pod: the pod writes to a volume without a claim.
#[test]
fn a_temporary_claim_that_is_torn_from_its_pod_is_recreated() {
    let case = TestNamespace::new();
    let (source, claim) = case.copying(&disk());
    let temporary = claim.temporary().unwrap();
    let pod = uid_of(&claim.pod().unwrap());
    case.delete(CLAIMS, &claim.temporary_name());
    let path = CLAIMS.path(&case.namespace, &claim.temporary_name());
    let torn = json!({ "metadata": { "uid": uid_of(&temporary), "finalizers": null } });
    case.cluster.try_patch(&path, &torn).unwrap();
    case.cluster.wait_for("another temporary claim", || {
        let found = claim.temporary()?;
        (uid_of(&found) != uid_of(&temporary)).then_some(())
    });
    claim.wait_for_other_pod(&pod, "Succeeded");
    claim.assert_populated(&source, &disk());
    case.finish();
}

#[test]
fn a_volume_that_is_deleted_in_the_middle_is_not_given_to_the_claim() {
    let case = TestNamespace::new();
    let (source, claim) = case.held(&disk());
    let doomed = claim.temporary().unwrap()["spec"]["volumeName"]
        .as_str()
        .unwrap()
        .to_owned();
    case.cluster.delete(VOLUMES, "", &doomed, None);
    source.let_go();
    claim.wait_for_event(event::FAILED, "is being deleted");
    assert!(!claim.is_bound());
    // The way out that the event names.
    case.delete(PODS, &claim.pod_name());
    let volume = claim.wait_until_bound();
    assert_ne!(volume["metadata"]["name"], *doomed);
    case.assert_content(&claim, &disk());
    case.finish();
}

#[test]
fn without_its_secret_a_copy_that_has_begun_goes_on() {
    let case = TestNamespace::new();
    let (source, claim) = case.held(&disk());
    case.delete(SECRETS, &source.secret);
    source.let_go();
    claim.assert_populated(&source, &disk());
    case.finish();
}

#[test]
fn without_its_resource_a_copy_that_has_begun_goes_on_and_none_begins() {
    let case = TestNamespace::new();
    let (source, claim) = case.held(&disk());
    case.delete(OVIRT, &source.name);
    source.let_go();
    claim.wait_until_bound();
    case.assert_content(&claim, &disk());
    claim.wait_until_settled();
    // Nothing is made for a resource that is gone.
    let late = case.claim(&source).create();
    late.wait_for_event(event::WAITING, &source.name);
    assert!(late.temporary().is_none() && late.pod().is_none());
    case.finish();
}

#[test]
fn without_its_resource_a_populated_claim_stays() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case.source(Kind::Openstack, &disk);
    let claim = case.claim(&source).create();
    claim.assert_populated(&source, &disk);
    case.delete(source.kind.resource(), &source.name);
    case.wait_until_gone(source.kind.resource(), &source.name);
    case.assert_content(&claim, &disk);
    case.finish();
}

#[test]
fn a_claim_that_another_controller_binds_is_let_go() {
    let case = TestNamespace::new();
    let (source, claim) = case.copying(&disk());
    let other = case.volume_for(&claim.name, json!({}));
    claim.wait_for_event(event::FAILED, &other);
    claim.wait_until_cleared();
    let bound = claim.wait_until_bound();
    assert_eq!(bound["metadata"]["name"], *other);
    assert!(bound["metadata"]["annotations"][annotation::POPULATED_FROM].is_null());
    source.engine_disk().wait_until_tidy();
    claim.delete();
    case.cluster.delete(VOLUMES, "", &other, None);
    case.finish();
}

/// As `kubectl replace --force` does it, after a wrong disk was named.
#[test]
fn a_resource_that_is_replaced_during_the_copy_gets_its_own_disk() {
    let case = TestNamespace::new();
    let wrong = case.prepare(Kind::Ovirt, &disk()).held();
    case.apply(&wrong);
    let claim = case.claim(&wrong).create();
    wrong.wait_until_held();
    let first = uid_of(&claim.pod().unwrap());
    let right = Disk::random(23, mib(48));
    let source = case.replace(&wrong, &right);
    let named = source.spec["diskId"].as_str().unwrap();
    claim.wait_for_event(event::SOURCE_CHANGED, named);
    wrong.let_go();
    claim.wait_for_other_pod(&first, "Succeeded");
    claim.assert_populated(&source, &right);
    // The wrong disk's volume was never given away: the claim had no other volume than the one with the right bytes.
    assert_eq!(claim.annotation(annotation::RECREATIONS), None);
    wrong.engine_disk().wait_until_tidy();
    case.finish();
}

/// The volume keeps its annotations when an administrator frees it, and Kubernetes gives it to the next claim that fits.
#[test]
fn a_volume_that_is_used_again_is_not_taken_for_the_next_claims_disk() {
    let case = TestNamespace::new();
    let earlier = case.source(Kind::Openstack, &Disk::random(24, mib(4)));
    // Smaller than the claims of other tests, which must not find it.
    let smaller = |source: &Source| case.claim(source).class("retain").size("48Mi");
    let first = smaller(&earlier).create();
    let volume = first.wait_until_bound();
    let name = volume["metadata"]["name"].as_str().unwrap().to_owned();
    let annotations = &volume["metadata"]["annotations"];
    assert_eq!(annotations[annotation::POPULATED_FOR], first.uid);
    first.delete();
    let phase = |wanted: &str| {
        case.cluster
            .wait_for(&format!("the volume is {wanted}"), || {
                let volume = case.cluster.get(VOLUMES, "", &name)?;
                (volume["status"]["phase"] == wanted).then_some(())
            });
    };
    phase("Released");
    let free = json!({ "spec": { "claimRef": null } });
    case.cluster.patch(VOLUMES, "", &name, &free);
    phase("Available");

    // Without its resource nothing is made for the claim, so that it is Kubernetes which finds it a volume.
    let source = case.prepare(Kind::Openstack, &disk());
    let claim = smaller(&source).create();
    let bound = claim.wait_until_bound();
    assert_eq!(bound["metadata"]["name"], *name);
    case.apply(&source);
    claim.wait_for_event(event::REFUSED, &name);
    let failed = case.wait_for_condition(&source, "Failed", "True");
    assert_eq!(failed["reason"], "BoundElsewhere", "{failed}");
    case.wait_for_condition(&source, "Ready", "False");
    assert_ne!(case.status(&source)["progress"], "100");
    assert_eq!(claim.events_with(event::FINISHED), []);

    claim.delete();
    phase("Released");
    let patch = json!({ "spec": { "persistentVolumeReclaimPolicy": "Delete" } });
    case.cluster.patch(VOLUMES, "", &name, &patch);
    case.finish();
}

/// Its reclaim policy says what becomes of the volume, and that is the class's word to the last.
#[test]
fn a_volume_keeps_its_reclaim_policy_and_outlives_its_claim_where_that_says_so() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case.source(Kind::Openstack, &disk);
    for (class, policy) in [("immediate", "Delete"), ("retain", "Retain")] {
        let claim = case.claim(&source).class(class).create();
        let volume = claim.wait_until_bound();
        assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], policy);
        claim.wait_until_settled();
        case.delete(PODS, &claim.pod_name());
        case.wait_until_gone(CLAIMS, &claim.temporary_name());
        // With the temporary claim gone the volume is still the target's.
        assert!(claim.is_bound());
        case.assert_content(&claim, &disk);
        claim.delete();
        let name = volume["metadata"]["name"].as_str().unwrap().to_owned();
        case.cluster.wait_for("the policy is followed", || {
            let left = case.cluster.get(VOLUMES, "", &name);
            match policy {
                "Delete" => left.is_none().then_some(()),
                _ => (left.unwrap()["status"]["phase"] == "Released").then_some(()),
            }
        });
        if policy == "Retain" {
            let patch = json!({ "spec": { "persistentVolumeReclaimPolicy": "Delete" } });
            case.cluster.patch(VOLUMES, "", &name, &patch);
        }
    }
    case.finish();
}
