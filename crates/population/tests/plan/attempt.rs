use std::time::Duration;

use jiff::SignedDuration;
use population::model::{ClaimPhase, Ended, Lookup, Network, Origin, PodPhase, VolumePhase};
use populator_api::Reason;

use crate::support::{
    Case, DISK, Row, TEMPORARY, ago, begun, check, nothing, now, pending, provisioned, rebound,
    replaced, running, succeeded, unprovisioned,
};

#[test]
fn from_the_temporary_claim_to_the_pod() {
    let rows: &[Row] = &[
        (
            "temporary claim, no pod",
            begun,
            nothing,
            Reason::PodPending,
            &["create pod"],
            &[],
        ),
        (
            "temporary claim with a volume",
            provisioned,
            nothing,
            Reason::PodPending,
            &["create pod"],
            &[],
        ),
        (
            "the volume is being deleted: no pod is made for it",
            provisioned,
            |case| case.volume().terminating = true,
            Reason::Clearing,
            &["delete claim 7e30"],
            &[],
        ),
        (
            "nothing new for a resource that is gone",
            provisioned,
            |case| case.world.source = Lookup::Missing,
            Reason::ResourceMissing,
            &[],
            &["PopulatorWaiting"],
        ),
        (
            "pod, no volume yet",
            unprovisioned,
            nothing,
            Reason::Provisioning,
            &[],
            &[],
        ),
        (
            "pod is starting",
            pending,
            nothing,
            Reason::PodPending,
            &[],
            &[],
        ),
        (
            "pod is running",
            running,
            nothing,
            Reason::Copying,
            &[],
            &[],
        ),
        (
            "running on when the resource is gone",
            running,
            |case| case.world.source = Lookup::Missing,
            Reason::Copying,
            &[],
            &[],
        ),
        (
            "running on when the resource is corrected",
            running,
            |case| {
                case.source().network = None;
                case.source().origin = Origin::Ovirt {
                    engine_url: "https://other.example.org".to_owned(),
                    secret: "other".to_owned(),
                    disk: DISK.to_owned(),
                };
            },
            Reason::Copying,
            &[],
            &[],
        ),
        (
            "not when it names another disk: the pod goes when its end was seen",
            running,
            replaced,
            Reason::Clearing,
            &["delete pod 90d0"],
            &["PopulatorSourceChanged"],
        ),
        (
            "nor is that pod taken account of",
            running,
            |case| {
                replaced(case);
                case.pod().terminating = Some(now());
                case.pod().phase = PodPhase::Failed;
            },
            Reason::Clearing,
            &["release pod 90d0"],
            &[],
        ),
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
        (
            "for less than a minute",
            pending,
            |case| {
                case.pod().created = ago(44);
                case.pod().waiting = Some("ImagePullBackOff: no such image".to_owned());
            },
            Reason::PodPending,
            &[],
            &[],
        ),
        (
            "no image",
            pending,
            |case| {
                case.pod().created = ago(45);
                case.pod().waiting = Some("ImagePullBackOff: no such image".to_owned());
            },
            Reason::PodStuck,
            &[],
            stuck,
        ),
        (
            "for no known cause",
            pending,
            |case| case.pod().created = ago(45),
            Reason::PodStuck,
            &[],
            stuck,
        ),
        (
            "without a volume",
            unprovisioned,
            |case| case.pod().created = ago(45),
            Reason::PodStuck,
            &[],
            stuck,
        ),
        (
            "the resource was corrected meanwhile",
            pending,
            |case| {
                case.source().origin = Origin::Ovirt {
                    engine_url: "https://engine.example.org".to_owned(),
                    secret: "the-right-one".to_owned(),
                    disk: "9a2f6a3c-30ac-4c33-9f27-1b4c1fd19c5d".to_owned(),
                };
            },
            Reason::Clearing,
            &["delete pod 90d0"],
            &[],
        ),
        (
            "the cluster attached the pod to a network of its own",
            pending,
            |case| case.pod().networks = Some("default/audit".to_owned()),
            Reason::PodPending,
            &[],
            &[],
        ),
        (
            "the network was taken out of the resource",
            pending,
            |case| {
                case.pod().networks = Some("nets/fast".to_owned());
                case.pod().transfer_network = Some("nets/fast".to_owned());
            },
            Reason::Clearing,
            &["delete pod 90d0"],
            &[],
        ),
        (
            "the network is another one with the same beginning",
            pending,
            |case| {
                case.source().network = Some(fast());
                case.pod().networks = Some("nets/fast-old".to_owned());
            },
            Reason::Clearing,
            &["delete pod 90d0"],
            &[],
        ),
        (
            "Forklift attached the pod to the network",
            pending,
            |case| {
                case.source().network = Some(fast());
                case.pod().networks = Some("default/audit, nets/fast".to_owned());
            },
            Reason::PodPending,
            &[],
            &[],
        ),
        (
            "the cluster wrote the pod's networks in another form",
            pending,
            |case| {
                case.source().network = Some(fast());
                case.pod().networks = Some(r#"[{"name": "fast"}]"#.to_owned());
                case.pod().transfer_network = Some("nets/fast".to_owned());
            },
            Reason::PodPending,
            &[],
            &[],
        ),
        (
            "another try was asked for meanwhile",
            pending,
            |case| case.world.claim.retry = Some("1".to_owned()),
            Reason::Clearing,
            &["delete pod 90d0"],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn the_best_cause_at_hand_is_told() {
    let mut case = pending();
    case.pod().created = ago(60);
    let told = |case: &Case| case.plan().events[0].message.clone();
    assert!(told(&case).ends_with("does not start: its node is preparing it"));
    case.pod().waiting = Some("ContainerCreating".to_owned());
    case.world.pod_warning = Some("FailedMount: secret \"engine\" not found".to_owned());
    assert!(told(&case).ends_with("FailedMount: secret \"engine\" not found"));
    case.pod().waiting = Some("ErrImagePull: unauthorized".to_owned());
    assert!(told(&case).ends_with("ErrImagePull: unauthorized"));
    case.pod().unschedulable = Some("Unschedulable: 0/1 nodes are available".to_owned());
    assert!(told(&case).ends_with("0/1 nodes are available"));
}

#[test]
fn a_pod_that_starts_slowly_is_looked_at_in_time() {
    let mut case = pending();
    case.pod().created = ago(20);
    assert_eq!(case.plan().again, Some(Duration::from_secs(25)));
}

#[test]
fn objects_that_go_away() {
    let rows: &[Row] = &[
        (
            "the temporary claim is deleted by hand while the pod runs",
            running,
            |case| case.temporary().terminating = true,
            Reason::Clearing,
            &["delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "and after the pod is done",
            succeeded,
            |case| case.temporary().terminating = true,
            Reason::Clearing,
            &["delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "and its pod is on its way out",
            running,
            |case| {
                case.temporary().terminating = true;
                case.pod().terminating = Some(now());
            },
            Reason::Clearing,
            &["release pod 90d0"],
            &[],
        ),
        (
            "a temporary claim on its way out gets no pod",
            provisioned,
            |case| case.temporary().terminating = true,
            Reason::Clearing,
            &[],
            &[],
        ),
        (
            "the temporary claim is gone: what its pod wrote is gone too",
            succeeded,
            |case| case.world.temporary = None,
            Reason::Clearing,
            &["delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "a pod of an earlier temporary claim has filled nothing of this one",
            succeeded,
            |case| case.temporary().uid = "another".to_owned(),
            Reason::Clearing,
            &["delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "the pod is deleted by hand",
            running,
            |case| case.pod().terminating = Some(now()),
            Reason::Clearing,
            &[],
            &[],
        ),
        (
            "the pod is preempted, or its node drained",
            running,
            |case| {
                case.pod().terminating = Some(now());
                case.pod().evicted = Some("PreemptionByScheduler: a more important pod".to_owned());
            },
            Reason::Retrying,
            &[],
            &["PopulatorRetrying"],
        ),
        (
            "the pod is gone",
            running,
            |case| case.world.pod = None,
            Reason::PodPending,
            &["create pod"],
            &[],
        ),
        (
            "the volume is gone",
            running,
            |case| {
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            Reason::VolumeLost,
            &[],
            &["PopulatorFailed"],
        ),
        (
            "the volume is gone, and there is no pod",
            provisioned,
            |case| {
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
            },
            Reason::Clearing,
            &["delete claim 7e30"],
            &[],
        ),
        (
            "the volume is gone, and somebody wants another try",
            running,
            |case| {
                case.temporary().phase = ClaimPhase::Lost;
                case.world.volume = None;
                case.world.claim.retry = Some("again".to_owned());
            },
            Reason::Clearing,
            &["delete pod 90d0", "delete claim 7e30"],
            &[],
        ),
        (
            "the temporary claim is lost by our own hand; the volume is seen as it was before",
            rebound,
            |case| {
                case.volume().phase = VolumePhase::Bound;
                case.volume().claim.as_mut().unwrap().uid = TEMPORARY.to_owned();
            },
            Reason::Rebinding,
            &["release pod 90d0"],
            &[],
        ),
    ];
    check(rows);
}

#[test]
fn forklifts_objects_are_adopted() {
    let forklifts: fn(&mut Case) = |case| {
        case.temporary().is_labelled = false;
        let pod = case.pod();
        pod.is_labelled = false;
        pod.temporary_claim = None;
        pod.finalizer = None;
    };
    let rows: &[Row] = &[
        (
            "mid-copy",
            running,
            forklifts,
            Reason::Copying,
            &["adopt claim 7e30", "adopt pod 90d0"],
            &[],
        ),
        (
            "after the copy",
            succeeded,
            forklifts,
            Reason::Rebinding,
            &[
                "adopt claim 7e30",
                "adopt pod 90d0",
                "rebind pv-1@7 from 7e30",
            ],
            &[],
        ),
        (
            "its pod had ended before there was this temporary claim: it has filled another volume",
            succeeded,
            |case| {
                case.pod().temporary_claim = None;
                let before = case.temporary().created - SignedDuration::from_mins(1);
                case.pod().ended = Some(Ended {
                    exit_code: 0,
                    at: Some(before),
                    reason: "Completed".to_owned(),
                    message: String::new(),
                });
            },
            Reason::Clearing,
            &["delete pod 90d0", "release pod 90d0"],
            &[],
        ),
        (
            "its claim before its pod",
            begun,
            |case| case.temporary().is_labelled = false,
            Reason::PodPending,
            &["adopt claim 7e30", "create pod"],
            &[],
        ),
        (
            "its pod before its claim: it has not started, and makes way",
            unprovisioned,
            |case| {
                case.world.temporary = None;
                case.pod().is_labelled = false;
                case.pod().temporary_claim = None;
                case.pod().finalizer = None;
            },
            Reason::Clearing,
            &["delete pod 90d0"],
            &[],
        ),
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
