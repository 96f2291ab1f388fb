use population::{
    model::{Grant, Kind, Lookup, Nodes},
    plan::{Action, Full, Queued},
};
use populator_api::Reason;

use crate::support::{
    Case, NODE, Row, begun, check, failed, fresh, late_binding, nothing, running, unprovisioned,
    words,
};

#[test]
fn claims_of_other_groups_are_not_ours() {
    for group in ["", "forklift.cdi.kubevirt.io", "snapshot.storage.k8s.io"] {
        let mut case = running();
        case.world.claim.reference.group = group.to_owned();
        assert_eq!(case.try_plan(), None, "{group:?}");
    }
}

#[test]
fn what_cannot_be_populated_is_refused() {
    let refused: &[&str] = &["PopulatorRefused"];
    let rows: &[Row] = &[
        (
            "another kind of the group",
            fresh,
            |case| case.world.claim.reference.kind = "VSphereXcopyVolumePopulator".to_owned(),
            Reason::KindUnsupported,
            &[],
            refused,
        ),
        (
            "a kind without an image",
            fresh,
            |case| {
                case.settings.images.remove(&Kind::Ovirt);
            },
            Reason::KindUnsupported,
            &[],
            refused,
        ),
        (
            "a selector",
            fresh,
            |case| case.world.claim.has_selector = true,
            Reason::ClaimUnsupported,
            &[],
            refused,
        ),
        (
            "a volume by name",
            fresh,
            |case| case.world.claim.volume = Some("mine".to_owned()),
            Reason::ClaimUnsupported,
            &[],
            refused,
        ),
        (
            "another namespace without a grant, although one here has the same name",
            fresh,
            |case| {
                case.world.claim.reference.namespace = Some("other".to_owned());
                case.world.grant = Grant::Missing;
            },
            Reason::ReferenceNotGranted,
            &[],
            refused,
        ),
        (
            "another namespace with a grant",
            fresh,
            |case| {
                case.world.claim.reference.namespace = Some("other".to_owned());
                case.world.grant = Grant::Given;
            },
            Reason::Provisioning,
            &["create claim"],
            &[],
        ),
        (
            "a temporary claim of somebody else",
            begun,
            |case| case.temporary().owners = vec!["someone".to_owned()],
            Reason::NameTaken,
            &[],
            &["PopulatorPVCCreationError"],
        ),
        (
            "a pod of somebody else",
            running,
            |case| case.pod().owners.clear(),
            Reason::NameTaken,
            &[],
            &["PopulatorCreationError"],
        ),
    ];
    check(rows);
}

#[test]
fn storage_classes() {
    let waits: &[&str] = &["PopulatorWaiting"];
    let refused: &[&str] = &["PopulatorRefused"];
    let in_tree: fn(&mut Case) =
        |case| case.class().provisioner = "kubernetes.io/aws-ebs".to_owned();
    let rows: &[Row] = &[
        (
            "immediate",
            fresh,
            nothing,
            Reason::Provisioning,
            &["create claim"],
            &[],
        ),
        (
            "none, and no default yet",
            fresh,
            |case| {
                case.world.claim.class = None;
                case.world.class = Lookup::Missing;
            },
            Reason::StorageClassMissing,
            &[],
            waits,
        ),
        (
            "the empty one",
            fresh,
            |case| {
                case.world.claim.class = Some(String::new());
                case.world.class = Lookup::Missing;
            },
            Reason::StorageClassUnsupported,
            &[],
            refused,
        ),
        (
            "one that does not exist",
            fresh,
            |case| case.world.class = Lookup::Missing,
            Reason::StorageClassMissing,
            &[],
            waits,
        ),
        (
            "one that cannot be read",
            fresh,
            |case| case.world.class = Lookup::Invalid("no provisioner".to_owned()),
            Reason::StorageClassMissing,
            &[],
            waits,
        ),
        (
            "in-tree",
            fresh,
            in_tree,
            Reason::StorageClassUnsupported,
            &[],
            refused,
        ),
        (
            "in-tree, migrated to CSI",
            fresh,
            |case| {
                case.class().provisioner = "kubernetes.io/aws-ebs".to_owned();
                case.world.claim.migrated_to_csi = true;
            },
            Reason::Provisioning,
            &["create claim"],
            &[],
        ),
        (
            "local volumes, whatever a claim says of migration",
            fresh,
            |case| {
                case.class().provisioner = "kubernetes.io/no-provisioner".to_owned();
                case.world.claim.migrated_to_csi = true;
            },
            Reason::StorageClassUnsupported,
            &[],
            refused,
        ),
        (
            "a class that goes after the start changes nothing",
            running,
            |case| case.world.class = Lookup::Missing,
            Reason::Copying,
            &[],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn resources() {
    let rows: &[Row] = &[
        (
            "none yet",
            fresh,
            |case| case.world.source = Lookup::Missing,
            Reason::ResourceMissing,
            &[],
            &["PopulatorWaiting"],
        ),
        (
            "being deleted",
            fresh,
            |case| case.source().terminating = true,
            Reason::ResourceMissing,
            &[],
            &["PopulatorWaiting"],
        ),
        (
            "unreadable",
            fresh,
            |case| case.world.source = Lookup::Invalid("spec.diskId is empty; set it".to_owned()),
            Reason::ResourceInvalid,
            &[],
            &["PopulatorRefused"],
        ),
    ];
    check(rows);
}

#[test]
fn consumers_and_nodes() {
    let rows: &[Row] = &[
        (
            "no consumer yet",
            late_binding,
            nothing,
            Reason::WaitingForConsumer,
            &[],
            &[],
        ),
        (
            "a consumer with a node",
            late_binding,
            |case| case.world.claim.selected_node = Some(NODE.to_owned()),
            Reason::Provisioning,
            &["create claim"],
            &[],
        ),
        (
            "no consumer wanted",
            late_binding,
            |case| case.world.claim.bind_immediately = true,
            Reason::Provisioning,
            &["create claim"],
            &[],
        ),
        (
            "the node is gone before anything was made",
            late_binding,
            |case| case.world.claim.selected_node = Some("gone".to_owned()),
            Reason::WaitingForConsumer,
            &["clear gone"],
            &[],
        ),
        (
            "nodes that may not be read are taken to exist",
            late_binding,
            |case| {
                case.world.claim.selected_node = Some("gone".to_owned());
                case.world.nodes = Nodes::Unreadable;
            },
            Reason::Provisioning,
            &["create claim"],
            &[],
        ),
        (
            "the node is gone before it had the volume",
            unprovisioned,
            |case| {
                case.world.claim.selected_node = Some("gone".to_owned());
                case.temporary().selected_node = Some("gone".to_owned());
            },
            Reason::WaitingForConsumer,
            &["delete pod 90d0", "delete claim 7e30", "clear gone"],
            &[],
        ),
        (
            "the scheduler has chosen again by itself",
            begun,
            |case| {
                case.world.claim.selected_node = Some("node-2".to_owned());
                case.temporary().selected_node = Some("gone".to_owned());
            },
            Reason::WaitingForConsumer,
            &["delete claim 7e30"],
            &["PopulatorNodeGone"],
        ),
    ];
    check(rows);
}

#[test]
fn the_temporary_claim_is_made_for_the_chosen_node() {
    let mut case = late_binding();
    case.world.claim.selected_node = Some(NODE.to_owned());
    let node_of = |case: &Case| match &case.plan().actions[..] {
        [Action::CreateTemporaryClaim(object)] => object
            .metadata
            .annotations
            .as_ref()
            .map(|annotations| annotations["volume.kubernetes.io/selected-node"].clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(node_of(&case).as_deref(), Some(NODE));
    // An immediate class chooses by itself, whatever somebody wrote on the claim.
    case.class().binding = population::model::Binding::Immediate;
    assert_eq!(node_of(&case), None);
}

#[test]
fn a_full_controller_makes_nothing_and_ends_nothing() {
    let again: fn() -> Case = || {
        let mut case = failed(16, "");
        case.world.claim.retry = Some("2".to_owned());
        case
    };
    let adopted: fn() -> Case = || {
        let mut case = begun();
        case.temporary().is_labelled = false;
        case
    };
    let queued = Queued {
        ahead: 4,
        limit: 5,
        full: Full::Source,
    };
    let cases: [(&str, fn() -> Case, &[&str]); 4] = [
        ("fresh", fresh, &[]),
        ("begun", begun, &[]),
        (
            "begun by Forklift's controller",
            adopted,
            &["adopt claim 7e30"],
        ),
        (
            "failed permanently, and asked for again",
            again,
            &["release pod 90d0"],
        ),
    ];
    for (name, case, actions) in cases {
        let plan = case().plan();
        assert!(plan.slot.is_some(), "{name}");
        let deferred = plan.deferred(&queued);
        assert_eq!(deferred.status.reason, Reason::Throttled, "{name}");
        assert_eq!(words(&deferred), actions, "{name}");
        let [event] = &deferred.events[..] else {
            panic!("{name}: {deferred:?}");
        };
        assert_eq!(event.reason, "PopulatorThrottled");
        assert_eq!(
            event.message,
            "the claim's source serves 5 claims at a time and is full; 4 wait before this one"
        );
    }
}
