use population::{
    model::{Grant, Kind, Lookup, Nodes},
    plan::{Action, Full, Queued},
};
use populator_api::Reason;

use crate::support::{
    NODE, PlanCase, Row, ago, begun, check, failed, fresh, late_binding, nothing, running,
    unprovisioned, words,
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
        Row {
            name: "another kind of the group",
            base: fresh,
            change: |case| {
                case.world.claim.reference.kind = "VSphereXcopyVolumePopulator".to_owned();
            },
            reason: Reason::KindUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "a kind without an image",
            base: fresh,
            change: |case| {
                case.settings.images.remove(&Kind::Ovirt);
            },
            reason: Reason::KindUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "a selector",
            base: fresh,
            change: |case| case.world.claim.has_selector = true,
            reason: Reason::ClaimUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "a volume that cannot be written",
            base: fresh,
            change: |case| case.world.claim.access_modes = vec!["ReadOnlyMany".to_owned()],
            reason: Reason::ClaimUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "a volume by name",
            base: fresh,
            change: |case| case.world.claim.volume = Some("mine".to_owned()),
            reason: Reason::ClaimUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "another namespace without a grant, although one here has the same name",
            base: fresh,
            change: |case| {
                case.world.claim.reference.namespace = Some("other".to_owned());
                case.world.grant = Grant::Missing;
            },
            reason: Reason::ReferenceNotGranted,
            actions: &[],
            events: refused,
        },
        Row {
            name: "another namespace with a grant",
            base: fresh,
            change: |case| {
                case.world.claim.reference.namespace = Some("other".to_owned());
                case.world.grant = Grant::Given;
            },
            reason: Reason::Provisioning,
            actions: &["create temporary claim"],
            events: &[],
        },
        Row {
            name: "a temporary claim of another owner",
            base: begun,
            change: |case| case.temporary().owners = vec!["someone".into()],
            reason: Reason::NameTaken,
            actions: &[],
            events: &["PopulatorPVCCreationError"],
        },
        Row {
            name: "a pod of another owner",
            base: running,
            change: |case| case.pod().owners.clear(),
            reason: Reason::NameTaken,
            actions: &[],
            events: &["PopulatorCreationError"],
        },
    ];
    check(rows);
}

#[test]
fn storage_classes() {
    let waits: &[&str] = &["PopulatorWaiting"];
    let refused: &[&str] = &["PopulatorRefused"];
    let in_tree: fn(&mut PlanCase) =
        |case| case.class().provisioner = "kubernetes.io/aws-ebs".to_owned();
    let rows: &[Row] = &[
        Row {
            name: "immediate",
            base: fresh,
            change: nothing,
            reason: Reason::Provisioning,
            actions: &["create temporary claim"],
            events: &[],
        },
        Row {
            name: "none, and no default yet",
            base: fresh,
            change: |case| {
                case.world.claim.class = None;
                case.world.class = Lookup::Missing;
            },
            reason: Reason::StorageClassMissing,
            actions: &[],
            events: waits,
        },
        Row {
            name: "the empty one",
            base: fresh,
            change: |case| {
                case.world.claim.class = Some(String::new());
                case.world.class = Lookup::Missing;
            },
            reason: Reason::StorageClassUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "one that does not exist",
            base: fresh,
            change: |case| case.world.class = Lookup::Missing,
            reason: Reason::StorageClassMissing,
            actions: &[],
            events: waits,
        },
        Row {
            name: "one that cannot be read",
            base: fresh,
            change: |case| case.world.class = Lookup::Invalid("no provisioner".to_owned()),
            reason: Reason::StorageClassMissing,
            actions: &[],
            events: waits,
        },
        Row {
            name: "in-tree, and Kubernetes has not said yet which driver serves it",
            base: fresh,
            change: |case| {
                case.class().provisioner = "kubernetes.io/aws-ebs".to_owned();
                case.world.claim.created = ago(59);
            },
            reason: Reason::StorageClassMissing,
            actions: &[],
            events: &[],
        },
        Row {
            name: "in-tree, before the consumer: Kubernetes says it with the node",
            base: late_binding,
            change: in_tree,
            reason: Reason::WaitingForConsumer,
            actions: &[],
            events: &[],
        },
        Row {
            name: "in-tree, and no consumer is waited for: the temporary claim will show it",
            base: late_binding,
            change: |case| {
                case.class().provisioner = "kubernetes.io/aws-ebs".to_owned();
                case.world.claim.bind_immediately = true;
            },
            reason: Reason::Provisioning,
            actions: &["create temporary claim"],
            events: &[],
        },
        Row {
            name: "in-tree",
            base: fresh,
            change: in_tree,
            reason: Reason::StorageClassUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "in-tree, migrated to CSI",
            base: fresh,
            change: |case| {
                case.class().provisioner = "kubernetes.io/aws-ebs".to_owned();
                case.world.claim.migrated_to_csi = true;
            },
            reason: Reason::Provisioning,
            actions: &["create temporary claim"],
            events: &[],
        },
        Row {
            name: "local volumes, whatever the claim's annotation for migration",
            base: fresh,
            change: |case| {
                case.class().provisioner = "kubernetes.io/no-provisioner".to_owned();
                case.world.claim.migrated_to_csi = true;
            },
            reason: Reason::StorageClassUnsupported,
            actions: &[],
            events: refused,
        },
        Row {
            name: "a class that is deleted after the start changes nothing",
            base: running,
            change: |case| case.world.class = Lookup::Missing,
            reason: Reason::Copying,
            actions: &[],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn resources() {
    let rows: &[Row] = &[
        Row {
            name: "none yet",
            base: fresh,
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::ResourceMissing,
            actions: &[],
            events: &["PopulatorWaiting"],
        },
        Row {
            name: "being deleted",
            base: fresh,
            change: |case| case.populator().terminating = true,
            reason: Reason::ResourceMissing,
            actions: &[],
            events: &["PopulatorWaiting"],
        },
        Row {
            name: "unreadable",
            base: fresh,
            change: |case| {
                case.world.populator = Lookup::Invalid("spec.diskId is empty; set it".to_owned());
            },
            reason: Reason::ResourceInvalid,
            actions: &[],
            events: &["PopulatorRefused"],
        },
    ];
    check(rows);
}

#[test]
fn a_claim_chooses_among_the_allowed_service_accounts() {
    let outcome = |allowed: Option<&[&str]>, account: Option<&str>| {
        let mut case = fresh();
        case.settings.service_accounts =
            allowed.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        case.world.claim.service_account = account.map(str::to_owned);
        let plan = case.plan();
        (plan.status.reason, plan.status.message)
    };
    let begins = Reason::Provisioning;
    assert_eq!(outcome(None, Some("any")).0, begins);
    assert_eq!(outcome(Some(&["a", "b"]), Some("b")).0, begins);
    assert_eq!(outcome(Some(&[]), None).0, begins);
    for (allowed, account) in [
        (Some(&["a"][..]), "b"),
        (Some(&[]), "a"),
        (None, "A"),
        (None, "a b"),
        (None, "../a"),
    ] {
        let (reason, message) = outcome(allowed, Some(account));
        assert_eq!(reason, Reason::ClaimUnsupported, "{account}");
        assert!(message.contains(&format!("{account:?}")), "{message}");
        assert!(message.contains("serviceAccount"), "{message}");
    }
}

#[test]
fn credentials_are_sent_to_allowed_hosts_alone() {
    let outcome = |allowed: Option<&str>, case: &mut PlanCase| {
        case.settings.allowed_hosts = allowed.map(|hosts| hosts.parse().unwrap());
        let plan = case.plan();
        let creates_pod = plan.actions.iter().any(|action| {
            matches!(
                action,
                Action::CreatePod(_) | Action::CreateTemporaryClaim(_)
            )
        });
        (plan.status.reason, plan.status.message, creates_pod)
    };
    for allowed in [
        None,
        Some("other.example, ENGINE.example.org"),
        Some("*.example.org:443"),
    ] {
        let (reason, message, creates_pod) = outcome(allowed, &mut fresh());
        assert_eq!(
            (reason, creates_pod),
            (Reason::Provisioning, true),
            "{message}"
        );
    }
    for allowed in ["", "other.example", "*.engine.example.org"] {
        // Without anything yet, and when the next step would be the pod.
        for mut case in [fresh(), begun()] {
            let (reason, message, creates_pod) = outcome(Some(allowed), &mut case);
            assert_eq!(
                (reason, creates_pod),
                (Reason::ResourceInvalid, false),
                "{message}"
            );
            for word in ["https://engine.example.org", "POPULATOR_ALLOWED_HOSTS"] {
                assert!(message.contains(word), "{message}");
            }
        }
    }
    // A copy that has started goes on as it was started.
    let (reason, ..) = outcome(Some(""), &mut running());
    assert_eq!(reason, Reason::Copying);
}

#[test]
fn consumers_and_nodes() {
    let rows: &[Row] = &[
        Row {
            name: "no consumer yet",
            base: late_binding,
            change: nothing,
            reason: Reason::WaitingForConsumer,
            actions: &[],
            events: &[],
        },
        Row {
            name: "a consumer with a node",
            base: late_binding,
            change: |case| case.world.claim.selected_node = Some(NODE.to_owned()),
            reason: Reason::Provisioning,
            actions: &["create temporary claim"],
            events: &[],
        },
        Row {
            name: "no consumer wanted",
            base: late_binding,
            change: |case| case.world.claim.bind_immediately = true,
            reason: Reason::Provisioning,
            actions: &["create temporary claim"],
            events: &[],
        },
        Row {
            name: "the node is gone before anything was created",
            base: late_binding,
            change: |case| case.world.claim.selected_node = Some("gone".to_owned()),
            reason: Reason::WaitingForConsumer,
            actions: &["reject gone"],
            events: &[],
        },
        Row {
            name: "nodes that may not be read are taken to exist",
            base: late_binding,
            change: |case| {
                case.world.claim.selected_node = Some("gone".to_owned());
                case.world.nodes = Nodes::Unreadable;
            },
            reason: Reason::Provisioning,
            actions: &["create temporary claim"],
            events: &[],
        },
        Row {
            name: "the pod of bind-immediately was to go to a node that is gone",
            base: unprovisioned,
            change: |case| {
                case.world.claim.selected_node = Some("gone".to_owned());
                case.temporary().selected_node = Some("gone".to_owned());
            },
            reason: Reason::WaitingForConsumer,
            actions: &["reject gone", "delete pod", "delete temporary claim"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn the_temporary_claim_is_for_the_chosen_node() {
    let mut case = late_binding();
    case.world.claim.selected_node = Some(NODE.to_owned());
    let node_of = |case: &PlanCase| match &case.plan().actions[..] {
        [Action::CreateTemporaryClaim(object)] => object
            .metadata
            .annotations
            .as_ref()
            .map(|annotations| annotations["volume.kubernetes.io/selected-node"].clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(node_of(&case).as_deref(), Some(NODE));
    // An immediate class chooses by itself, whatever node the claim names.
    case.class().binding = population::model::Binding::Immediate;
    assert_eq!(node_of(&case), None);
}

/// A name, what the cluster shows, and the actions that need no slot.
type Case = (&'static str, fn() -> PlanCase, &'static [&'static str]);

#[test]
fn a_full_controller_creates_nothing_and_ends_nothing() {
    let again: fn() -> PlanCase = || {
        let mut case = failed(16, "");
        case.world.claim.retry = Some("2".to_owned());
        case
    };
    let adopted: fn() -> PlanCase = || {
        let mut case = begun();
        case.temporary().is_labelled = false;
        case
    };
    let queued = Queued {
        ahead: 4,
        limit: 5,
        full: Full::Source,
    };
    let cases: [Case; 4] = [
        ("fresh", fresh, &[]),
        ("begun", begun, &[]),
        (
            "begun by Forklift's controller",
            adopted,
            &["adopt temporary claim"],
        ),
        (
            "failed permanently, and asked for again",
            again,
            &["release pod"],
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
