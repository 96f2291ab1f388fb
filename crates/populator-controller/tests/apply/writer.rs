use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use population::{
    model::{Claim, LastFailure, LostPod, Uid, Volume},
    plan::{Action, DeleteReason, Event},
};
use populator_api::Reason;
use populator_controller::apply::{Failure, Writer};
use serde_json::{Value, json};

use super::{
    api::{Api, refusal},
    telemetry,
};

pub(crate) fn claim() -> Claim {
    let object: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"namespace": "vms", "name": "disk", "uid": "c"},
        "spec": {"dataSourceRef": {
            "apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator", "name": "source"}},
    }))
    .unwrap();
    Claim::from_object(&object).unwrap()
}

fn volume() -> Volume {
    let object: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": "pv", "resourceVersion": "41"},
        "spec": {"claimRef": {"namespace": "vms", "name": "prime-c", "uid": "t"}},
        "status": {"phase": "Bound"},
    }))
    .unwrap();
    Volume::from_object(&object).unwrap()
}

fn actions() -> Vec<Action> {
    let named = |name: &str| json!({"metadata": {"namespace": "vms", "name": name}});
    let temporary: PersistentVolumeClaim = serde_json::from_value(named("prime-c")).unwrap();
    let pod: Pod = serde_json::from_value(named("populate-c")).unwrap();
    let (name, uid) = ("x".to_owned(), Uid::from("u"));
    vec![
        Action::CreateTemporaryClaim(Box::new(temporary)),
        Action::CreatePod(Box::new(pod)),
        Action::AdoptTemporaryClaim {
            name: name.clone(),
            uid: uid.clone(),
        },
        Action::AdoptPod {
            name: name.clone(),
            uid: uid.clone(),
        },
        Action::DeletePod {
            name: name.clone(),
            uid: uid.clone(),
        },
        Action::DeleteTemporaryClaim {
            name: name.clone(),
            uid: uid.clone(),
            reason: DeleteReason::Populated,
        },
        Action::RebindVolume {
            volume: Box::new(volume()),
            from: "t".into(),
            disk: None,
        },
        Action::RecordFailure {
            recreations: 1,
            failure: LastFailure {
                pod: "p".into(),
                at: Time(Timestamp::UNIX_EPOCH),
                reason: Reason::Retrying,
                message: "why".to_owned(),
                disruptions: 0,
                verdict: None,
            },
        },
        Action::ForgetFailures,
        Action::RejectNode {
            node: "n".to_owned(),
            rejected: Vec::new(),
            event: Event::warning("PopulatorNodeGone", "n is gone"),
        },
        Action::ReleasePod {
            name: name.clone(),
            uid: uid.clone(),
            position: 1,
        },
        Action::RecordNodeLost {
            name: name.clone(),
            uid: uid.clone(),
            lost: Some(LostPod {
                pod: "p".into(),
                node: "n".to_owned(),
            }),
        },
        Action::FailPod {
            name,
            uid,
            message: "why".to_owned(),
        },
    ]
}

/// The kind of failure of each action, when the API server gives this answer.
async fn outcomes(code: u16, reason: &'static str) -> Vec<&'static str> {
    let api = Api::default();
    let writer = Writer::new(
        api.client(move |_| refusal(code, reason, "no")),
        telemetry(),
    );
    let mut outcomes = Vec::new();
    for action in actions() {
        let outcome = writer.apply(&action, &claim()).await;
        outcomes.push(outcome.err().map_or("done", |failure| failure.kind()));
    }
    outcomes
}

#[tokio::test]
async fn each_action_is_one_request_bound_to_what_it_was_decided_on() {
    let api = Api::default();
    let writer = Writer::new(api.client(|asked| (200, asked.body.clone())), telemetry());
    let mut lines = Vec::new();
    for action in actions() {
        // The answer is not an object; that it cannot be read does not matter here.
        let _ = writer.apply(&action, &claim()).await;
        let asked = api.take();
        assert_eq!(asked.len(), 1, "{action:?}");
        let bound = match &asked[0].body {
            Value::Array(patch) => patch[0]["op"] == "test",
            body if asked[0].line.starts_with("POST") => body["metadata"]["name"].is_string(),
            body if asked[0].line.starts_with("DELETE") => body["preconditions"]["uid"] == "u",
            body => body["metadata"]["uid"].is_string(),
        };
        assert!(bound, "{action:?}: {asked:?}");
        lines.push(asked[0].line.clone());
    }
    let claims = "/api/v1/namespaces/vms/persistentvolumeclaims";
    let pods = "/api/v1/namespaces/vms/pods";
    assert_eq!(
        lines,
        [
            format!("POST {claims}"),
            format!("POST {pods}"),
            format!("PATCH {claims}/x"),
            format!("PATCH {pods}/x"),
            format!("DELETE {pods}/x"),
            format!("DELETE {claims}/x"),
            "PATCH /api/v1/persistentvolumes/pv".to_owned(),
            format!("PATCH {claims}/disk"),
            format!("PATCH {claims}/disk"),
            format!("PATCH {claims}/disk"),
            format!("PATCH {pods}/x"),
            format!("PATCH {claims}/x"),
            format!("PATCH {pods}/x/status"),
        ]
    );
}

#[tokio::test]
async fn what_has_passed_is_late_and_not_refused() {
    let late = ["late"; 13];
    assert_eq!(outcomes(409, "Conflict").await, late);
    let gone = outcomes(404, "NotFound").await;
    // Nothing can be created in a namespace that is gone; what is to be deleted is; the rest is out
    // of date.
    assert_eq!(gone[..2], ["late", "late"]);
    assert_eq!(gone[2..4], ["late", "late"]);
    assert_eq!(gone[4..6], ["done", "done"]);
    assert_eq!(gone[6..10], ["late"; 4]);
    // A pod that nothing else kept is gone as it should be.
    assert_eq!(gone[10..], ["done", "late", "late"]);
    // A JSON patch whose tests fail.
    let invalid = outcomes(422, "Invalid").await;
    assert_eq!(
        (invalid[6], invalid[9], invalid[10]),
        ("late", "late", "late")
    );
    assert_eq!(invalid[0], "refused");
}

#[tokio::test]
async fn a_quota_refuses_and_a_server_in_trouble_does_not() {
    assert_eq!(outcomes(403, "Forbidden").await, ["refused"; 13]);
    assert_eq!(outcomes(503, "Unavailable").await, ["unavailable"; 13]);
    // Creations pass admission, whose webhooks may be out of order for long: that is reported.
    let webhook = outcomes(500, "InternalError").await;
    assert_eq!(webhook[..2], ["refused", "refused"]);
    assert_eq!(webhook[2..], ["unavailable"; 11]);
}

#[tokio::test]
async fn an_ending_namespace_is_no_refusal() {
    let words = "namespace vms is being terminated";
    let (code, mut answer) = refusal(403, "Forbidden", words);
    let cause =
        json!({"reason": "NamespaceTerminating", "message": words, "field": "metadata.namespace"});
    answer["details"] = json!({"name": "populate-c", "kind": "pods", "causes": [cause]});
    let client = Api::default().client(move |_| (code, answer.clone()));
    let writer = Writer::new(client, telemetry());
    let failure = writer.apply(&actions()[1], &claim()).await.unwrap_err();
    assert!(matches!(failure, Failure::Late(_)), "{failure:?}");
}

#[tokio::test]
async fn a_refusal_is_reported_in_the_servers_words() {
    let api = Api::default();
    let words = "pods \"populate-c\" is forbidden: exceeded quota: few, requested: pods=1";
    let writer = Writer::new(
        api.client(move |_| refusal(403, "Forbidden", words)),
        telemetry(),
    );
    let failure = writer.apply(&actions()[1], &claim()).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused(_)));
    assert_eq!(failure.to_string(), words);
}
