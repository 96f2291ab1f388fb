//! What must hold: at every write, in every state, and at the end of every run.

use population::slots::ROOM;
use populator_api::{Reason, ReasonClass};

use crate::{
    kubernetes::is_complete,
    planner::{Planned, Planner, View},
    replica,
    state::{Content, Disk, Id, Life, Owner, Phase, Pod, PodPhase, State, Target, VolumePhase},
};

/// What a run has violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A volume is given to a claim only when it holds all of the disk that the claim's resource
    /// names, as far as that is seen.
    OwnDisk,
    /// `Populated` is said of nothing else.
    Populated,
    /// One process at most may write to a volume, and none to a volume that was given away.
    OneWriter,
    /// A volume with a complete copy is neither released nor deleted while its target wants it.
    CopyKept,
    /// A complete copy is not made again.
    CopyUsed,
    /// After a permanent failure nothing is tried again before something has changed.
    Verdict,
    /// Only failures of the mover use attempts up.
    Attempts,
    /// A claim is called failed only after something happened that it may fail of.
    Cause,
    /// A replica gives away no more slots than there are.
    Limit,
    /// In a cluster that behaves, every claim ends populated, failed with a reason, or waiting for
    /// what only its user can give.
    Ends,
    /// Then no slot is held or waited for.
    SlotsFree,
    /// Then nothing is left that no claim needs.
    NothingLeft,
    /// Then nothing is written any more.
    Quiet,
}

/// A rule that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

fn violated(rule: Rule, what: impl Into<String>) -> Result<(), Violation> {
    Err(Violation {
        rule,
        what: what.into(),
    })
}

/// What happened to a user's objects, so that its claim may fail or start over.
pub(crate) mod excuse {
    /// The mover failed for good.
    pub(crate) const MOVER: u8 = 1;
    /// The user deleted or changed the resource.
    pub(crate) const RESOURCE: u8 = 2;
    /// A user or another controller deleted, recycled or took a volume.
    pub(crate) const VOLUME: u8 = 4;
    /// A user deleted the temporary claim.
    pub(crate) const TEMPORARY: u8 = 8;
    /// A user removed the finalizer that keeps a pod's result.
    pub(crate) const RESULT: u8 = 16;
    /// A node is gone for good.
    pub(crate) const NODE: u8 = 32;
    /// The secret was missing.
    pub(crate) const SECRET: u8 = 64;
}

pub(crate) fn is_excused(state: &State, user: usize, excuses: u8) -> bool {
    state.ghost.excuses[user] & excuses != 0
}

/// When the controller tells the state of a claim.
pub(crate) fn said(state: &State, view: &View, planned: &Planned) -> Result<(), Violation> {
    let target = &view.target;
    let Some(reason) = planned.reason else {
        return Ok(());
    };
    match reason {
        Reason::Populated => {
            let Some(id) = target
                .binding
                .volume
                .filter(|id| state.api.volume(*id).is_some())
            else {
                // The volume is gone, which is still to be seen.
                return Ok(());
            };
            let content = state.content(id);
            let is_own = match view.resource {
                Some(disk) => is_complete(content, disk),
                None => matches!(content, Some(Content::Complete { .. })),
            };
            if !is_own {
                let what = format!(
                    "of volume {id} with {content:?}, wanted {:?}",
                    view.resource
                );
                return violated(Rule::Populated, what);
            }
        }
        Reason::RetriesExhausted if state.failures(target.uid) <= 1 => {
            let failures = state.failures(target.uid);
            return violated(
                Rule::Attempts,
                format!("exhausted after {failures} failures"),
            );
        }
        reason if reason.class() == ReasonClass::Failed => {
            let is_exhausted = reason == Reason::RetriesExhausted;
            if !is_exhausted && state.ghost.excuses[target.user] == 0 {
                return violated(Rule::Cause, format!("{reason} without a cause"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// When a volume is given to a claim.
pub(crate) fn rebind(
    state: &State,
    volume: Id,
    disk: Option<Disk>,
    wanted: Option<Disk>,
) -> Result<(), Violation> {
    let content = state.content(volume);
    let is_own = disk.is_some_and(|disk| is_complete(content, disk));
    if !is_own || wanted.is_some_and(|wanted| Some(wanted) != disk) {
        let what = format!("{content:?} is given away as {disk:?}, wanted {wanted:?}");
        return violated(Rule::OwnDisk, what);
    }
    Ok(())
}

/// When a volume is released or removed.
pub(crate) fn release(state: &State, id: Id) -> Result<(), Violation> {
    let Some(volume) = state.api.volume(id) else {
        return Ok(());
    };
    let owner = match volume.owner {
        Some(Owner::Temporary { of, .. }) => of,
        Some(Owner::Target(target)) => target,
        Some(Owner::Foreign) | None => return Ok(()),
    };
    let Some(target) = state.api.target(owner).filter(|target| !target.terminating) else {
        return Ok(());
    };
    let wants = |disk| state.api.resources[target.user].is_none_or(|wanted| wanted == disk);
    let is_wanted = match state.content(id) {
        Some(Content::Complete { disk, reported }) => reported && wants(disk),
        _ => false,
    };
    let is_other = target.binding.volume.is_some_and(|named| named != id);
    let excuses = excuse::VOLUME | excuse::TEMPORARY | excuse::RESOURCE | excuse::RESULT;
    if is_wanted && !is_other && !is_excused(state, target.user, excuses) {
        return violated(Rule::CopyKept, format!("volume {id} of target {owner}"));
    }
    Ok(())
}

/// When a mover starts to write.
pub(crate) fn start(state: &State, pod: &Pod, volume: Id, disk: Disk) -> Result<(), Violation> {
    let Some(target) = state.api.target(pod.owner) else {
        return Ok(());
    };
    if state.ghost.verdicts.contains(&target.uid) {
        return violated(Rule::Verdict, "what failed for good is tried again");
    }
    let content = state.content(volume);
    let Some(Content::Complete {
        disk: held,
        reported: true,
    }) = content
    else {
        return Ok(());
    };
    let excuses = excuse::RESOURCE | excuse::RESULT | excuse::VOLUME | excuse::TEMPORARY;
    if held == disk && !is_excused(state, target.user, excuses) {
        return violated(Rule::CopyUsed, format!("volume {volume} is written again"));
    }
    Ok(())
}

/// In every state.
pub(crate) fn state(state: &State, planner: &Planner) -> Result<(), Violation> {
    let is_alive = |node: u8| state.ghost.life[usize::from(node)] != Life::Off;
    let writing = |id: Id| {
        let writers = state.ghost.writers.iter();
        writers.filter(move |it| it.volume == id && it.done.is_none() && is_alive(it.node))
    };
    for (index, writer) in state.ghost.writers.iter().enumerate() {
        let is_first = state.ghost.writers[..index]
            .iter()
            .all(|it| it.volume != writer.volume);
        if is_first && writing(writer.volume).count() > 1 {
            return violated(Rule::OneWriter, format!("two in volume {}", writer.volume));
        }
    }
    for volume in state.api.volumes.iter() {
        // What others give away is theirs to answer for.
        let Some(Owner::Target(target)) = volume.owner else {
            continue;
        };
        if volume.populated_for == Some(target) && writing(volume.id).count() > 0 {
            return violated(
                Rule::OneWriter,
                format!("in volume {} of a target", volume.id),
            );
        }
    }
    for replica in &state.replicas {
        let (held, _) = planner.held_and_queued(replica.slots);
        // Each of two active controllers counts what the other has begun. Claims that had given
        // their slots up may start all the same.
        let most = planner.settings.max_in_flight * ROOM;
        if held > most && state.replicas.len() == 1 {
            return violated(Rule::Limit, format!("{held} slots are held"));
        }
    }
    Ok(())
}

/// When a cluster that behaves has come to rest.
pub(crate) fn end(state: &State, planner: &mut Planner) -> Result<(), Violation> {
    for target in &state.api.claims.targets {
        end_of_target(state, planner, target)?;
    }
    for temporary in &state.api.claims.temporaries {
        if state.api.target(temporary.owner).is_none() {
            return violated(Rule::NothingLeft, "a temporary claim without its target");
        }
    }
    for pod in state.api.pods.iter() {
        let target = state.api.target(pod.owner);
        // A pod that waits for a node that is gone would run if the node came back.
        let is_waiting = pod.phase == PodPhase::Pending && pod.terminating.is_none();
        let is_bound = target.is_some_and(|target| target.binding.phase == Phase::Bound);
        if target.is_none() || (pod.finalizer && !is_waiting) || (is_bound && is_waiting) {
            return violated(Rule::NothingLeft, format!("pod {}", pod.uid));
        }
    }
    for volume in state.api.volumes.iter() {
        let is_used = match volume.owner {
            Some(owner) => state.api.binding_of(owner).is_some(),
            None => false,
        };
        let is_kept = planner.class.retains && volume.phase != VolumePhase::Bound;
        if !is_used && !is_kept && volume.owner != Some(Owner::Foreign) {
            return violated(Rule::NothingLeft, format!("volume {}", volume.id));
        }
    }
    let mut writers = state.ghost.writers.iter();
    if writers.any(|writer| state.ghost.life[usize::from(writer.node)] == Life::Up) {
        return violated(Rule::NothingLeft, "a process that writes");
    }
    for replica in &state.replicas {
        let (held, queued) = planner.held_and_queued(replica.slots);
        if held + queued > 0 {
            return violated(Rule::SlotsFree, format!("{held} held, {queued} waited for"));
        }
    }
    Ok(())
}

/// Whether the only node that reaches the volume takes no pods for now.
fn is_cordoned(state: &State, target: &Target) -> bool {
    let volume = state
        .api
        .temporary_of(target.uid)
        .and_then(|temporary| state.api.volume(temporary.binding.volume?));
    let reach = volume.and_then(|volume| volume.reach);
    reach.is_some_and(|node| state.api.nodes[usize::from(node)].cordoned)
}

fn end_of_target(state: &State, planner: &mut Planner, target: &Target) -> Result<(), Violation> {
    let Some(view) = replica::view(state, 0, target.uid, planner.fault) else {
        return violated(Rule::Ends, "a target that is not seen");
    };
    let Some(reason) = planner.plan(&view).reason else {
        // The claim was bound without us.
        return Ok(());
    };
    let resource = state.api.resources[target.user];
    let is_bound = target.binding.phase == Phase::Bound;
    let is_right = match reason {
        Reason::Populated => is_bound,
        // The resource names another disk since then.
        Reason::SourceChanged => is_bound && is_excused(state, target.user, excuse::RESOURCE),
        Reason::ResourceMissing => resource.is_none(),
        Reason::PodStuck => state.ghost.broken[target.user] || is_cordoned(state, target),
        _ => reason.class() == ReasonClass::Failed,
    };
    if !is_right {
        return violated(
            Rule::Ends,
            format!("target {} ends as {reason}", target.uid),
        );
    }
    let temporary = state.api.temporary_of(target.uid);
    let pod = state.api.pod_of(target.uid);
    let is_log = |pod: &Pod| matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    if is_bound {
        // The pod stays for its log, and keeps the deleted claim.
        let is_leftover = temporary.is_some_and(|it| it.terminating.is_none() || pod.is_none());
        if is_leftover || !pod.is_none_or(is_log) {
            return violated(
                Rule::NothingLeft,
                format!("of target {}, {reason}", target.uid),
            );
        }
    }
    Ok(())
}
