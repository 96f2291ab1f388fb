use std::time::Duration;

use population::{
    model::{ClaimPhase, Lookup, LostPod, NodeTerm, Nodes, PodPhase, Requirement},
    plan::Action,
};
use populator_api::Reason;

use crate::support::{
    Case, NODE, POD, Row, ago, begun, bound, check, failed, node, now, pending, provisioned,
    running, succeeded,
};

/// A volume that only this node reaches.
fn local_to(case: &mut Case, node: &str) {
    reached_by(case, "kubernetes.io/hostname", node);
}

/// A volume that only nodes with this label reach.
fn reached_by(case: &mut Case, key: &str, value: &str) {
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
    let recorded: &[&str] = &["lost pod 90d0 on node-1"];
    let unready: fn(&mut Case) = |case| {
        let mut node = node(NODE);
        node.ready = false;
        case.world.nodes = Nodes::Known([node].into());
    };
    let rows: &[Row] = &[
        (
            "does not answer",
            running,
            unready,
            Reason::NodeLost,
            recorded,
            lost,
        ),
        (
            "was deleted",
            running,
            |case| case.world.nodes = Nodes::Known([].into()),
            Reason::NodeLost,
            recorded,
            lost,
        ),
        (
            "the eviction of its pod does not end",
            running,
            |case| {
                case.pod().terminating = Some(ago(61));
                case.world.nodes = Nodes::Unreadable;
            },
            Reason::NodeLost,
            recorded,
            lost,
        ),
        (
            "a pod with a long grace is not late before it has passed",
            running,
            |case| case.pod().terminating = Some(now() + Duration::from_hours(1)),
            Reason::Clearing,
            &[],
            &[],
        ),
        (
            "does not answer, but the pod was done",
            succeeded,
            unready,
            Reason::Rebinding,
            &["rebind pv-1@7 from 7e30"],
            &[],
        ),
        (
            "the volume is on a node that is gone",
            pending,
            |case| local_to(case, "gone"),
            Reason::NodeGone,
            &[],
            gone,
        ),
        (
            "a zone without nodes may get one, when a pod asks for it",
            provisioned,
            |case| reached_by(case, "topology.kubernetes.io/zone", "empty"),
            Reason::PodPending,
            &["create pod"],
            &[],
        ),
        (
            "no pod is made for a volume on a node that is gone",
            provisioned,
            |case| local_to(case, "gone"),
            Reason::NodeGone,
            &[],
            gone,
        ),
        (
            "the volume is on a node that is there",
            provisioned,
            |case| local_to(case, "node-2"),
            Reason::PodPending,
            &["create pod"],
            &[],
        ),
        (
            "the pod waits for a node that is gone, and others reach the volume",
            pending,
            |case| case.pod().pinned_to = Some("gone".to_owned()),
            Reason::Clearing,
            &["delete pod 90d0"],
            &[],
        ),
        (
            "the same, and the claim still names the node: the scheduler chooses again",
            pending,
            |case| {
                case.pod().pinned_to = Some("gone".to_owned());
                case.world.claim.selected_node = Some("gone".to_owned());
            },
            Reason::Clearing,
            &["delete pod 90d0", "clear gone"],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn the_pod_goes_where_the_volume_is_made_as_long_as_there_is_such_a_node() {
    let mut case = begun();
    case.temporary().selected_node = Some(NODE.to_owned());
    let pin = |case: &Case| match &case.plan().actions[..] {
        [Action::CreatePod(pod)] => {
            population::model::Pod::from_object(&{
                let mut pod = (**pod).clone();
                pod.metadata.uid = Some("u".to_owned());
                pod
            })
            .unwrap()
            .pinned_to
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(pin(&case).as_deref(), Some(NODE));

    let mut case = provisioned();
    case.temporary().selected_node = Some("gone".to_owned());
    assert_eq!(pin(&case), None);
}

/// The node is gone, and the pod on it is recorded.
fn recorded(case: &mut Case) {
    case.world.nodes = Nodes::Known([].into());
    case.temporary().lost_pod = Some(LostPod {
        pod: POD.to_owned(),
        node: NODE.to_owned(),
    });
}

/// The record on the temporary claim outlives the pod, and the finalizer the node.
#[test]
fn no_second_writer_follows_a_pod_whose_end_was_not_seen() {
    let lost: &[&str] = &["PopulatorNodeLost"];
    let retrying: &[&str] = &["PopulatorRetrying"];
    let rows: &[Row] = &[
        (
            "recorded once",
            running,
            recorded,
            Reason::NodeLost,
            &[],
            lost,
        ),
        (
            "the pod may have started, although its node never said so",
            pending,
            |case| {
                case.pod().node = Some(NODE.to_owned());
                case.world.nodes = Nodes::Known([].into());
            },
            Reason::NodeLost,
            &["lost pod 90d0 on node-1"],
            lost,
        ),
        (
            "the node answers again",
            running,
            |case| {
                recorded(case);
                case.world.nodes = Nodes::Known([node(NODE)].into());
            },
            Reason::Copying,
            &["lost none"],
            &[],
        ),
        (
            "the node answers again and reports the pod's end",
            || failed(30, ""),
            |case| {
                recorded(case);
                case.world.nodes = Nodes::Known([node(NODE)].into());
            },
            Reason::Retrying,
            &[
                "lost none",
                "record 1",
                "delete pod 90d0",
                "release pod 90d0",
            ],
            &[],
        ),
        (
            "the pod garbage collector declares it failed, and deletes it",
            running,
            |case| {
                recorded(case);
                let pod = case.pod();
                pod.phase = PodPhase::Failed;
                pod.collected = true;
                pod.terminating = Some(now());
                pod.forced = true;
            },
            Reason::Retrying,
            &["release pod 90d0"],
            retrying,
        ),
        (
            "the same, while the controller was away and where nodes may not be read",
            running,
            |case| {
                case.world.nodes = Nodes::Unreadable;
                let pod = case.pod();
                pod.phase = PodPhase::Failed;
                pod.collected = true;
            },
            Reason::Retrying,
            &[
                "lost pod 90d0 on node-1",
                "delete pod 90d0",
                "release pod 90d0",
            ],
            retrying,
        ),
        (
            "it is deleted by force",
            running,
            |case| {
                recorded(case);
                case.pod().terminating = Some(now());
                case.pod().forced = true;
            },
            Reason::Retrying,
            &["release pod 90d0"],
            retrying,
        ),
        (
            "it is deleted by force on a node that answers, which says how it ended",
            running,
            |case| {
                case.pod().terminating = Some(now());
                case.pod().forced = true;
            },
            Reason::Clearing,
            &[],
            &[],
        ),
        (
            "it has disappeared",
            running,
            |case| {
                recorded(case);
                case.world.pod = None;
            },
            Reason::Retrying,
            &["delete claim 7e30"],
            retrying,
        ),
        (
            "it has disappeared, and the resource too",
            running,
            |case| {
                recorded(case);
                case.world.pod = None;
                case.world.source = Lookup::Missing;
            },
            Reason::Retrying,
            &["delete claim 7e30"],
            retrying,
        ),
        (
            "another pod was made on the same volume",
            running,
            |case| {
                recorded(case);
                case.pod().uid = "another".to_owned();
                case.world.nodes = Nodes::Known([node(NODE)].into());
            },
            Reason::Retrying,
            &["delete pod anot", "delete claim 7e30"],
            retrying,
        ),
        (
            "it was rejected by a node that answers: it never wrote",
            || failed(30, ""),
            |case| {
                case.pod().ended = None;
                case.pod().evicted = Some("OutOfcpu: not enough".to_owned());
            },
            Reason::Retrying,
            &["record 1", "delete pod 90d0", "release pod 90d0"],
            &[],
        ),
    ];
    check(rows);
}

/// Whoever cleans up, and whenever: a copy that is finished is used.
#[test]
fn a_finished_pod_is_held_until_its_volume_is_given_away() {
    let rebind: &[&str] = &["rebind pv-1@7 from 7e30"];
    let rows: &[Row] = &[
        (
            "a cleaner of finished pods deletes it",
            succeeded,
            |case| case.pod().terminating = Some(now()),
            Reason::Rebinding,
            rebind,
            &[],
        ),
        (
            "a drain deletes it long before the controller comes back, and its node is gone",
            succeeded,
            |case| {
                case.pod().terminating = Some(ago(3600));
                case.pod().forced = true;
                case.world.nodes = Nodes::Known([].into());
            },
            Reason::Rebinding,
            rebind,
            &[],
        ),
        (
            "deleted while it runs: it is held until its node reports the end",
            running,
            |case| case.pod().terminating = Some(now()),
            Reason::Clearing,
            &[],
            &[],
        ),
        (
            "deleted before it had a node: there is no end to wait for",
            pending,
            |case| case.pod().terminating = Some(now()),
            Reason::Clearing,
            &["release pod 90d0"],
            &[],
        ),
        (
            "deleted by a user, since its volume is being deleted: the way to another attempt",
            succeeded,
            |case| {
                case.pod().terminating = Some(now());
                case.volume().terminating = true;
            },
            Reason::VolumeLost,
            &["release pod 90d0"],
            &["PopulatorFailed"],
        ),
        (
            "the same, since its volume is gone",
            succeeded,
            |case| {
                case.pod().terminating = Some(now());
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            Reason::VolumeLost,
            &["release pod 90d0"],
            &["PopulatorFailed"],
        ),
        (
            "given away",
            bound,
            |case| case.pod().finalizer = Some(0),
            Reason::Populated,
            &["finish claim 7e30", "release pod 90d0"],
            &[],
        ),
    ];
    check(rows);
}
