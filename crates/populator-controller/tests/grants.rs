//! Sources in other namespaces: what a `ReferenceGrant` there allows, and what it does not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use jiff::Timestamp;
use kube::runtime::watcher::Event;
use population::{
    Settings,
    model::{Grant, Kind, Lookup},
};
use populator_controller::namespaces::Scope;
use populator_controller::observe::{Cache, Observer};
use serde_json::{Value, json};

use api::{Api, refusal};

const LIST: &str = "GET /apis/gateway.networking.k8s.io/v1beta1/namespaces/sources/referencegrants";

/// A claim in `vms` that refers to the disk `web` in `sources`, where the API server answers so to
/// who asks for grants.
async fn learn(answer: (u16, Value)) -> kube::Result<Grant> {
    let claim = json!({
        "metadata": {"namespace": "vms", "name": "c", "uid": "u"},
        "spec": {"dataSourceRef": {
            "apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator", "name": "web", "namespace": "sources",
        }},
    });
    let mut cache = Cache::default();
    cache.claims(
        &Scope::ALL,
        Event::Apply(serde_json::from_value(claim).unwrap()),
    );
    let resource = json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "OvirtVolumePopulator",
        "metadata": {"namespace": "sources", "name": "web", "uid": "r", "generation": 1},
        "spec": {"engineUrl": "https://engine", "engineSecretName": "secret",
                 "diskId": "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d"},
    });
    let resource = Event::Apply(serde_json::from_value(resource).unwrap());
    cache.resources(Kind::Ovirt, &Scope::ALL, resource);
    let server = Api::default();
    let observer = Observer::new(server.client(move |_| answer.clone()), cache);
    let (settings, _) = Settings::from_environment(|_| None).unwrap();
    let world = observer
        .world(&"u".into(), &settings, Timestamp::UNIX_EPOCH)
        .await;
    assert_eq!(server.lines(), [LIST]);
    let world = world?.unwrap();
    // Without a grant nothing of the resource is known, not even whether it exists.
    let is_shown = world.populator != Lookup::Missing;
    assert_eq!(is_shown, world.grant == Grant::Given);
    Ok(world.grant)
}

/// The same with one grant there.
async fn learn_from(from: Value, to: Value) -> Grant {
    let grant = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": {"namespace": "sources", "name": "g"}, "spec": {"from": [from], "to": [to]},
    });
    let list = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrantList", "metadata": {}, "items": [grant],
    });
    learn((200, list)).await.unwrap()
}

fn from() -> Value {
    json!({"group": "", "kind": "PersistentVolumeClaim", "namespace": "vms"})
}

fn to() -> Value {
    json!({"group": "forklift.konveyor.io", "kind": "OvirtVolumePopulator"})
}

#[tokio::test]
async fn a_grant_that_names_both_ends_allows() {
    assert_eq!(learn_from(from(), to()).await, Grant::Given);
    for name in ["", "web"] {
        let mut to = to();
        to["name"] = json!(name);
        assert_eq!(learn_from(from(), to).await, Grant::Given, "{name:?}");
    }
}

#[tokio::test]
async fn a_grant_for_something_else_does_not() {
    for (field, value) in [
        ("namespace", "other"),
        ("kind", "Pod"),
        ("group", "forklift.konveyor.io"),
    ] {
        let mut from = from();
        from[field] = json!(value);
        assert_eq!(learn_from(from, to()).await, Grant::Missing, "from {field}");
    }
    for (field, value) in [
        ("name", "other"),
        ("kind", "OpenstackVolumePopulator"),
        ("group", ""),
    ] {
        let mut to = to();
        to[field] = json!(value);
        assert_eq!(learn_from(from(), to).await, Grant::Missing, "to {field}");
    }
    let nothing = json!({});
    assert_eq!(learn_from(nothing.clone(), nothing).await, Grant::Missing);
}

/// Few clusters have the definition, and the right to read it is a component of the manifests.
#[tokio::test]
async fn where_there_are_no_grants_none_is_given() {
    for (code, reason) in [(404, "NotFound"), (403, "Forbidden")] {
        let grant = learn(refusal(code, reason, "no grants")).await;
        assert_eq!(grant.unwrap(), Grant::Missing);
    }
    // It is not known, so the claim is requeued.
    let error = learn(refusal(500, "InternalError", "out of order")).await;
    assert!(error.is_err());
}
