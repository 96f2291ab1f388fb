//! The API server: writes of the controller, with the preconditions that its `Writer` sends.

use std::rc::Rc;

use crate::{
    check::{self, Violation},
    planner::Act,
    state::{Binding, Deadline, Disk, Id, NodeId, Owner, Pod, PodPhase, State, Temporary},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The cluster is not what the write was decided on.
    Late,
}

/// Applies a write that a plan for `target` has decided on. `wanted` is the disk that the resource
/// named then.
pub(crate) fn apply(
    state: &mut State,
    target: Id,
    wanted: Option<Disk>,
    act: &Act,
) -> Result<Outcome, Violation> {
    let is_done = match *act {
        Act::CreateTemporary { node } => create_temporary(state, target, node),
        Act::CreatePod {
            template,
            temporary,
            finalizer,
        } => {
            let is_free = state.api.pod_of(target).is_none();
            if is_free {
                let uid = state.fresh();
                let pod = new_pod(uid, target, template, temporary, finalizer);
                Rc::make_mut(&mut state.api.pods).push(pod);
            }
            is_free
        }
        Act::DeletePod(uid) => {
            let is_same = state.api.pod_of(target).is_none_or(|pod| pod.uid == uid);
            if is_same {
                delete_pod(state, uid);
            }
            is_same
        }
        Act::ReleasePod(uid) => release_pod(state, target, uid),
        Act::DeleteTemporary { uid, .. } => match state.api.temporary_mut(target) {
            Some(temporary) => {
                let is_same = temporary.uid == uid;
                if is_same {
                    temporary.delete();
                }
                is_same
            }
            None => true,
        },
        Act::Rebind {
            volume,
            version,
            from,
            disk,
        } => {
            let is_as_seen = state.api.volume(volume).is_some_and(|seen| {
                let owner = matches!(seen.owner, Some(Owner::Temporary { uid, .. }) if uid == from);
                seen.version == version && owner
            });
            if is_as_seen {
                check::rebind(state, volume, disk, wanted)?;
                rebind(state, target, volume, disk);
            }
            is_as_seen
        }
        Act::RecordNodeLost { .. }
        | Act::RecordFailure { .. }
        | Act::ForgetFailures
        | Act::RejectNode { .. } => annotate(state, target, act),
    };
    Ok(if is_done {
        Outcome::Done
    } else {
        Outcome::Late
    })
}

fn create_temporary(state: &mut State, owner: Id, node: Option<NodeId>) -> bool {
    if state.api.temporary_of(owner).is_some() {
        return false;
    }
    let uid = state.fresh();
    let claims = Rc::make_mut(&mut state.api.claims);
    claims.temporaries.push(Temporary {
        uid,
        owner,
        old: false,
        terminating: None,
        binding: Binding::default(),
        node,
        chosen: node,
        lost: None,
    });
    true
}

/// Writes of annotations; `false` when their precondition does not hold.
fn annotate(state: &mut State, target: Id, act: &Act) -> bool {
    if let Act::RecordNodeLost { uid, lost } = *act {
        let found = state.api.temporary_mut(target);
        let found = found.filter(|temporary| temporary.uid == uid);
        return found.map(|temporary| temporary.lost = lost).is_some();
    }
    let Some(target) = state.api.target_mut(target) else {
        return false;
    };
    match act {
        Act::RecordFailure {
            recreations,
            failure,
        } => {
            target.recreations = *recreations;
            target.failure = Some(failure.clone());
        }
        Act::ForgetFailures => {
            target.recreations = 0;
            target.failure = None;
        }
        Act::RejectNode { node, rejected } if target.node == Some(*node) => {
            target.node = None;
            target.rejected.clone_from(rejected);
        }
        _ => return false,
    }
    true
}

fn new_pod(uid: Id, owner: Id, template: u16, temporary: Id, finalizer: bool) -> Pod {
    Pod {
        uid,
        owner,
        template,
        temporary,
        finalizer,
        old: false,
        terminating: None,
        forced: false,
        phase: PodPhase::Pending,
        node: None,
        evicted: false,
        collected: false,
        ended: None,
        cold: false,
    }
}

/// The volume's reference moves in one write.
fn rebind(state: &mut State, target: Id, volume: Id, disk: Option<Disk>) {
    let user = state.api.target(target).map(|target| target.user);
    if let Some(seen) = state.api.volume_mut(volume) {
        seen.owner = Some(Owner::Target(target));
        seen.from = user.or(seen.from);
        seen.populated_for = Some(target);
        seen.disk = disk;
    }
}

/// Deletes a pod with its own grace period. One that no node has, or that has ended, is deleted at
/// once.
pub(crate) fn delete_pod(state: &mut State, uid: Id) {
    let Some(pod) = state.api.pod_mut(uid) else {
        return;
    };
    if pod.terminating.is_none() {
        pod.terminating = Some(Deadline::Ahead);
    }
    let has_ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    pod.forced |= pod.node.is_none() || has_ended;
    remove_if_free(state, uid);
}

/// Deletes a pod without waiting for its node.
pub(crate) fn force_delete_pod(state: &mut State, uid: Id) {
    let Some(pod) = state.api.pod_mut(uid) else {
        return;
    };
    pod.terminating = pod.terminating.or(Some(Deadline::Ahead));
    pod.forced = true;
    remove_if_free(state, uid);
}

fn release_pod(state: &mut State, target: Id, uid: Id) -> bool {
    let Some(found) = state.api.pod_of(target) else {
        return true;
    };
    if found.uid != uid || !found.finalizer {
        return false;
    }
    if let Some(pod) = state.api.pod_mut(uid) {
        pod.finalizer = false;
    }
    remove_if_free(state, uid);
    true
}

/// A pod that is deleted goes when nothing keeps it: no finalizer, no grace period.
fn remove_if_free(state: &mut State, uid: Id) {
    let is_kept =
        |pod: &Pod| pod.uid != uid || pod.finalizer || !pod.forced || pod.terminating.is_none();
    Rc::make_mut(&mut state.api.pods).retain(is_kept);
}
