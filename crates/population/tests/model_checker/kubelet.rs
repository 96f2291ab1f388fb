//! Pods on their nodes: kubelets, movers, node loss and return, the taint manager and the pod
//! garbage collector.

use crate::{
    api::{delete_pod, force_delete_pod},
    check::{self, Violation},
    disturb,
    kubernetes::is_up,
    planner::Planner,
    state::{Content, Deadline, End, Id, Life, NodeId, Owner, Phase, Pod, PodPhase, State, Writer},
    step::Step,
};

pub(crate) fn possible(state: &State, planner: &Planner, steps: &mut Vec<Step>) {
    for (node, life) in (0..).zip(state.ghost.life) {
        let seen = state.api.nodes[usize::from(node)];
        if life != Life::Up {
            steps.push(Step::NodeReturns(node));
            if seen.exists && seen.unready.is_none() {
                steps.push(Step::NodeIsMissed(node));
            }
        } else if !seen.exists {
            steps.push(Step::NodeReturns(node));
        }
    }
    for writer in &state.ghost.writers {
        let is_known = state.api.pods.iter().any(|pod| pod.uid == writer.pod);
        if is_up(state, writer.node) && !is_known {
            steps.push(Step::KillOrphan(writer.pod));
        } else if is_up(state, writer.node) && writer.done.is_some() {
            steps.push(Step::Report(writer.pod));
        } else if writer.done.is_none() && state.ghost.life[usize::from(writer.node)] != Life::Off {
            steps.push(Step::Finish(writer.pod, End::Complete));
        }
    }
    for pod in state.api.pods.iter() {
        possible_of_pod(state, planner, pod, steps);
    }
}

fn possible_of_pod(state: &State, planner: &Planner, pod: &Pod, steps: &mut Vec<Step>) {
    let Some(node) = pod.node else { return };
    let seen = state.api.nodes[usize::from(node)];
    if !seen.exists {
        if !pod.forced || !pod.collected {
            steps.push(Step::GarbageCollect(pod.uid));
        }
    } else if seen.unready.is_some() && pod.terminating.is_none() {
        steps.push(Step::Taint(pod.uid));
    }
    if !is_up(state, node) {
        return;
    }
    let has_ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    let is_writing = state
        .ghost
        .writers
        .iter()
        .any(|writer| writer.pod == pod.uid);
    if pod.terminating.is_some() {
        if is_writing || !has_ended {
            steps.push(Step::Stop(pod.uid));
        } else if !pod.forced {
            steps.push(Step::LetGo(pod.uid));
        }
    } else if pod.phase == PodPhase::Pending
        && volume_to_mount(state, pod).is_some()
        && !is_held_up(state, planner, pod)
    {
        steps.push(Step::Start(pod.uid));
    }
}

/// The volume that the kubelet mounts: that of the claim with the name in the pod, whatever claim
/// the pod was created for.
fn volume_to_mount(state: &State, pod: &Pod) -> Option<Id> {
    let temporary = state.api.temporary_of(pod.owner)?;
    let volume = state.api.volume(temporary.binding.volume?)?;
    let is_own = matches!(volume.owner, Some(Owner::Temporary { uid, .. }) if uid == temporary.uid);
    (is_own && temporary.binding.phase == Phase::Bound).then_some(volume.id)
}

/// Whether the pod's secret is missing, or its image.
fn is_held_up(state: &State, planner: &Planner, pod: &Pod) -> bool {
    let user = state.api.target(pod.owner).map(|target| target.user);
    planner.template(pod.template).is_wrong || user.is_some_and(|user| state.ghost.broken[user])
}

pub(crate) fn apply(state: &mut State, planner: &Planner, step: &Step) -> Result<(), Violation> {
    match *step {
        Step::NodeReturns(node) => node_returns(state, node),
        Step::NodeIsMissed(node) => {
            state.api.nodes[usize::from(node)].unready = Some(Deadline::Ahead);
        }
        Step::KillOrphan(pod) => state.ghost.writers.retain(|writer| writer.pod != pod),
        Step::Report(pod) => report(state, pod),
        Step::Finish(pod, end) => finish(state, pod, end),
        Step::GarbageCollect(uid) => {
            disturb::forget_unseen(state, disturb::owner_of(state, uid));
            if let Some(pod) = state.api.pod_mut(uid) {
                if matches!(pod.phase, PodPhase::Pending | PodPhase::Running) {
                    pod.phase = PodPhase::Failed;
                }
                pod.collected = true;
                pod.evicted = true;
            }
            force_delete_pod(state, uid);
        }
        Step::Taint(uid) => {
            // What the cluster says of a pod comes before the mover's word.
            disturb::forget_unseen(state, disturb::owner_of(state, uid));
            if let Some(pod) = state.api.pod_mut(uid) {
                pod.evicted = true;
            }
            delete_pod(state, uid);
        }
        Step::Stop(uid) => stop(state, uid),
        // The kubelet has seen the end, and deletes the object.
        Step::LetGo(uid) => force_delete_pod(state, uid),
        Step::Start(uid) => start(state, planner, uid)?,
        _ => unreachable!("not a step of a node: {step:?}"),
    }
    Ok(())
}

fn node_returns(state: &mut State, node: NodeId) {
    let index = usize::from(node);
    if state.ghost.life[index] == Life::Off {
        // A machine that was off has killed its processes.
        let mut killed = Vec::new();
        for writer in &mut state.ghost.writers {
            if writer.node == node && writer.done.is_none() {
                writer.done = Some(End::Terminated);
                killed.push(writer.pod);
            }
        }
        // The API server shows no difference between this and a mover that failed.
        for pod in killed {
            state.count_failure(pod);
        }
    }
    state.ghost.life[index] = Life::Up;
    state.api.nodes[index].exists = true;
    state.api.nodes[index].unready = None;
}

fn start(state: &mut State, planner: &Planner, uid: Id) -> Result<(), Violation> {
    let Some(pod) = state.api.pods.iter().find(|pod| pod.uid == uid).cloned() else {
        return Ok(());
    };
    let (Some(volume), Some(node)) = (volume_to_mount(state, &pod), pod.node) else {
        return Ok(());
    };
    let disk = planner.template(pod.template).disk;
    check::start(state, &pod, volume, disk)?;
    state.ghost.writers.push(Writer {
        pod: uid,
        volume,
        disk,
        node,
        done: None,
    });
    state.set_content(volume, Content::Partial(uid));
    if let Some(pod) = state.api.pod_mut(uid) {
        pod.phase = PodPhase::Running;
    }
    Ok(())
}

/// The mover ends. The API server learns it at once if the node is connected.
pub(crate) fn finish(state: &mut State, pod: Id, end: End) {
    let Some(writer) = state
        .ghost
        .writers
        .iter_mut()
        .find(|writer| writer.pod == pod)
    else {
        return;
    };
    writer.done = Some(end);
    let Writer {
        volume, disk, node, ..
    } = *writer;
    let is_alone = state.content(volume) == Some(Content::Partial(pod));
    let content = match end {
        End::Complete if is_alone => Content::Complete {
            disk,
            reported: false,
        },
        _ if is_alone => Content::Partial(pod),
        _ => Content::Mixed,
    };
    state.set_content(volume, content);
    if is_up(state, node) && state.api.pods.iter().any(|it| it.uid == pod) {
        report(state, pod);
    }
}

fn report(state: &mut State, uid: Id) {
    let writers = &mut state.ghost.writers;
    let Some(index) = writers.iter().position(|writer| writer.pod == uid) else {
        return;
    };
    let writer = writers.remove(index);
    let Some(end) = writer.done else { return };
    let Some(pod) = state.api.pod_mut(uid) else {
        return;
    };
    // An end that was declared stays; what the container reports is added.
    pod.ended = Some(end);
    if pod.phase != PodPhase::Failed {
        pod.phase = match end {
            End::Complete | End::Silent => PodPhase::Succeeded,
            End::Transient | End::Permanent | End::Terminated => PodPhase::Failed,
        };
    }
    let is_success = pod.phase == PodPhase::Succeeded;
    if let Some(Content::Complete { disk, .. }) = state.content(writer.volume)
        && is_success
    {
        let reported = true;
        state.set_content(writer.volume, Content::Complete { disk, reported });
    }
}

/// The kubelet ends the container of a pod that is being deleted.
fn stop(state: &mut State, uid: Id) {
    let writer = state.ghost.writers.iter().find(|writer| writer.pod == uid);
    if writer.is_some_and(|writer| writer.done.is_some()) {
        report(state, uid);
    } else if writer.is_some() {
        finish(state, uid, End::Terminated);
    } else if let Some(pod) = state.api.pod_mut(uid) {
        pod.phase = PodPhase::Failed;
    }
}
