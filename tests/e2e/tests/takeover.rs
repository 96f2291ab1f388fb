//! In the place of Forklift's controller: its Deployment with our images, its account's role, its definitions without a status
//! subresource; and back. Definitions and Deployments are the cluster's, so that these run one at a time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Alone, Cluster, Kind, Migration, Mode, TestNamespace, cluster,
    forklift::{CONTROLLER, NAMESPACE},
    mib,
    resource::{CLAIMS, DEFINITIONS, DEPLOYMENTS, NAMESPACES, PODS, VOLUMES},
};
use populator_api::names::{annotation, event};
use serde_json::{Value, json};
use testkit::Disk;

/// Goes when dropped, whatever happens.
struct Forklift(&'static Cluster);

impl Forklift {
    fn take_over(alone: &Alone) -> Self {
        let ours = cluster();
        let this = Self(ours);
        alone.scale(0);
        for file in ["crds.yaml", "account.yaml", "deployment.yaml"] {
            ours.apply_forklift(file);
        }
        for plural in ["ovirtvolumepopulators", "openstackvolumepopulators"] {
            let name = format!("{plural}.forklift.konveyor.io");
            let definition = ours.get(DEFINITIONS, "", &name).unwrap();
            let version = &definition["spec"]["versions"][0];
            assert!(version["subresources"]["status"].is_null(), "{version}");
            assert!(version["additionalPrinterColumns"].is_null(), "{version}");
        }
        let target = format!("deployment/{CONTROLLER}");
        ours.kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "--timeout=120s",
            &target,
        ]);
        this
    }

    /// The log of the controller in Forklift's Deployment.
    fn log(&self) -> String {
        let pods = self.0.list(PODS, NAMESPACE, "labelSelector=app%3Dforklift");
        let name = pods[0]["metadata"]["name"].as_str().unwrap();
        self.0.log(NAMESPACE, name)
    }
}

impl Drop for Forklift {
    fn drop(&mut self) {
        self.0.delete(DEPLOYMENTS, NAMESPACE, CONTROLLER, None);
        self.0.delete(NAMESPACES, "", NAMESPACE, None);
    }
}

#[test]
fn forklifts_deployment_starts_ours_unchanged() {
    let alone = Alone::new();
    let forklift = Forklift::take_over(&alone);
    both_kinds_go_through(&forklift);
    a_failure_is_reported_by_an_event(&forklift);
    missing_rights_are_reported(&forklift);
    a_definition_with_a_subresource_is_noticed(&forklift);
}

/// The way back. Forklift's own controller cannot be had here, so the test takes the steps that it takes: it finds claim and
/// pod by their names, and once the pod has succeeded gives the volume to the target, and deletes the temporary claim.
#[test]
fn what_ours_has_begun_is_finished_in_forklifts_way() {
    let alone = Alone::new();
    let case = TestNamespace::new();
    let migration = Migration::new();
    let disk = Disk::random(7, mib(32));
    let source = migration.label(case.prepare(Kind::Ovirt, &disk).held());
    case.apply(&source);
    let claim = migration.claim(&case, &source).create();
    source.wait_until_held();
    alone.scale(0);
    assert!(!claim.is_bound());
    // What the documents ask for on this way: nothing of ours is left that only ours takes away.
    let free = json!({ "metadata": { "finalizers": null } });
    case.patch(PODS, &claim.pod_name(), &free);

    source.let_go();
    let pod = claim.wait_for_pod("Succeeded");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], claim.uid);
    let temporary = claim.temporary().unwrap();
    let volume = temporary["spec"]["volumeName"].as_str().unwrap();
    let target = claim.object().unwrap();
    let from = format!("{}/{}", case.namespace, source.name);
    let given = json!({
        "metadata": { "annotations": { annotation::POPULATED_FROM: from } },
        "spec": { "claimRef": {
            "namespace": case.namespace, "name": claim.name, "uid": claim.uid,
            "resourceVersion": target["metadata"]["resourceVersion"],
        } },
    });
    case.cluster.patch(VOLUMES, "", volume, &given);
    claim.wait_until_bound();
    case.cluster.wait_for("the temporary claim is lost", || {
        (claim.temporary()?["status"]["phase"] == "Lost").then_some(())
    });
    case.delete(CLAIMS, &claim.temporary_name());
    case.assert_content(&claim, &disk);
    // No finalizer of ours is in the way of Forklift's clean-up.
    migration.clean_up(&case, &source, &claim);
    case.finish();
}

fn both_kinds_go_through(forklift: &Forklift) {
    for (kind, mode) in [
        (Kind::Ovirt, Mode::Block),
        (Kind::Openstack, Mode::Filesystem),
    ] {
        let case = TestNamespace::on(forklift.0);
        let migration = Migration::new();
        let disk = Disk::random(6, mib(4));
        let source = migration.label(case.prepare(kind, &disk));
        case.apply(&source);
        let claim = migration.claim(&case, &source).mode(mode).create();
        let volume = claim.wait_until_bound();
        let from = &volume["metadata"]["annotations"][annotation::POPULATED_FROM];
        assert_eq!(*from, format!("{}/{}", case.namespace, source.name));
        case.assert_content(&claim, &disk);
        // The one field of the status that there is, on the resource itself.
        let status = case.cluster.wait_for("the progress is written", || {
            let status = case.status(&source);
            (status["progress"] == "100").then_some(status)
        });
        assert_eq!(status, json!({"progress": "100"}));
        claim.wait_for_event(event::FINISHED, "populated");
        migration.clean_up(&case, &source, &claim);
        case.finish();
    }
}

fn a_failure_is_reported_by_an_event(forklift: &Forklift) {
    let case = TestNamespace::on(forklift.0);
    let source = case
        .prepare(Kind::Ovirt, &Disk::random(6, mib(1)))
        .with_secret("password", "wrong");
    case.apply(&source);
    let claim = case.claim(&source).create();
    claim.wait_for_event(event::FAILED, "username or password is incorrect");
    assert_ne!(case.status(&source)["progress"], "100");
}

fn missing_rights_are_reported(forklift: &Forklift) {
    let log = forklift.log();
    for words in [
        "nodes may not be read",
        "leases may not be written",
        "logs may not be read",
        "ReferenceGrants may not be read",
    ] {
        let lines = log
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(words));
        assert_eq!(lines.count(), 1, "{words}: {log}");
    }
}

/// Forklift's operator, or an administrator, replaces the definitions while the controller runs.
fn a_definition_with_a_subresource_is_noticed(forklift: &Forklift) {
    let case = TestNamespace::on(forklift.0);
    let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/crds");
    forklift.0.kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "-k",
        definitions,
    ]);
    let disk = Disk::random(6, mib(1));
    let source = case.source(Kind::Openstack, &disk);
    let claim = case.claim(&source).create();
    claim.wait_until_bound();
    let status = case.cluster.wait_for("the whole status is written", || {
        let status = case.status(&source);
        (status["conditions"][0]["reason"] == "Populated").then_some(status)
    });
    assert_eq!(status["progress"], "100");
    assert_ne!(status["claims"], Value::Null);
    case.assert_content(&claim, &disk);
}
