//! A cluster in a few lines, and what a plan does in a few words.

use std::{collections::BTreeMap, time::Duration};

use contract::{Exit, Termination};
use jiff::Timestamp;
use population::{
    Plan, Settings,
    model::{
        Attempts, Binding, Claim, ClaimPhase, ClaimReference, DiskLocation, Ended, Grant, Kind,
        Lookup, Node, Nodes, Pod, PodPhase, PopulatorSpec, Reference, StorageClass, TemporaryClaim,
        Uid, Volume, VolumeMode, VolumePhase, World,
    },
    objects,
    plan::{Action, DeleteReason},
    settings::{MoverFlag, MoverSettings},
};
use populator_api::{Reason, names};

pub(crate) const CLAIM: &str = "c1a10000-0000-4000-8000-000000000000";
pub(crate) const TEMPORARY: &str = "7e300000-0000-4000-8000-000000000000";
pub(crate) const POD: &str = "90d00000-0000-4000-8000-000000000000";
pub(crate) const NODE: &str = "node-1";
pub(crate) const DISK: &str = "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d";
pub(crate) const OTHER_DISK: &str = "07be0000-0000-4000-8000-000000000000";

/// Everything that one decision is made from.
#[derive(Debug, Clone)]
pub(crate) struct PlanCase {
    pub(crate) world: World,
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
}

/// One decision: what is different from a situation that others share, and what follows.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) base: fn() -> PlanCase,
    pub(crate) change: fn(&mut PlanCase),
    pub(crate) reason: Reason,
    pub(crate) actions: &'static [&'static str],
    pub(crate) events: &'static [&'static str],
}

pub(crate) fn check(rows: &[Row]) {
    for row in rows {
        let Row {
            name,
            reason,
            actions,
            events,
            ..
        } = row;
        let mut case = (row.base)();
        (row.change)(&mut case);
        let plan = case.plan();
        assert_eq!(plan.status.reason, *reason, "{name}: {plan:#?}");
        assert_eq!(words(&plan), *actions, "{name}: {plan:#?}");
        let emitted: Vec<&str> = plan.events.iter().map(|event| event.reason).collect();
        assert_eq!(emitted, *events, "{name}: {plan:#?}");
        // Planning is a function, and what was decided does not depend on when it is done.
        assert_eq!(case.plan(), plan, "{name}");
    }
}

pub(crate) fn nothing(_: &mut PlanCase) {}

impl PlanCase {
    pub(crate) fn plan(&self) -> Plan {
        self.try_plan().expect("a claim of ours")
    }

    pub(crate) fn try_plan(&self) -> Option<Plan> {
        population::plan(&self.world, &self.settings, self.now)
    }

    /// The claim sets a flag of its mover.
    pub(crate) fn claims(&mut self, flag: MoverFlag, value: &str) {
        let settings = self.world.claim.mover.as_mut().expect("valid settings");
        settings.set(flag, value).expect("a valid value");
    }

    pub(crate) fn pod(&mut self) -> &mut Pod {
        self.world.pod.as_mut().expect("a pod")
    }

    pub(crate) fn temporary(&mut self) -> &mut TemporaryClaim {
        self.world.temporary.as_mut().expect("a temporary claim")
    }

    pub(crate) fn volume(&mut self) -> &mut Volume {
        self.world.volume.as_mut().expect("a volume")
    }

    pub(crate) fn populator(&mut self) -> &mut PopulatorSpec {
        match &mut self.world.populator {
            Lookup::Found(populator) => populator,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn class(&mut self) -> &mut StorageClass {
        match &mut self.world.class {
            Lookup::Found(class) => class,
            other => panic!("{other:?}"),
        }
    }
}

/// The actions in words. There is one pod and one temporary claim; another one is named by its UID.
pub(crate) fn words(plan: &Plan) -> Vec<String> {
    let of = |what: &str, uid: &Uid| match uid.as_str() {
        TEMPORARY | POD => what.to_owned(),
        other => format!("{what} {other}"),
    };
    let word = |action: &Action| match action {
        Action::CreateTemporaryClaim(_) => "create temporary claim".to_owned(),
        Action::CreatePod(_) => "create pod".to_owned(),
        Action::AdoptTemporaryClaim { uid, .. } => of("adopt temporary claim", uid),
        Action::AdoptPod { uid, .. } => of("adopt pod", uid),
        Action::DeletePod { uid, .. } => of("delete pod", uid),
        Action::FailPod { uid, .. } => of("fail pod", uid),
        Action::ReleasePod { uid, position, .. } => {
            assert_eq!(*position, 0);
            of("release pod", uid)
        }
        Action::RecordNodeLost { lost, .. } => match lost {
            Some(lost) => of(&format!("{} lost", lost.node), &lost.pod),
            None => "node found".to_owned(),
        },
        Action::DeleteTemporaryClaim {
            uid,
            reason: DeleteReason::Populated,
            ..
        } => of("finish temporary claim", uid),
        Action::DeleteTemporaryClaim { uid, .. } => of("delete temporary claim", uid),
        Action::RebindVolume { volume, from, disk } => {
            assert_eq!(disk.as_deref(), Some(DISK));
            let what = format!("rebind {}@{}", volume.name, volume.resource_version);
            of(&what, from)
        }
        Action::RecordFailure { failure, .. } if failure.verdict.is_some() => "verdict".to_owned(),
        Action::RecordFailure { recreations, .. } => format!("record {recreations}"),
        Action::ForgetFailures => "forget".to_owned(),
        Action::RejectNode { node, .. } => format!("reject {node}"),
    };
    plan.actions.iter().map(word).collect()
}

pub(crate) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn ago(seconds: u64) -> Timestamp {
    now() - Duration::from_secs(seconds)
}

/// A claim, its resource and an immediate storage class; nothing was created yet.
pub(crate) fn fresh() -> PlanCase {
    let settings = Settings {
        images: BTreeMap::from([
            (Kind::Ovirt, "ovirt:1".to_owned()),
            (Kind::Openstack, "openstack:1".to_owned()),
        ]),
        ..Settings::default()
    };
    let world = World {
        claim: claim(),
        populator: Lookup::Found(ovirt()),
        grant: Grant::NotNeeded,
        class: Lookup::Found(StorageClass {
            name: "fast".to_owned(),
            provisioner: "csi.example.org".to_owned(),
            binding: Binding::Immediate,
        }),
        temporary: None,
        pod: None,
        pod_warning: None,
        provisioning_warning: None,
        is_short_of_quota: false,
        volume: None,
        nodes: Nodes::Known([node(NODE), node("node-2")].into()),
    };
    PlanCase {
        world,
        settings,
        now: now(),
    }
}

/// The same, with a storage class that waits for a consumer.
pub(crate) fn late_binding() -> PlanCase {
    let mut case = fresh();
    case.class().binding = Binding::WaitForFirstConsumer;
    case
}

/// The temporary claim is there, without a volume.
pub(crate) fn begun() -> PlanCase {
    let mut case = fresh();
    case.world.temporary = Some(TemporaryClaim {
        name: names::temporary_claim(CLAIM),
        uid: TEMPORARY.into(),
        owners: vec![CLAIM.into()],
        created: ago(60),
        is_labelled: true,
        terminating: None,
        phase: ClaimPhase::Pending,
        volume: None,
        selected_node: None,
        chosen_node: None,
        lost_pod: None,
    });
    case
}

/// The temporary claim is bound to its volume.
pub(crate) fn provisioned() -> PlanCase {
    let mut case = begun();
    let temporary = case.temporary();
    temporary.phase = ClaimPhase::Bound;
    temporary.volume = Some("pv-1".to_owned());
    case.world.volume = Some(Volume {
        name: "pv-1".to_owned(),
        resource_version: "7".to_owned(),
        created: ago(50),
        phase: VolumePhase::Bound,
        terminating: false,
        claim: Some(ClaimReference {
            namespace: "vms".to_owned(),
            name: names::temporary_claim(CLAIM),
            uid: TEMPORARY.into(),
        }),
        populated_from: None,
        populated_for: None,
        populated_disk: None,
        was_chosen: false,
        provisioned_for: None,
        is_annotated: true,
        node_terms: Vec::new(),
    });
    case
}

fn with_pod(mut case: PlanCase, phase: PodPhase) -> PlanCase {
    let temporary = case.world.temporary.clone().expect("a temporary claim");
    let populator = case.populator().clone();
    let object = objects::pod(&case.world.claim, &populator, &temporary, &case.settings);
    let mut object = object.expect("a pod");
    object.metadata.uid = Some(POD.to_owned());
    let mut pod = Pod::from_object(&object).expect("a pod with a name");
    pod.created = ago(10);
    pod.phase = phase;
    pod.node = (phase != PodPhase::Pending).then(|| NODE.to_owned());
    case.world.pod = Some(pod);
    case
}

/// The volume is there, the pod was created and has not started.
pub(crate) fn pending() -> PlanCase {
    with_pod(provisioned(), PodPhase::Pending)
}

/// The pod was created before its volume.
pub(crate) fn unprovisioned() -> PlanCase {
    with_pod(begun(), PodPhase::Pending)
}

/// The temporary claim was created for the node of the consumer, and has no volume yet.
pub(crate) fn chosen() -> PlanCase {
    let mut case = late_binding();
    case.world.temporary = begun().world.temporary;
    case.world.claim.selected_node = Some(NODE.to_owned());
    case.temporary().selected_node = Some(NODE.to_owned());
    case.temporary().chosen_node = Some(NODE.to_owned());
    case
}

/// Bytes are moving.
pub(crate) fn running() -> PlanCase {
    with_pod(provisioned(), PodPhase::Running)
}

/// The pod has written everything, and reports it.
pub(crate) fn succeeded() -> PlanCase {
    let mut case = with_pod(provisioned(), PodPhase::Succeeded);
    case.pod().ended = Some(complete());
    case
}

/// How a mover ends that has copied all of its disk.
pub(crate) fn complete() -> Ended {
    let mut report = Termination::new(Exit::Success, "copied 10.0 GiB");
    report.source_bytes = Some(10 << 30);
    report.copied_bytes = 10 << 30;
    Ended {
        exit_code: 0,
        at: Some(ago(1)),
        reason: "Completed".to_owned(),
        message: serde_json::to_string(&report).unwrap(),
    }
}

/// The pod has failed with this exit code and termination message.
pub(crate) fn failed(exit_code: i32, message: &str) -> PlanCase {
    let mut case = with_pod(provisioned(), PodPhase::Failed);
    case.pod().ended = Some(Ended {
        exit_code,
        at: None,
        reason: "Error".to_owned(),
        message: message.to_owned(),
    });
    case
}

/// The volume refers to the claim, which is not bound yet.
pub(crate) fn rebound() -> PlanCase {
    let mut case = succeeded();
    case.temporary().phase = ClaimPhase::Lost;
    let volume = case.volume();
    volume.resource_version = String::from("8");
    volume.populated_from = Some("vms/disk".to_owned());
    volume.populated_for = Some(CLAIM.into());
    volume.populated_disk = Some(DISK.to_owned());
    volume.claim = Some(ClaimReference {
        namespace: "vms".to_owned(),
        name: "root".to_owned(),
        uid: CLAIM.into(),
    });
    case
}

/// The claim is bound, and the temporary claim is lost.
pub(crate) fn bound() -> PlanCase {
    let mut case = rebound();
    case.world.claim.phase = ClaimPhase::Bound;
    case.world.claim.volume = Some("pv-1".to_owned());
    case.pod().finalizer = None;
    case
}

/// All is done.
pub(crate) fn done() -> PlanCase {
    let mut case = bound();
    case.world.temporary = None;
    case
}

/// The resource is replaced by one of the same name that names another disk.
pub(crate) fn replaced(case: &mut PlanCase) {
    let populator = case.populator();
    populator.uid = "another".into();
    let DiskLocation::Ovirt { disk, .. } = &mut populator.location else {
        panic!("{populator:?}");
    };
    OTHER_DISK.clone_into(disk);
}

pub(crate) fn claim() -> Claim {
    Claim {
        namespace: "vms".to_owned(),
        name: "root".to_owned(),
        uid: CLAIM.into(),
        created: ago(60),
        terminating: false,
        reference: Reference {
            group: "forklift.konveyor.io".to_owned(),
            kind: "OvirtVolumePopulator".to_owned(),
            name: "disk".to_owned(),
            namespace: None,
        },
        labels: strings(&[("migration", "m-1"), ("plan", "p-1"), ("vmID", "vm-1")]),
        class: Some("fast".to_owned()),
        access_modes: vec!["ReadWriteMany".to_owned()],
        requests: strings(&[("storage", "10Gi")]),
        limits: BTreeMap::new(),
        mode: VolumeMode::Block,
        attributes_class: None,
        has_selector: false,
        volume: None,
        bind_completed: false,
        phase: ClaimPhase::Pending,
        selected_node: None,
        rejected_nodes: Vec::new(),
        bind_immediately: false,
        migrated_to_csi: false,
        service_account: None,
        secret: None,
        verbatim: false,
        mover: Ok(MoverSettings::default()),
        attempts: Attempts::default(),
        retry: None,
    }
}

pub(crate) fn ovirt() -> PopulatorSpec {
    PopulatorSpec {
        namespace: "vms".to_owned(),
        name: "disk".to_owned(),
        uid: "50000000-0000-4000-8000-000000000000".into(),
        terminating: false,
        labels: strings(&[("migration", "m-1"), ("plan", "p-1"), ("vmID", "vm-1")]),
        location: DiskLocation::Ovirt {
            engine_url: "https://engine.example.org".to_owned(),
            secret: "engine".to_owned(),
            disk: DISK.to_owned(),
        },
        network: None,
    }
}

pub(crate) fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        labels: strings(&[("kubernetes.io/hostname", name)]),
        created: ago(86_400),
        ready: true,
        unready_since: None,
        unschedulable: false,
    }
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}
