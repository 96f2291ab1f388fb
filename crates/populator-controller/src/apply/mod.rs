//! Writes to the API server, each bound to the state that it was decided on.

mod event_writer;
mod events;

pub use event_writer::EventWriter;
pub use events::Recorder;

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::telemetry::Telemetry;
use population::{
    model::{self, Claim, Uid},
    objects::patch,
    plan::Action,
};

/// Name of this controller in `metadata.managedFields`.
pub(crate) const FIELD_MANAGER: &str = "populator-controller";

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was decided on a state that has changed: the next reconcile sees the new one.
    #[error("the cluster has changed: {0}")]
    Late(#[source] kube::Error),
    /// The API server rejects it: a quota, a policy, a missing permission.
    #[error("{}", words(.0))]
    Refused(#[source] kube::Error),
    /// The API server could not be reached, or was busy.
    #[error("the API server does not answer as it should: {0}")]
    Unavailable(#[source] kube::Error),
    /// A value cannot be serialised.
    #[error("a patch cannot be serialised")]
    Patch(#[source] serde_json::Error),
}

impl Failure {
    /// The kind in one word, for metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Late(_) => "late",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::Patch(_) => "internal",
        }
    }

    /// Whether a quota of the namespace rejects the object. The API server has no other word for
    /// that than those of its admission plugin
    /// (<https://kubernetes.io/docs/concepts/policy/resource-quotas/>).
    #[must_use]
    pub fn is_of_quota(&self) -> bool {
        let Self::Refused(kube::Error::Api(status)) = self else {
            return false;
        };
        status.code == 403 && status.message.contains("exceeded quota")
    }

    /// `late` are the statuses that mean for this request that the cluster has changed.
    pub(crate) fn of(error: kube::Error, late: &[u16]) -> Self {
        match &error {
            _ if is_in_ending_namespace(&error) => Self::Late(error),
            kube::Error::Api(status) if late.contains(&status.code) => Self::Late(error),
            kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                Self::Refused(error)
            }
            _ => Self::Unavailable(error),
        }
    }
}

/// Nothing can be created in a namespace that is being deleted; its claims are deleted too
/// (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespacelifecycle>).
fn is_in_ending_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// The API server's message, without the prefix of the client.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// Applies actions: one request each.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    telemetry: Telemetry,
}

impl Writer {
    /// A writer that uses `client`.
    #[must_use]
    pub const fn new(client: Client, telemetry: Telemetry) -> Self {
        Self { client, telemetry }
    }

    /// Applies one action for a claim.
    pub async fn apply(&self, action: &Action, claim: &Claim) -> Result<(), Failure> {
        let claims =
            || Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &claim.namespace);
        let pods = || Api::<Pod>::namespaced(self.client.clone(), &claim.namespace);
        let (verb, resource) = request(action);
        self.telemetry.wrote(verb, resource);
        match action {
            Action::CreateTemporaryClaim(object) => create(claims(), object).await,
            Action::CreatePod(object) => create(pods(), object).await,
            Action::AdoptTemporaryClaim { name, uid } => {
                merge(
                    claims(),
                    name,
                    &patch::adopt_temporary_claim(uid, &claim.uid),
                )
                .await
            }
            Action::AdoptPod { name, uid } => {
                merge(pods(), name, &patch::adopt_pod(uid, &claim.uid)).await
            }
            Action::DeletePod { name, uid } => delete(pods(), name, uid).await,
            Action::FailPod { name, uid, message } => {
                let patch = Patch::Merge(patch::fail_pod(uid, message));
                let sent = pods().patch_status(name, &parameters(), &patch).await;
                sent.map(drop)
                    .map_err(|error| Failure::of(error, &[404, 409]))
            }
            Action::DeleteTemporaryClaim { name, uid, .. } => delete(claims(), name, uid).await,
            Action::ReleasePod {
                name,
                uid,
                position,
            } => release(pods(), name, uid, *position).await,
            Action::RecordNodeLost { name, uid, lost } => {
                let patch = patch::node_lost(uid, lost.as_ref()).map_err(Failure::Patch)?;
                merge(claims(), name, &patch).await
            }
            Action::RebindVolume { volume, from, disk } => {
                let volumes = Api::<PersistentVolume>::all(self.client.clone());
                let patch = patch::rebind(volume, from, claim, disk.as_deref());
                test_and_set(volumes, &volume.name, patch).await
            }
            Action::RecordFailure {
                recreations,
                failure,
            } => {
                let patch = patch::record_failure(&claim.uid, *recreations, failure)
                    .map_err(Failure::Patch)?;
                merge(claims(), &claim.name, &patch).await
            }
            Action::ForgetFailures => {
                merge(claims(), &claim.name, &patch::forget_failures(&claim.uid)).await
            }
            Action::RejectNode { node, rejected, .. } => {
                let patch =
                    patch::reject_node(&claim.uid, node, rejected).map_err(Failure::Patch)?;
                test_and_set(claims(), &claim.name, patch).await
            }
        }
    }

    /// Removes our finalizer from a pod whose claim is gone: its result no longer matters.
    pub async fn release(&self, namespace: &str, pod: &model::Pod) -> Result<(), Failure> {
        let Some(position) = pod.finalizer else {
            return Ok(());
        };
        self.telemetry.wrote("patch", "pods");
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        release(pods, &pod.name, &pod.uid, position).await
    }
}

/// Verb and resource of the request, for metrics.
const fn request(action: &Action) -> (&'static str, &'static str) {
    const CLAIMS: &str = "persistentvolumeclaims";
    match action {
        Action::CreateTemporaryClaim(_) => ("create", CLAIMS),
        Action::CreatePod(_) => ("create", "pods"),
        Action::AdoptPod { .. } | Action::ReleasePod { .. } => ("patch", "pods"),
        Action::FailPod { .. } => ("patch", "pods/status"),
        Action::DeletePod { .. } => ("delete", "pods"),
        Action::DeleteTemporaryClaim { .. } => ("delete", CLAIMS),
        Action::RebindVolume { .. } => ("patch", "persistentvolumes"),
        Action::AdoptTemporaryClaim { .. }
        | Action::RecordNodeLost { .. }
        | Action::RecordFailure { .. }
        | Action::ForgetFailures
        | Action::RejectNode { .. } => ("patch", CLAIMS),
    }
}

async fn create<K>(api: Api<K>, object: &K) -> Result<(), Failure>
where
    K: serde::Serialize + DeserializeOwned + Clone + Debug,
{
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&parameters, object).await {
        Ok(_) => Ok(()),
        // An admission webhook that fails. As a refusal it is reported to the claim's owner, and
        // the claim gives its slot up, so that it does not block others.
        Err(kube::Error::Api(status)) if status.code == 500 => {
            Err(Failure::Refused(kube::Error::Api(status)))
        }
        // 404 means the namespace.
        Err(error) => Err(Failure::of(error, &[404, 409])),
    }
}

/// An object that is gone needs no patch, but the plan that patches it is out of date.
async fn merge<K>(api: Api<K>, name: &str, patch: &Value) -> Result<(), Failure>
where
    K: DeserializeOwned + Clone + Debug,
{
    match api.patch(name, &parameters(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::of(error, &[404, 409])),
    }
}

/// The API server answers a JSON patch whose tests fail with 422.
async fn test_and_set<K>(api: Api<K>, name: &str, patch: Value) -> Result<(), Failure>
where
    K: DeserializeOwned + Clone + Debug,
{
    let patch = serde_json::from_value(patch).map_err(Failure::Patch)?;
    match api
        .patch(name, &parameters(), &Patch::<()>::Json(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::of(error, &[404, 409, 422])),
    }
}

async fn release(api: Api<Pod>, name: &str, uid: &Uid, position: usize) -> Result<(), Failure> {
    match test_and_set(api, name, patch::release_pod(uid, position)).await {
        // The pod is gone already: no finalizer kept it.
        Err(Failure::Late(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        outcome => outcome,
    }
}

async fn delete<K>(api: Api<K>, name: &str, uid: &Uid) -> Result<(), Failure>
where
    K: DeserializeOwned + Clone + Debug,
{
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_string()),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Failure::of(error, &[409])),
    }
}

pub(crate) fn parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
