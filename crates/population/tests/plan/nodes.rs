use std::time::Duration;

use population::model::{ClaimPhase, Lookup, LostPod, NodeTerm, Nodes, PodPhase, Requirement};
use populator_api::Reason;

use crate::support::{
    NODE, POD, PlanCase, Row, ago, bound, check, failed, node, now, pending, provisioned, running,
    succeeded,
};

/// A volume that only this node reaches.
fn local_to(case: &mut PlanCase, node: &str) {
    reached_by(case, "kubernetes.io/hostname", node);
}

/// A volume that only nodes with this label reach.
fn reached_by(case: &mut PlanCase, key: &str, value: &str) {
    let label = Requirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: vec![value.to_owned()],
    };
    case.volume().node_terms = vec![NodeTerm {
        labels: vec![label],
        fields: Vec::new(),
    }];
}

#[test]
fn nodes() {
    let lost: &[&str] = &["PopulatorNodeLost"];
    let gone: &[&str] = &["PopulatorFailed"];
    let recorded: &[&str] = &["node-1 lost"];
    let unready: fn(&mut PlanCase) = |case| {
        let mut node = node(NODE);
        node.ready = false;
        case.world.nodes = Nodes::Known([node].into());
    };
    let rows: &[Row] = &[
        Row {
            name: "does not answer",
            base: running,
            change: unready,
            reason: Reason::NodeLost,
            actions: recorded,
            events: lost,
        },
        Row {
            name: "was deleted",
            base: running,
            change: |case| case.world.nodes = Nodes::Known([].into()),
            reason: Reason::NodeLost,
            actions: recorded,
            events: lost,
        },
        Row {
            name: "the eviction of its pod does not end",
            base: running,
            change: |case| {
                case.pod().terminating = Some(ago(61));
                case.world.nodes = Nodes::Unreadable;
            },
            reason: Reason::NodeLost,
            actions: recorded,
            events: lost,
        },
        Row {
            name: "a pod with a long grace is not late before it has passed",
            base: running,
            change: |case| case.pod().terminating = Some(now() + Duration::from_hours(1)),
            reason: Reason::Clearing,
            actions: &[],
            events: &[],
        },
        Row {
            name: "does not answer, but the pod was done",
            base: succeeded,
            change: unready,
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "the volume is on a node that is gone",
            base: pending,
            change: |case| local_to(case, "gone"),
            reason: Reason::NodeGone,
            actions: &[],
            events: gone,
        },
        Row {
            name: "a zone without nodes may get one, when a pod asks for it",
            base: provisioned,
            change: |case| reached_by(case, "topology.kubernetes.io/zone", "empty"),
            reason: Reason::PodPending,
            actions: &["create pod"],
            events: &[],
        },
        Row {
            name: "no pod is created for a volume on a node that is gone",
            base: provisioned,
            change: |case| local_to(case, "gone"),
            reason: Reason::NodeGone,
            actions: &[],
            events: gone,
        },
        Row {
            name: "the volume is on a node that is there",
            base: provisioned,
            change: |case| local_to(case, "node-2"),
            reason: Reason::PodPending,
            actions: &["create pod"],
            events: &[],
        },
        Row {
            name: "the node was registered again a moment ago, and its driver has not labelled it yet",
            base: pending,
            change: |case| {
                reached_by(case, "topology.csi.example.org/node", NODE);
                let mut node = node(NODE);
                node.created = ago(60);
                case.world.nodes = Nodes::Known([node].into());
            },
            reason: Reason::PodPending,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the same, long ago",
            base: pending,
            change: |case| reached_by(case, "topology.csi.example.org/node", NODE),
            reason: Reason::NodeGone,
            actions: &[],
            events: gone,
        },
        Row {
            name: "a zone of vSphere without nodes",
            base: provisioned,
            change: |case| reached_by(case, "topology.csi.vmware.com/k8s-zone", "empty"),
            reason: Reason::PodPending,
            actions: &["create pod"],
            events: &[],
        },
    ];
    check(rows);
}

/// The node is gone, and the pod on it is recorded.
fn recorded(case: &mut PlanCase) {
    case.world.nodes = Nodes::Known([].into());
    case.temporary().lost_pod = Some(LostPod {
        pod: POD.into(),
        node: NODE.to_owned(),
    });
}

/// The record on the temporary claim outlives the pod, and the finalizer the node.
#[test]
fn no_second_writer_follows_a_pod_whose_end_was_not_seen() {
    let lost: &[&str] = &["PopulatorNodeLost"];
    let retrying: &[&str] = &["PopulatorRetrying"];
    let rows: &[Row] = &[
        Row {
            name: "recorded once",
            base: running,
            change: recorded,
            reason: Reason::NodeLost,
            actions: &[],
            events: lost,
        },
        Row {
            name: "the pod may have started, although its node never reported it",
            base: pending,
            change: |case| {
                case.pod().node = Some(NODE.to_owned());
                case.world.nodes = Nodes::Known([].into());
            },
            reason: Reason::NodeLost,
            actions: &["node-1 lost"],
            events: lost,
        },
        Row {
            name: "the node answers again",
            base: running,
            change: |case| {
                recorded(case);
                case.world.nodes = Nodes::Known([node(NODE)].into());
            },
            reason: Reason::Copying,
            actions: &["node found"],
            events: &[],
        },
        Row {
            name: "the node answers again and reports the pod's end",
            base: || failed(30, ""),
            change: |case| {
                recorded(case);
                case.world.nodes = Nodes::Known([node(NODE)].into());
            },
            reason: Reason::Retrying,
            actions: &["node found", "record 1", "delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "the pod garbage collector declares it failed, and deletes it",
            base: running,
            change: |case| {
                recorded(case);
                let pod = case.pod();
                pod.phase = PodPhase::Failed;
                pod.collected = true;
                pod.terminating = Some(now());
                pod.forced = true;
            },
            reason: Reason::Retrying,
            actions: &["release pod"],
            events: retrying,
        },
        Row {
            name: "the same, while the controller was away and where nodes may not be read",
            base: running,
            change: |case| {
                case.world.nodes = Nodes::Unreadable;
                let pod = case.pod();
                pod.phase = PodPhase::Failed;
                pod.collected = true;
            },
            reason: Reason::Retrying,
            actions: &["node-1 lost", "delete pod", "release pod"],
            events: retrying,
        },
        Row {
            name: "it is deleted by force",
            base: running,
            change: |case| {
                recorded(case);
                case.pod().terminating = Some(now());
                case.pod().forced = true;
            },
            reason: Reason::Retrying,
            actions: &["release pod"],
            events: retrying,
        },
        Row {
            name: "it is deleted by force on a node that answers, which reports how it ended",
            base: running,
            change: |case| {
                case.pod().terminating = Some(now());
                case.pod().forced = true;
            },
            reason: Reason::Clearing,
            actions: &[],
            events: &[],
        },
        Row {
            name: "it has disappeared",
            base: running,
            change: |case| {
                recorded(case);
                case.world.pod = None;
            },
            reason: Reason::Retrying,
            actions: &["delete temporary claim"],
            events: retrying,
        },
        Row {
            name: "it has disappeared, and the resource too",
            base: running,
            change: |case| {
                recorded(case);
                case.world.pod = None;
                case.world.populator = Lookup::Missing;
            },
            reason: Reason::Retrying,
            actions: &["delete temporary claim"],
            events: retrying,
        },
        Row {
            name: "another pod was created on the same volume",
            base: running,
            change: |case| {
                recorded(case);
                case.pod().uid = "another".into();
                case.world.nodes = Nodes::Known([node(NODE)].into());
            },
            reason: Reason::Retrying,
            actions: &["delete pod another", "delete temporary claim"],
            events: retrying,
        },
        Row {
            name: "it was rejected by a node that answers: it never wrote",
            base: || failed(30, ""),
            change: |case| {
                case.pod().ended = None;
                case.pod().evicted = Some("OutOfcpu: not enough".to_owned());
            },
            reason: Reason::Retrying,
            actions: &["record 0", "delete pod", "release pod"],
            events: &[],
        },
    ];
    check(rows);
}

/// Whatever deletes the pod, and whenever: a copy that is finished is used.
#[test]
fn a_finished_pod_is_held_until_its_volume_is_given_away() {
    let rebind: &[&str] = &["rebind pv-1@7"];
    let rows: &[Row] = &[
        Row {
            name: "a cleaner of finished pods deletes it",
            base: succeeded,
            change: |case| case.pod().terminating = Some(now()),
            reason: Reason::Rebinding,
            actions: rebind,
            events: &[],
        },
        Row {
            name: "a drain deletes it long before the controller comes back, and its node is gone",
            base: succeeded,
            change: |case| {
                case.pod().terminating = Some(ago(3600));
                case.pod().forced = true;
                case.world.nodes = Nodes::Known([].into());
            },
            reason: Reason::Rebinding,
            actions: rebind,
            events: &[],
        },
        Row {
            name: "deleted while it runs: it is held until its node reports the end",
            base: running,
            change: |case| case.pod().terminating = Some(now()),
            reason: Reason::Clearing,
            actions: &[],
            events: &[],
        },
        Row {
            name: "deleted before it had a node: there is no end to wait for",
            base: pending,
            change: |case| case.pod().terminating = Some(now()),
            reason: Reason::Clearing,
            actions: &["release pod"],
            events: &[],
        },
        Row {
            name: "deleted by a user, since its volume is being deleted: the way to another attempt",
            base: succeeded,
            change: |case| {
                case.pod().terminating = Some(now());
                case.volume().terminating = true;
            },
            reason: Reason::VolumeLost,
            actions: &["release pod"],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "the same, since its volume is gone",
            base: succeeded,
            change: |case| {
                case.pod().terminating = Some(now());
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            reason: Reason::VolumeLost,
            actions: &["release pod"],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "given away",
            base: bound,
            change: |case| case.pod().finalizer = Some(0),
            reason: Reason::Populated,
            actions: &["finish temporary claim", "release pod"],
            events: &[],
        },
    ];
    check(rows);
}
