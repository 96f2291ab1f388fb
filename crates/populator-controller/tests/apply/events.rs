use jiff::Timestamp;
use population::plan::Event;
use populator_api::names::event;
use populator_controller::apply::Recorder;
use runtime::Tasks;
use serde_json::{Value, json};

use super::{
    api::{Api, Asked, SILENCE, refusal},
    telemetry,
    writer::claim,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A recorder whose events are written for as long as the tasks live.
pub(super) fn recorder(client: kube::Client) -> (Recorder, Tasks) {
    let (recorder, writer) = Recorder::with_writer(client, telemetry());
    let mut tasks = Tasks::new();
    tasks.spawn("events", writer.run());
    (recorder, tasks)
}

fn taken(asked: &Asked) -> (u16, Value) {
    (201, asked.body.clone())
}

fn stuck() -> Event {
    Event::warning(event::STUCK, "the image cannot be pulled")
}

#[tokio::test]
async fn an_event_is_on_the_claim_and_complete() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    recorder.sync(&claim(), &[stuck()], at(1));
    recorder.flush().await;
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
    let (recorder, _tasks) = recorder(api.client(taken));
    for second in 1..100 {
        recorder.sync(&claim(), &[stuck()], at(second));
    }
    recorder.flush().await;
    let first = api.take();
    assert_eq!(first.len(), 1);

    // Another process emits the same: the object exists, and its time is renewed.
    let (next, _next_tasks) = self::recorder(api.client(|asked| {
        if asked.line.starts_with("POST") {
            refusal(409, "AlreadyExists", "exists")
        } else {
            (200, asked.body.clone())
        }
    }));
    next.sync(&claim(), &[stuck()], at(200));
    next.flush().await;
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
    let (recorder, _tasks) = recorder(api.client(|_| refusal(403, "Forbidden", "no events")));
    recorder.sync(&claim(), &[stuck()], at(1));
    recorder.flush().await;
    assert_eq!(api.lines().len(), 1);
}

#[tokio::test]
async fn the_name_of_an_event_is_valid_whatever_the_name_of_the_claim() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    for name in ["n".repeat(253), format!("{}-.-{}", "n".repeat(227), "m")] {
        let mut claim = claim();
        claim.name = name;
        assert_eq!(recorder.emit(&claim, &stuck(), at(1)), None);
    }
    recorder.flush().await;
    for asked in api.take() {
        let name = asked.body["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.len() <= 253);
        for part in name.split('.') {
            let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let bytes = part.as_bytes();
            assert!(is_edge(bytes.first()) && is_edge(bytes.last()), "{name}");
        }
    }
}

#[tokio::test]
async fn what_happens_again_and_again_is_reported_at_a_pace() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    let refused = |why: &str| Event::warning(event::CREATION_ERROR, why);
    for second in 0..1799 {
        recorder.report(&claim(), &refused("exceeded quota"), at(second));
    }
    recorder.flush().await;
    assert_eq!(api.lines().len(), 1);
    // Another reason is no repetition, and another message is one that may change each time.
    recorder.report(&claim(), &stuck(), at(1799));
    recorder.report(&claim(), &refused("another quota"), at(1799));
    recorder.report(&claim(), &refused("a third quota"), at(1800));
    recorder.flush().await;
    let asked = api.take();
    let messages: Vec<&str> = asked
        .iter()
        .map(|asked| asked.body["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["the image cannot be pulled", "another quota"]);
    recorder.report(&claim(), &refused("another quota"), at(3600));
    recorder.flush().await;
    let asked = api.take();
    assert_eq!(asked.len(), 1, "an event lives for an hour: {asked:?}");
}

/// A store of events that does not answer takes neither time nor memory, and what is true is emitted
/// when it answers again.
#[tokio::test]
async fn events_that_cannot_be_written_delay_no_reconcile_and_are_bounded() {
    let api = Api::default();
    let (recorder, hangs) = recorder(api.client(|_| (SILENCE, Value::Null)));
    let claims = 3000;
    let of = |number: usize| {
        let mut claim = claim();
        claim.uid = number.to_string().into();
        claim
    };
    for number in 0..claims {
        recorder.sync(&of(number), &[stuck()], at(1));
    }
    // Nothing of this has waited. The writer hangs with one event, and the rest is in the queue.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(api.lines().len(), 1);
    drop(hangs);

    let (recorder, writer) = Recorder::with_writer(api.client(taken), telemetry());
    for number in 0..claims {
        recorder.sync(&of(number), &[stuck()], at(1));
    }
    let mut tasks = Tasks::new();
    tasks.spawn("events", writer.run());
    recorder.flush().await;
    assert_eq!(api.lines().len(), 1000, "the queue has a bound");
    for number in 0..claims {
        recorder.sync(&of(number), &[stuck()], at(9));
        recorder.flush().await;
    }
    assert_eq!(api.lines().len(), 2000, "each claim gets its event, once");
}

/// A claim that nothing else moves would not be looked at before the next resync.
#[tokio::test]
async fn an_event_whose_words_change_too_soon_has_its_time() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    let other = Event::warning(event::STUCK, "the secret is missing");
    assert_eq!(recorder.sync(&claim(), &[stuck()], at(1)), None);
    let later = recorder.sync(&claim(), std::slice::from_ref(&other), at(11));
    assert_eq!(later, Some(std::time::Duration::from_secs(50)));
    assert_eq!(recorder.sync(&claim(), &[stuck()], at(12)), None);
    let due = recorder.sync(&claim(), std::slice::from_ref(&other), at(61));
    assert_eq!(due, None);
    recorder.flush().await;
    let asked = api.take();
    let messages: Vec<&Value> = asked.iter().map(|asked| &asked.body["message"]).collect();
    assert_eq!(
        messages,
        ["the image cannot be pulled", "the secret is missing"]
    );
}

fn created() -> Event {
    Event::normal(event::CREATED, "created the pod")
}

/// The reasons of the events that were written.
fn reasons(api: &Api) -> Vec<String> {
    let asked = api.take().into_iter();
    let reasons = asked.map(|asked| asked.body["reason"].as_str().unwrap().to_owned());
    reasons.collect()
}

#[tokio::test]
async fn a_step_of_routine_gives_way_to_the_next_event() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    let finished = Event::normal(event::FINISHED, "populated");
    let seconds = |seconds| Some(std::time::Duration::from_secs(seconds));
    assert_eq!(recorder.emit(&claim(), &created(), at(1)), seconds(10));
    assert_eq!(recorder.sync(&claim(), &[], at(6)), seconds(5));
    assert_eq!(recorder.emit(&claim(), &finished, at(7)), None);
    assert_eq!(recorder.sync(&claim(), &[], at(100)), None);
    recorder.flush().await;
    assert_eq!(reasons(&api), [event::FINISHED]);
}

#[tokio::test]
async fn a_step_of_routine_that_nothing_follows_is_told_with_its_own_time() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    assert!(recorder.emit(&claim(), &created(), at(1)).is_some());
    assert_eq!(recorder.sync(&claim(), &[], at(11)), None);
    recorder.flush().await;
    let asked = api.take();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].body["reason"], event::CREATED);
    assert_eq!(asked[0].body["lastTimestamp"], "1970-01-01T00:00:01Z");
}

#[tokio::test]
async fn what_goes_wrong_is_told_after_the_step_before_it() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    let told: [fn(&Recorder); 3] = [
        |recorder| assert_eq!(recorder.sync(&claim(), &[stuck()], at(2)), None),
        |recorder| recorder.report(&claim(), &stuck(), at(2)),
        |recorder| assert_eq!(recorder.emit(&claim(), &stuck(), at(2)), None),
    ];
    for tell in told {
        assert!(recorder.emit(&claim(), &created(), at(1)).is_some());
        tell(&recorder);
        recorder.flush().await;
        assert_eq!(reasons(&api), [event::CREATED, event::STUCK]);
    }
}

#[tokio::test]
async fn a_process_that_ends_tells_what_it_holds() {
    let api = Api::default();
    let (recorder, _tasks) = recorder(api.client(taken));
    assert!(recorder.emit(&claim(), &created(), at(1)).is_some());
    recorder.flush().await;
    assert_eq!(reasons(&api), [event::CREATED]);
}
