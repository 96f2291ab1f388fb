use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{core::DynamicObject, runtime::watcher::Event as Watched};
use population::{model::Kind, plan::Status, progress::Measured};
use populator_api::Reason;
use populator_controller::{
    apply::Recorder,
    namespaces::Scope,
    observe::{Cache, Observer, PopulatorRef},
    status::StatusWriter,
};
use runtime::Tasks;
use serde_json::{Value, json};

use super::{
    api::{Api, Asked, refusal},
    events::recorder,
    telemetry,
    writer::claim,
};

const MAIN: &str =
    "PATCH /apis/forklift.konveyor.io/v1beta1/namespaces/vms/ovirtvolumepopulators/source";
const DISCOVERY: &str = "GET /apis/forklift.konveyor.io/v1beta1";

/// A status writer over a cluster with one resource.
struct Fixture {
    api: Api,
    writer: StatusWriter,
    observer: Observer,
    recorder: Recorder,
    _tasks: Tasks,
}

fn resource(progress: Option<&str>) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "OvirtVolumePopulator",
        "metadata": {"namespace": "vms", "name": "source", "uid": "r", "generation": 3,
                     "resourceVersion": "10"},
        "spec": {"engineUrl": "https://e", "engineSecretName": "s",
                 "diskId": "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d"},
    });
    if let Some(progress) = progress {
        object["status"] = json!({"progress": progress});
    }
    serde_json::from_value(object).unwrap()
}

fn discovery(with_status: bool) -> (u16, Value) {
    let resource = |name: &str| {
        json!({"name": name, "singularName": "", "namespaced": true, "kind": "OvirtVolumePopulator",
               "verbs": ["get", "patch"]})
    };
    let mut resources = vec![resource("ovirtvolumepopulators")];
    if with_status {
        resources.push(resource("ovirtvolumepopulators/status"));
    }
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1",
                      "groupVersion": "forklift.konveyor.io/v1beta1", "resources": resources});
    (200, list)
}

/// As the API server answers: the object, with what was patched.
fn patched(asked: &Asked) -> (u16, Value) {
    let mut object = serde_json::to_value(resource(None)).unwrap();
    object["status"] = asked.body["status"].clone();
    object["metadata"]["resourceVersion"] = json!("11");
    (200, object)
}

fn source() -> PopulatorRef {
    PopulatorRef {
        kind: Kind::Ovirt,
        namespace: "vms".to_owned(),
        name: "source".to_owned(),
    }
}

fn status(reason: Reason) -> Status {
    Status {
        reason,
        message: String::new(),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "in the form in which it is noted")]
fn measured(percent: u8) -> Option<Measured> {
    Some(Measured {
        percent,
        bytes: None,
    })
}

impl Fixture {
    /// With our definition, and an API server that does as it is asked.
    fn ours(resource: DynamicObject) -> Self {
        Self::over(resource, |asked| match asked.line.as_str() {
            DISCOVERY => discovery(true),
            _ => patched(asked),
        })
    }

    fn new(
        progress: Option<&str>,
        answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        Self::over(resource(progress), answer)
    }

    fn over(
        resource: DynamicObject,
        answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let api = Api::default();
        let client = api.client(answer);
        let mut cache = Cache::default();
        cache.resources(Kind::Ovirt, &Scope::ALL, Watched::Apply(resource));
        let (recorder, tasks) = recorder(client.clone());
        Self {
            api,
            writer: StatusWriter::new(client.clone(), telemetry()),
            observer: Observer::new(client, cache),
            recorder,
            _tasks: tasks,
        }
    }

    /// The watch shows a version of the resource.
    fn see(&self, version: u64, generation: i64, status: Value) {
        let mut seen = resource(None);
        seen.metadata.resource_version = Some(version.to_string());
        seen.metadata.generation = Some(generation);
        seen.data["status"] = status;
        let mut cache = self.observer.cache();
        cache.resources(Kind::Ovirt, &Scope::ALL, Watched::Apply(seen));
    }

    /// The statuses that are written in this time.
    async fn written(&self, seconds: u64) -> Vec<Value> {
        self.run(seconds).await;
        let asked = self.api.take().into_iter();
        let patches = asked.filter(|asked| asked.line.starts_with("PATCH"));
        patches.map(|asked| asked.body["status"].clone()).collect()
    }

    fn set(&self, reason: Reason) {
        self.writer
            .set(source(), Arc::new(claim()), status(reason), true);
    }

    /// Time passes, in which whatever is due is written.
    async fn run(&self, seconds: u64) {
        let run = self.writer.run(&self.observer, &self.recorder);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn our_definition_gets_all_of_it_in_its_subresource() {
    let fixture = Fixture::ours(resource(None));
    fixture.set(Reason::Copying);
    fixture.run(7).await;
    let asked = fixture.api.take();
    assert_eq!(asked[1].line, format!("{MAIN}/status"));
    assert_eq!(asked[1].body["metadata"]["uid"], "r");
    assert_eq!(asked[1].body["status"]["observedGeneration"], 3);
    assert_eq!(asked[1].body["status"]["claims"][0]["reason"], "Copying");
    assert_eq!(asked.len(), 2, "{asked:?}");
    fixture.run(60).await;
    assert_eq!(fixture.api.lines(), [] as [&str; 0], "nothing has changed");
}

#[tokio::test(start_paused = true)]
async fn forklifts_definition_gets_the_progress_on_the_resource() {
    let fixture = Fixture::new(Some("0"), |asked| match asked.line.as_str() {
        DISCOVERY => discovery(false),
        _ => patched(asked),
    });
    fixture.set(Reason::Copying);
    fixture.run(7).await;
    assert_eq!(fixture.api.lines(), [DISCOVERY], "0 is there already");
    fixture.writer.measure(&"c".into(), measured(42));
    fixture.run(10).await;
    let asked = fixture.api.take();
    assert_eq!(asked[0].line, MAIN);
    assert_eq!(
        asked[0].body,
        json!({"metadata": {"uid": "r"}, "status": {"progress": "42"}})
    );
    assert!(
        asked[1].line.ends_with("/events"),
        "a quarter is in place: {asked:?}"
    );
    // A pod that does not answer lets no progress fall.
    fixture.writer.measure(&"c".into(), None);
    fixture.run(10).await;
    assert_eq!(fixture.api.lines(), [] as [&str; 0]);
    fixture.set(Reason::Populated);
    fixture.run(10).await;
    assert_eq!(fixture.api.take()[0].body["status"]["progress"], "100");
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_is_replaced_is_noticed() {
    let ours = Arc::new(AtomicBool::new(false));
    let is_ours = Arc::clone(&ours);
    let fixture = Fixture::new(None, move |asked| {
        let ours = is_ours.load(Ordering::Relaxed);
        match asked.line.as_str() {
            DISCOVERY => discovery(ours),
            // With a subresource, a write to the resource leaves the status alone.
            MAIN if ours => (200, serde_json::to_value(resource(None)).unwrap()),
            line if line.ends_with("/status") && !ours => refusal(404, "NotFound", "no such thing"),
            _ => patched(asked),
        }
    });
    fixture.set(Reason::Copying);
    fixture.writer.measure(&"c".into(), measured(10));
    fixture.run(7).await;
    assert_eq!(fixture.api.lines(), [DISCOVERY, MAIN]);
    ours.store(true, Ordering::Relaxed);
    fixture.writer.measure(&"c".into(), measured(20));
    fixture.run(10).await;
    let status = format!("{MAIN}/status");
    assert_eq!(fixture.api.lines(), [MAIN, DISCOVERY, status.as_str()]);
    ours.store(false, Ordering::Relaxed);
    fixture.writer.measure(&"c".into(), measured(21));
    fixture.run(20).await;
    assert_eq!(fixture.api.lines(), [status.as_str(), DISCOVERY, MAIN]);
}

#[tokio::test(start_paused = true)]
async fn what_forklifts_definition_did_not_keep_is_written_when_ours_replaces_it() {
    let ours = Arc::new(AtomicBool::new(false));
    let is_ours = Arc::clone(&ours);
    let fixture = Fixture::new(Some("0"), move |asked| match asked.line.as_str() {
        DISCOVERY => discovery(is_ours.load(Ordering::Relaxed)),
        _ => patched(asked),
    });
    // Nothing of this claim changes any more.
    fixture.set(Reason::CredentialsRefused);
    fixture.run(3).await;
    assert_eq!(
        fixture.api.lines(),
        [DISCOVERY],
        "only the progress is kept"
    );
    ours.store(true, Ordering::Relaxed);
    fixture.run(600).await;
    let mut asked = fixture.api.take();
    asked.retain(|asked| asked.line != DISCOVERY);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].line, format!("{MAIN}/status"));
    let claim = &asked[0].body["status"]["claims"][0];
    assert_eq!(claim["reason"], "CredentialsRefused");
}

#[tokio::test(start_paused = true)]
async fn numbers_are_not_written_by_the_second() {
    let fixture = Fixture::ours(resource(None));
    fixture.set(Reason::Copying);
    fixture.run(7).await;
    fixture.api.take();
    for percent in 1..=20 {
        fixture.writer.measure(&"c".into(), measured(percent));
        fixture.run(1).await;
    }
    let writes = fixture.api.lines().len();
    assert!((3..=5).contains(&writes), "{writes} writes in 20 s");
}

#[tokio::test(start_paused = true)]
async fn steps_that_follow_each_other_soon_are_written_once() {
    let fixture = Fixture::ours(resource(None));
    let steps = [
        Reason::Provisioning,
        Reason::PodPending,
        Reason::Copying,
        Reason::Rebinding,
    ];
    for step in steps {
        fixture.set(step);
        fixture.writer.measure(&"c".into(), measured(50));
        assert_eq!(fixture.written(1).await, [] as [Value; 0], "{step}");
    }
    // Forklift and people wait for this one.
    fixture.set(Reason::Populated);
    let written = fixture.written(2).await;
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0]["claims"][0]["reason"], "Populated");
    assert_eq!(fixture.written(60).await, [] as [Value; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_and_its_end_are_written_at_once() {
    let fixture = Fixture::ours(resource(None));
    for step in [Reason::CredentialsRefused, Reason::Provisioning] {
        fixture.set(step);
        let written = fixture.written(2).await;
        assert_eq!(written.len(), 1, "{written:?}");
        assert_eq!(written[0]["claims"][0]["reason"], step.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_without_claims_gets_its_status_once() {
    let fixture = Fixture::ours(resource(None));
    fixture.run(100).await;
    let asked = fixture.api.take();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(
        asked[1].body["status"]["conditions"][0]["reason"],
        "NoClaim"
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_a_grant_is_not_in_the_status() {
    let fixture = Fixture::ours(resource(None));
    fixture.set(Reason::Populated);
    let mut stranger = claim();
    stranger.uid = "stranger".into();
    stranger.namespace = "elsewhere".to_owned();
    // Whatever its state is: one that asks for a volume by name, is bound, or is being deleted, too.
    for reason in [
        Reason::ReferenceNotGranted,
        Reason::ClaimUnsupported,
        Reason::Terminating,
    ] {
        let (claim, status) = (Arc::new(stranger.clone()), status(reason));
        fixture.writer.set(source(), claim, status, false);
        fixture.run(10).await;
    }
    let asked = fixture.api.take();
    let status = &asked.last().unwrap().body["status"];
    assert_eq!(status["claims"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["progress"], "100", "{status}");
    assert_eq!(status["conditions"][0]["status"], "True", "{status}");
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_recreated_gets_the_whole_status() {
    let fixture = Fixture::ours(resource(None));
    fixture.set(Reason::Populated);
    fixture.run(10).await;
    let written = fixture.api.take()[1].body["status"].clone();
    recreate(&fixture).await;
    // What this process wrote is known; what another one wrote before it began is not.
    let mut known = resource(None);
    known.data["status"] = written;
    let fixture = Fixture::ours(known);
    fixture.set(Reason::Populated);
    assert_eq!(
        fixture.written(10).await,
        [] as [Value; 0],
        "it has that status already"
    );
    recreate(&fixture).await;
}

async fn recreate(fixture: &Fixture) {
    let mut recreated = resource(None);
    recreated.metadata.uid = Some("recreated".to_owned());
    fixture
        .observer
        .cache()
        .resources(Kind::Ovirt, &Scope::ALL, Watched::Apply(recreated));
    fixture.run(100).await;
    let mut asked = fixture.api.take();
    asked.retain(|asked| asked.line != DISCOVERY);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].body["metadata"]["uid"], "recreated");
    assert_eq!(asked[0].body["status"]["progress"], "100");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_without_haste() {
    let fixture = Fixture::new(None, |asked| match asked.line.as_str() {
        DISCOVERY => discovery(true),
        _ => refusal(500, "InternalError", "in trouble"),
    });
    fixture.set(Reason::Copying);
    fixture.run(3600).await;
    let asked = fixture.api.lines();
    let writes = asked
        .iter()
        .filter(|line| line.ends_with("/status"))
        .count();
    // After 5, 10, 20 … 160 s, and then every five minutes.
    assert!((15..=20).contains(&writes), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn numbers_do_not_hurry_writes_that_fail() {
    let fixture = Fixture::new(None, |asked| match asked.line.as_str() {
        DISCOVERY => discovery(true),
        _ => refusal(403, "Forbidden", "no right to it"),
    });
    fixture.set(Reason::Copying);
    for second in 0..600_u16 {
        let percent = u8::try_from(second % 100).unwrap();
        fixture.writer.measure(&"c".into(), measured(percent));
        fixture.run(1).await;
    }
    let asked = fixture.api.lines();
    let writes = asked.iter().filter(|line| line.ends_with("/status"));
    // After 5, 10, 20 … 160 s, and then every five minutes.
    let writes = writes.count();
    assert!((5..=9).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_is_observed_although_nothing_else_changes() {
    let fixture = Fixture::ours(resource(None));
    fixture.set(Reason::Populated);
    let written = fixture.written(10).await;
    fixture.see(11, 3, written[0].clone());
    assert_eq!(fixture.written(60).await, [] as [Value; 0]);
    fixture.see(12, 4, written[0].clone());
    let again = fixture.written(600).await;
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0]["observedGeneration"], 4);
    assert_eq!(again[0]["conditions"][0]["observedGeneration"], 4);
}

#[tokio::test(start_paused = true)]
async fn what_another_writer_has_written_is_corrected_at_a_pace() {
    let foreign = || json!({"progress": "97", "observedGeneration": 3});
    let fixture = Fixture::ours(resource(None));
    fixture.set(Reason::Populated);
    assert_eq!(fixture.written(10).await[0]["progress"], "100");
    fixture.see(9, 3, foreign());
    assert_eq!(
        fixture.written(60).await,
        [] as [Value; 0],
        "the watch is behind our own write"
    );
    fixture.see(12, 3, foreign());
    let corrected = fixture.written(10).await;
    assert_eq!(corrected.len(), 1, "{corrected:?}");
    assert_eq!(corrected[0]["progress"], "100");
    // Another controller that insists is not answered by the second.
    let mut corrections = 0;
    for version in 13..23 {
        fixture.see(version, 3, foreign());
        corrections += fixture.written(6).await.len();
    }
    assert!((1..=2).contains(&corrections), "{corrections}");
}

#[tokio::test(start_paused = true)]
async fn a_progress_that_another_writer_has_written_is_corrected_in_forklifts_definition() {
    let fixture = Fixture::new(Some("0"), |asked| match asked.line.as_str() {
        DISCOVERY => discovery(false),
        _ => patched(asked),
    });
    fixture.set(Reason::Populated);
    assert_eq!(fixture.written(10).await, [json!({"progress": "100"})]);
    fixture.see(11, 4, json!({"progress": "100"}));
    assert_eq!(fixture.written(60).await, [] as [Value; 0]);
    fixture.see(12, 5, json!({"progress": "97"}));
    assert_eq!(fixture.written(60).await, [json!({"progress": "100"})]);
}

/// Its claims were deleted while no controller ran.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_claims_that_are_gone_is_replaced() {
    let stale = || {
        let mut stale = resource(Some("42"));
        stale.data["status"]["conditions"] = json!([
            {"type": "Ready", "status": "False", "reason": "Copying", "message": "",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        stale
    };
    let fixture = Fixture::ours(stale());
    let written = fixture.written(100).await;
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0]["conditions"][0]["reason"], "NoClaim");
    // A claim that is there, and not reconciled yet, is about to say how it is.
    let fixture = Fixture::ours(stale());
    let object = json!({
        "metadata": {"namespace": "vms", "name": "disk", "uid": "c"},
        "spec": {"dataSourceRef": {"apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator",
                                   "name": "source"}},
    });
    let object = Watched::Apply(serde_json::from_value(object).unwrap());
    fixture.observer.cache().claims(&Scope::ALL, object);
    assert_eq!(fixture.written(100).await, [] as [Value; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_kubernetes_does_not_bind_is_reported() {
    let fixture = Fixture::ours(resource(None));
    fixture.set(Reason::Rebinding);
    let events = || {
        let asked = fixture.api.take().into_iter();
        let events = asked.filter(|asked| asked.line.ends_with("/events"));
        events
            .map(|asked| asked.body["reason"].clone())
            .collect::<Vec<_>>()
    };
    fixture.run(290).await;
    assert_eq!(events(), [] as [Value; 0]);
    fixture.run(600).await;
    assert_eq!(events(), ["PopulatorStuck"]);
}
