use std::time::Duration;

use jiff::SignedDuration;
use population::model::{ClaimPhase, DiskLocation, Kind, Lookup, Network, PodPhase, VolumePhase};
use populator_api::Reason;

use crate::support::{
    DISK, PlanCase, Row, TEMPORARY, ago, begun, check, nothing, now, pending, provisioned, rebound,
    replaced, running, succeeded, unprovisioned,
};

#[test]
fn from_the_temporary_claim_to_the_pod() {
    let rows: &[Row] = &[
        Row {
            name: "temporary claim, no pod",
            base: begun,
            change: nothing,
            reason: Reason::PodPending,
            actions: &["create pod"],
            events: &[],
        },
        Row {
            name: "temporary claim with a volume",
            base: provisioned,
            change: nothing,
            reason: Reason::PodPending,
            actions: &["create pod"],
            events: &[],
        },
        Row {
            name: "the volume is being deleted: no pod is created for it",
            base: provisioned,
            change: |case| case.volume().terminating = true,
            reason: Reason::Clearing,
            actions: &["delete temporary claim"],
            events: &[],
        },
        Row {
            name: "nothing new for a resource that is gone",
            base: provisioned,
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::ResourceMissing,
            actions: &[],
            events: &["PopulatorWaiting"],
        },
        Row {
            name: "pod, no volume yet",
            base: unprovisioned,
            change: nothing,
            reason: Reason::Provisioning,
            actions: &[],
            events: &[],
        },
        Row {
            name: "pod is starting",
            base: pending,
            change: nothing,
            reason: Reason::PodPending,
            actions: &[],
            events: &[],
        },
        Row {
            name: "pod is running",
            base: running,
            change: nothing,
            reason: Reason::Copying,
            actions: &[],
            events: &[],
        },
        Row {
            name: "running on when the resource is gone",
            base: running,
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::Copying,
            actions: &[],
            events: &[],
        },
        Row {
            name: "running on when the resource is corrected",
            base: running,
            change: |case| {
                case.populator().network = None;
                case.populator().location = DiskLocation::Ovirt {
                    engine_url: "https://other.example.org".to_owned(),
                    secret: "other".to_owned(),
                    disk: DISK.to_owned(),
                };
            },
            reason: Reason::Copying,
            actions: &[],
            events: &[],
        },
        Row {
            name: "not when it names another disk: the pod is deleted when its end was seen",
            base: running,
            change: replaced,
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &["PopulatorSourceChanged"],
        },
        Row {
            name: "nor is that pod taken account of",
            base: running,
            change: |case| {
                replaced(case);
                case.pod().terminating = Some(now());
                case.pod().phase = PodPhase::Failed;
            },
            reason: Reason::Clearing,
            actions: &["release pod"],
            events: &[],
        },
    ];
    check(rows);
}

fn fast() -> Network {
    Network {
        namespace: "nets".to_owned(),
        name: "fast".to_owned(),
    }
}

#[test]
fn pods_that_do_not_start() {
    let stuck: &[&str] = &["PopulatorStuck"];
    let rows: &[Row] = &[
        Row {
            name: "for less than a minute",
            base: pending,
            change: |case| {
                case.pod().created = ago(44);
                case.pod().waiting = Some("ImagePullBackOff: no such image".to_owned());
            },
            reason: Reason::PodPending,
            actions: &[],
            events: &[],
        },
        Row {
            name: "no image",
            base: pending,
            change: |case| {
                case.pod().created = ago(45);
                case.pod().waiting = Some("ImagePullBackOff: no such image".to_owned());
            },
            reason: Reason::PodStuck,
            actions: &[],
            events: stuck,
        },
        Row {
            name: "for no known cause",
            base: pending,
            change: |case| case.pod().created = ago(45),
            reason: Reason::PodStuck,
            actions: &[],
            events: stuck,
        },
        Row {
            name: "without a volume",
            base: unprovisioned,
            change: |case| case.pod().created = ago(45),
            reason: Reason::PodStuck,
            actions: &[],
            events: stuck,
        },
        Row {
            name: "the resource was corrected meanwhile",
            base: pending,
            change: |case| {
                case.populator().location = DiskLocation::Ovirt {
                    engine_url: "https://engine.example.org".to_owned(),
                    secret: "the-right-one".to_owned(),
                    disk: "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d".to_owned(),
                };
            },
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "the resource names another disk meanwhile",
            base: pending,
            change: replaced,
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &["PopulatorSourceChanged"],
        },
        Row {
            name: "the cluster attached the pod to a network of its own",
            base: pending,
            change: |case| case.pod().networks = Some("default/audit".to_owned()),
            reason: Reason::PodPending,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the network was taken out of the resource",
            base: pending,
            change: |case| {
                case.pod().networks = Some("nets/fast".to_owned());
                case.pod().transfer_network = Some("nets/fast".to_owned());
            },
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "the network is another one with the same beginning",
            base: pending,
            change: |case| {
                case.populator().network = Some(fast());
                case.pod().networks = Some("nets/fast-old".to_owned());
            },
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "Forklift attached the pod to the network",
            base: pending,
            change: |case| {
                case.populator().network = Some(fast());
                case.pod().networks = Some("default/audit, nets/fast".to_owned());
            },
            reason: Reason::PodPending,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the cluster wrote the pod's networks in another form",
            base: pending,
            change: |case| {
                case.populator().network = Some(fast());
                case.pod().networks = Some(r#"[{"name": "fast"}]"#.to_owned());
                case.pod().transfer_network = Some("nets/fast".to_owned());
            },
            reason: Reason::PodPending,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the image was corrected meanwhile",
            base: pending,
            change: |case| {
                case.settings
                    .images
                    .insert(Kind::Ovirt, "ovirt:2".to_owned());
            },
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "the memory was corrected meanwhile",
            base: unprovisioned,
            change: |case| case.settings.memory.request = "256Mi".to_owned(),
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "the service account was corrected meanwhile",
            base: pending,
            change: |case| case.world.claim.service_account = Some("mover".to_owned()),
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "an earlier release of this controller created it",
            base: pending,
            change: |case| case.pod().spec_hash = None,
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
        Row {
            name: "Forklift created it",
            base: pending,
            change: |case| {
                case.pod().spec_hash = None;
                case.pod().temporary_claim = None;
            },
            reason: Reason::PodPending,
            actions: &[],
            events: &[],
        },
        Row {
            name: "what has started runs on, whatever the settings say",
            base: running,
            change: |case| {
                case.settings
                    .images
                    .insert(Kind::Ovirt, "ovirt:2".to_owned());
            },
            reason: Reason::Copying,
            actions: &[],
            events: &[],
        },
        Row {
            name: "its resource is gone, or not seen yet",
            base: pending,
            change: |case| case.world.populator = Lookup::Missing,
            reason: Reason::ResourceMissing,
            actions: &[],
            events: &["PopulatorWaiting"],
        },
        Row {
            name: "its resource is gone: nothing was copied yet",
            base: pending,
            change: |case| {
                case.pod().created = ago(3600);
                case.world.populator = Lookup::Missing;
            },
            reason: Reason::ResourceMissing,
            actions: &["delete pod"],
            events: &["PopulatorWaiting"],
        },
        Row {
            name: "its resource is being deleted",
            base: unprovisioned,
            change: |case| {
                case.pod().created = ago(3600);
                case.populator().terminating = true;
            },
            reason: Reason::ResourceMissing,
            actions: &["delete pod"],
            events: &["PopulatorWaiting"],
        },
        Row {
            name: "another try was asked for meanwhile",
            base: pending,
            change: |case| case.world.claim.retry = Some("1".to_owned()),
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn the_best_cause_at_hand_is_reported() {
    let mut case = pending();
    case.pod().created = ago(60);
    let message = |case: &PlanCase| case.plan().events[0].message.clone();
    assert!(message(&case).ends_with("does not start: its node is preparing it"));
    case.pod().waiting = Some("ContainerCreating".to_owned());
    case.world.pod_warning = Some("FailedMount: secret \"engine\" not found".to_owned());
    assert!(message(&case).ends_with("FailedMount: secret \"engine\" not found"));
    case.pod().waiting = Some("ErrImagePull: unauthorized".to_owned());
    assert!(message(&case).ends_with("ErrImagePull: unauthorized"));
    case.pod().unschedulable = Some("Unschedulable: 0/1 nodes are available".to_owned());
    assert!(message(&case).ends_with("0/1 nodes are available"));
}

#[test]
fn a_pod_that_starts_slowly_is_requeued_in_time() {
    let mut case = pending();
    case.pod().created = ago(20);
    assert_eq!(case.plan().requeue_after, Some(Duration::from_secs(25)));
}

#[test]
fn objects_that_go_away() {
    let rows: &[Row] = &[
        Row {
            name: "the temporary claim is deleted by a user while the pod runs",
            base: running,
            change: |case| case.temporary().terminating = Some(now()),
            reason: Reason::Clearing,
            actions: &["delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "and after the pod is done",
            base: succeeded,
            change: |case| case.temporary().terminating = Some(now()),
            reason: Reason::Clearing,
            actions: &["delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "and its pod terminates",
            base: running,
            change: |case| {
                case.temporary().terminating = Some(now());
                case.pod().terminating = Some(now());
            },
            reason: Reason::Clearing,
            actions: &["release pod"],
            events: &[],
        },
        Row {
            name: "a temporary claim that terminates gets no pod",
            base: provisioned,
            change: |case| case.temporary().terminating = Some(now()),
            reason: Reason::Clearing,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the temporary claim is gone: what its pod wrote is gone too",
            base: succeeded,
            change: |case| case.world.temporary = None,
            reason: Reason::Clearing,
            actions: &["delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "a pod of an earlier temporary claim has filled nothing of this one",
            base: succeeded,
            change: |case| case.temporary().uid = "another".into(),
            reason: Reason::Clearing,
            actions: &["delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "the pod is deleted by a user",
            base: running,
            change: |case| case.pod().terminating = Some(now()),
            reason: Reason::Clearing,
            actions: &[],
            events: &[],
        },
        Row {
            name: "the pod is preempted, or its node drained",
            base: running,
            change: |case| {
                case.pod().terminating = Some(now());
                case.pod().evicted = Some("PreemptionByScheduler: a more important pod".to_owned());
            },
            reason: Reason::Retrying,
            actions: &[],
            events: &["PopulatorRetrying"],
        },
        Row {
            name: "the pod is gone",
            base: running,
            change: |case| case.world.pod = None,
            reason: Reason::PodPending,
            actions: &["create pod"],
            events: &[],
        },
        Row {
            name: "the volume is gone",
            base: running,
            change: |case| {
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            reason: Reason::VolumeLost,
            actions: &[],
            events: &["PopulatorFailed"],
        },
        Row {
            name: "the volume is gone, and there is no pod",
            base: provisioned,
            change: |case| {
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            reason: Reason::Clearing,
            actions: &["delete temporary claim"],
            events: &[],
        },
        Row {
            name: "the volume is gone, and the user requests another attempt",
            base: running,
            change: |case| {
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
                case.world.claim.retry = Some("again".to_owned());
            },
            reason: Reason::Clearing,
            actions: &["delete pod", "delete temporary claim"],
            events: &[],
        },
        Row {
            name: "our rebind made the temporary claim lost; the volume is seen as it was before",
            base: rebound,
            change: |case| {
                case.volume().phase = VolumePhase::Bound;
                case.volume().claim.as_mut().unwrap().uid = TEMPORARY.into();
            },
            reason: Reason::Rebinding,
            actions: &["release pod"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn forklifts_objects_are_adopted() {
    let forklifts: fn(&mut PlanCase) = |case| {
        case.temporary().is_labelled = false;
        let pod = case.pod();
        pod.is_labelled = false;
        pod.temporary_claim = None;
        pod.finalizer = None;
    };
    let rows: &[Row] = &[
        Row {
            name: "mid-copy",
            base: running,
            change: forklifts,
            reason: Reason::Copying,
            actions: &["adopt temporary claim", "adopt pod"],
            events: &[],
        },
        Row {
            name: "after the copy",
            base: succeeded,
            change: forklifts,
            reason: Reason::Rebinding,
            actions: &["adopt temporary claim", "adopt pod", "rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "the same, on a node whose clock is slow",
            base: succeeded,
            change: |case| {
                case.pod().temporary_claim = None;
                case.pod().finalizer = None;
                let ended = case.pod().ended.as_mut().unwrap();
                ended.at = Some(ago(86_400));
                ended.message.clear();
            },
            reason: Reason::Rebinding,
            actions: &["rebind pv-1@7"],
            events: &[],
        },
        Row {
            name: "its pod is older than this temporary claim: it has filled another volume",
            base: succeeded,
            change: |case| {
                case.pod().temporary_claim = None;
                case.pod().created = case.temporary().created - SignedDuration::from_mins(1);
            },
            reason: Reason::Clearing,
            actions: &["delete pod", "release pod"],
            events: &[],
        },
        Row {
            name: "its claim before its pod",
            base: begun,
            change: |case| case.temporary().is_labelled = false,
            reason: Reason::PodPending,
            actions: &["adopt temporary claim", "create pod"],
            events: &[],
        },
        Row {
            name: "its pod before its claim: it has not started, and is deleted",
            base: unprovisioned,
            change: |case| {
                case.world.temporary = None;
                case.pod().is_labelled = false;
                case.pod().temporary_claim = None;
                case.pod().finalizer = None;
            },
            reason: Reason::Clearing,
            actions: &["delete pod"],
            events: &[],
        },
    ];
    check(rows);
}

#[test]
fn an_unknown_phase_is_no_end() {
    let mut case = running();
    case.pod().phase = PodPhase::Running;
    case.pod().node = None;
    assert_eq!(case.plan().status.reason, Reason::Copying);
}
