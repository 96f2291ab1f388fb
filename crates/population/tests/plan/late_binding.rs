//! Classes that wait for a consumer: no pod before the volume, and nodes that are given up.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use population::{
    model::{Nodes, RejectedNode},
    plan::Action,
};
use populator_api::Reason;

use crate::support::{
    NODE, PlanCase, Row, ago, check, chosen, late_binding, node, nothing, now, provisioned, words,
};

const UNSUITABLE: &[&str] = &["PopulatorNodeUnsuitable"];

fn nodes(case: &mut PlanCase, change: fn(&mut population::model::Node)) {
    let mut first = node(NODE);
    change(&mut first);
    case.world.nodes = Nodes::Known([first, node("node-2")].into());
}

fn cordoned(case: &mut PlanCase) {
    nodes(case, |node| node.unschedulable = true);
}

fn unready(case: &mut PlanCase) {
    nodes(case, |node| {
        node.ready = false;
        node.unready_since = Some(ago(301));
    });
}

#[test]
fn before_the_volume_there_is_no_pod_and_the_node_can_be_given_up() {
    let given_up: &[&str] = &["reject node-1", "delete temporary claim"];
    let rows: &[Row] = &[
        Row {
            name: "the provisioner is at work",
            base: chosen,
            change: nothing,
            reason: Reason::Provisioning,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the provisioner says why it takes so long",
            base: chosen,
            change: |case| {
                case.world.provisioning_warning = Some("ProvisioningFailed: full".to_owned());
            },
            reason: Reason::Provisioning,
            actions: &[],
            events: &["PopulatorStuck"],
        },
        Row {
            name: "the provisioner has given the node up",
            base: chosen,
            change: |case| case.temporary().selected_node = None,
            reason: Reason::WaitingForConsumer,
            actions: given_up,
            events: &[],
        },
        Row {
            name: "the same under a role that may not read nodes",
            base: chosen,
            change: |case| {
                case.temporary().selected_node = None;
                case.world.nodes = Nodes::Unreadable;
            },
            reason: Reason::WaitingForConsumer,
            actions: given_up,
            events: &[],
        },
        Row {
            name: "the node is gone",
            base: chosen,
            change: |case| case.world.nodes = Nodes::Known([node("node-2")].into()),
            reason: Reason::WaitingForConsumer,
            actions: given_up,
            events: &[],
        },
        Row {
            name: "the node was cordoned",
            base: chosen,
            change: cordoned,
            reason: Reason::WaitingForConsumer,
            actions: given_up,
            events: &[],
        },
        Row {
            name: "the node has not been ready for more than five minutes",
            base: chosen,
            change: unready,
            reason: Reason::WaitingForConsumer,
            actions: given_up,
            events: &[],
        },
        Row {
            name: "the node has not been ready for a moment",
            base: chosen,
            change: |case| {
                nodes(case, |node| {
                    node.ready = false;
                    node.unready_since = Some(ago(299));
                });
            },
            reason: Reason::Provisioning,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the scheduler has chosen another node meanwhile",
            base: chosen,
            change: |case| case.world.claim.selected_node = Some("node-2".to_owned()),
            reason: Reason::WaitingForConsumer,
            actions: &["delete temporary claim"],
            events: UNSUITABLE,
        },
        Row {
            name: "the claim has lost its node, and a crash kept the temporary claim",
            base: chosen,
            change: |case| case.world.claim.selected_node = None,
            reason: Reason::WaitingForConsumer,
            actions: &["delete temporary claim"],
            events: UNSUITABLE,
        },
        Row {
            name: "the volume is there: its own affinity places the pod",
            base: provisioned,
            change: |case| {
                case.temporary().chosen_node = Some(NODE.to_owned());
                case.temporary().selected_node = Some(NODE.to_owned());
                cordoned(case);
            },
            reason: Reason::PodPending,
            actions: &["create pod"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn a_node_is_checked_before_the_temporary_claim_is_created() {
    let selected: fn() -> PlanCase = || {
        let mut case = late_binding();
        case.world.claim.selected_node = Some(NODE.to_owned());
        case
    };
    let rows: &[Row] = &[
        Row {
            name: "it is cordoned",
            base: selected,
            change: cordoned,
            reason: Reason::WaitingForConsumer,
            actions: &["reject node-1"],
            events: &[],
        },
        Row {
            name: "it has not been ready for long",
            base: selected,
            change: unready,
            reason: Reason::WaitingForConsumer,
            actions: &["reject node-1"],
            events: &[],
        },
    ];
    check(rows);
}

fn rejected(node: &str, seconds_ago: u64, count: u32) -> RejectedNode {
    RejectedNode {
        node: node.to_owned(),
        at: Time(ago(seconds_ago)),
        count,
    }
}

/// A scheduler that does not know the free capacity of nodes chooses the full one again at once.
#[test]
fn a_rejected_node_is_tried_again_with_backoff() {
    // How often it was rejected, seconds since then, and what is left.
    for (count, passed, left) in [
        (1, 0, Some(10)),
        (1, 10, None),
        (3, 30, Some(10)),
        (6, 299, Some(1)),
        (60, 300, None),
    ] {
        let mut case = late_binding();
        case.world.claim.selected_node = Some(NODE.to_owned());
        case.world.claim.rejected_nodes = vec![rejected(NODE, passed, count)];
        let plan = case.plan();
        let requeue = left.map(Duration::from_secs);
        assert_eq!(plan.requeue_after, requeue, "{count} {passed}");
        if left.is_some() {
            assert_eq!(plan.status.reason, Reason::WaitingForConsumer);
            assert!(plan.actions.is_empty());
        } else {
            assert_eq!(words(&plan), ["create temporary claim"]);
        }
        // Another node is not concerned.
        case.world.claim.selected_node = Some("node-2".to_owned());
        assert_eq!(words(&case.plan()), ["create temporary claim"]);
    }
}

#[test]
fn rejections_are_counted_and_forgotten_and_few() {
    let of = |rejected: Vec<RejectedNode>| {
        let mut case = chosen();
        case.temporary().selected_node = None;
        case.world.claim.rejected_nodes = rejected;
        match case.plan().actions.remove(0) {
            Action::RejectNode { rejected, .. } => rejected,
            other => panic!("{other:?}"),
        }
    };
    let here = |count| RejectedNode {
        node: NODE.to_owned(),
        at: Time(now()),
        count,
    };
    assert_eq!(of(vec![]), [here(1)]);
    let other = rejected("node-2", 60, 2);
    let before = vec![rejected(NODE, 20, 4), other.clone()];
    assert_eq!(of(before), [other, here(5)]);
    assert_eq!(of(vec![rejected(NODE, 3600, 9)]), [here(1)]);
    let many = (0..50).map(|i| rejected(&format!("n-{i}"), 60, 1));
    let kept = of(many.collect());
    assert_eq!((kept.len(), kept.last()), (20, Some(&here(1))));
}

#[test]
fn the_provisioners_words_and_what_follows_are_told() {
    let mut case = chosen();
    case.temporary().selected_node = None;
    case.world.provisioning_warning = Some("ProvisioningFailed: no space on node-1".to_owned());
    let plan = case.plan();
    let event = plan.actions[0].announcement().unwrap();
    assert_eq!(event.reason, "PopulatorNodeUnsuitable");
    assert!(event.message.contains("no space on node-1"), "{event:?}");
    assert!(event.message.contains("another volume of the pod"));
    assert_eq!(plan.slot, None, "the slot is given back");

    let mut gone = chosen();
    gone.world.nodes = Nodes::Known([].into());
    let event = gone.plan().actions[0].announcement().unwrap();
    assert_eq!(event.reason, "PopulatorNodeGone");
}

#[test]
fn no_pod_names_a_node() {
    let mut case = provisioned();
    case.temporary().selected_node = Some(NODE.to_owned());
    let plan = case.plan();
    let Action::CreatePod(pod) = &plan.actions[0] else {
        panic!("{plan:?}");
    };
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((&spec.affinity, &spec.node_name), (&None, &None));
}
