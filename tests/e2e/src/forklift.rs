//! Objects as Forklift's Migration Controller makes and removes them, and its installation.

use std::{collections::BTreeMap, path::Path};

use populator_api::names::{annotation, label};
use serde_json::{Value, json};

use crate::{
    claim::{Claim, NewClaim},
    cluster::Cluster,
    resource::{CLAIMS, PODS, SECRETS},
    source::{Kind, Source},
    test_namespace::TestNamespace,
};

/// Namespace of Forklift's controller in tests.
pub const NAMESPACE: &str = "konveyor-forklift";
/// Name of its Deployment.
pub const CONTROLLER: &str = "forklift-volume-populator-controller";

/// One virtual machine of one migration.
#[derive(Debug, Clone)]
pub struct Migration {
    labels: BTreeMap<String, String>,
}

impl Migration {
    /// A migration of its own.
    pub fn new() -> Self {
        let pairs = [label::MIGRATION, label::PLAN, label::VM_ID];
        let labels = pairs.map(|name| (name.to_owned(), suite::uuid()));
        Self {
            labels: labels.into_iter().collect(),
        }
    }

    /// The three labels that every object of the machine has.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Labels of claim and populator resource: the machine's, and the disk's or image's.
    pub fn labels_of(&self, source: &Source) -> BTreeMap<String, String> {
        let (name, field) = match source.kind {
            Kind::Ovirt => (label::DISK_ID, "diskId"),
            Kind::Openstack => (label::IMAGE_ID, "imageId"),
        };
        let id = source.spec[field].as_str().unwrap().to_owned();
        let mut labels = self.labels.clone();
        labels.insert(name.to_owned(), id);
        labels
    }

    /// The source with Forklift's labels.
    pub fn label(&self, mut source: Source) -> Source {
        source.labels = self.labels_of(&source);
        source
    }

    /// The claim as Forklift makes it.
    pub fn claim<'a>(&self, case: &'a TestNamespace, source: &Source) -> NewClaim<'a> {
        let claim = case.claim(source).generated("plan-vm-");
        claim
            .labels(&self.labels_of(source))
            .annotation(annotation::DISK_SOURCE, &source.name)
    }

    /// Forklift's clean-up after a cancel or a failure, in its order.
    pub fn clean_up(&self, case: &TestNamespace, source: &Source, claim: &Claim<'_>) {
        let temporary = claim.temporary_name();
        if case.get(CLAIMS, &temporary).is_some() {
            case.delete(CLAIMS, &temporary);
        }
        claim.delete();
        let path = CLAIMS.path(&case.namespace, &claim.name);
        match case
            .cluster
            .try_patch(&path, &json!({ "metadata": { "finalizers": null } }))
        {
            Ok(_) => {}
            Err(refused) => assert_eq!(refused.code, 404, "{refused:?}"),
        }
        case.delete(SECRETS, &source.secret);
        case.delete(source.kind.resource(), &source.name);
        let selector = format!(
            "labelSelector=migration%3D{}",
            self.labels[label::MIGRATION]
        );
        for pod in case.cluster.list(PODS, &case.namespace, &selector) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            case.cluster.delete(PODS, &case.namespace, name, Some(30));
        }
    }
}

/// The temporary claim and the pod as Forklift's controller makes them for a block claim of 64 MiB from an oVirt disk:
/// without our label and annotations, and with the secret in the environment.
pub fn begun(source: &Source, claim: &Claim<'_>) -> (Value, Value) {
    let owner = json!([{
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name, "uid": claim.uid,
    }]);
    let field = |name: &str| source.spec[name].as_str().unwrap().to_owned();
    let temporary = json!({
        "metadata": { "name": claim.temporary_name(), "labels": source.labels, "ownerReferences": owner },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "immediate",
            "volumeMode": "Block",
            "resources": { "requests": { "storage": "64Mi" } },
        },
    });
    let arguments = [
        "--volume-path=/dev/block".to_owned(),
        format!("--secret-name={}", source.secret),
        format!("--disk-id={}", field("diskId")),
        format!("--engine-url={}", field("engineUrl")),
        format!("--cr-name={}", source.name),
        format!("--cr-namespace={}", claim.case().namespace),
        "--pvc-size=67108864".to_owned(),
        format!("--owner-uid={}", claim.uid),
    ];
    let authority =
        json!({ "secretKeyRef": { "name": source.secret, "key": "cacert", "optional": true } });
    let pod = json!({
        "metadata": { "name": claim.pod_name(), "labels": source.labels, "ownerReferences": owner },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "populate",
                "image": "localhost/populators/ovirt-populator:test",
                "imagePullPolicy": "IfNotPresent",
                "args": arguments,
                "envFrom": [{ "secretRef": { "name": source.secret } }],
                "env": [{ "name": "cacert", "valueFrom": authority }],
                "ports": [{ "name": "metrics", "containerPort": 8443 }],
                "volumeDevices": [{ "name": "target", "devicePath": "/dev/block" }],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                    "runAsUser": 107, "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
            "securityContext": { "fsGroup": 107 },
            "volumes": [{
                "name": "target", "persistentVolumeClaim": { "claimName": claim.temporary_name() },
            }],
        },
    });
    (temporary, pod)
}

impl Default for Migration {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// Applies one of the files in `forklift/`, with the images of this test.
    pub fn apply_forklift(&self, file: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("forklift")
            .join(file);
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (variable, value) in [
            ("${NAMESPACE}", NAMESPACE),
            (
                "${CONTROLLER_IMAGE}",
                "localhost/populators/populator-controller:test",
            ),
            (
                "${OVIRT_IMAGE}",
                "localhost/populators/ovirt-populator:test",
            ),
            (
                "${OPENSTACK_IMAGE}",
                "localhost/populators/openstack-populator:test",
            ),
        ] {
            text = text.replace(variable, value);
        }
        let folder = suite::folder();
        let rendered = folder.path().join(file);
        std::fs::write(&rendered, text).unwrap();
        let rendered = rendered.to_str().unwrap();
        self.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            rendered,
        ]);
    }
}
