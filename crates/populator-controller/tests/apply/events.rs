use jiff::Timestamp;
use population::plan::Event;
use populator_api::names::event;
use populator_controller::apply::Recorder;
use serde_json::json;

use super::{
    api::{Api, refusal},
    telemetry,
    writer::claim,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn stuck() -> Event {
    Event::warning(event::STUCK, "the image cannot be pulled")
}

#[tokio::test]
async fn an_event_is_on_the_claim_and_complete() {
    let api = Api::default();
    let recorder = Recorder::new(api.client(|asked| (201, asked.body.clone())), telemetry());
    recorder.sync(&claim(), &[stuck()], at(1)).await;
    let asked = api.take();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /api/v1/namespaces/vms/events");
    let mut body = asked[0].body.clone();
    let name = body["metadata"]["name"].take();
    assert!(name.as_str().unwrap().starts_with("disk."), "{name}");
    assert_eq!(
        body,
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": "vms", "name": null},
            "involvedObject": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                               "namespace": "vms", "name": "disk", "uid": "c"},
            "type": "Warning",
            "reason": "PopulatorStuck",
            "message": "the image cannot be pulled",
            "source": {"component": "populator-controller"},
            "count": 1,
            "firstTimestamp": "1970-01-01T00:00:01Z",
            "lastTimestamp": "1970-01-01T00:00:01Z",
        })
    );
}

#[tokio::test]
async fn what_is_true_is_emitted_once_by_this_process_and_by_the_next() {
    let api = Api::default();
    let recorder = Recorder::new(api.client(|asked| (201, asked.body.clone())), telemetry());
    for second in 1..100 {
        recorder.sync(&claim(), &[stuck()], at(second)).await;
    }
    let first = api.take();
    assert_eq!(first.len(), 1);

    // Another process emits the same: the object exists, and its time is renewed.
    let next = Recorder::new(
        api.client(|asked| {
            if asked.line.starts_with("POST") {
                refusal(409, "AlreadyExists", "exists")
            } else {
                (200, asked.body.clone())
            }
        }),
        telemetry(),
    );
    next.sync(&claim(), &[stuck()], at(200)).await;
    let again = api.take();
    let name = first[0].body["metadata"]["name"].as_str().unwrap();
    assert_eq!(again[0].body["metadata"]["name"], name);
    assert_eq!(
        again[1].line,
        format!("PATCH /api/v1/namespaces/vms/events/{name}")
    );
    assert_eq!(
        again[1].body,
        json!({"lastTimestamp": "1970-01-01T00:03:20Z"})
    );
}

#[tokio::test]
async fn nothing_depends_on_an_event() {
    let api = Api::default();
    let recorder = Recorder::new(
        api.client(|_| refusal(403, "Forbidden", "no events")),
        telemetry(),
    );
    recorder.sync(&claim(), &[stuck()], at(1)).await;
    assert_eq!(api.lines().len(), 1);
}

#[tokio::test]
async fn a_long_name_leaves_room() {
    let api = Api::default();
    let recorder = Recorder::new(api.client(|asked| (201, asked.body.clone())), telemetry());
    let mut claim = claim();
    claim.name = "n".repeat(253);
    recorder.emit(&claim, &stuck(), at(1)).await;
    let asked = api.take();
    assert!(asked[0].body["metadata"]["name"].as_str().unwrap().len() <= 253);
}
