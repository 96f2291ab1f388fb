//! What the watches show, and which claims it triggers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use kube::{core::DynamicObject, runtime::watcher::Event};
use population::model::{Kind, Lookup, Nodes, Uid};
use populator_api::names;
use populator_controller::namespaces::Scope;
use populator_controller::observe::{Cache, PopulatorRef};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const DISK: &str = "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d";

fn apply<K: DeserializeOwned>(object: Value) -> Event<K> {
    Event::Apply(serde_json::from_value(object).unwrap())
}

fn delete<K: DeserializeOwned>(object: Value) -> Event<K> {
    Event::Delete(serde_json::from_value(object).unwrap())
}

fn claim(namespace: &str, name: &str, uid: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
        "spec": {
            "storageClassName": "fast",
            "dataSourceRef": {"apiGroup": "forklift.konveyor.io", "kind": "OvirtVolumePopulator", "name": "disk"},
        },
    })
}

fn temporary(namespace: &str, claim: &str) -> Value {
    json!({"metadata": {
        "namespace": namespace,
        "name": names::temporary_claim(claim),
        "uid": "t",
        "ownerReferences": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "c", "uid": claim}],
    }})
}

fn pod(namespace: &str, claim: &str) -> Value {
    json!({"metadata": {
        "namespace": namespace,
        "name": names::pod(claim),
        "uid": "p",
        "ownerReferences": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "c", "uid": claim}],
    }})
}

fn volume(name: &str, claim: &str, uid: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": "v", "resourceVersion": "1"},
        "spec": {"claimRef": {"namespace": "a", "name": claim, "uid": uid}},
    })
}

fn resource(namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "forklift.konveyor.io/v1beta1",
        "kind": "OvirtVolumePopulator",
        "metadata": {"namespace": namespace, "name": "disk", "uid": "r", "generation": 1},
        "spec": spec,
    })
}

fn spec() -> Value {
    json!({"engineUrl": "https://engine", "engineSecretName": "secret", "diskId": DISK})
}

fn of(uids: &[&str]) -> HashSet<Uid> {
    uids.iter().map(|uid| Uid::from(*uid)).collect()
}

/// Claims of the same name in two namespaces.
fn two_claims() -> Cache {
    let mut cache = Cache::default();
    assert_eq!(
        cache.claims(&Scope::ALL, apply(claim("a", "c", "one"))),
        of(&["one"])
    );
    assert_eq!(
        cache.claims(&Scope::ALL, apply(claim("b", "c", "two"))),
        of(&["two"])
    );
    cache
}

#[test]
fn each_object_triggers_the_claim_that_it_is_about() {
    let mut cache = two_claims();
    assert_eq!(
        cache.claims(&Scope::ALL, apply(temporary("a", "one"))),
        of(&["one"])
    );
    assert_eq!(
        cache.pods(&Scope::ALL, apply(pod("b", "two"))),
        of(&["two"])
    );
    let before = volume("v", &names::temporary_claim("one"), "t");
    assert_eq!(cache.volumes(apply(before)), of(&["one"]));
    let mut after = volume("v", "c", "one");
    after["metadata"]["annotations"] = json!({"forklift.konveyor.io/populated-from": "a/disk"});
    assert_eq!(cache.volumes(apply(after.clone())), of(&["one"]));
    assert_eq!(cache.volumes(delete(after)), of(&["one"]));

    let one = cache.world(&"one".into()).unwrap();
    assert!(one.own_temporary().is_some() && one.pod.is_none());
    let two = cache.world(&"two".into()).unwrap();
    assert!(two.temporary.is_none() && two.own_pod().is_some());
}

#[test]
fn what_is_not_ours_is_neither_cached_nor_reconciled() {
    let mut cache = Cache::default();
    let mut other = claim("a", "c", "one");
    other["spec"]["dataSourceRef"]["apiGroup"] = json!("forklift.cdi.kubevirt.io");
    assert_eq!(cache.claims(&Scope::ALL, apply(other)), of(&[]));
    let plain = json!({"metadata": {"namespace": "a", "name": "plain", "uid": "x"}, "spec": {}});
    assert_eq!(cache.claims(&Scope::ALL, apply(plain)), of(&[]));
    assert_eq!(cache.volumes(apply(volume("v", "data", "x"))), of(&[]));
    assert!(cache.all_claims().is_empty());
}

#[test]
fn a_claim_recreated_under_its_old_name_is_another_one() {
    let mut cache = two_claims();
    assert_eq!(
        cache.claims(&Scope::ALL, apply(claim("a", "c", "three"))),
        of(&["one", "three"])
    );
    assert!(cache.world(&"one".into()).is_none());
    assert_eq!(cache.world(&"three".into()).unwrap().claim.name, "c");
    assert_eq!(
        cache.claims(&Scope::ALL, delete(claim("a", "c", "three"))),
        of(&["three"])
    );
    assert!(cache.world(&"three".into()).is_none());
}

#[test]
fn a_resource_triggers_the_claims_of_its_namespace_that_refer_to_it() {
    let mut cache = two_claims();
    let of_kind = |cache: &mut Cache, event| cache.resources(Kind::Ovirt, &Scope::ALL, event);
    let found = apply::<DynamicObject>(resource("a", &spec()));
    assert_eq!(of_kind(&mut cache, found), of(&["one"]));
    assert!(
        cache
            .world(&"one".into())
            .unwrap()
            .populator
            .found()
            .is_some()
    );
    assert_eq!(
        cache.world(&"two".into()).unwrap().populator,
        Lookup::Missing
    );

    let mut written = resource("a", &spec());
    written["status"] = json!({"progress": "42"});
    written["metadata"]["generation"] = json!(2);
    assert_eq!(
        of_kind(&mut cache, apply(written)),
        of(&[]),
        "our own status"
    );
    let name = PopulatorRef {
        kind: Kind::Ovirt,
        namespace: "a".to_owned(),
        name: "disk".to_owned(),
    };
    let kept = cache.resource(&name).unwrap();
    assert_eq!(kept.status.progress.as_deref(), Some("42"));
    assert_eq!(kept.generation, Some(2));
    let gone = delete(resource("a", &spec()));
    assert_eq!(of_kind(&mut cache, gone), of(&["one"]));
}

#[test]
fn kinds_are_listed_apart() {
    let mut cache = two_claims();
    cache.resources(Kind::Ovirt, &Scope::ALL, apply(resource("a", &spec())));
    for event in [Event::Init, Event::InitDone] {
        cache.resources(Kind::Openstack, &Scope::ALL, event);
    }
    assert!(
        cache
            .world(&"one".into())
            .unwrap()
            .populator
            .found()
            .is_some()
    );
}

/// Other definitions than ours take resources that name no disk, or several.
#[test]
fn a_resource_of_openstack_that_does_not_name_one_disk_is_refused_in_words() {
    let mut object = claim("a", "c", "one");
    object["spec"]["dataSourceRef"]["kind"] = json!("OpenstackVolumePopulator");
    let mut cache = Cache::default();
    cache.claims(&Scope::ALL, apply(object));
    let mut look = |disk: Value| {
        let mut spec = json!({"identityUrl": "https://identity", "secretName": "secret"});
        let fields = disk.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        let mut named = resource("a", &spec);
        named["kind"] = json!("OpenstackVolumePopulator");
        cache.resources(Kind::Openstack, &Scope::ALL, apply(named));
        cache.world(&"one".into()).unwrap().populator
    };
    for (disk, words) in [
        (json!({}), "names no disk"),
        (
            json!({"imageId": DISK, "snapshotId": DISK}),
            "spec.imageId and spec.snapshotId",
        ),
        (json!({"volumeId": "a,b"}), "spec.volumeId \"a,b\""),
    ] {
        let Lookup::Invalid(why) = look(disk.clone()) else {
            panic!("{disk} is taken");
        };
        assert!(why.contains(words), "{why}");
    }
    for field in ["imageId", "volumeId", "snapshotId"] {
        let found = look(json!({ field: DISK }));
        assert_eq!(found.found().unwrap().location.disk(), DISK);
    }
}

#[test]
fn a_malformed_resource_is_its_own_trouble() {
    let mut cache = two_claims();
    let broken = resource("a", &json!({"engineUrl": 7}));
    assert_eq!(
        cache.resources(Kind::Ovirt, &Scope::ALL, apply(broken)),
        of(&["one"])
    );
    let Lookup::Invalid(why) = cache.world(&"one".into()).unwrap().populator else {
        panic!("it can be read");
    };
    assert!(why.contains("spec") && why.contains("integer `7`"), "{why}");
    cache.resources(Kind::Ovirt, &Scope::ALL, apply(resource("b", &spec())));
    assert!(
        cache
            .world(&"two".into())
            .unwrap()
            .populator
            .found()
            .is_some()
    );
    let mut odd = resource("b", &spec());
    odd["status"] = json!({"progress": 42, "claims": "none"});
    cache.resources(Kind::Ovirt, &Scope::ALL, apply(odd));
    assert!(
        cache
            .world(&"two".into())
            .unwrap()
            .populator
            .found()
            .is_some()
    );
}

#[test]
fn classes_and_nodes_trigger_the_claims_that_are_not_bound() {
    let mut cache = two_claims();
    let mut bound = claim("b", "c", "two");
    bound["spec"]["volumeName"] = json!("v");
    cache.claims(&Scope::ALL, apply(bound));
    let class = |name: &str| json!({"metadata": {"name": name}, "provisioner": "csi.example.org"});
    assert_eq!(cache.classes(apply(class("slow"))), of(&[]));
    assert_eq!(cache.classes(apply(class("fast"))), of(&["one"]));

    assert_eq!(Cache::default().world(&"one".into()), None);
}

fn node(name: &str, ready: &str) -> Value {
    json!({
        "metadata": {"name": name, "resourceVersion": ready,
                     "labels": {"zone": "a", "rack": "7", "cpu-model.example.org/some": "true"}},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    })
}

/// A volume that the temporary claim of the claim "one" has, and that names a label of nodes.
fn bound_to(label: &str) -> (Value, Value) {
    let mut filling = temporary("a", "one");
    filling["spec"] = json!({"volumeName": "v"});
    let mut volume = volume("v", &names::temporary_claim("one"), "t");
    volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": label, "operator": "In", "values": ["b"]}]}]}});
    (filling, volume)
}

#[test]
fn a_node_triggers_the_claims_that_it_is_about() {
    let mut cache = two_claims();
    assert_eq!(cache.nodes(apply(node("n", "True"))), of(&[]));
    let mut chosen = claim("b", "c", "two");
    chosen["metadata"]["annotations"] = json!({names::annotation::SELECTED_NODE: "n"});
    cache.claims(&Scope::ALL, apply(chosen));
    assert_eq!(cache.nodes(apply(node("n", "False"))), of(&["two"]));
    assert_eq!(
        cache.nodes(apply(node("n", "False"))),
        of(&[]),
        "a heartbeat"
    );
    let mut running = pod("a", "one");
    running["spec"] = json!({"nodeName": "n", "containers": []});
    cache.pods(&Scope::ALL, apply(running));
    assert_eq!(cache.nodes(apply(node("n", "True"))), of(&["one", "two"]));
    assert_eq!(
        cache.nodes(apply(node("m", "Unknown"))),
        of(&[]),
        "another one"
    );
    let (filling, volume) = bound_to("zone");
    cache.claims(&Scope::ALL, apply(filling));
    cache.volumes(apply(volume));
    assert_eq!(
        cache.nodes(apply(node("m", "True"))),
        of(&["one"]),
        "it may reach the volume"
    );
}

fn list(cache: &mut Cache, nodes: &[Value]) -> HashSet<Uid> {
    cache.nodes(Event::Init);
    for node in nodes {
        cache.nodes(Event::InitApply(
            serde_json::from_value(node.clone()).unwrap(),
        ));
    }
    cache.nodes(Event::InitDone)
}

#[test]
fn of_a_nodes_labels_those_are_kept_that_volumes_name() {
    let mut cache = two_claims();
    let nodes = [node("n", "True")];
    list(&mut cache, &nodes);
    let labels = |cache: &Cache| match cache.world(&"one".into()).unwrap().nodes {
        Nodes::Known(nodes) => Some(nodes[0].labels.keys().cloned().collect::<Vec<_>>()),
        Nodes::Unreadable => None,
    };
    assert_eq!(labels(&cache), Some(vec![]));
    let wanted = cache.labels_are_wanted();
    let is_wanted = || futures::FutureExt::now_or_never(wanted.notified()).is_some();
    assert!(!is_wanted());

    let (filling, volume) = bound_to("zone");
    cache.claims(&Scope::ALL, apply(filling));
    cache.volumes(apply(volume.clone()));
    assert!(is_wanted(), "they are listed again");
    assert_eq!(
        labels(&cache),
        None,
        "until then nothing is concluded from labels that were dropped"
    );
    // The list that is under way when a volume names another label lacks that.
    cache.nodes(Event::Init);
    let (_, other) = bound_to("rack");
    cache.volumes(apply(other));
    assert!(is_wanted());
    cache.nodes(Event::InitDone);
    assert_eq!(labels(&cache), None);
    assert_eq!(list(&mut cache, &nodes), of(&["one"]));
    let both = vec!["rack".to_owned(), "zone".to_owned()];
    assert_eq!(labels(&cache), Some(both));
    cache.volumes(apply(volume));
    assert!(!is_wanted(), "it is listed with them");
}

#[test]
fn nodes_are_missed_only_when_all_of_them_are_known() {
    let mut cache = Cache::default();
    cache.claims(&Scope::ALL, apply(claim("a", "c", "one")));
    let nodes = |cache: &Cache| cache.world(&"one".into()).unwrap().nodes;
    let node = json!({"metadata": {"name": "n"}, "status": {"conditions": []}});
    cache.nodes(Event::Init);
    cache.nodes(Event::InitApply(serde_json::from_value(node).unwrap()));
    assert_eq!(nodes(&cache), Nodes::Unreadable);
    cache.nodes(Event::InitDone);
    assert!(nodes(&cache).is_lost("n") && !nodes(&cache).lacks("n") && nodes(&cache).lacks("m"));
    // The right was taken away.
    cache.forget_nodes();
    assert_eq!(nodes(&cache), Nodes::Unreadable);
}

/// Beside the volume that is filled for it.
#[test]
fn of_a_claim_that_is_bound_its_own_volume_counts() {
    let mut cache = two_claims();
    let mut filling = temporary("a", "one");
    filling["spec"] = json!({"volumeName": "v"});
    cache.claims(&Scope::ALL, apply(filling));
    cache.volumes(apply(volume("v", &names::temporary_claim("one"), "t")));
    let seen = |cache: &Cache| {
        let world = cache.world(&"one".into()).unwrap();
        world.volume.map(|volume| volume.name)
    };
    assert_eq!(seen(&cache).as_deref(), Some("v"));
    let mut bound = claim("a", "c", "one");
    bound["spec"]["volumeName"] = json!("other");
    cache.claims(&Scope::ALL, apply(bound));
    assert_eq!(seen(&cache), None, "it is asked for");
    let mut other = volume("other", "c", "one");
    other["metadata"]["annotations"] = json!({names::annotation::POPULATED_FOR: "one"});
    assert_eq!(cache.volumes(apply(other)), of(&["one"]));
    assert_eq!(seen(&cache).as_deref(), Some("other"));
}

/// UIDs of claims stand in events and status: whoever may create pods in one namespace could report the progress
/// of any claim.
#[test]
fn a_pod_of_another_namespace_is_not_the_claims() {
    let mut cache = two_claims();
    cache.pods(&Scope::ALL, apply(pod("elsewhere", "one")));
    assert_eq!(cache.all_pods().count(), 0);
    cache.pods(&Scope::ALL, apply(pod("a", "one")));
    let found: Vec<_> = cache
        .all_pods()
        .map(|(_, name, _)| name.0.clone())
        .collect();
    assert_eq!(found, ["a"]);
}

#[test]
fn pods_are_found_after_their_claim_has_gone() {
    let mut cache = two_claims();
    cache.pods(&Scope::ALL, apply(pod("a", "one")));
    assert!(cache.gone_claims().is_empty());
    cache.claims(&Scope::ALL, delete(claim("a", "c", "one")));
    assert_eq!(cache.gone_claims(), of(&["one"]));
    let found = cache.pods_of(&"one".into());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.as_str(), found[0].1.uid.as_str()), ("a", "p"));
    assert!(cache.pods_of(&"two".into()).is_empty());
}
