//! Nodes: those that take no pods, those that disappear, and those that do not answer. A second Node object stands beside
//! the real one; no kubelet serves it, so whatever is placed there stays pending, and shows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{
    Claim, Kind, TestNamespace,
    cluster::uid_of,
    mib,
    resource::{CLAIMS, CLASSES, NODES, PODS, VOLUMES},
};
use populator_api::names::{annotation, event};
use serde_json::json;
use testkit::Disk;

/// A node without a kubelet. Goes when dropped. Its taint keeps away what the scheduler places, above all the pods of tests that
/// run beside this one: a pod comes here by [`Node::takes`] alone.
struct Node<'a> {
    case: &'a TestNamespace,
    name: String,
}

impl<'a> Node<'a> {
    fn new(case: &'a TestNamespace) -> Self {
        let name = format!("{}-{}", case.namespace, case.name("node"));
        let object = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"taints": [{"key": "reserved", "value": "yes", "effect": "NoSchedule"}]},
        });
        case.cluster.create(NODES, "", object).unwrap();
        let node = Self { case, name };
        node.answers("True");
        node
    }

    /// As its kubelet, or the controller that misses the kubelet, writes it.
    fn answers(&self, ready: &str) {
        let status = json!({"status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "50"},
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "50"},
            "conditions": [{"type": "Ready", "status": ready, "reason": "Test", "message": "by a test"}],
        }});
        let path = format!("{}/status", NODES.path("", &self.name));
        self.case.cluster.try_patch(&path, &status).unwrap();
    }

    /// As its driver would provision it.
    fn volume_for(&self, claim: &Claim<'a>, class: &Unserved<'a>) -> Handmade<'a> {
        let reached = [self.name.as_str()];
        Handmade::new(
            claim,
            &class.name,
            self.case,
            "kubernetes.io/hostname",
            &reached,
        )
    }

    /// As the scheduler would do it, in spite of the taint.
    fn takes(&self, claim: &Claim<'_>) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": claim.pod_name()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name},
        });
        let pod = PODS.path(&self.case.namespace, &claim.pod_name());
        let path = format!("{pod}/binding");
        let cluster = self.case.cluster;
        cluster
            .send("POST", &path, "application/json", Some(&binding))
            .unwrap();
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.case.cluster.delete(NODES, "", &self.name, None);
    }
}

/// A class that waits for a consumer and that no provisioner serves. A provisioner takes back at once the choice of a node
/// without a driver, and would race the pod that is to be pinned to it. Goes when dropped.
struct Unserved<'a> {
    case: &'a TestNamespace,
    name: String,
}

impl<'a> Unserved<'a> {
    fn new(case: &'a TestNamespace) -> Self {
        let name = format!("{}-class", case.namespace);
        let object = json!({
            "metadata": {"name": name}, "provisioner": "unserved.csi.test",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        case.cluster.create(CLASSES, "", object).unwrap();
        Self { case, name }
    }
}

impl Drop for Unserved<'_> {
    fn drop(&mut self) {
        self.case.cluster.delete(CLASSES, "", &self.name, None);
    }
}

/// A class of the tests' driver that waits, whose node has no room so many times. Goes when dropped.
struct Full<'a>(Unserved<'a>);

impl<'a> Full<'a> {
    fn new(case: &'a TestNamespace, times: u32) -> Self {
        let name = format!("{}-full", case.namespace);
        let object = json!({
            "metadata": {"name": name}, "provisioner": "hostdisk.csi.test",
            "volumeBindingMode": "WaitForFirstConsumer",
            "parameters": {"fullTimes": times.to_string(), "fullFor": case.namespace},
        });
        case.cluster.create(CLASSES, "", object).unwrap();
        Self(Unserved { case, name })
    }
}

/// A volume without a disk behind it, for a claim's temporary claim. Goes when dropped, as no driver would delete it.
struct Handmade<'a> {
    case: &'a TestNamespace,
    name: String,
}

impl<'a> Handmade<'a> {
    /// Reached from the nodes whose label has one of the values.
    fn new(
        claim: &Claim<'a>,
        class: &str,
        case: &'a TestNamespace,
        label: &str,
        values: &[&str],
    ) -> Self {
        let reached =
            json!([{"matchExpressions": [{"key": label, "operator": "In", "values": values}]}]);
        let spec = json!({
            "storageClassName": class,
            "nodeAffinity": {"required": {"nodeSelectorTerms": reached}},
        });
        let name = case.volume_for(&claim.temporary_name(), spec);
        Self { case, name }
    }
}

impl Drop for Handmade<'_> {
    fn drop(&mut self) {
        self.case.cluster.delete(VOLUMES, "", &self.name, None);
    }
}

/// A claim of a class that waits, for which the scheduler has chosen a node. Not before the controller waits for that: its watch of
/// nodes has shown those of the test by then.
fn claim_for<'a>(
    case: &'a TestNamespace,
    source: &e2e::Source,
    class: &str,
    node: &str,
) -> Claim<'a> {
    let claim = case.claim(source).class(class).create();
    case.wait_for_reason(source, "Ready", "WaitingForConsumer");
    claim.annotate(annotation::SELECTED_NODE, node);
    claim
}

fn source(case: &TestNamespace) -> (Disk, e2e::Source) {
    let disk = Disk::random(5, mib(2));
    let source = case.source(Kind::Openstack, &disk);
    (disk, source)
}

#[test]
fn a_taint_keeps_the_pod_away_although_the_node_was_chosen() {
    let case = TestNamespace::new();
    let (_, source) = source(&case);
    let node = Node::new(&case);
    let class = Unserved::new(&case);
    let claim = claim_for(&case, &source, &class.name, &node.name);
    let _volume = node.volume_for(&claim, &class);
    let pod = claim.wait_for_pod("Pending");
    // It is not placed past the scheduler: that would be `nodeName`.
    let unschedulable = case.cluster.wait_for("the scheduler has refused it", || {
        let pod = claim.pod()?;
        let conditions = pod["status"]["conditions"].as_array()?.clone();
        // Before it has seen all that there is, it may refuse for another reason.
        conditions.into_iter().find(|found| {
            let message = found["message"].as_str().unwrap_or_default();
            found["type"] == "PodScheduled"
                && found["status"] == "False"
                && message.contains("taint")
        })
    });
    assert!(pod["spec"]["nodeName"].is_null(), "{unschedulable}: {pod}");
    claim.wait_for_event(event::STUCK, "taint");
}

#[test]
fn there_is_no_pod_before_the_volume() {
    let case = TestNamespace::new();
    let (_, source) = source(&case);
    let node = Node::new(&case);
    let class = Unserved::new(&case);
    let claim = claim_for(&case, &source, &class.name, &node.name);
    case.wait_for_reason(&source, "Progressing", "Provisioning");
    assert!(claim.temporary().is_some() && claim.pod().is_none());
    let _volume = node.volume_for(&claim, &class);
    claim.wait_for_pod("Pending");
}

#[test]
fn a_node_that_is_gone_before_it_had_a_volume_makes_way_for_another_one() {
    let case = TestNamespace::new();
    let (_, source) = source(&case);
    let node = Node::new(&case);
    // Long before it is needed: a node that the controller has not seen yet is gone to it.
    let other = Node::new(&case);
    // The provisioner of a class that is served would take the node back itself, for want of a driver there.
    let class = Unserved::new(&case);
    let claim = claim_for(&case, &source, &class.name, &node.name);
    let first = case
        .cluster
        .wait_for("the temporary claim is there", || claim.temporary());
    drop(node);
    claim.wait_for_event(event::NODE_GONE, "is gone");
    case.cluster.wait_for("the choice is taken back", || {
        claim
            .annotation(annotation::SELECTED_NODE)
            .is_none()
            .then_some(())
    });
    // The scheduler, on behalf of a consumer, chooses another one.
    claim.annotate(annotation::SELECTED_NODE, &other.name);
    case.cluster
        .wait_for("another temporary claim follows", || {
            claim
                .temporary()
                .filter(|next| uid_of(next) != uid_of(&first))
        });
}

#[test]
fn a_node_that_is_cordoned_before_it_had_a_volume_is_given_up() {
    let case = TestNamespace::new();
    let (_, source) = source(&case);
    let node = Node::new(&case);
    let class = Unserved::new(&case);
    let claim = claim_for(&case, &source, &class.name, &node.name);
    case.cluster
        .wait_for("the temporary claim is there", || claim.temporary());
    let cordon = json!({"spec": {"unschedulable": true}});
    case.cluster.patch(NODES, "", &node.name, &cordon);
    claim.wait_for_event(event::NODE_UNSUITABLE, "is cordoned");
    case.cluster.wait_for("the choice is taken back", || {
        claim
            .annotation(annotation::SELECTED_NODE)
            .is_none()
            .then_some(())
    });
    case.wait_until_gone(CLAIMS, &claim.temporary_name());
    let rejected = claim.annotation(annotation::REJECTED_NODES).unwrap();
    assert!(rejected.contains(&node.name), "{rejected}");
}

/// The cluster has one node with storage. It is full at first, and has room the next time.
#[test]
fn a_node_that_is_full_is_given_up_and_tried_again_later() {
    let case = TestNamespace::new();
    let (disk, source) = source(&case);
    let class = Full::new(&case, 1);
    let claim = case.claim(&source).class(&class.0.name).create();
    case.pvcinit(&[&claim]);
    // With the provisioner's own words where its event has come by then.
    claim.wait_for_event(event::NODE_UNSUITABLE, "cannot be provisioned for the node");
    claim.wait_until_bound();
    case.assert_content(&claim, &disk);
}

/// A volume that two nodes reach, as those of a cloud's zone, is filled on the other one when the first is drained.
#[test]
fn a_volume_of_a_zone_is_filled_on_another_node_after_a_drain() {
    let case = TestNamespace::new();
    let (_, source) = source(&case);
    let first = Node::new(&case);
    let second = Node::new(&case);
    let class = Unserved::new(&case);
    let claim = claim_for(&case, &source, &class.name, &first.name);
    let both = [first.name.as_str(), second.name.as_str()];
    let _volume = Handmade::new(&claim, &class.name, &case, "kubernetes.io/hostname", &both);
    let pod = uid_of(&claim.wait_for_pod("Pending"));
    let cordon = json!({"spec": {"unschedulable": true}});
    case.cluster.patch(NODES, "", &first.name, &cordon);
    case.delete(PODS, &claim.pod_name());
    let next = claim.wait_for_other_pod(&pod, "Pending");
    // Nothing but its volume places it.
    for field in ["affinity", "nodeSelector", "nodeName"] {
        let found = next["spec"][field].to_string();
        assert!(!found.contains(&first.name), "{field}: {found}");
    }
    second.takes(&claim);
    assert!(claim.events_with(event::NODE_UNSUITABLE).is_empty());
}

#[test]
fn a_node_that_never_was_is_not_waited_for() {
    let case = TestNamespace::new();
    let (disk, source) = source(&case);
    let claim = claim_for(&case, &source, "wait", "no-such-node");
    claim.wait_for_event(event::NODE_GONE, "no-such-node");
    assert!(claim.annotation(annotation::SELECTED_NODE).is_none());
    case.pvcinit(&[&claim]);
    claim.wait_until_bound();
    case.assert_content(&claim, &disk);
}

/// A kubelet under pressure ends pods by itself; the failed pod is what remains.
#[test]
fn a_pod_that_its_node_evicts_is_followed_by_another_one() {
    let case = TestNamespace::new();
    let (_, source) = source(&case);
    let node = Node::new(&case);
    let class = Unserved::new(&case);
    let claim = claim_for(&case, &source, &class.name, &node.name);
    let _volume = node.volume_for(&claim, &class);
    let first = uid_of(&claim.wait_for_pod("Pending"));
    node.takes(&claim);
    let failed = json!({"status": {"phase": "Failed", "reason": "Evicted",
                                   "message": "The node was low on resource: memory."}});
    let path = format!("{}/status", PODS.path(&case.namespace, &claim.pod_name()));
    case.cluster.try_patch(&path, &failed).unwrap();
    let told = claim.wait_for_event(event::RETRYING, "low on resource");
    assert!(told.message.contains("Evicted"), "{told:?}");
    // It does not stay in phase Failed, where Forklift would see the end of the migration.
    claim.wait_for_other_pod(&first, "Pending");
    // It is no attempt: the pod could do nothing for it.
    let recreations = claim.annotation(annotation::RECREATIONS);
    assert_eq!(recreations.as_deref().unwrap_or("0"), "0");
}

#[test]
fn a_pod_on_a_node_that_does_not_answer_is_neither_replaced_nor_forced_away() {
    let case = TestNamespace::new();
    let (_, source) = source(&case);
    let node = Node::new(&case);
    // Its node has no kubelet, and the test plays it.
    let class = Unserved::new(&case);
    let claim = claim_for(&case, &source, &class.name, &node.name);
    let _volume = node.volume_for(&claim, &class);
    let pod = claim.wait_for_pod("Pending");
    let uid = pod["metadata"]["uid"].clone();
    node.takes(&claim);
    // Its address does not answer, so the controller reads the progress from its log.
    let running = json!({"status": {"phase": "Running", "podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}});
    let path = format!("{}/status", PODS.path(&case.namespace, &claim.pod_name()));
    case.cluster.try_patch(&path, &running).unwrap();
    let condition = case.wait_for_condition(&source, "Progressing", "True");
    assert_ne!(condition["reason"], "NodeLost");
    let log = format!("/pods/{}/log", claim.pod_name());
    case.cluster.wait_for("its log is asked for", || {
        let audit = std::fs::read_to_string(suite::variable("CLUSTER_AUDIT_LOG")).unwrap();
        audit.contains(&log).then_some(())
    });

    node.answers("Unknown");
    claim.wait_for_event(event::NODE_LOST, &node.name);
    let filled = case.cluster.wait_for("it is recorded", || {
        let temporary = claim.temporary()?;
        let recorded = temporary["metadata"]["annotations"][annotation::NODE_LOST].as_str()?;
        assert!(recorded.contains(uid.as_str().unwrap()), "{recorded}");
        Some(temporary)
    });
    case.cluster.wait_for("the resource says so", || {
        let status = case.status(&source);
        (status["conditions"][0]["reason"] == "NodeLost").then_some(())
    });
    assert_eq!(
        claim.pod().unwrap()["metadata"]["uid"],
        uid,
        "nothing is forced"
    );
    assert!(claim.pod().unwrap()["metadata"]["deletionTimestamp"].is_null());
    // The way out: an administrator who knows that the node is off deletes the pod by force.
    case.cluster
        .delete(PODS, &case.namespace, &claim.pod_name(), Some(0));
    // It may still write, so that its volume goes too.
    claim.wait_for_event(event::RETRYING, "volume is dropped");
    case.cluster.wait_for("its volume is dropped", || {
        let left = claim.temporary();
        left.is_none_or(|left| uid_of(&left) != uid_of(&filled))
            .then_some(())
    });
    assert!(claim.pod().is_none(), "another pod on the old volume");
    assert!(case.get(CLAIMS, &claim.name).is_some());
}
