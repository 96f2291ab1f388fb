use std::time::Duration;

use populator_api::Reason;
use populator_controller::{
    model::{NodeTerm, Nodes, Requirement},
    plan::Action,
};

use crate::support::{
    Case, NODE, Row, ago, begun, check, node, now, pending, provisioned, running, succeeded,
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
            &[],
            lost,
        ),
        (
            "was deleted",
            running,
            |case| case.world.nodes = Nodes::Known([].into()),
            Reason::NodeLost,
            &[],
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
            &[],
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
            populator_controller::model::Pod::from_object(&{
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
