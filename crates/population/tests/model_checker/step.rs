//! The steps of the model: which are possible in a state, and what each does.

use crate::{
    check::{self, Violation},
    disturb::{self, Kind},
    kubelet, kubernetes,
    planner::{Act, Planner, SlotCall},
    renumber::renumber,
    replica::{self, Answer},
    state::{Deadline, Disk, End, Id, Life, NodeId, Owner, State, Wake},
};

/// One atomic step. Numbers are those of the state that it is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    // The controller.
    Look(usize, Id),
    Write(usize, Id, Answer),
    Crash(usize),
    Stall(usize, Watch),
    CatchUp(usize, Watch),
    /// All waits are over.
    Tick,
    // Kubernetes.
    Release(Id),
    RemoveVolume(Id),
    Bind(Id),
    SayBound(Owner),
    SayLost(Owner),
    Match(Owner, Id),
    RemoveTarget(Id),
    RemoveTemporary(Id),
    CollectTemporary(Id),
    CollectPod(Id),
    SelectNode(Id, NodeId),
    Schedule(Id, NodeId),
    Provision(Id),
    GiveNodeUp(Id),
    // Nodes and pods.
    NodeReturns(NodeId),
    NodeIsMissed(NodeId),
    KillOrphan(Id),
    Report(Id),
    Finish(Id, End),
    GarbageCollect(Id),
    Taint(Id),
    Stop(Id),
    LetGo(Id),
    Start(Id),
    // Users, administrators, faults.
    SetResource(usize, Option<Disk>),
    CreateTarget(usize),
    DeletePod(Id),
    ForceDeletePod(Id),
    StripPod(Id),
    Evict(Id),
    EvictByNode(Id),
    DeleteTemporary(Id),
    StripTemporary(Id),
    DeleteTarget(Id),
    DeleteVolume(Id),
    Recycle(Id),
    Steal(Id),
    LoseNode(NodeId, Life),
    DeleteNode(NodeId),
    Cordon(NodeId),
    FillNode(NodeId),
    /// The user deletes or creates the secret.
    SetSecret(usize, bool),
    /// The user asks for another attempt.
    Retry(Id),
    /// An administrator corrects the settings, with which the controller starts again.
    CorrectImage,
}

/// What one watch shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Watch {
    Claims,
    Pods,
    Volumes,
    Resources,
    Nodes,
}

impl Watch {
    const ALL: [Self; 5] = [
        Self::Claims,
        Self::Pods,
        Self::Volumes,
        Self::Resources,
        Self::Nodes,
    ];
}

/// The steps of a cluster that behaves, in the order in which it would take them.
pub(crate) fn fair(state: &State, planner: &Planner) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, replica) in state.replicas.iter().enumerate() {
        let late = Watch::ALL
            .into_iter()
            .filter(|watch| is_late(state, index, *watch));
        steps.extend(late.map(|watch| Step::CatchUp(index, watch)));
        let flights = replica.flights.iter();
        steps.extend(flights.map(|flight| Step::Write(index, flight.target, Answer::Given)));
    }
    kubernetes::possible(state, planner, &mut steps);
    kubelet::possible(state, planner, &mut steps);
    for (index, replica) in state.replicas.iter().enumerate() {
        for (target, wake) in &replica.wakes {
            let is_busy = replica
                .flights
                .iter()
                .any(|flight| flight.target == *target);
            if *wake == Wake::Now && !is_busy {
                steps.push(Step::Look(index, *target));
            }
        }
    }
    if state.ghost.wrong_image {
        steps.push(Step::CorrectImage);
    }
    if is_waiting(state) {
        steps.push(Step::Tick);
    }
    steps
}

/// What else may happen, with the kind of disturbance that it is; without one, it costs nothing.
pub(crate) fn unfair(
    state: &State,
    planner: &Planner,
    allowed: &[Kind],
) -> Vec<(Option<Kind>, Step)> {
    let mut free = Vec::new();
    disturb::free(state, &mut free);
    let mut steps: Vec<(Option<Kind>, Step)> = free.into_iter().map(|step| (None, step)).collect();
    if state.budget == 0 {
        return steps;
    }
    let mut costly = Vec::new();
    disturb::possible(state, planner, allowed, &mut costly);
    for (index, replica) in state.replicas.iter().enumerate() {
        if allowed.contains(&Kind::Crash) && !replica.flights.is_empty() {
            costly.push((Kind::Crash, Step::Crash(index)));
        }
        for flight in &replica.flights {
            let write = |answer| Step::Write(index, flight.target, answer);
            let is_new = matches!(
                flight.acts.first(),
                Some(Act::CreateTemporary { .. } | Act::CreatePod { .. })
            );
            if allowed.contains(&Kind::Answers) {
                let answers = [Answer::Lost, Answer::Unavailable];
                costly.extend(answers.map(|answer| (Kind::Answers, write(answer))));
            }
            if allowed.contains(&Kind::Refusal) && is_new {
                costly.push((Kind::Refusal, write(Answer::Refused)));
            }
        }
        for watch in Watch::ALL {
            let kind = if watch == Watch::Volumes {
                Kind::StallVolumes
            } else {
                Kind::Stall
            };
            if allowed.contains(&kind) && !is_late(state, index, watch) {
                costly.push((kind, Step::Stall(index, watch)));
            }
        }
    }
    steps.extend(costly.into_iter().map(|(kind, step)| (Some(kind), step)));
    steps
}

fn is_late(state: &State, replica: usize, watch: Watch) -> bool {
    let seen = &state.replicas[replica].seen;
    match watch {
        Watch::Claims => seen.claims.is_some(),
        Watch::Pods => seen.pods.is_some(),
        Watch::Volumes => seen.volumes.is_some(),
        Watch::Resources => seen.resources.is_some(),
        Watch::Nodes => seen.nodes.is_some(),
    }
}

/// Whether anything waits for time to pass.
fn is_waiting(state: &State) -> bool {
    let api = &state.api;
    let mut wakes = state.replicas.iter().flat_map(|replica| &replica.wakes);
    let ahead = Some(Deadline::Ahead);
    wakes.any(|(_, wake)| *wake == Wake::Later)
        || state.replicas.iter().any(|replica| replica.is_short)
        || api.claims.targets.iter().any(|target| {
            let failure = target.failure.as_ref();
            failure.is_some_and(|failure| !failure.old) || target.rejected.iter().any(|it| !it.old)
        })
        || api
            .claims
            .temporaries
            .iter()
            .any(|it| !it.old || it.terminating == ahead)
        || api
            .pods
            .iter()
            .any(|pod| !pod.old || pod.terminating == ahead || (pod.ended.is_some() && !pod.cold))
        || api.nodes.iter().any(|node| node.unready == ahead)
}

/// Takes a step, checks what must hold, and brings the state into its one form.
pub(crate) fn take(
    state: &State,
    planner: &mut Planner,
    step: &Step,
    kind: Option<Kind>,
) -> Result<State, Violation> {
    let mut next = state.clone();
    if kind.is_some() {
        next.budget -= 1;
    }
    match *step {
        Step::Look(replica, target) => replica::look(&mut next, planner, replica, target)?,
        Step::Write(replica, target, answer) => {
            replica::write(&mut next, planner, replica, target, answer)?;
        }
        Step::Crash(replica) => replica::restart(&mut next, planner, replica),
        Step::Stall(replica, watch) => set_late(&mut next, replica, watch, true),
        Step::CatchUp(replica, watch) => set_late(&mut next, replica, watch, false),
        Step::Tick => tick(&mut next, planner),
        Step::CorrectImage => {
            next.ghost.wrong_image = false;
            for replica in 0..next.replicas.len() {
                replica::restart(&mut next, planner, replica);
            }
        }
        Step::Release(_)
        | Step::RemoveVolume(_)
        | Step::Bind(_)
        | Step::SayBound(_)
        | Step::SayLost(_)
        | Step::Match(..)
        | Step::RemoveTarget(_)
        | Step::RemoveTemporary(_)
        | Step::CollectTemporary(_)
        | Step::CollectPod(_)
        | Step::SelectNode(..)
        | Step::Schedule(..)
        | Step::Provision(_)
        | Step::GiveNodeUp(_) => kubernetes::apply(&mut next, planner, step)?,
        Step::NodeReturns(_)
        | Step::NodeIsMissed(_)
        | Step::KillOrphan(_)
        | Step::Report(_)
        | Step::Finish(_, End::Complete)
        | Step::GarbageCollect(_)
        | Step::Taint(_)
        | Step::Stop(_)
        | Step::LetGo(_)
        | Step::Start(_) => kubelet::apply(&mut next, planner, step)?,
        _ => disturb::apply(&mut next, planner, step),
    }
    if *step != Step::Tick && !matches!(step, Step::Crash(_) | Step::CorrectImage) {
        replica::notice(state, &mut next);
    }
    replica::settle(&mut next, planner)?;
    kubernetes::forget_contents(&mut next);
    check::state(&next, planner)?;
    renumber(&mut next);
    Ok(next)
}

fn set_late(state: &mut State, replica: usize, watch: Watch, is_late: bool) {
    let api = &state.api;
    let seen = &mut state.replicas[replica].seen;
    match watch {
        Watch::Claims => seen.claims = is_late.then(|| api.claims.clone()),
        Watch::Pods => seen.pods = is_late.then(|| api.pods.clone()),
        Watch::Volumes => seen.volumes = is_late.then(|| api.volumes.clone()),
        Watch::Resources => seen.resources = is_late.then(|| api.resources.clone()),
        Watch::Nodes => seen.nodes = is_late.then_some(api.nodes),
    }
}

fn tick(state: &mut State, planner: &mut Planner) {
    state.age();
    for replica in &mut state.replicas {
        replica.is_short = false;
        replica.slots = planner.call_slots(replica.slots, SlotCall::Tick).next;
        for (_, wake) in &mut replica.wakes {
            *wake = Wake::Now;
        }
    }
}
