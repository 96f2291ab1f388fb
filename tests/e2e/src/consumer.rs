//! Pods that use claims: Forklift's dummy consumer, and one that reads what is on the volume.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use testkit::Disk;

use crate::{
    claim::{Claim, Mode},
    resource::PODS,
    test_namespace::TestNamespace,
};

const BOX: &str = "localhost/test/box:1";
const PAUSE: &str = "localhost/test/pause:1";

impl TestNamespace {
    /// Forklift's dummy consumer over all the claims of a virtual machine: it makes the scheduler choose a node for
    /// claims that wait, and stays pending until they are bound.
    pub fn pvcinit(&self, claims: &[&Claim<'_>]) -> String {
        let name = self.name("pvcinit");
        let labels = json!({ "forklift.app": "consumer" });
        self.create(PODS, pod(&name, &labels, PAUSE, &[], claims));
        name
    }

    /// A pod of this importance that does nothing, and asks for so many thousandths of a core.
    pub fn occupant(&self, priority: &str, millicores: u64) -> String {
        let name = self.name("occupant");
        let mut object = pod(&name, &json!({}), PAUSE, &[], &[]);
        object["spec"]["priorityClassName"] = json!(priority);
        let requests = json!({ "requests": { "cpu": format!("{millicores}m") } });
        object["spec"]["containers"][0]["resources"] = requests;
        self.create(PODS, object);
        name
    }

    /// What a command prints in a pod that has the claim as `/dev/target` or `/target`.
    #[track_caller]
    pub fn run_with(&self, claim: &Claim<'_>, command: &str) -> String {
        let name = self.name("reader");
        let command = ["/bin/sh", "-ec", command];
        self.create(PODS, pod(&name, &json!({}), BOX, &command, &[claim]));
        let phase = self.cluster.wait_for(&format!("{name} ended"), || {
            let pod = self.get(PODS, &name)?;
            let phase = pod["status"]["phase"].as_str()?.to_owned();
            ["Succeeded", "Failed"]
                .contains(&phase.as_str())
                .then_some(phase)
        });
        let log = self.cluster.log(&self.namespace, &name);
        assert_eq!(phase, "Succeeded", "{log}");
        self.delete(PODS, &name);
        log
    }

    /// Fails unless a pod reads exactly this disk from the claim's volume.
    #[track_caller]
    pub fn assert_content(&self, claim: &Claim<'_>, disk: &Disk) {
        let size = disk.size();
        let command = match claim.mode {
            Mode::Block => format!("head -c {size} /dev/target | sha256sum"),
            // A file ends with the disk.
            Mode::Filesystem => {
                "stat -c %s /target/disk.img; sha256sum < /target/disk.img".to_owned()
            }
        };
        let found = self.run_with(claim, &command);
        let hash = digest(&SHA256, disk.bytes());
        let bytes = hash.as_ref().iter();
        let hash = bytes.fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let wanted = match claim.mode {
            Mode::Block => hash,
            Mode::Filesystem => format!("{size}\n{hash}"),
        };
        let found = found.trim().trim_end_matches(['-', ' ']);
        assert_eq!(found, wanted, "{} holds something else", claim.name);
    }
}

/// A pod as the Pod Security level `restricted` wants it, run by the user that owns disks of virtual machines.
fn pod(name: &str, labels: &Value, image: &str, command: &[&str], claims: &[&Claim<'_>]) -> Value {
    let mut volumes = Vec::new();
    let mut devices = Vec::new();
    let mut mounts = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let volume = format!("target-{index}");
        let suffix = if index == 0 {
            String::new()
        } else {
            format!("-{index}")
        };
        volumes
            .push(json!({ "name": volume, "persistentVolumeClaim": { "claimName": claim.name } }));
        match claim.mode {
            Mode::Block => {
                devices
                    .push(json!({ "name": volume, "devicePath": format!("/dev/target{suffix}") }));
            }
            Mode::Filesystem => {
                mounts.push(json!({ "name": volume, "mountPath": format!("/target{suffix}") }));
            }
        }
    }
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsUser": 107, "runAsGroup": 107, "fsGroup": 107, "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": if command.is_empty() { Value::Null } else { json!(command) },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "volumeDevices": devices,
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        },
    })
}
