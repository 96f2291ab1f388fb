//! What Kubernetes does by itself: the binding controller for volumes, the external-provisioner,
//! the scheduler and the garbage collector.

use std::rc::Rc;

use crate::{
    api::delete_pod,
    check::{self, Violation},
    planner::Planner,
    state::{
        Binding, Content, Id, Life, NODES, NodeId, Owner, Phase, PodPhase, State, Temporary,
        Volume, VolumePhase,
    },
    step::Step,
};

/// The steps that are possible, those that come first in a cluster that behaves before the others.
pub(crate) fn possible(state: &State, planner: &Planner, steps: &mut Vec<Step>) {
    let api = &state.api;
    for volume in api.volumes.iter() {
        let binding = volume.owner.and_then(|owner| api.binding_of(owner));
        match (volume.owner, binding) {
            (Some(Owner::Foreign), _) | (None, None) => {}
            (Some(_), None) if volume.phase != VolumePhase::Released => {
                steps.push(Step::Release(volume.id));
            }
            (Some(_), Some(binding)) if is_bindable(binding, volume) => {
                steps.push(Step::Bind(volume.id));
            }
            _ => {}
        }
        let is_unused = volume.owner.is_none() || volume.phase == VolumePhase::Released;
        let is_reclaimed = volume.phase == VolumePhase::Released && !planner.class.retains;
        if is_reclaimed || (volume.terminating && is_unused) {
            steps.push(Step::RemoveVolume(volume.id));
        }
    }
    for target in &api.claims.targets {
        possible_of_claim(state, Owner::Target(target.uid), target.binding, steps);
        if target.terminating {
            steps.push(Step::RemoveTarget(target.uid));
        }
    }
    for temporary in &api.claims.temporaries {
        let owner = Owner::Temporary {
            uid: temporary.uid,
            of: temporary.owner,
        };
        possible_of_claim(state, owner, temporary.binding, steps);
        let is_orphan = api.target(temporary.owner).is_none();
        let mut pods = api.pods.iter().filter(|pod| pod.owner == temporary.owner);
        if temporary.terminating.is_some() && !pods.any(|pod| pod.node.is_some()) {
            steps.push(Step::RemoveTemporary(temporary.owner));
        } else if is_orphan && temporary.terminating.is_none() {
            steps.push(Step::CollectTemporary(temporary.owner));
        }
    }
    for pod in api.pods.iter() {
        if pod.terminating.is_none() && api.target(pod.owner).is_none() {
            steps.push(Step::CollectPod(pod.uid));
        }
    }
    choose_nodes(state, planner, steps);
    for temporary in &api.claims.temporaries {
        match provisioned_on(state, planner, temporary) {
            Some(Place::On(node)) if state.ghost.full[usize::from(node)] => {
                steps.push(Step::GiveNodeUp(temporary.owner));
            }
            Some(_) => steps.push(Step::Provision(temporary.owner)),
            None => {}
        }
    }
}

/// Steps of the binding controller for one claim.
fn possible_of_claim(state: &State, owner: Owner, binding: Binding, steps: &mut Vec<Step>) {
    let volumes = &state.api.volumes;
    match binding.volume {
        None => {
            // The binding controller takes any volume that is free, whatever it holds.
            let mut free = volumes.iter().filter(|volume| is_free(volume));
            let has_own = volumes.iter().any(|volume| volume.owner == Some(owner));
            if let Some(volume) = free.next().filter(|_| !has_own) {
                steps.push(Step::Match(owner, volume.id));
            }
        }
        Some(id) => {
            let volume = state.api.volume(id);
            let is_own = volume.is_some_and(|volume| volume.owner == Some(owner));
            let is_bound = is_own && volume.is_some_and(|it| it.phase == VolumePhase::Bound);
            if is_bound && binding.phase != Phase::Bound {
                steps.push(Step::SayBound(owner));
            } else if volume.is_some_and(|volume| volume.owner.is_none()) {
                steps.push(Step::Match(owner, id));
            } else if !is_own && binding.phase != Phase::Lost {
                steps.push(Step::SayLost(owner));
            }
        }
    }
}

fn is_free(volume: &Volume) -> bool {
    volume.owner.is_none() && volume.phase == VolumePhase::Free && !volume.terminating
}

fn is_bindable(binding: Binding, volume: &Volume) -> bool {
    let is_done = volume.phase == VolumePhase::Bound && binding.volume == Some(volume.id);
    !is_done && binding.volume.is_none_or(|id| id == volume.id)
}

/// The scheduler chooses a node: for the pod that waits for the claim, and for ours.
fn choose_nodes(state: &State, planner: &Planner, steps: &mut Vec<Step>) {
    let api = &state.api;
    for target in &api.claims.targets {
        let waits = planner.class.waits && !planner.class.bind_immediately;
        if waits && target.node.is_none() && target.binding.volume.is_none() {
            for node in usable_nodes(state) {
                steps.push(Step::SelectNode(target.uid, node));
            }
        }
    }
    for pod in api.pods.iter() {
        let is_new = pod.phase == PodPhase::Pending && pod.node.is_none();
        let temporary = api
            .temporary_of(pod.owner)
            .filter(|it| it.terminating.is_none());
        let Some(temporary) = temporary.filter(|_| is_new && pod.terminating.is_none()) else {
            continue;
        };
        let nodes = usable_nodes(state);
        let volume = temporary.binding.volume.and_then(|id| api.volume(id));
        match volume {
            Some(volume) if temporary.binding.phase == Phase::Bound => {
                let reach = volume.reach;
                let nodes = nodes.filter(|node| reach.is_none_or(|reach| reach == *node));
                steps.extend(nodes.map(|node| Step::Schedule(pod.uid, node)));
            }
            None if planner.class.waits && temporary.node.is_none() => {
                steps.extend(nodes.map(|node| Step::Schedule(pod.uid, node)));
            }
            _ => {}
        }
    }
}

/// The nodes that take pods, those with room for volumes first.
fn usable_nodes(state: &State) -> impl Iterator<Item = NodeId> {
    let usable = |node: &NodeId| {
        let seen = state.api.nodes[usize::from(*node)];
        seen.exists && seen.unready.is_none() && !seen.cordoned
    };
    let mut nodes: Vec<NodeId> = (0..).take(NODES).filter(usable).collect();
    nodes.sort_by_key(|node| state.ghost.full[usize::from(*node)]);
    nodes.into_iter()
}

/// Where a volume can be provisioned for the claim.
fn provisioned_on(state: &State, planner: &Planner, temporary: &Temporary) -> Option<Place> {
    let owner = Owner::Temporary {
        uid: temporary.uid,
        of: temporary.owner,
    };
    let mut volumes = state.api.volumes.iter();
    let has_one = volumes.any(|volume| volume.owner == Some(owner));
    if temporary.terminating.is_some() || temporary.binding.volume.is_some() || has_one {
        return None;
    }
    if !planner.class.waits {
        return Some(Place::Anywhere);
    }
    let node = temporary.node?;
    let exists = state.api.nodes[usize::from(node)].exists;
    exists.then_some(Place::On(node))
}

/// Where a volume is provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    On(NodeId),
}

/// Claims for which the external-provisioner may give the node up.
pub(crate) fn may_give_up<'a>(
    state: &'a State,
    planner: &'a Planner,
) -> impl Iterator<Item = &'a Temporary> {
    let temporaries = state.api.claims.temporaries.iter();
    temporaries.filter(|it| matches!(provisioned_on(state, planner, it), Some(Place::On(_))))
}

pub(crate) fn apply(state: &mut State, planner: &Planner, step: &Step) -> Result<(), Violation> {
    match *step {
        Step::Release(volume) => {
            check::release(state, volume)?;
            change(state, volume, |volume| volume.phase = VolumePhase::Released);
        }
        Step::RemoveVolume(volume) => {
            check::release(state, volume)?;
            Rc::make_mut(&mut state.api.volumes).retain(|it| it.id != volume);
        }
        Step::Bind(volume) => bind(state, volume),
        Step::SayBound(owner) => set_phase(state, owner, Phase::Bound),
        Step::SayLost(owner) => set_phase(state, owner, Phase::Lost),
        Step::Match(owner, volume) => change(state, volume, |volume| {
            volume.owner = Some(owner);
            volume.chosen = true;
        }),
        Step::RemoveTarget(uid) => {
            let claims = Rc::make_mut(&mut state.api.claims);
            claims.targets.retain(|target| target.uid != uid);
        }
        Step::RemoveTemporary(owner) => {
            let claims = Rc::make_mut(&mut state.api.claims);
            claims
                .temporaries
                .retain(|temporary| temporary.owner != owner);
        }
        Step::CollectTemporary(owner) => {
            if let Some(temporary) = state.api.temporary_mut(owner) {
                temporary.delete();
            }
        }
        Step::CollectPod(uid) => delete_pod(state, uid),
        Step::SelectNode(target, node) => {
            if let Some(target) = state.api.target_mut(target) {
                target.node = Some(node);
            }
        }
        Step::Schedule(pod, node) => schedule(state, pod, node),
        Step::Provision(owner) => provision(state, planner, owner),
        Step::GiveNodeUp(owner) => {
            if let Some(temporary) = state.api.temporary_mut(owner) {
                temporary.node = None;
            }
        }
        _ => unreachable!("not a step of Kubernetes: {step:?}"),
    }
    Ok(())
}

fn change(state: &mut State, volume: Id, change: impl FnOnce(&mut Volume)) {
    if let Some(volume) = state.api.volume_mut(volume) {
        change(volume);
    }
}

fn set_phase(state: &mut State, owner: Owner, phase: Phase) {
    if let Some(binding) = state.api.binding_mut(owner) {
        binding.phase = phase;
    }
}

/// Binds the volume and the claim to each other; the claim's phase follows.
fn bind(state: &mut State, id: Id) {
    let Some(owner) = state.api.volume(id).and_then(|volume| volume.owner) else {
        return;
    };
    if state
        .api
        .volume(id)
        .is_some_and(|volume| volume.phase != VolumePhase::Bound)
    {
        change(state, id, |volume| volume.phase = VolumePhase::Bound);
    }
    if let Some(binding) = state.api.binding_mut(owner) {
        binding.volume = Some(id);
    }
}

/// Without a volume the scheduler writes its choice on the claim, and waits.
fn schedule(state: &mut State, pod: Id, node: NodeId) {
    let Some(owner) = state.api.pod(pod).map(|pod| pod.owner) else {
        return;
    };
    let is_bound = state
        .api
        .temporary_of(owner)
        .is_some_and(|temporary| temporary.binding.volume.is_some());
    if is_bound {
        if let Some(pod) = state.api.pod_mut(pod) {
            pod.node = Some(node);
        }
    } else if let Some(temporary) = state.api.temporary_mut(owner) {
        temporary.node = Some(node);
    }
}

fn provision(state: &mut State, planner: &Planner, of: Id) {
    let Some(temporary) = state.api.temporary_of(of) else {
        return;
    };
    let (uid, node) = (temporary.uid, temporary.node);
    let id = state.fresh();
    let volume = Volume {
        id,
        version: 0,
        phase: VolumePhase::Free,
        terminating: false,
        owner: Some(Owner::Temporary { uid, of }),
        from: None,
        populated_for: None,
        disk: None,
        chosen: false,
        era: state.next_target,
        reach: node.filter(|_| planner.class.local),
    };
    Rc::make_mut(&mut state.api.volumes).push(volume);
}

/// Forgets what was in volumes that are gone, once nothing writes to them.
pub(crate) fn forget_contents(state: &mut State) {
    let State { api, ghost, .. } = state;
    ghost.contents.retain(|(id, _)| {
        api.volume(*id).is_some() || ghost.writers.iter().any(|writer| writer.volume == *id)
    });
}

/// Whether the machine of a node runs and is connected.
pub(crate) fn is_up(state: &State, node: NodeId) -> bool {
    let index = usize::from(node);
    state.ghost.life[index] == Life::Up && state.api.nodes[index].exists
}

/// What is in a volume that has not been written: nothing.
pub(crate) fn is_complete(content: Option<Content>, disk: u8) -> bool {
    matches!(content, Some(Content::Complete { disk: held, .. }) if held == disk)
}
