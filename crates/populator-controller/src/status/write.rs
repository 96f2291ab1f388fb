//! One write of a populator resource's status.

use kube::{
    Api, Client,
    api::{DynamicObject, Patch},
};
use populator_api::PopulatorStatus;
use serde_json::{Map, Value, json};

use super::{
    claims::Change,
    endpoint::{Endpoint, Endpoints},
};
use crate::{
    apply::{Failure, parameters},
    observe::{Populator, api_resource, version_of},
    telemetry::Telemetry,
};

/// Result of a write.
pub(super) enum Sent {
    /// The resource has the status now, as far as the definition with this endpoint keeps its
    /// fields.
    Taken {
        endpoint: Option<Endpoint>,
        /// Version of the resource that has it; `None` if the API server did not say.
        version: Option<u64>,
    },
    /// The API server accepted the write and dropped the status: a definition with a subresource
    /// has replaced Forklift's.
    Ignored,
}

/// Writes a status, bound to the resource's UID.
pub(super) async fn send(
    client: &Client,
    endpoints: &Endpoints,
    telemetry: &Telemetry,
    resource: &Populator,
    change: &Change,
) -> Result<Sent, Failure> {
    let Change {
        status, previous, ..
    } = change;
    let unavailable = |error| Failure::of(error, &[404, 409]);
    let kind = resource.name.kind;
    let endpoint = endpoints.of(kind, client).await.map_err(unavailable)?;
    let api = Api::<DynamicObject>::namespaced_with(
        client.clone(),
        &resource.name.namespace,
        &api_resource(kind),
    );
    let precondition = json!({"uid": resource.uid});
    match endpoint {
        None => Ok(Sent::Taken {
            endpoint,
            version: Some(resource.version),
        }),
        Some(Endpoint::Status) => {
            telemetry.wrote("patch", kind.plural());
            let status = full(status).map_err(Failure::Patch)?;
            let patch = json!({"metadata": precondition, "status": status});
            let (parameters, patch) = (parameters(), Patch::Merge(patch));
            let sent = api.patch_status(&resource.name.name, &parameters, &patch);
            let sent = sent.await.map_err(unavailable)?;
            Ok(Sent::Taken {
                endpoint,
                version: version_of(&sent.metadata),
            })
        }
        Some(Endpoint::Main) => {
            let progress = status.progress.as_deref().unwrap_or("0");
            if previous.progress.as_deref() == Some(progress) {
                return Ok(Sent::Taken {
                    endpoint,
                    version: Some(resource.version),
                });
            }
            telemetry.wrote("patch", kind.plural());
            let patch = json!({"metadata": precondition, "status": {"progress": progress}});
            let (parameters, patch) = (parameters(), Patch::Merge(patch));
            let sent = api.patch(&resource.name.name, &parameters, &patch);
            let sent = sent.await.map_err(unavailable)?;
            Ok(if sent.data["status"]["progress"] == progress {
                Sent::Taken {
                    endpoint,
                    version: version_of(&sent.metadata),
                }
            } else {
                Sent::Ignored
            })
        }
    }
}

/// The status as a merge patch: a field that is not set is removed.
fn full(status: &PopulatorStatus) -> serde_json::Result<Value> {
    const FIELDS: [&str; 10] = [
        "progress",
        "observedGeneration",
        "conditions",
        "claimCount",
        "counts",
        "claims",
        "transferredBytes",
        "totalBytes",
        "rate",
        "lastError",
    ];
    let set = serde_json::to_value(status)?;
    let field = |name: &str| (name.to_owned(), set[name].clone());
    Ok(Value::Object(Map::from_iter(FIELDS.map(field))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_every_field() {
        let empty = PopulatorStatus::default();
        let all = full(&empty).unwrap();
        assert!(all.as_object().unwrap().values().all(Value::is_null));
        // With all fields set there are no more of them than are named.
        let everything: PopulatorStatus = serde_json::from_value(json!({
            "progress": "1", "observedGeneration": 1, "transferredBytes": 1, "totalBytes": 1, "rate": "r",
            "lastError": "e", "claimCount": 1, "counts": [{"reason": "Copying", "claims": 1}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "claims": [{"uid": "u", "name": "n", "reason": "Copying"}],
        }))
        .unwrap();
        let set = serde_json::to_value(&everything).unwrap();
        assert_eq!(full(&everything).unwrap(), set);
        assert_eq!(set.as_object().unwrap().len(), 10);
    }
}
