//! The objects that are created, to the last field: others find them by name, label and argument.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod placement;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::Time};
use population::{
    Settings,
    model::{
        Claim, DiskLocation, InvalidSpec, Kind, LastFailure, PopulatorSpec, RejectedNode,
        TemporaryClaim, Verdict,
    },
    objects,
    settings::{MoverFlag, Placement},
};
use populator_api::{OpenstackVolumePopulator, OvirtVolumePopulator, Reason};
use serde_json::{Value, json};

const CLAIM: &str = "c1a10000-0000-4000-8000-000000000000";
const TEMPORARY: &str = "7e300000-0000-4000-8000-000000000000";
/// Of an image, a volume or a snapshot.
const ID: &str = "b815a36a-feef-49e0-85c6-ef61bc83c15f";

/// A claim as Forklift creates it: block, waiting for a consumer.
fn forklifts_claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "namespace": "vms", "name": "web-root", "uid": CLAIM,
            "labels": {"migration": "m-1", "plan": "p-1", "vmID": "vm-1", "diskID": "d-1"},
            "annotations": {
                "forklift.konveyor.io/disk-source": "d-1",
                "forklift.konveyor.io/serviceAccount": "mover",
                "volume.kubernetes.io/selected-node": "node-1",
            },
        },
        "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "fast", "volumeMode": "Block",
            "volumeAttributesClassName": "gold",
            "resources": {"requests": {"storage": "10Gi"}, "limits": {"storage": "20Gi"}},
            "dataSourceRef": {"apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator", "name": "web-root"},
        },
        "status": {"phase": "Pending"},
    })
}

/// A user's own claim: a file system, no label, no annotation, a long name.
fn plain_claim() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "vms", "name": "n".repeat(64), "uid": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1.5Gi"}},
            "dataSourceRef": {"apiGroup": "forklift.konveyor.io", "kind": "OpenstackVolumePopulator", "name": "image"},
        },
    })
}

fn claim(object: Value) -> Claim {
    let object: core::PersistentVolumeClaim = serde_json::from_value(object).unwrap();
    Claim::from_object(&object).unwrap()
}

fn ovirt(spec: &Value) -> Result<PopulatorSpec, InvalidSpec> {
    let object: OvirtVolumePopulator = serde_json::from_value(json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "OvirtVolumePopulator",
        "metadata": {"namespace": "vms", "name": "web-root", "uid": "u",
                     "labels": {"migration": "m-1", "plan": "p-1", "vmID": "vm-1", "diskID": "d-1"}},
        "spec": spec,
    }))
    .unwrap();
    PopulatorSpec::from_ovirt(&object)
}

fn openstack() -> PopulatorSpec {
    of_openstack(&json!({"imageId": ID}))
}

/// A resource that names what these fields say.
fn of_openstack(disk: &Value) -> PopulatorSpec {
    let mut spec =
        json!({"identityUrl": "https://keystone.example.org:5000/v3", "secretName": "cloud"});
    let fields = disk.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(fields);
    let object: OpenstackVolumePopulator = serde_json::from_value(json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "OpenstackVolumePopulator",
        "metadata": {"namespace": "vms", "name": "image", "uid": "u"},
        "spec": spec,
        "status": {"progress": "0"},
    }))
    .unwrap();
    PopulatorSpec::from_openstack(&object).unwrap()
}

fn temporary(claim: &Claim, node: Option<&str>) -> TemporaryClaim {
    let mut object = objects::temporary_claim(claim, node, &Placement::default());
    object.metadata.uid = Some(TEMPORARY.to_owned());
    TemporaryClaim::from_object(&object).unwrap()
}

fn settings() -> Settings {
    Settings {
        images: BTreeMap::from([
            (
                Kind::Ovirt,
                "registry.example.org/ovirt-populator:1".to_owned(),
            ),
            (
                Kind::Openstack,
                "registry.example.org/openstack-populator:1".to_owned(),
            ),
        ]),
        ..Settings::default()
    }
}

#[track_caller]
fn assert_is(object: &impl serde::Serialize, golden: &str) {
    let object = serde_json::to_value(object).unwrap();
    let golden: Value = serde_json::from_str(golden).unwrap_or_default();
    assert!(object == golden, "this is what is created:\n{object:#}");
}

#[test]
fn temporary_claims() {
    let nothing = Placement::default();
    let forklifts = objects::temporary_claim(&claim(forklifts_claim()), Some("node-1"), &nothing);
    assert_is(
        &forklifts,
        include_str!("../golden/temporary-claim-forklift.json"),
    );
    let plain = objects::temporary_claim(&claim(plain_claim()), None, &nothing);
    assert_is(&plain, include_str!("../golden/temporary-claim-plain.json"));
}

#[test]
fn a_pod_for_forklift() {
    let mut claim = claim(forklifts_claim());
    claim.retry = Some("2".to_owned());
    let populator = ovirt(&json!({
        "engineUrl": "https://engine.example.org", "engineSecretName": "engine",
        "diskId": "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d",
        "transferNetwork": {"namespace": "nets", "name": "fast"},
    }))
    .unwrap();
    let mut settings = settings();
    settings.environment = BTreeMap::from([
        (
            "HTTPS_PROXY".to_owned(),
            "http://proxy.example.org:3128".to_owned(),
        ),
        ("NO_PROXY".to_owned(), ".svc".to_owned()),
    ]);
    let temporary = temporary(&claim, Some("node-1"));
    let pod = objects::pod(&claim, &populator, &temporary, &settings).unwrap();
    assert_is(&pod, include_str!("../golden/pod-forklift.json"));
}

#[test]
fn a_pod_for_a_user() {
    let claim = claim(plain_claim());
    let pod = objects::pod(&claim, &openstack(), &temporary(&claim, None), &settings()).unwrap();
    assert_is(&pod, include_str!("../golden/pod-plain.json"));
}

/// A volume, a snapshot and an image of one id are three disks.
#[test]
fn a_volume_and_a_snapshot_have_flags_of_their_own_and_the_claim_marks_what_is_made_of_them() {
    let claim = claim(plain_claim());
    let mut origins = BTreeSet::new();
    for (field, flag) in [
        ("imageId", "image-id"),
        ("volumeId", "volume-id"),
        ("snapshotId", "snapshot-id"),
    ] {
        let populator = of_openstack(&json!({ field: ID }));
        let mut pod =
            objects::pod(&claim, &populator, &temporary(&claim, None), &settings()).unwrap();
        pod.metadata.uid = Some("p".to_owned());
        let seen = population::model::Pod::from_object(&pod).unwrap();
        for other in ["disk-id", "image-id", "volume-id", "snapshot-id"] {
            assert_eq!(seen.argument(other), (other == flag).then_some(ID));
        }
        assert_eq!(objects::disk_argument(&seen), Some(ID));
        // Of an image's record that leads to a snapshot something is made as well.
        assert_eq!(seen.argument("migration-id"), Some(CLAIM));
        assert_eq!(seen.argument("owner-uid"), Some(CLAIM));
        origins.insert(objects::origin(&claim, &populator));
    }
    assert_eq!(origins.len(), 3);
}

/// What an attempt made in the cloud is of use to the next attempt, and not to another request.
#[test]
fn a_new_resource_and_a_requested_retry_are_requests_of_their_own() {
    let request = |uid: &str, retry: Option<&str>| {
        let mut object = plain_claim();
        if let Some(retry) = retry {
            object["metadata"]["annotations"] = json!({"forklift.konveyor.io/retry": retry});
        }
        let claim = claim(object);
        let mut populator = of_openstack(&json!({"volumeId": ID}));
        populator.uid = uid.into();
        let mut pod =
            objects::pod(&claim, &populator, &temporary(&claim, None), &settings()).unwrap();
        pod.metadata.uid = Some("p".to_owned());
        let seen = population::model::Pod::from_object(&pod).unwrap();
        seen.argument("request-id").unwrap().to_owned()
    };
    assert_eq!(request("r-1", None), request("r-1", None));
    let cases = [
        ("r-1", None),
        ("r-2", None),
        ("r-1", Some("1")),
        ("r-1", Some("2")),
    ];
    let ids: BTreeSet<String> = cases.map(|(uid, retry)| request(uid, retry)).into();
    assert_eq!(ids.len(), cases.len());
}

#[test]
fn an_image_that_is_converted_afterwards_is_written_as_it_is() {
    let mut object = plain_claim();
    object["metadata"]["annotations"] = json!({"forklift.konveyor.io/requires-conversion": "true"});
    let claim = claim(object);
    let pod = objects::pod(&claim, &openstack(), &temporary(&claim, None), &settings()).unwrap();
    let arguments = pod.spec.unwrap().containers[0].args.clone().unwrap();
    assert_eq!(arguments.last().unwrap(), "--verbatim=true");
}

#[test]
fn the_movers_settings_become_arguments_and_the_claims_come_first() {
    let mut settings = settings();
    for (flag, value) in [
        (MoverFlag::Connections, "8"),
        (MoverFlag::LockedWait, "10m"),
        (MoverFlag::Verify, "off"),
    ] {
        settings.mover.set(flag, value).unwrap();
    }
    let mut object = plain_claim();
    object["metadata"]["annotations"] = json!({
        "forklift.konveyor.io/mover-verify": "full",
        "forklift.konveyor.io/mover-no-progress-timeout": "1h30m",
    });
    let claim = claim(object);
    let temporary = temporary(&claim, None);
    let pod = objects::pod(&claim, &openstack(), &temporary, &settings).unwrap();
    let arguments = pod.spec.unwrap().containers[0].args.clone().unwrap();
    // What only the other mover has is left out.
    let expected = [
        "--verbatim=false",
        "--connections=8",
        "--no-progress-timeout=5400s",
        "--verify=full",
    ];
    assert_eq!(arguments[arguments.len() - 4..], expected);
    let annotations = pod.metadata.annotations.unwrap();
    assert_eq!(
        annotations["forklift.konveyor.io/claim-settings"],
        "no-progress-timeout=5400s,verify=full"
    );
}

/// What a resource, a claim and the installation say reaches the arguments as the value of a flag of this list, which
/// the admission policy holds the controller to.
#[test]
fn the_arguments_are_flags_of_the_list_that_the_policy_has() {
    const POLICY: &str =
        include_str!("../../../../manifests/components/admission-policy/pods.yaml");
    let pattern = POLICY.split("matches('^--(").nth(1).unwrap();
    let pattern = pattern.split(")=')").next().unwrap();
    let listed: BTreeSet<&str> = pattern.split('|').collect();
    let mut settings = settings();
    settings.placement = placement::bundled("trusted-ca");
    for flag in MoverFlag::ALL {
        let values = ["5m", "4", "on", "text", "info", "auto"];
        let taken = values
            .into_iter()
            .any(|value| settings.mover.set(flag, value).is_ok());
        assert!(taken, "{flag}");
    }
    let engine = ovirt(&json!({"engineUrl": "https://e", "engineSecretName": "s",
                               "diskId": "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d"}))
    .unwrap();
    let mut passed = BTreeSet::new();
    let of_cinder = |field: &str| of_openstack(&json!({ field: ID }));
    for (object, populator) in [
        (forklifts_claim(), engine),
        (plain_claim(), openstack()),
        (plain_claim(), of_cinder("volumeId")),
        (plain_claim(), of_cinder("snapshotId")),
    ] {
        let claim = claim(object);
        let pod = objects::pod(&claim, &populator, &temporary(&claim, None), &settings).unwrap();
        let container = pod.spec.unwrap().containers.remove(0);
        assert_eq!(container.command, None);
        for argument in container.args.unwrap() {
            let flag = argument.strip_prefix("--").unwrap();
            passed.insert(flag.split('=').next().unwrap().to_owned());
        }
    }
    let passed: BTreeSet<&str> = passed.iter().map(String::as_str).collect();
    assert_eq!(listed, passed);
}

#[test]
fn a_kind_that_is_not_served_has_no_pod() {
    let claim = claim(plain_claim());
    let mut settings = settings();
    settings.images.remove(&Kind::Openstack);
    assert_eq!(
        objects::pod(&claim, &openstack(), &temporary(&claim, None), &settings),
        None
    );
}

#[test]
fn what_forklifts_definitions_let_pass_is_refused_by_name() {
    let spec = |url: &str, secret: &str| {
        json!({"engineUrl": url, "engineSecretName": secret, "diskId": "d",
               "transferNetwork": {"namespace": "", "name": "net"}})
    };
    assert_eq!(ovirt(&spec(" ", "s")), Err(InvalidSpec::Empty("engineUrl")));
    let error = ovirt(&spec("https://e", "")).unwrap_err();
    assert_eq!(error.to_string(), "spec.engineSecretName is empty; set it");
    let network = ovirt(&spec("https://e", "s")).unwrap().network.unwrap();
    assert_eq!(
        (network.namespace.as_str(), network.name.as_str()),
        ("vms", "net")
    );
}

/// Multus reads its annotation as a list of networks, or as JSON with addresses; the kubelet reads `$(NAME)` in
/// arguments as a variable's value.
#[test]
fn what_is_pasted_into_the_pod_cannot_leave_its_place() {
    let good = json!({"engineUrl": "https://e/ovirt-engine", "engineSecretName": "s",
                      "diskId": "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d",
                      "transferNetwork": {"namespace": "nets", "name": "net"}});
    assert!(ovirt(&good).is_ok());
    let long = format!("https://e/{}", "x".repeat(2048));
    for (field, values) in [
        (
            "/engineUrl",
            &[
                "https://e/ x",
                "https://e/\u{1b}[2J",
                "https://e/\u{202e}",
                &long,
            ][..],
        ),
        ("/engineSecretName", &["S", "a b", "../s", "-s", "s."]),
        ("/diskId", &["d d", "d,e", "d\ne", "$(X)"]),
        (
            "/transferNetwork/name",
            &["[", "}]", "a,b", "a@b", "a/b", "a b", "A", "a."],
        ),
        (
            "/transferNetwork/namespace",
            &["[{\"name\":\"net\"", "a, other", "a/b", "..", "\"a\""],
        ),
    ] {
        for value in values {
            let mut spec = good.clone();
            *spec.pointer_mut(field).unwrap() = json!(value);
            let error = ovirt(&spec).unwrap_err().to_string();
            let name = field[1..].replace('/', ".");
            assert!(error.starts_with(&format!("spec.{name} ")), "{error}");
            assert!(
                error.ends_with("; correct it") && error.len() < 256,
                "{error}"
            );
            assert!(!error.contains(['\u{1b}', '\u{202e}', '\n']), "{error}");
        }
    }
    for url in [
        "https://user:secret-word@e",
        "user@e",
        "http://secret-word@e/x",
    ] {
        let mut spec = good.clone();
        spec["engineUrl"] = json!(url);
        let error = ovirt(&spec).unwrap_err().to_string();
        assert!(error.contains("engineUrl holds a user"), "{error}");
        assert!(!error.contains("secret-word"), "{error}");
    }
}

#[test]
fn the_kubelet_expands_nothing_in_the_arguments() {
    let claim = claim(plain_claim());
    let url = "https://keystone.example.org/$(HTTPS_PROXY)/$$/$";
    let mut populator = openstack();
    let DiskLocation::Openstack { identity_url, .. } = &mut populator.location else {
        panic!("{populator:?}");
    };
    url.clone_into(identity_url);
    let mut pod = objects::pod(&claim, &populator, &temporary(&claim, None), &settings()).unwrap();
    let argument = |pod: &core::Pod| {
        let all = pod.spec.as_ref().unwrap().containers[0]
            .args
            .clone()
            .unwrap();
        all.into_iter()
            .find(|one| one.starts_with("--endpoint="))
            .unwrap()
    };
    // (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>): `$$` is one `$`.
    let expected = "--endpoint=https://keystone.example.org/$$(HTTPS_PROXY)/$$$$/$$";
    assert_eq!(argument(&pod), expected);
    pod.metadata.uid = Some("p".to_owned());
    let seen = population::model::Pod::from_object(&pod).unwrap();
    assert_eq!(seen.argument("endpoint"), Some(url));
}

/// A resource of another namespace, whose owner may have no right in the claim's.
#[test]
fn across_namespaces_the_claim_names_the_secret() {
    let mut object = plain_claim();
    object["metadata"]["namespace"] = json!("tenants");
    let theirs = |object: &Value| openstack().for_claim(&claim(object.clone()));
    let refused = theirs(&object).unwrap_err();
    assert_eq!(refused, InvalidSpec::ForeignSecret);
    let annotation = "forklift.konveyor.io/secret";
    assert!(refused.to_string().contains(annotation), "{refused}");
    for bad in ["", "A", "a b", "../a"] {
        object["metadata"]["annotations"] = json!({(annotation): bad});
        let error = theirs(&object).unwrap_err().to_string();
        assert!(error.contains(annotation), "{error}");
    }
    object["metadata"]["annotations"] = json!({(annotation): "mine"});
    assert_eq!(theirs(&object).unwrap().location.secret(), "mine");
    // Of its own namespace the resource names it.
    object["metadata"]["namespace"] = json!("vms");
    assert_eq!(theirs(&object).unwrap().location.secret(), "cloud");
}

#[test]
fn claims_without_a_data_source_are_none_of_ours() {
    let mut object = plain_claim();
    object["spec"]
        .as_object_mut()
        .unwrap()
        .remove("dataSourceRef");
    let object: core::PersistentVolumeClaim = serde_json::from_value(object).unwrap();
    assert_eq!(Claim::from_object(&object), None);
}

#[test]
fn failures_are_kept_on_the_claim_and_read_back() {
    let failure = LastFailure {
        pod: "p".into(),
        at: Time("2026-01-01T12:00:00Z".parse().unwrap()),
        reason: Reason::Retrying,
        message: "the engine was away".to_owned(),
        disruptions: 2,
        verdict: Some(Verdict {
            origin: "0".to_owned(),
            retry: None,
        }),
    };
    let patch = objects::patch::record_failure(&CLAIM.into(), 2, &failure).unwrap();
    assert_eq!(patch["metadata"]["uid"], CLAIM);
    let mut object = plain_claim();
    object["metadata"]["annotations"] = patch["metadata"]["annotations"].clone();
    let attempts = claim(object).attempts;
    assert_eq!(attempts.recreations, 2);
    assert_eq!(attempts.last_failure, Some(failure));

    // A value that another program wrote there is no failure, and no panic.
    let mut object = plain_claim();
    object["metadata"]["annotations"] =
        json!({"recreations": "many", "forklift.konveyor.io/last-failure": "{"});
    assert_eq!(
        claim(object).attempts,
        population::model::Attempts::default()
    );
}

#[test]
fn patches_are_bound_to_what_they_were_decided_on() {
    let nothing = Value::Null;
    assert_eq!(
        objects::patch::forget_failures(&CLAIM.into()),
        json!({"metadata": {"uid": CLAIM, "annotations":
            {"recreations": nothing, "forklift.konveyor.io/last-failure": nothing}}})
    );
    assert_eq!(
        objects::patch::adopt_pod(&"p".into(), &CLAIM.into()),
        json!({"metadata": {"uid": "p", "labels": {"forklift.konveyor.io/populated-claim": CLAIM}}})
    );
    assert_eq!(
        objects::patch::adopt_temporary_claim(&"t".into(), &CLAIM.into()),
        json!({"metadata": {"uid": "t", "labels": {
            "forklift.konveyor.io/populated-claim": CLAIM, "velero.io/exclude-from-backup": "true"}}})
    );
    let path = "/metadata/annotations/volume.kubernetes.io~1selected-node";
    let rejected = [RejectedNode {
        node: "gone".to_owned(),
        at: Time("2026-01-01T12:00:00Z".parse().unwrap()),
        count: 2,
    }];
    let rejection = objects::patch::reject_node(&CLAIM.into(), "gone", &rejected).unwrap();
    let kept = rejection[3]["value"].as_str().unwrap();
    assert_eq!(
        rejection,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": CLAIM},
            {"op": "test", "path": path, "value": "gone"},
            {"op": "remove", "path": path},
            {"op": "add", "path": "/metadata/annotations/forklift.konveyor.io~1rejected-nodes", "value": kept},
        ])
    );
    let mut object = plain_claim();
    object["metadata"]["annotations"] = json!({"forklift.konveyor.io/rejected-nodes": kept});
    assert_eq!(claim(object).rejected_nodes, rejected);
}
