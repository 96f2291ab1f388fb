//! Everything that a cluster that behaves does not do: faults of machines and networks, users,
//! administrators, and other controllers.

use std::rc::Rc;

use crate::{
    api::{delete_pod, force_delete_pod},
    check::excuse,
    kubelet,
    kubernetes::{is_up, may_give_up},
    planner::Planner,
    state::{
        Binding, End, FIRST, FOREIGN, Id, Life, NODES, Node, Owner, Phase, Pod, PodPhase, State,
        Target, Volume, VolumePhase,
    },
    step::Step,
};

/// A kind of disturbance; a search allows some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The controller ends between two writes.
    Crash,
    /// A write is done and its answer is lost, or it does not arrive.
    Answers,
    /// A quota or a policy rejects a creation.
    Refusal,
    /// The watch of a kind falls behind.
    Stall,
    /// The watch of volumes falls behind.
    StallVolumes,
    /// The external-provisioner gives a node up.
    GiveUp,
    /// No more volumes fit on a node.
    FullNode,
    /// The mover fails.
    Mover,
    /// A program that is no mover ends with 0.
    Silent,
    /// A drain evicts the pod, or the kubelet does.
    Evict,
    /// The user deletes the pod.
    Pod,
    /// The user deletes the pod by force, or removes its finalizer.
    ForcePod,
    /// The user deletes the temporary claim.
    Temporary,
    /// The user removes the finalizers of the temporary claim as well.
    ForceTemporary,
    /// The user deletes the target, and may create it again.
    Target,
    /// The user deletes or edits the resource.
    Resource,
    /// A user deletes the volume.
    Volume,
    /// An administrator recycles a released volume.
    Recycle,
    /// Another controller gives the volume to the target.
    Steal,
    /// A node loses the API server, or its power.
    Node,
    /// An administrator deletes a node that does not answer.
    DeleteNode,
    Cordon,
    /// The secret is missing for a time.
    Secret,
    /// The user asks for another attempt.
    Retry,
}

/// What costs a part of the budget.
pub(crate) fn possible(
    state: &State,
    planner: &Planner,
    allowed: &[Kind],
    steps: &mut Vec<(Kind, Step)>,
) {
    let start = steps.len();
    of_pods(state, steps);
    of_claims(state, planner, steps);
    of_volumes(state, steps);
    of_nodes(state, steps);
    for (user, resource) in state.api.resources.iter().enumerate() {
        if !state.ghost.broken[user] {
            steps.push((Kind::Secret, Step::SetSecret(user, false)));
        }
        if let Some(disk) = resource {
            steps.push((Kind::Resource, Step::SetResource(user, None)));
            steps.push((Kind::Resource, Step::SetResource(user, Some(3 - disk))));
        }
    }
    for kept in (start..steps.len()).rev() {
        if !allowed.contains(&steps[kept].0) {
            steps.remove(kept);
        }
    }
}

/// What the user may do at any time without a disturbance: give back what was taken.
pub(crate) fn free(state: &State, steps: &mut Vec<Step>) {
    for (user, resource) in state.api.resources.iter().enumerate() {
        if state.ghost.broken[user] {
            steps.push(Step::SetSecret(user, true));
        }
        if resource.is_none() {
            steps.extend([1, 2].map(|disk| Step::SetResource(user, Some(disk))));
        }
        let mut targets = state.api.claims.targets.iter();
        if targets.all(|target| target.user != user) && state.next_target < FIRST {
            steps.push(Step::CreateTarget(user));
        }
    }
}

fn of_pods(state: &State, steps: &mut Vec<(Kind, Step)>) {
    for writer in &state.ghost.writers {
        if writer.done.is_none() && is_up(state, writer.node) {
            let ends = [End::Transient, End::Permanent];
            steps.extend(ends.map(|end| (Kind::Mover, Step::Finish(writer.pod, end))));
            steps.push((Kind::Silent, Step::Finish(writer.pod, End::Silent)));
        }
    }
    for pod in state.api.pods.iter() {
        if pod.terminating.is_none() {
            steps.push((Kind::Pod, Step::DeletePod(pod.uid)));
            if matches!(pod.phase, PodPhase::Pending | PodPhase::Running) && pod.node.is_some() {
                steps.push((Kind::Evict, Step::Evict(pod.uid)));
                if pod.node.is_some_and(|node| is_up(state, node)) {
                    steps.push((Kind::Evict, Step::EvictByNode(pod.uid)));
                }
            }
        }
        if !pod.forced {
            steps.push((Kind::ForcePod, Step::ForceDeletePod(pod.uid)));
        }
        // A cleaner that takes finalizers away from what has ended. Who takes it from a pod that
        // runs, and deletes that by force, asks for two writers.
        if pod.finalizer && pod.ended.is_some() {
            steps.push((Kind::ForcePod, Step::StripPod(pod.uid)));
        }
    }
}

fn of_claims(state: &State, planner: &Planner, steps: &mut Vec<(Kind, Step)>) {
    for temporary in &state.api.claims.temporaries {
        if temporary.terminating.is_none() {
            steps.push((Kind::Temporary, Step::DeleteTemporary(temporary.owner)));
        }
        steps.push((Kind::ForceTemporary, Step::StripTemporary(temporary.owner)));
    }
    for target in &state.api.claims.targets {
        if !target.terminating {
            steps.push((Kind::Target, Step::DeleteTarget(target.uid)));
        }
        if target.retry < 2 {
            steps.push((Kind::Retry, Step::Retry(target.uid)));
        }
    }
    for temporary in may_give_up(state, planner) {
        steps.push((Kind::GiveUp, Step::GiveNodeUp(temporary.owner)));
    }
}

fn of_volumes(state: &State, steps: &mut Vec<(Kind, Step)>) {
    for volume in state.api.volumes.iter() {
        if !volume.terminating {
            steps.push((Kind::Volume, Step::DeleteVolume(volume.id)));
        }
        if volume.phase == VolumePhase::Released {
            steps.push((Kind::Recycle, Step::Recycle(volume.id)));
        }
        if matches!(volume.owner, Some(Owner::Temporary { .. })) {
            steps.push((Kind::Steal, Step::Steal(volume.id)));
        }
    }
}

fn of_nodes(state: &State, steps: &mut Vec<(Kind, Step)>) {
    for (node, life) in (0..).zip(state.ghost.life) {
        let seen = state.api.nodes[usize::from(node)];
        if life == Life::Up && seen.exists {
            steps.push((Kind::Node, Step::LoseNode(node, Life::Cut)));
            steps.push((Kind::Node, Step::LoseNode(node, Life::Off)));
            // One node stays, or no pod could ever run.
            if node == 0 && !seen.cordoned {
                steps.push((Kind::Cordon, Step::Cordon(node)));
            }
            if node == 0 && !state.ghost.full[usize::from(node)] {
                steps.push((Kind::FullNode, Step::FillNode(node)));
            }
        } else if seen.exists {
            steps.push((Kind::DeleteNode, Step::DeleteNode(node)));
        }
    }
}

pub(crate) fn apply(state: &mut State, planner: &Planner, step: &Step) {
    match *step {
        Step::SetResource(user, disk) => {
            Rc::make_mut(&mut state.api.resources)[user] = disk;
            state.ghost.excuses[user] |= excuse::RESOURCE;
            forget_verdicts(state, user);
        }
        Step::CreateTarget(user) => create_target(state, user),
        Step::DeletePod(uid) => delete_pod(state, uid),
        Step::ForceDeletePod(uid) => {
            excuse_owner_of_pod(state, uid);
            force_delete_pod(state, uid);
        }
        Step::Evict(uid) => {
            if let Some(pod) = state.api.pod_mut(uid) {
                pod.evicted = true;
            }
            delete_pod(state, uid);
        }
        Step::EvictByNode(uid) => {
            state.ghost.writers.retain(|writer| writer.pod != uid);
            if let Some(pod) = state.api.pod_mut(uid) {
                pod.evicted = true;
                pod.phase = PodPhase::Failed;
            }
        }
        Step::StripPod(uid) => {
            excuse_owner_of_pod(state, uid);
            forget_unseen(state, owner_of(state, uid));
            if let Some(pod) = state.api.pod_mut(uid) {
                pod.finalizer = false;
            }
            Rc::make_mut(&mut state.api.pods).retain(|pod| pod.uid != uid || !pod.forced);
        }
        Step::DeleteTemporary(of) => {
            excuse_target(state, of, excuse::TEMPORARY);
            forget_unseen(state, of);
            if let Some(temporary) = state.api.temporary_mut(of) {
                temporary.delete();
            }
        }
        Step::StripTemporary(of) => {
            excuse_target(state, of, excuse::TEMPORARY);
            forget_unseen(state, of);
            let claims = Rc::make_mut(&mut state.api.claims);
            claims.temporaries.retain(|temporary| temporary.owner != of);
        }
        Step::DeleteTarget(uid) => {
            if let Some(target) = state.api.target_mut(uid) {
                target.terminating = true;
            }
        }
        Step::DeleteVolume(id) => {
            excuse_all(state, excuse::VOLUME);
            if let Some(volume) = state.api.volume_mut(id) {
                volume.terminating = true;
            }
        }
        Step::Recycle(id) => {
            excuse_all(state, excuse::VOLUME);
            if let Some(volume) = state.api.volume_mut(id) {
                volume.owner = None;
                volume.phase = VolumePhase::Free;
            }
        }
        Step::Steal(id) => steal(state, id),
        Step::LoseNode(node, life) => state.ghost.life[usize::from(node)] = life,
        Step::DeleteNode(node) => {
            excuse_all(state, excuse::NODE);
            state.api.nodes[usize::from(node)].exists = false;
        }
        Step::Cordon(node) => state.api.nodes[usize::from(node)].cordoned = true,
        Step::FillNode(node) => state.ghost.full[usize::from(node)] = true,
        Step::SetSecret(user, is_there) => {
            state.ghost.broken[user] = !is_there;
            state.ghost.excuses[user] |= excuse::SECRET;
            forget_verdicts(state, user);
        }
        Step::Retry(uid) => {
            if let Some(target) = state.api.target_mut(uid) {
                target.retry += 1;
            }
            state.ghost.verdicts.retain(|it| *it != uid);
        }
        Step::Finish(pod, end) => fail_mover(state, planner, pod, end),
        _ => unreachable!("not a disturbance: {step:?}"),
    }
}

pub(crate) fn create_target(state: &mut State, user: usize) {
    let uid = state.next_target;
    state.next_target += 1;
    Rc::make_mut(&mut state.api.claims).targets.push(Target {
        uid,
        user,
        terminating: false,
        binding: Binding::default(),
        node: None,
        rejected: Vec::new(),
        recreations: 0,
        failure: None,
        retry: 0,
    });
}

/// A node is switched off and never returns; the others take pods.
pub(crate) fn delete_for_good(state: &mut State, node: usize) {
    for node in &mut state.api.nodes {
        node.cordoned = false;
    }
    state.ghost.full = [false; NODES];
    excuse_all(state, excuse::NODE);
    state.ghost.life[node] = Life::Off;
    state.api.nodes[node] = Node {
        exists: false,
        ..Node::default()
    };
}

/// Something that is none of ours has created the target with its volume.
pub(crate) fn restore(state: &mut State, target: Id) {
    let id = state.fresh();
    Rc::make_mut(&mut state.api.volumes).push(Volume {
        id,
        version: 0,
        phase: VolumePhase::Bound,
        terminating: false,
        owner: Some(Owner::Target(target)),
        from: None,
        populated_for: None,
        disk: None,
        chosen: false,
        era: target,
        reach: None,
    });
    if let Some(target) = state.api.target_mut(target) {
        target.binding = Binding {
            volume: Some(id),
            phase: Phase::Bound,
        };
    }
}

fn excuse_all(state: &mut State, excuse: u8) {
    for excuses in &mut state.ghost.excuses {
        *excuses |= excuse;
    }
}

/// What failed for good is tried again where the controller could not see it.
pub(crate) fn forget_unseen(state: &mut State, target: Id) {
    let State { api, ghost, .. } = state;
    if api.pod_of(target).is_some_and(|pod| pod.finalizer) {
        ghost.verdicts.retain(|uid| *uid != target);
    }
}

pub(crate) fn owner_of(state: &State, uid: Id) -> Id {
    state.api.pod(uid).map_or(FOREIGN, |pod| pod.owner)
}

/// What has changed may make another attempt succeed.
fn forget_verdicts(state: &mut State, user: usize) {
    let State { api, ghost, .. } = state;
    let is_of = |uid: Id| api.target(uid).is_some_and(|target| target.user == user);
    ghost.verdicts.retain(|uid| !is_of(*uid));
}

fn excuse_target(state: &mut State, target: Id, excuse: u8) {
    if let Some(user) = state.api.target(target).map(|target| target.user) {
        state.ghost.excuses[user] |= excuse;
    }
}

fn excuse_owner_of_pod(state: &mut State, uid: Id) {
    let owner = state
        .api
        .pods
        .iter()
        .find(|pod| pod.uid == uid)
        .map(|pod| pod.owner);
    if let Some(owner) = owner {
        excuse_target(state, owner, excuse::RESULT);
    }
}

/// Another controller or an administrator gives a volume to the target that is being filled.
fn steal(state: &mut State, id: Id) {
    excuse_all(state, excuse::VOLUME);
    let owner = state.api.volume(id).and_then(|volume| volume.owner);
    let Some(Owner::Temporary { of, .. }) = owner else {
        return;
    };
    if let Some(volume) = state.api.volume_mut(id) {
        volume.owner = Some(Owner::Target(of));
    }
}

fn fail_mover(state: &mut State, planner: &Planner, uid: Id, end: End) {
    let mut pods = state.api.pods.iter();
    let pod = pods.find(|pod| pod.uid == uid).cloned();
    if let Some(pod) = pod.filter(|_| end == End::Permanent) {
        excuse_target(state, pod.owner, excuse::MOVER);
        if is_current(state, planner, &pod) {
            let verdicts = &mut state.ghost.verdicts;
            verdicts.retain(|it| *it != pod.owner);
            verdicts.push(pod.owner);
            verdicts.sort_unstable();
        }
    }
    state.count_failure(uid);
    kubelet::finish(state, uid, end);
}

/// Whether the pod was created from what its resource and its claim say now, and nothing of it is
/// being deleted: if not, another attempt follows anyway.
fn is_current(state: &State, planner: &Planner, pod: &Pod) -> bool {
    let template = planner.template(pod.template);
    let temporary = state.api.temporary_of(pod.owner);
    let is_kept = temporary.is_some_and(|it| it.uid == pod.temporary && it.terminating.is_none());
    let is_kept = is_kept && pod.terminating.is_none();
    is_kept
        && state.api.target(pod.owner).is_some_and(|target| {
            let named = state.api.resources[target.user];
            named.is_none_or(|disk| disk == template.disk) && target.retry == template.retry
        })
}
