//! One process of the controller: what its watches show, what it is woken by, its looks at claims
//! and its writes, as `crates/populator-controller` makes them.

use std::rc::Rc;

use crate::{
    api::{self, Outcome},
    check::{self, Violation},
    faults::Fault,
    planner::{Act, Planner, SlotCall, View},
    state::{
        Api, Flight, Id, Owner, Phase, Pod, PodPhase, Replica, State, Target, Temporary, Volume,
        Wake,
    },
};

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// The API server does it, or rejects it because the cluster has changed.
    Given,
    /// It is done, and the answer is lost.
    Lost,
    /// The API server does not get it.
    Unavailable,
    /// A quota or a policy rejects it.
    Refused,
}

/// The world of a claim: from the watches, with live reads where these cannot know.
pub(crate) fn view(
    state: &State,
    replica: usize,
    target: Id,
    fault: Option<Fault>,
) -> Option<View> {
    let seen = state.replicas[replica].seen.of(&state.api);
    let claim = seen.target(target)?;
    let temporary = seen.temporary_of(target).cloned();
    let mut view = View {
        target: claim.clone(),
        volume: volume_of(&seen, claim, temporary.as_ref()).cloned(),
        temporary,
        pod: seen.pod_of(target).cloned(),
        resource: seen.resources[claim.user],
        is_short: state.replicas[replica].is_short,
        wrong_image: state.ghost.wrong_image,
        is_broken: state.ghost.broken[claim.user],
        nodes: seen.nodes,
    };
    if claim.binding.volume.is_none() && !claim.terminating {
        reread(&state.api, &mut view, fault);
    } else if view.temporary.is_none() && view.pod.is_some() {
        view.temporary = state.api.temporary_of(target).cloned();
    }
    if view.volume.is_none()
        && let Some(id) = claim.binding.volume
    {
        view.volume = state.api.volume(id).cloned();
    }
    find_new_nodes(&state.api, &mut view);
    Some(view)
}

/// What the observer looks for of the nodes that the watch does not show.
fn find_new_nodes(api: &Api, view: &mut View) {
    let temporary = view.temporary.as_ref();
    let named = [
        view.target.node,
        temporary.and_then(|temporary| temporary.node),
        temporary.and_then(|temporary| temporary.chosen),
        view.pod.as_ref().and_then(|pod| pod.node),
    ];
    for node in named.into_iter().flatten().map(usize::from) {
        if !view.nodes[node].exists {
            view.nodes[node] = api.nodes[node];
        }
    }
}

/// What the observer reads again of a claim that is not bound.
fn reread(api: &Api, view: &mut View, fault: Option<Fault>) {
    let target = &view.target;
    let is_news = |pod: &Pod| {
        let last = target.failure.as_ref();
        pod.phase == PodPhase::Failed && last.is_none_or(|last| last.pod != pod.uid)
    };
    if view.pod.as_ref().map_or(view.temporary.is_some(), is_news) {
        view.pod = api.pod_of(target.uid).cloned();
    }
    let is_stale = match (&view.temporary, &view.pod) {
        (None, None) => false,
        (None, Some(_)) => true,
        (Some(_), None) => fault != Some(Fault::RecordFromCache),
        (Some(temporary), Some(pod)) => {
            let is_other = temporary.lost.is_some_and(|(lost, _)| lost != pod.uid);
            let fits = pod.temporary == temporary.uid && !is_other;
            !fits && fault != Some(Fault::OldTemporary)
        }
    };
    if is_stale {
        view.temporary = api.temporary_of(target.uid).cloned();
    }
    let own = Some(Owner::Target(target.uid));
    let is_rebound = view
        .volume
        .as_ref()
        .is_some_and(|volume| volume.owner == own);
    let is_unseen = view.volume.is_none() && fault != Some(Fault::VolumeFromCache);
    let named = view
        .temporary
        .as_ref()
        .filter(|temporary| is_stale || (is_unseen && temporary.binding.phase == Phase::Lost));
    if let Some(id) = named.and_then(|temporary| temporary.binding.volume)
        && !is_rebound
    {
        view.volume = api.volume(id).cloned();
    }
}

/// Watches keep only the volumes that populators have to do with.
fn is_of_interest(volume: &Volume) -> bool {
    volume.from.is_some()
        || volume.populated_for.is_some()
        || matches!(volume.owner, Some(Owner::Temporary { .. }))
}

fn volume_of<'a>(
    seen: &'a Api,
    target: &Target,
    temporary: Option<&Temporary>,
) -> Option<&'a Volume> {
    let mut kept = seen.volumes.iter().filter(|volume| is_of_interest(volume));
    if let Some(id) = target.binding.volume {
        return kept.find(|volume| volume.id == id);
    }
    let own = Some(Owner::Target(target.uid));
    let rebound = kept.clone().find(|volume| volume.owner == own);
    rebound.or_else(|| {
        let id = temporary?.binding.volume?;
        kept.find(|volume| volume.id == id)
    })
}

/// Observes, plans and admits; the writes follow one by one.
pub(crate) fn look(
    state: &mut State,
    planner: &mut Planner,
    replica: usize,
    target: Id,
) -> Result<(), Violation> {
    set_wake(&mut state.replicas[replica], target, None);
    let Some(view) = view(state, replica, target, planner.fault) else {
        forget(state, planner, replica, target);
        return Ok(());
    };
    let decided = planner.plan(&view);
    check::said(state, &view, &decided)?;
    if view.temporary.is_some() || view.target.binding.volume.is_some() {
        call_slots(state, planner, replica, SlotCall::Seen(target));
    }
    let call = SlotCall::Decide(target, decided.request);
    let is_admitted = call_slots(state, planner, replica, call);
    let acts = if is_admitted {
        &decided.acts
    } else {
        &decided.deferred
    };
    // A claim that is not bound is looked at again in any case, after a while.
    let again = decided.requeues || !is_admitted || view.target.binding.volume.is_none();
    let replica = &mut state.replicas[replica];
    if again && wake_of(replica, target).is_none() {
        set_wake(replica, target, Some(Wake::Later));
    }
    if !acts.is_empty() {
        replica.flights.push(Flight {
            target,
            acts: acts.clone(),
            wanted: view.resource,
        });
        replica.flights.sort_by_key(|flight| flight.target);
    }
    Ok(())
}

/// The claim is gone: its slot is free, and its pods that are being deleted are released.
fn forget(state: &mut State, planner: &mut Planner, replica: usize, target: Id) {
    call_slots(state, planner, replica, SlotCall::Leave(target));
    let seen = state.replicas[replica].seen.of(&state.api);
    let left = seen
        .pods
        .iter()
        .filter(|pod| pod.owner == target && pod.terminating.is_some() && pod.finalizer);
    let acts: Vec<Act> = left.map(|pod| Act::ReleasePod(pod.uid)).collect();
    if !acts.is_empty() {
        state.replicas[replica].flights.push(Flight {
            target,
            acts,
            wanted: None,
        });
        state.replicas[replica]
            .flights
            .sort_by_key(|flight| flight.target);
    }
}

/// Calls the slots and wakes the claims that were admitted; returns whether this one was.
fn call_slots(state: &mut State, planner: &mut Planner, replica: usize, call: SlotCall) -> bool {
    let replica = &mut state.replicas[replica];
    let answer = planner.call_slots(replica.slots, call);
    replica.slots = answer.next;
    for target in answer.triggers {
        set_wake(replica, target, Some(Wake::Now));
    }
    answer.is_admitted
}

/// The next write of a plan. When it fails, those after it are not tried.
pub(crate) fn write(
    state: &mut State,
    planner: &mut Planner,
    replica: usize,
    target: Id,
    answer: Answer,
) -> Result<Act, Violation> {
    let flights = &mut state.replicas[replica].flights;
    let index = flights.iter().position(|flight| flight.target == target);
    let index = index.expect("a plan under way");
    let act = flights[index].acts.remove(0);
    let wanted = flights[index].wanted;
    let claims = state.api.claims.temporaries.len();
    let is_new = matches!(act, Act::CreateTemporary { .. });
    let is_over_quota = is_new && claims >= planner.quota;
    let answer = if is_over_quota && answer == Answer::Given {
        Answer::Refused
    } else {
        answer
    };
    let outcome = match answer {
        Answer::Given | Answer::Lost => api::apply(state, target, wanted, &act)?,
        Answer::Unavailable | Answer::Refused => Outcome::Late,
    };
    let is_done = outcome == Outcome::Done && answer == Answer::Given;
    let replica_state = &mut state.replicas[replica];
    if !is_done {
        replica_state.flights.remove(index);
        // What is refused is tried again after a while, the rest at once.
        let wake = if answer == Answer::Refused {
            Wake::Later
        } else {
            Wake::Now
        };
        if wake_of(replica_state, target) != Some(Wake::Now) {
            set_wake(replica_state, target, Some(wake));
        }
    } else if replica_state.flights[index].acts.is_empty() {
        replica_state.flights.remove(index);
    }
    if is_new && is_done {
        call_slots(state, planner, replica, SlotCall::Started(target));
    } else if answer == Answer::Refused {
        call_slots(state, planner, replica, SlotCall::Reject(target));
    }
    if answer == Answer::Refused && is_over_quota {
        be_short(state, replica, target);
    }
    Ok(act)
}

/// A quota has rejected a claim: finished pods in its namespace go at once.
fn be_short(state: &mut State, replica: usize, target: Id) {
    state.replicas[replica].is_short = true;
    let seen = state.replicas[replica].seen.of(&state.api);
    for pod in seen.pods.iter().filter(|pod| pod.owner != target) {
        set_wake(&mut state.replicas[replica], pod.owner, Some(Wake::Now));
    }
}

/// The process ends between two writes, and the next one starts: its watches show all, its slots
/// are counted, and it looks at every claim.
pub(crate) fn restart(state: &mut State, planner: &mut Planner, replica: usize) {
    state.replicas[replica] = Replica::default();
    let targets: Vec<Id> = state
        .api
        .claims
        .targets
        .iter()
        .map(|target| target.uid)
        .collect();
    for &target in &targets {
        let request = view(state, replica, target, planner.fault)
            .and_then(|view| planner.plan(&view).request);
        call_slots(state, planner, replica, SlotCall::Count(target, request));
    }
    let pods = Rc::clone(&state.api.pods);
    let owners = pods.iter().map(|pod| pod.owner);
    for target in targets.into_iter().chain(owners) {
        set_wake(&mut state.replicas[replica], target, Some(Wake::Now));
    }
}

pub(crate) fn wake_of(replica: &Replica, target: Id) -> Option<Wake> {
    let mut all = replica.wakes.iter();
    all.find(|(id, _)| *id == target).map(|(_, wake)| *wake)
}

pub(crate) fn set_wake(replica: &mut Replica, target: Id, wake: Option<Wake>) {
    replica.wakes.retain(|(id, _)| *id != target);
    if let Some(wake) = wake {
        replica.wakes.push((target, wake));
        replica.wakes.sort_by_key(|(id, _)| *id);
    }
}

/// Wakes the claims that a change concerns, as each process's watches show it.
pub(crate) fn notice(before: &State, after: &mut State) {
    for index in 0..after.replicas.len() {
        let old = before.replicas[index].seen.of(&before.api);
        let new = after.replicas[index].seen.of(&after.api);
        for target in concerned(&old, &new) {
            set_wake(&mut after.replicas[index], target, Some(Wake::Now));
        }
    }
}

/// Takes the looks from which nothing follows at once: whether they come before or after other steps
/// makes no difference, and there are fewer states so.
pub(crate) fn settle(state: &mut State, planner: &mut Planner) -> Result<(), Violation> {
    for index in 0..state.replicas.len() {
        for (target, _) in state.replicas[index].wakes.clone() {
            if is_idle_look(state, planner, index, target) {
                look(state, planner, index, target)?;
            }
        }
    }
    Ok(())
}

fn is_idle_look(state: &State, planner: &mut Planner, index: usize, target: Id) -> bool {
    let replica = &state.replicas[index];
    let is_busy = replica.flights.iter().any(|flight| flight.target == target);
    if is_busy || wake_of(replica, target) != Some(Wake::Now) {
        return false;
    }
    let Some(view) = view(state, index, target, planner.fault) else {
        return false;
    };
    let decided = planner.plan(&view);
    let mut slots = replica.slots;
    if view.temporary.is_some() || view.target.binding.volume.is_some() {
        slots = planner.call_slots(slots, SlotCall::Seen(target)).next;
    }
    let call = SlotCall::Decide(target, decided.request);
    let answer = planner.call_slots(slots, call);
    let acts = if answer.is_admitted {
        &decided.acts
    } else {
        &decided.deferred
    };
    acts.is_empty() && answer.next == replica.slots && answer.triggers.is_empty()
}

fn concerned(old: &Api, new: &Api) -> Vec<Id> {
    let mut found = Vec::new();
    if old.claims != new.claims {
        changes(&old.claims.targets, &new.claims.targets, |target| {
            found.push(target.uid);
        });
        changes(
            &old.claims.temporaries,
            &new.claims.temporaries,
            |temporary| {
                found.push(temporary.owner);
            },
        );
    }
    if old.pods != new.pods {
        changes(&old.pods, &new.pods, |pod| found.push(pod.owner));
    }
    if old.volumes != new.volumes {
        changes(&old.volumes, &new.volumes, |volume| {
            match volume.owner.filter(|_| is_of_interest(volume)) {
                Some(Owner::Temporary { of, .. }) => found.push(of),
                Some(Owner::Target(target)) => found.push(target),
                Some(Owner::Foreign) | None => {}
            }
        });
    }
    for target in &new.claims.targets {
        let is_renamed = old.resources[target.user] != new.resources[target.user];
        if is_renamed || (old.nodes != new.nodes && target.binding.volume.is_none()) {
            found.push(target.uid);
        }
    }
    found
}

/// Visits what is in one of the lists only, or different in both.
fn changes<T: PartialEq>(old: &[T], new: &[T], mut visit: impl FnMut(&T)) {
    old.iter()
        .filter(|it| !new.contains(it))
        .for_each(&mut visit);
    new.iter().filter(|it| !old.contains(it)).for_each(visit);
}
