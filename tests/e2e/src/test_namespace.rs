//! One test: a namespace, and what is made in it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};
use suite::{Engine, Glance};
use tempfile::TempDir;
use testkit::Disk;

use crate::{
    claim::{Claim, NewClaim},
    cluster::{Cluster, cluster, kubectl, name_of},
    resource::{ACCESS_REVIEWS, BINDINGS, NAMESPACES, PODS, Resource, SECRETS, VOLUMES},
    source::{Kind, Remote, Source},
};

/// A user whose rights in the namespaces of tests are those of Kubernetes' role `edit`.
const EDITOR: &str = "editor";

/// A namespace of one test, where Pod Security enforces `restricted`. Deleted when dropped; [`Self::finish`] also
/// proves that nothing is left.
#[derive(Debug)]
pub struct TestNamespace {
    /// The cluster.
    pub cluster: &'static Cluster,
    /// The namespace.
    pub namespace: String,
    /// The cluster as the user sees it who creates, changes and deletes claims, their sources and pods.
    editor: Option<Cluster>,
    folder: TempDir,
    names: AtomicU32,
}

impl TestNamespace {
    /// A namespace with a name of its own on the cluster where our controller is deployed. A user's part in it is done
    /// by an editor of the namespace: no step of a population needs more rights.
    pub fn new() -> Self {
        let mut case = Self::on(cluster());
        let binding = json!({
            "metadata": { "name": EDITOR },
            "subjects": [{ "kind": "User", "name": EDITOR }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        });
        case.create(BINDINGS, binding);
        let editor = case.cluster.impersonate(EDITOR);
        // The API server learns of the binding, and of the roles that are aggregated, by watches.
        for kind in Kind::ALL {
            let Resource { api, kind, plural } = kind.resource();
            let attributes = json!({
                "namespace": case.namespace, "verb": "create", "group": api.split('/').next(), "resource": plural,
            });
            case.cluster
                .wait_for(&format!("an editor may create a {kind}"), || {
                    let review = json!({ "spec": { "resourceAttributes": attributes } });
                    let review = editor.create(ACCESS_REVIEWS, "", review).unwrap();
                    (review["status"]["allowed"] == true).then_some(())
                });
        }
        case.editor = Some(editor);
        case
    }

    /// The same on a given cluster, where the administrator does all.
    pub fn on(cluster: &'static Cluster) -> Self {
        let test = std::thread::current().name().unwrap_or("case").to_owned();
        // The test's name without its modules, as far as a name of a namespace may go.
        let test = test
            .rsplit("::")
            .next()
            .unwrap_or_default()
            .replace('_', "-");
        let namespace = format!(
            "e2e-{}-{:06x}",
            &test[..test.len().min(40)],
            fastrand::u32(..1 << 24)
        );
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let object = json!({ "metadata": { "name": namespace, "labels": labels } });
        cluster.create(NAMESPACES, "", object).unwrap();
        Self {
            cluster,
            namespace,
            editor: None,
            folder: suite::folder(),
            names: AtomicU32::new(0),
        }
    }

    /// A name that was not used in this namespace.
    pub fn name(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A disk or image with this content, with secret and populator resource as they are to be applied.
    pub fn prepare(&self, kind: Kind, disk: &Disk) -> Source {
        let folder: &Path = self.folder.path();
        let authority = suite::mover::authority();
        let name = self.name("source");
        let secret = self.name("secret");
        let (remote, spec, data) = match kind {
            Kind::Ovirt => {
                let engine = Engine::default();
                let user = engine.user();
                let image = engine.raw_disk(folder, disk);
                let spec = json!({
                    "engineUrl": engine.url, "engineSecretName": secret, "diskId": image.id,
                });
                let data = vec![
                    ("user", user.name.clone()),
                    ("password", user.password.clone()),
                    ("cacert", authority),
                    ("insecureSkipVerify", "false".to_owned()),
                ];
                (Remote::Ovirt(image, user), spec, data)
            }
            Kind::Openstack => {
                let image = Glance::default().image(folder, disk);
                let spec = json!({
                    "identityUrl": suite::variable("KEYSTONE_URL"), "secretName": secret, "imageId": image.id,
                });
                let data = vec![
                    ("username", "fork".to_owned()),
                    ("password", suite::glance::PASSWORD.to_owned()),
                    ("projectName", "migrate".to_owned()),
                    ("domainName", "Default".to_owned()),
                    ("regionName", "RegionOne".to_owned()),
                    ("cacert", authority),
                ];
                (Remote::Openstack(image), spec, data)
            }
        };
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), value));
        Source {
            kind,
            name,
            secret,
            data: data.collect(),
            spec,
            labels: BTreeMap::new(),
            remote,
        }
    }

    /// A disk or image with this content; secret and populator resource are applied.
    pub fn source(&self, kind: Kind, disk: &Disk) -> Source {
        let source = self.prepare(kind, disk);
        self.apply(&source);
        source
    }

    /// Applies secret and populator resource.
    #[track_caller]
    pub fn apply(&self, source: &Source) {
        self.apply_secret(source);
        self.apply_resource(source);
    }

    /// Applies the secret.
    #[track_caller]
    pub fn apply_secret(&self, source: &Source) {
        let object = json!({ "metadata": { "name": source.secret }, "stringData": source.data });
        self.create(SECRETS, object);
    }

    /// Applies the populator resource.
    #[track_caller]
    pub fn apply_resource(&self, source: &Source) {
        let metadata = json!({ "name": source.name, "labels": source.labels });
        let object = json!({ "metadata": metadata, "spec": source.spec });
        self.create(source.kind.resource(), object);
    }

    /// Replaces the populator resource by one of the same name that names another disk, as `kubectl replace --force` does;
    /// gives the source that it is then.
    #[track_caller]
    pub fn replace(&self, source: &Source, disk: &Disk) -> Source {
        let mut other = self.prepare(source.kind, disk);
        self.apply_secret(&other);
        other.name.clone_from(&source.name);
        self.delete(source.kind.resource(), &source.name);
        self.wait_until_gone(source.kind.resource(), &source.name);
        self.apply_resource(&other);
        other
    }

    /// A claim that is to be filled from the source, to be made.
    pub fn claim(&self, source: &Source) -> NewClaim<'_> {
        NewClaim::new(self, source.kind.resource().kind, &source.name)
    }

    /// The cluster as its user sees it who has to do with such objects.
    fn user_of(&self, resource: Resource) -> &Cluster {
        let editor = self.editor.as_ref();
        editor
            .filter(|_| resource.is_editors())
            .unwrap_or(self.cluster)
    }

    /// Makes an object in this namespace.
    #[track_caller]
    pub fn create(&self, resource: Resource, object: Value) -> Value {
        self.user_of(resource)
            .create(resource, &self.namespace, object)
            .unwrap()
    }

    /// An object of this namespace.
    pub fn get(&self, resource: Resource, name: &str) -> Option<Value> {
        self.user_of(resource).get(resource, &self.namespace, name)
    }

    /// All objects of this namespace.
    pub fn list(&self, resource: Resource) -> Vec<Value> {
        self.user_of(resource).list(resource, &self.namespace, "")
    }

    /// A volume that is made by hand for a claim of this name, with these fields of its spec in place of the usual ones. No disk
    /// is behind it, so it is to be deleted by hand, too.
    #[track_caller]
    pub fn volume_for(&self, claim: &str, mut spec: Value) -> String {
        let name = format!("{}-volume", self.namespace);
        for (field, value) in [
            ("capacity", json!({ "storage": "64Mi" })),
            ("accessModes", json!(["ReadWriteOnce"])),
            ("volumeMode", json!("Block")),
            ("storageClassName", json!("immediate")),
            ("persistentVolumeReclaimPolicy", json!("Retain")),
            (
                "csi",
                json!({ "driver": "hostdisk.csi.test", "volumeHandle": name }),
            ),
            (
                "claimRef",
                json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                        "namespace": self.namespace, "name": claim }),
            ),
        ] {
            if spec[field].is_null() {
                spec[field] = value;
            }
        }
        let object = json!({ "metadata": { "name": name }, "spec": spec });
        self.cluster.create(VOLUMES, "", object).unwrap();
        name
    }

    /// A merge patch of an object of this namespace.
    #[track_caller]
    pub fn patch(&self, resource: Resource, name: &str, patch: &Value) -> Value {
        self.user_of(resource)
            .patch(resource, &self.namespace, name, patch)
    }

    /// Deletes an object of this namespace; whether it was there.
    pub fn delete(&self, resource: Resource, name: &str) -> bool {
        self.user_of(resource)
            .delete(resource, &self.namespace, name, None)
    }

    /// What `kubectl` says in this namespace.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let namespace = ["-n", &self.namespace];
        self.cluster.kubectl(&[&namespace, arguments].concat())
    }

    /// A claim whose copy from oVirt is under way, at 1 MiB a second: a minute for 64 MiB, so that it does not end before what is
    /// to end it. Later copies run at full speed. One that is to end well is [held](Self::held).
    #[track_caller]
    pub fn copying(&self, disk: &Disk) -> (Source, Claim<'_>) {
        let source = self.prepare(Kind::Ovirt, disk).slow(1 << 20);
        self.apply(&source);
        let claim = self.claim(&source).create();
        source.engine_disk().wait_until_read(1);
        source.hurry();
        assert!(!claim.is_bound());
        (source, claim)
    }

    /// A claim whose copy from oVirt does not end before the source is let go.
    #[track_caller]
    pub fn held(&self, disk: &Disk) -> (Source, Claim<'_>) {
        let source = self.prepare(Kind::Ovirt, disk).held();
        self.apply(&source);
        let claim = self.claim(&source).create();
        source.wait_until_held();
        (source, claim)
    }

    /// Status of a populator resource.
    pub fn status(&self, source: &Source) -> Value {
        let found = self.get(source.kind.resource(), &source.name);
        found
            .map(|object| object["status"].clone())
            .unwrap_or_default()
    }

    /// Waits until the condition of the resource has the status, and gives it.
    #[track_caller]
    pub fn wait_for_condition(&self, source: &Source, condition: &str, status: &str) -> Value {
        self.wait_for_condition_with(source, condition, "status", status)
    }

    /// Waits until the condition has this reason, and returns it.
    #[track_caller]
    pub fn wait_for_reason(&self, source: &Source, condition: &str, reason: &str) -> Value {
        self.wait_for_condition_with(source, condition, "reason", reason)
    }

    #[track_caller]
    fn wait_for_condition_with(
        &self,
        source: &Source,
        condition: &str,
        field: &str,
        value: &str,
    ) -> Value {
        let what = format!("{condition} of {} has {field} {value}", source.name);
        self.cluster.wait_for(&what, || {
            let now = self.status(source);
            let mut all = now["conditions"].as_array()?.iter();
            all.find(|found| found["type"] == condition && found[field] == value)
                .cloned()
        })
    }

    /// Volumes that belong, or belonged, to claims of this namespace.
    pub fn volumes(&self) -> Vec<Value> {
        let mut volumes = self.cluster.list(VOLUMES, "", "");
        volumes.retain(|volume| volume["spec"]["claimRef"]["namespace"] == self.namespace);
        volumes
    }

    /// Deletes the namespace, and waits until it and every volume of its claims is gone.
    #[track_caller]
    pub fn finish(self) {
        // The namespace's end would give pods their full time, and look again only then.
        for pod in self.list(PODS) {
            self.cluster
                .delete(PODS, &self.namespace, &name_of(&pod), Some(1));
        }
        self.cluster.delete(NAMESPACES, "", &self.namespace, None);
        self.cluster.wait_for("the namespace is gone", || {
            self.cluster
                .get(NAMESPACES, "", &self.namespace)
                .is_none()
                .then_some(())
        });
        self.cluster.wait_for("the volumes are gone", || {
            self.volumes().is_empty().then_some(())
        });
    }

    /// What a user would look at.
    fn show(&self) -> String {
        let mut text = format!("===== namespace {}\n", self.namespace);
        for arguments in [
            &["get", "pvc,pods", "-o", "wide"][..],
            &["get", "ovvp,osvp", "-o", "yaml"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            let output = kubectl(&[&["-n", &self.namespace][..], arguments].concat());
            text += &String::from_utf8_lossy(&output.stdout);
            text += &String::from_utf8_lossy(&output.stderr);
        }
        text
    }
}

impl Default for TestNamespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestNamespace {
    #[allow(clippy::print_stderr, reason = "this is what a failed test shows")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.show());
        }
        let path = NAMESPACES.path("", &self.namespace);
        let _ = self.cluster.send("DELETE", &path, "", None);
    }
}
