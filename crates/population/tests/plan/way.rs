//! The whole way of a claim, with Kubernetes played in a few lines.

use population::{
    model::{
        Binding, Claim, ClaimPhase, ClaimReference, Pod, PodPhase, TemporaryClaim, Volume,
        VolumePhase,
    },
    plan::Action,
};
use populator_api::Reason;

use crate::support::{
    CLAIM, NODE, POD, PlanCase, TEMPORARY, complete, failed, fresh, late_binding, words,
};

/// Does one action, as the API server would.
fn apply(case: &mut PlanCase, action: Action) {
    let world = &mut case.world;
    match action {
        Action::CreateTemporaryClaim(mut object) => {
            assert!(world.temporary.is_none());
            object.metadata.uid = Some(TEMPORARY.to_owned());
            world.temporary = TemporaryClaim::from_object(&object);
        }
        Action::CreatePod(mut object) => {
            assert!(world.pod.is_none());
            object.metadata.uid = Some(POD.to_owned());
            world.pod = Pod::from_object(&object);
        }
        Action::DeletePod { uid, .. } => {
            let pod = world.pod.as_mut().unwrap();
            assert_eq!(pod.uid, uid);
            pod.terminating = Some(case.now);
            if pod.finalizer.is_none() {
                world.pod = None;
            }
        }
        Action::ReleasePod { uid, .. } => {
            let pod = world.pod.as_mut().unwrap();
            assert_eq!((&pod.uid, pod.finalizer.take()), (&uid, Some(0)));
            if pod.terminating.is_some() {
                world.pod = None;
            }
        }
        Action::DeleteTemporaryClaim { uid, .. } => {
            assert_eq!(world.temporary.take().unwrap().uid, uid);
        }
        Action::RebindVolume { volume, from, disk } => {
            let seen = world.volume.as_mut().unwrap();
            assert_eq!(*seen, *volume);
            assert_eq!(seen.claim.as_ref().unwrap().uid, from);
            seen.claim = Some(reference(&world.claim));
            seen.populated_from = Some("vms/disk".to_owned());
            seen.populated_for = Some(world.claim.uid.clone());
            seen.populated_disk = disk;
            seen.resource_version = String::from("8");
        }
        Action::RecordFailure {
            recreations,
            failure,
        } => {
            world.claim.attempts.recreations = recreations;
            world.claim.attempts.last_failure = Some(failure);
        }
        other => panic!("not on this way: {other:?}"),
    }
}

/// The next thing that Kubernetes does by itself; `false` when there is nothing left.
fn kubernetes(case: &mut PlanCase) -> bool {
    let world = &mut case.world;
    let target = reference(&world.claim);
    if world.claim.class.is_some()
        && world.claim.selected_node.is_none()
        && matches!(&world.class, population::model::Lookup::Found(class)
            if class.binding == Binding::WaitForFirstConsumer)
    {
        world.claim.selected_node = Some(NODE.to_owned());
        return true;
    }
    if let Some(temporary) = &mut world.temporary {
        match &mut world.volume {
            None => {
                world.volume = Some(Volume {
                    name: "pv-1".to_owned(),
                    resource_version: "7".to_owned(),
                    created: case.now,
                    phase: VolumePhase::Bound,
                    terminating: false,
                    claim: Some(ClaimReference {
                        uid: TEMPORARY.into(),
                        ..target
                    }),
                    populated_from: None,
                    populated_for: None,
                    populated_disk: None,
                    was_chosen: false,
                    provisioned_for: None,
                    is_annotated: true,
                    node_terms: Vec::new(),
                });
                return true;
            }
            Some(_) if temporary.phase == ClaimPhase::Pending => {
                temporary.phase = ClaimPhase::Bound;
                temporary.volume = Some("pv-1".to_owned());
                return true;
            }
            Some(volume)
                if volume.claim.as_ref() == Some(&target) && world.claim.volume.is_none() =>
            {
                world.claim.volume = Some("pv-1".to_owned());
                return true;
            }
            Some(_) if world.claim.volume.is_some() && world.claim.phase != ClaimPhase::Bound => {
                world.claim.phase = ClaimPhase::Bound;
                return true;
            }
            Some(_)
                if world.claim.phase == ClaimPhase::Bound
                    && temporary.phase == ClaimPhase::Bound =>
            {
                temporary.phase = ClaimPhase::Lost;
                return true;
            }
            Some(_) => {}
        }
        if let Some(pod) = &mut world.pod {
            pod.phase = match pod.phase {
                PodPhase::Pending => PodPhase::Running,
                PodPhase::Running => PodPhase::Succeeded,
                ended => return ended == PodPhase::Failed,
            };
            pod.node = Some(NODE.to_owned());
            pod.ended = (pod.phase == PodPhase::Succeeded).then(complete);
            return true;
        }
    }
    false
}

fn reference(claim: &Claim) -> ClaimReference {
    ClaimReference {
        namespace: claim.namespace.clone(),
        name: claim.name.clone(),
        uid: CLAIM.into(),
    }
}

/// Plans and acts until nothing is left to do, and gives what was done. With `crash`, the
/// controller dies after the first action of each plan.
fn drive(case: &mut PlanCase, crash: bool) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..100 {
        let plan = case.plan();
        let most = if crash { 1 } else { usize::MAX };
        done.extend(words(&plan).into_iter().take(most));
        let idle = plan.actions.is_empty();
        for action in plan.actions.into_iter().take(most) {
            apply(case, action);
        }
        if idle && !kubernetes(case) {
            let requeue = plan.requeue_after.filter(|_| case.world.pod.is_none());
            match requeue {
                Some(pause) => case.now += pause,
                None => return done,
            }
        }
    }
    panic!("no end: {done:?}");
}

const WAY: [&str; 5] = [
    "create temporary claim",
    "create pod",
    "rebind pv-1@7",
    "release pod",
    "finish temporary claim",
];

#[test]
fn from_nothing_to_a_populated_claim() {
    for base in [fresh, late_binding] {
        for crash in [false, true] {
            let mut case = base();
            assert_eq!(drive(&mut case, crash), WAY);
            assert_eq!(case.plan().status.reason, Reason::Populated);
            assert!(case.world.temporary.is_none(), "nothing leaks");
        }
    }
}

#[test]
fn by_way_of_a_failure() {
    for crash in [false, true] {
        let mut case = failed(30, "");
        assert_eq!(
            drive(&mut case, crash),
            [
                "record 1",
                "delete pod",
                "release pod",
                WAY[1],
                WAY[2],
                WAY[3],
                WAY[4]
            ]
        );
        assert_eq!(case.world.claim.attempts.recreations, 1);
    }
}
