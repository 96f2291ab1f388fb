//! What goes wrong, seen as a user sees it: the cause in `kubectl describe pvc` and in the populator resource, and
//! the way out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Claim, Kind, Mode, Source, TestNamespace,
    cluster::uid_of,
    mib,
    resource::{self, CLASSES, QUOTAS},
};
use populator_api::{
    Reason,
    names::{annotation, event},
};
use serde_json::json;
use suite::Glance;
use testkit::Disk;

fn disk() -> Disk {
    Disk::random(1, mib(4))
}

/// Waits until the claim has failed for good for this reason: the event on the claim and the status of the resource hold
/// the words.
#[track_caller]
fn assert_failed(
    case: &TestNamespace,
    source: &Source,
    claim: &Claim<'_>,
    reason: Reason,
    words: &str,
) {
    claim.wait_for_event(event::FAILED, words);
    let condition = case.wait_for_condition(source, "Failed", "True");
    assert_eq!(condition["reason"], reason.to_string(), "{condition}");
    let status = case.status(source);
    assert!(
        status["lastError"].as_str().unwrap().contains(words),
        "{status}"
    );
    assert_ne!(status["progress"], "100");
    let described = claim.describe();
    assert!(
        described.contains("PopulatorFailed") && described.contains(words),
        "{described}"
    );
    let shown = case.kubectl(&["get", source.kind.short(), &source.name]);
    assert!(shown.contains(&reason.to_string()), "{shown}");
    assert!(!claim.is_bound());
}

#[track_caller]
fn bind_and_compare(case: &TestNamespace, claim: &Claim<'_>, disk: &Disk) {
    claim.wait_until_bound();
    case.assert_content(claim, disk);
}

#[test]
fn a_wrong_password_is_reported_and_a_new_secret_with_a_changed_resource_is_tried() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case
        .prepare(Kind::Ovirt, &disk)
        .with_secret("password", "not-the-Pa55");
    case.apply(&source);
    let claim = case.claim(&source).create();
    assert_failed(
        &case,
        &source,
        &claim,
        Reason::CredentialsRefused,
        "username or password is incorrect",
    );
    // The pod stays for its log, and no secret is in what anybody can read.
    let told = format!(
        "{}{}{:?}",
        claim.log(),
        claim.describe(),
        case.status(&source)
    );
    assert!(!told.contains("not-the-Pa55"), "{told}");

    // Another secret, under another name: a change of the resource is a wish for a new try.
    let good = case.prepare(Kind::Ovirt, &disk);
    case.apply_secret(&good);
    let patch = json!({"spec": {"engineSecretName": good.secret, "diskId": source.spec["diskId"]}});
    case.patch(resource::OVIRT, &source.name, &patch);
    bind_and_compare(&case, &claim, &disk);
    // The volume is the claim's before the resource says so.
    case.wait_for_condition(&source, "Ready", "True");
    let status = case.status(&source);
    assert!(status["lastError"].is_null(), "{status}");
}

#[test]
fn a_missing_source_is_reported_and_an_annotation_asks_for_a_new_try() {
    const MISSING: &str = "00000000-0000-4000-8000-000000000000";
    for (kind, field, words) in [
        (Kind::Ovirt, "diskId", "has no disk"),
        (Kind::Openstack, "imageId", "has no image"),
    ] {
        let case = TestNamespace::new();
        let source = case.prepare(kind, &disk()).with_spec(field, MISSING);
        case.apply(&source);
        let claim = case.claim(&source).create();
        let words = format!("{words} {MISSING}");
        assert_failed(&case, &source, &claim, Reason::SourceMissing, &words);
        let first = uid_of(&claim.pod().unwrap());
        claim.annotate(annotation::RETRY, "1");
        claim.wait_for_other_pod(&first, "Failed");
    }
}

#[test]
fn an_image_of_a_server_that_was_booted_from_a_volume_is_reported_with_its_snapshot() {
    const SNAPSHOT: &str = "9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";
    // Two disks to boot from: the populator does not choose.
    let mapping = json!([
        {"boot_index": 0, "snapshot_id": SNAPSHOT, "source_type": "snapshot"},
        {"boot_index": 1, "snapshot_id": "second", "source_type": "snapshot"},
    ]);
    let case = TestNamespace::new();
    let folder = suite::folder();
    let image = Glance::default().of_a_server(folder.path(), "raw", &mapping.to_string());
    let source = case
        .prepare(Kind::Openstack, &disk())
        .with_spec("imageId", &image.id);
    case.apply(&source);
    // With and without a conversion afterwards, which would take the bytes as they are.
    let plain = case.claim(&source).create();
    let converted = case
        .claim(&source)
        .annotation(annotation::REQUIRES_CONVERSION, "true")
        .create();
    for claim in [&plain, &converted] {
        assert_failed(&case, &source, claim, Reason::SourceUnusable, SNAPSHOT);
        let told = claim.wait_for_event(event::FAILED, SNAPSHOT);
        assert!(
            told.message.contains("openstack image create --volume"),
            "{told:?}"
        );
        claim.wait_for_pod("Failed");
    }
}

#[test]
fn a_claim_that_is_too_small_is_reported() {
    for kind in Kind::ALL {
        for (mode, reason, words) in [
            (
                Mode::Block,
                Reason::VolumeTooSmall,
                "Give a target of at least",
            ),
            // Before the first write where the source knows its zeroes, else when the file system is full.
            (
                Mode::Filesystem,
                Reason::VolumeFull,
                "Make room on the target's file system",
            ),
        ] {
            let case = TestNamespace::new();
            let source = case.source(kind, &Disk::random(1, mib(40)));
            let claim = case.claim(&source).mode(mode).size("32Mi").create();
            assert_failed(&case, &source, &claim, reason, words);
        }
    }
}

#[test]
fn a_wrong_authority_is_reported_and_tried_again_on_request_only() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case.prepare(Kind::Ovirt, &disk);
    let other = std::fs::read_to_string(suite::variable("SERVICES_OTHER_CA")).unwrap();
    let bad = source.clone().with_secret("cacert", &other);
    case.apply(&bad);
    let claim = case.claim(&source).create();
    assert_failed(
        &case,
        &source,
        &claim,
        Reason::CertificateNotTrusted,
        "certificate",
    );
    // What deletes the pod need not be a user: a cleaner, a drain, the pod garbage collector.
    case.delete(resource::PODS, &claim.pod_name());
    case.wait_until_gone(resource::PODS, &claim.pod_name());
    // The secret is corrected in place, which the controller does not see.
    let patch = json!({"stringData": {"cacert": source.data["cacert"]}});
    case.patch(resource::SECRETS, &source.secret, &patch);
    let failed = case.wait_for_condition(&source, "Failed", "True");
    assert_eq!(failed["reason"], Reason::CertificateNotTrusted.to_string());
    assert!(claim.pod().is_none(), "tried again without a request");
    claim.annotate(annotation::RETRY, "1");
    bind_and_compare(&case, &claim, &disk);
}

#[test]
fn a_missing_secret_is_reported_within_a_minute_and_waited_for() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case.prepare(Kind::Openstack, &disk);
    case.apply_resource(&source);
    let claim = case.claim(&source).create();
    let told = claim.wait_for_event(event::STUCK, &source.secret);
    assert_eq!(told.kind, "Warning");
    case.wait_for_condition(&source, "Ready", "False");
    case.apply_secret(&source);
    bind_and_compare(&case, &claim, &disk);
}

#[test]
fn a_resource_that_comes_later_is_waited_for() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case.prepare(Kind::Openstack, &disk);
    case.apply_secret(&source);
    let claim = case.claim(&source).create();
    claim.wait_for_event(event::WAITING, &source.name);
    case.apply_resource(&source);
    bind_and_compare(&case, &claim, &disk);
}

#[test]
fn a_storage_class_that_comes_later_is_waited_for() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case.source(Kind::Openstack, &disk);
    let class = format!("{}-class", case.namespace);
    let claim = case.claim(&source).class(&class).create();
    claim.wait_for_event(event::WAITING, &class);
    let object = json!({"metadata": {"name": class}, "provisioner": "hostdisk.csi.test"});
    case.cluster.create(CLASSES, "", object).unwrap();
    bind_and_compare(&case, &claim, &disk);
    case.cluster.delete(CLASSES, "", &class, None);
}

#[test]
fn classes_that_cannot_be_populated_are_refused() {
    let case = TestNamespace::new();
    let source = case.source(Kind::Openstack, &disk());
    let class = |suffix: &str, provisioner: &str| {
        let name = format!("{}-{suffix}", case.namespace);
        let object = json!({"metadata": {"name": name}, "provisioner": provisioner});
        case.cluster.create(CLASSES, "", object).unwrap();
        name
    };
    let local = class("local", "kubernetes.io/no-provisioner");
    let built_in = class("built-in", "kubernetes.io/glusterfs");
    for (name, words) in [
        ("", "volumes made by hand"),
        (&local, "local volumes"),
        (&built_in, "built into Kubernetes"),
    ] {
        let claim = case.claim(&source).class(name).create();
        claim.wait_for_event(event::REFUSED, words);
        assert!(claim.temporary().is_none());
    }
    for name in [local, built_in] {
        case.cluster.delete(CLASSES, "", &name, None);
    }
}

#[test]
fn claims_that_ask_for_a_volume_are_refused() {
    let case = TestNamespace::new();
    let source = case.source(Kind::Openstack, &disk());
    let named = case
        .claim(&source)
        .with("volumeName", json!("no-such-volume"))
        .create();
    named.wait_for_event(event::REFUSED, "spec.volumeName");
    let selecting = case
        .claim(&source)
        .with("selector", json!({"matchLabels": {"a": "b"}}))
        .create();
    selecting.wait_for_event(event::REFUSED, "spec.selector");
    assert!(named.temporary().is_none() && selecting.temporary().is_none());
}

#[test]
fn a_kind_that_is_not_served_is_refused() {
    let case = TestNamespace::new();
    let claim = e2e::NewClaim::new(&case, "VSphereXcopyVolumePopulator", "disk").create();
    claim.wait_for_event(event::REFUSED, "VSphereXcopyVolumePopulator");
}

#[test]
fn a_quota_is_reported_and_does_not_delay_others() {
    let case = TestNamespace::new();
    let disk = disk();
    let source = case.prepare(Kind::Openstack, &disk);
    // They wait for the resource, until the quota has counted them: it counts late what is made while it is new.
    let claims = [case.claim(&source).create(), case.claim(&source).create()];
    // Two claims and one temporary claim: the second temporary claim has no room.
    let quota =
        json!({"metadata": {"name": "few"}, "spec": {"hard": {"persistentvolumeclaims": "3"}}});
    case.create(QUOTAS, quota);
    case.cluster.wait_for("the quota counts", || {
        let used = case.get(QUOTAS, "few")?["status"]["used"]["persistentvolumeclaims"].clone();
        (used == "2").then_some(())
    });
    case.apply(&source);
    let refused = case.cluster.wait_for("one is refused", || {
        claims
            .iter()
            .find(|claim| !claim.events_with(event::CLAIM_CREATION_ERROR).is_empty())
    });
    refused.wait_for_event(event::CLAIM_CREATION_ERROR, "exceeded quota");
    let served = claims
        .iter()
        .find(|claim| claim.uid != refused.uid)
        .unwrap();
    bind_and_compare(&case, served, &disk);
    let patch = json!({"spec": {"hard": {"persistentvolumeclaims": "9"}}});
    case.patch(QUOTAS, "few", &patch);
    bind_and_compare(&case, refused, &disk);
}

#[test]
fn another_namespace_is_refused_until_it_grants() {
    let here = TestNamespace::new();
    let there = TestNamespace::new();
    let disk = disk();
    let source = there.source(Kind::Openstack, &disk);
    // The secret is the pod's, and so in the claim's namespace; but a resource of another one cannot choose it.
    here.apply_secret(&source);
    let reference = json!({
        "apiGroup": populator_api::GROUP, "kind": source.kind.resource().kind, "name": source.name,
        "namespace": there.namespace,
    });
    let claim = here
        .claim(&source)
        .with("dataSourceRef", reference)
        .create();
    claim.wait_for_event(event::REFUSED, "ReferenceGrant");
    assert!(claim.temporary().is_none());
    let grant = json!({"metadata": {"name": "claims"}, "spec": {
        "from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": here.namespace}],
        "to": [{"group": populator_api::GROUP, "kind": source.kind.resource().kind}],
    }});
    there.create(resource::GRANTS, grant);
    // Nor does the grant let the resource choose a secret here.
    claim.wait_for_event(event::REFUSED, annotation::SECRET);
    assert!(claim.temporary().is_none());
    claim.annotate(annotation::SECRET, &source.secret);
    bind_and_compare(&here, &claim, &disk);
}

#[test]
fn objects_of_other_owners_are_left_alone() {
    let case = TestNamespace::new();
    let source = case.source(Kind::Openstack, &disk());
    let claim = case.claim(&source).class("wait").mode(Mode::Block).create();
    let foreign = json!({"metadata": {"name": claim.temporary_name()}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "wait",
        "resources": {"requests": {"storage": "1Mi"}}}});
    case.create(resource::CLAIMS, foreign);
    claim.annotate(annotation::BIND_IMMEDIATELY, "true");
    claim.wait_for_event(event::CLAIM_CREATION_ERROR, "does not belong to this one");
    assert!(claim.temporary().unwrap()["metadata"]["deletionTimestamp"].is_null());
    assert!(claim.pod().is_none());
}
