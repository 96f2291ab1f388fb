//! Names, labels, annotations and event reasons that Forklift's Migration Controller, CDI, Velero
//! and service meshes look for.

/// Name of the temporary claim for the claim with this UID. Forklift looks it up by exactly this
/// name.
#[must_use]
pub fn temporary_claim(claim_uid: &str) -> String {
    format!("prime-{claim_uid}")
}

/// Name of the populator pod for the claim with this UID. Forklift looks it up by exactly this
/// name.
#[must_use]
pub fn pod(claim_uid: &str) -> String {
    format!("populate-{claim_uid}")
}

/// Name of the populator pod's one container.
pub const CONTAINER: &str = "populate";
/// Name of the container's metrics port, 8443, HTTPS.
pub const METRICS_PORT: &str = "metrics";
/// Name of the volume that holds the target.
pub const TARGET_VOLUME: &str = "target";
/// The user and group that own a virtual machine's disk in `KubeVirt`.
pub const QEMU_ID: i64 = 107;

/// Finalizer of a populator pod whose end the controller has not acted on yet. As with a Job's
/// pods, whatever deletes finished pods (a cleaner, a drain, the pod garbage collector) cannot
/// remove the result before it is read
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-tracking-with-finalizers>).
pub const RESULT_FINALIZER: &str = "forklift.konveyor.io/populator-result";

/// Reason in the status of a pod that the controller has declared failed, since it did not start in
/// time.
pub const START_DEADLINE: &str = "StartDeadlineExceeded";

/// Labels of claims, pods and temporary claims.
pub mod label {
    /// UID of the migration.
    pub const MIGRATION: &str = "migration";
    /// UID of the migration plan.
    pub const PLAN: &str = "plan";
    /// Identifier of the source virtual machine.
    pub const VM_ID: &str = "vmID";
    /// UUID of the oVirt disk.
    pub const DISK_ID: &str = "diskID";
    /// UUID of the OpenStack image.
    pub const IMAGE_ID: &str = "imageID";
    /// On the pod: the claim's name, when it is a valid label value.
    pub const CLAIM_NAME: &str = "pvcName";
    /// On the pod and the temporary claim: UID of the claim. Watches select our objects by this
    /// label; Forklift's objects lack it until they are adopted.
    pub const POPULATED_CLAIM: &str = "forklift.konveyor.io/populated-claim";
    /// On the temporary claim, `true`: Velero does not back it up.
    pub const VELERO_EXCLUDE: &str = "velero.io/exclude-from-backup";
    /// On the pod, `false`: Istio adds no sidecar, which would never end. (Older versions read an
    /// annotation of the same name.)
    pub const ISTIO_INJECT: &str = "sidecar.istio.io/inject";

    /// Whether `value` can be a label's value: at most 63 characters, letters, digits, `-`, `_`,
    /// `.`, beginning and ending with a letter or a digit
    /// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>).
    #[must_use]
    pub fn is_valid_value(value: &str) -> bool {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
        let bytes = value.as_bytes();
        bytes.len() <= 63
            && bytes.iter().copied().all(inner)
            && edge(bytes.first())
            && edge(bytes.last())
    }
}

/// Whether the text is a name of an object (RFC 1123 subdomain): at most 253 lower case letters,
/// digits, `-` and `.`, with a letter or a digit at both ends
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>).
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| edge(byte) || matches!(byte, b'-' | b'.');
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.iter().copied().all(inner)
        && [bytes.first(), bytes.last()]
            .into_iter()
            .all(|end| end.copied().is_some_and(edge))
}

/// Annotations of claims, pods, temporary claims and volumes.
pub mod annotation {
    /// On a claim of Forklift's: marks a disk. Never copied to the temporary claim, since Forklift
    /// would take that for a disk.
    pub const DISK_SOURCE: &str = "forklift.konveyor.io/disk-source";
    /// On a claim: name of the service account for the populator pod.
    pub const SERVICE_ACCOUNT: &str = "forklift.konveyor.io/serviceAccount";
    /// On a claim whose populator resource is in another namespace: name of the secret with the
    /// credentials, which is in the claim's namespace.
    pub const SECRET: &str = "forklift.konveyor.io/secret";
    /// On a claim: Forklift converts afterwards and needs the image's bytes as they are.
    pub const REQUIRES_CONVERSION: &str = "forklift.konveyor.io/requires-conversion";
    /// On a claim, followed by the name of a mover's flag (`mover-verify`): how its disk is copied, instead of
    /// as the installation says.
    pub const MOVER: &str = "forklift.konveyor.io/mover-";
    /// On the pod: what the claim said by [`MOVER`] when the pod was created. Forklift's pods do not carry it.
    pub const CLAIM_SETTINGS: &str = "forklift.konveyor.io/claim-settings";
    /// On a volume, at the rebind: `<namespace>/<name>` of the populator resource.
    pub const POPULATED_FROM: &str = "forklift.konveyor.io/populated-from";
    /// On a volume, at the rebind: UID of the claim that it was filled for.
    pub const POPULATED_FOR: &str = "forklift.konveyor.io/populated-for";
    /// On a volume, at the rebind: the disk or image that it holds.
    pub const POPULATED_DISK: &str = "forklift.konveyor.io/populated-disk";
    /// On the temporary claim, as JSON: the pod whose node does not answer. While it is set, that
    /// pod may write to the volume even after it has disappeared from the API server.
    pub const NODE_LOST: &str = "forklift.konveyor.io/node-lost";
    /// On a claim: Kubernetes has bound it to its volume; its phase follows.
    pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
    /// On a volume: Kubernetes chose it for its claim; no provisioner or populator gave it to the
    /// claim.
    pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
    /// On a claim: how often its pod was recreated.
    pub const RECREATIONS: &str = "recreations";
    /// On a claim: bind at once, although the storage class waits for a consumer.
    pub const BIND_IMMEDIATELY: &str = "forklift.konveyor.io/bind-immediately";
    /// CDI's annotation of the same meaning.
    pub const CDI_BIND_IMMEDIATELY: &str = "cdi.kubevirt.io/storage.bind.immediate.requested";
    /// On a claim of an old manifest: its storage class, before `spec.storageClassName`.
    pub const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    /// On a claim that waits for a consumer: the node that the scheduler chose.
    pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
    /// On the temporary claim: the node that the scheduler had chosen when it was created. Unlike
    /// [`SELECTED_NODE`] it stays when the provisioner gives that node up.
    pub const CHOSEN_NODE: &str = "forklift.konveyor.io/chosen-node";
    /// On a claim that waits for a consumer, as JSON: the nodes that could not get its volume, and
    /// when they may be tried again.
    pub const REJECTED_NODES: &str = "forklift.konveyor.io/rejected-nodes";
    /// On a claim of an in-tree storage class: the CSI driver that serves it.
    pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
    /// On the pod: digest of the spec that it was created with. A pod that has not started is
    /// recreated when the controller would create another one.
    pub const SPEC_HASH: &str = "forklift.konveyor.io/spec-hash";
    /// On the pod: list of secondary networks.
    pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
    /// On the pod: the secondary network that the resource named when the pod was created.
    /// [`NETWORKS`] does not show it once admission webhooks have added others.
    pub const TRANSFER_NETWORK: &str = "forklift.konveyor.io/transfer-network";
    /// On the pod, `disabled`: Linkerd adds no sidecar.
    pub const LINKERD_INJECT: &str = "linkerd.io/inject";
    /// On the pod, `false`: the cluster autoscaler does not remove its node
    /// (<https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md>).
    pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    /// On the pod, `true`: Karpenter does not disrupt its node
    /// (<https://karpenter.sh/docs/concepts/disruption/#pod-level-controls>).
    pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
    /// On a claim: a new value requests another attempt after a permanent failure. On the pod: the
    /// value when it was created.
    pub const RETRY: &str = "forklift.konveyor.io/retry";
    /// On a claim: the last failed attempt, as JSON. It keeps the count in [`RECREATIONS`] exact,
    /// and the backoff before the next attempt across a restart.
    pub const LAST_FAILURE: &str = "forklift.konveyor.io/last-failure";
    /// On the pod: UID of the temporary claim that it was created for, so that its success does not
    /// count for a later claim of the same name.
    pub const TEMPORARY_CLAIM: &str = "forklift.konveyor.io/temporary-claim";
}

/// Reasons of events on claims.
pub mod event {
    /// The pod was created.
    pub const CREATED: &str = "PopulatorCreated";
    /// The pod could not be created.
    pub const CREATION_ERROR: &str = "PopulatorCreationError";
    /// The temporary claim could not be created, or another one has its name.
    pub const CLAIM_CREATION_ERROR: &str = "PopulatorPVCCreationError";
    /// The population failed permanently.
    pub const FAILED: &str = "PopulatorFailed";
    /// The claim is populated and bound.
    pub const FINISHED: &str = "PopulatorFinished";
    /// Another quarter of the disk is in place.
    pub const PROGRESS: &str = "PopulatorProgress";
    /// The claim waits for a slot.
    pub const THROTTLED: &str = "PopulatorThrottled";

    // The reasons above are Forklift's; those below are ours.

    /// The API server rejects a write other than a creation.
    pub const REJECTED: &str = "PopulatorRejected";
    /// An attempt failed in a way that may pass, and it is retried.
    pub const RETRYING: &str = "PopulatorRetrying";
    /// The claim waits for something that a user must create.
    pub const WAITING: &str = "PopulatorWaiting";
    /// The claim cannot be populated as it is.
    pub const REFUSED: &str = "PopulatorRefused";
    /// The pod does not start, or Kubernetes does not bind the claim.
    pub const STUCK: &str = "PopulatorStuck";
    /// The pod's node does not answer.
    pub const NODE_LOST: &str = "PopulatorNodeLost";
    /// The resource names another disk than the one that was copied.
    pub const SOURCE_CHANGED: &str = "PopulatorSourceChanged";
    /// The disk is copied, and what was made at the source for the copy is there still.
    pub const LEFTOVERS: &str = "PopulatorLeftovers";
    /// The node that a volume was to be provisioned for no longer exists.
    pub const NODE_GONE: &str = "PopulatorNodeGone";
    /// The node that a volume was to be provisioned for cannot get it; the scheduler chooses again.
    pub const NODE_UNSUITABLE: &str = "PopulatorNodeUnsuitable";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values() {
        let long = "a".repeat(64);
        for (value, valid) in [
            ("", true),
            ("disk-0.img_1", true),
            (&long[..63], true),
            (&long, false),
            ("-x", false),
            ("x.", false),
            ("a/b", false),
            ("ä", false),
        ] {
            assert_eq!(label::is_valid_value(value), valid, "{value:?}");
        }
    }

    #[test]
    fn temporary_objects_are_named_as_forklift_asks() {
        let uid = "6f0ff4e5-4a4e-4f9c-8f2e-0d3d6e0a8f11";
        assert_eq!(temporary_claim(uid), format!("prime-{uid}"));
        assert_eq!(pod(uid), format!("populate-{uid}"));
    }
}
