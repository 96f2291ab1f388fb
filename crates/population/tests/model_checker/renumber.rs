//! One number for the same object in states that differ only in what existed before.

use std::rc::Rc;

use crate::state::{FIRST, Id, State};

/// Renumbers the objects of a state by their age.
pub(crate) fn renumber(state: &mut State) {
    let mut used = [false; 256];
    read::state(state, &mut |id| used[usize::from(*id)] = true);
    let mut names = [0; 256];
    let mut next = FIRST;
    let mut is_changed = false;
    for id in FIRST..=Id::MAX {
        if used[usize::from(id)] {
            names[usize::from(id)] = next;
            is_changed |= id != next;
            next += 1;
        }
    }
    state.next = next;
    if is_changed {
        write::state(state, &mut |id| {
            if *id >= FIRST {
                *id = names[usize::from(*id)];
            }
        });
    }
}

fn get<T>(shared: &Rc<T>) -> &T {
    shared
}

fn make<T: Clone>(shared: &mut Rc<T>) -> &mut T {
    Rc::make_mut(shared)
}

/// Visits every number in a state, to read it or to write it.
macro_rules! visitor {
    ($name:ident, $shared:path, $($mut:tt)?) => {
        mod $name {
            use super::super::{
                planner::Act,
                state::{Binding, Claims, Content, Flight, Id, Owner, Pod, State, Volume},
            };

            type Visit<'a> = dyn FnMut(&$($mut)? Id) + 'a;

            pub(super) fn state(state: &$($mut)? State, visit: &mut Visit<'_>) {
                claims($shared(&$($mut)? state.api.claims), visit);
                pods($shared(&$($mut)? state.api.pods), visit);
                volumes($shared(&$($mut)? state.api.volumes), visit);
                for writer in &$($mut)? state.ghost.writers {
                    visit(&$($mut)? writer.pod);
                    visit(&$($mut)? writer.volume);
                }
                for (volume, content) in &$($mut)? state.ghost.contents {
                    visit(volume);
                    if let Content::Partial(pod) = content {
                        visit(pod);
                    }
                }
                for replica in &$($mut)? state.replicas {
                    if let Some(seen) = &$($mut)? replica.seen.claims {
                        claims($shared(seen), visit);
                    }
                    if let Some(seen) = &$($mut)? replica.seen.pods {
                        pods($shared(seen), visit);
                    }
                    if let Some(seen) = &$($mut)? replica.seen.volumes {
                        volumes($shared(seen), visit);
                    }
                    for flight in &$($mut)? replica.flights {
                        acts(flight, visit);
                    }
                }
            }

            fn binding(binding: &$($mut)? Binding, visit: &mut Visit<'_>) {
                if let Some(volume) = &$($mut)? binding.volume {
                    visit(volume);
                }
            }

            fn claims(claims: &$($mut)? Claims, visit: &mut Visit<'_>) {
                for target in &$($mut)? claims.targets {
                    binding(&$($mut)? target.binding, visit);
                    if let Some(failure) = &$($mut)? target.failure {
                        visit(&$($mut)? failure.pod);
                    }
                }
                for temporary in &$($mut)? claims.temporaries {
                    visit(&$($mut)? temporary.uid);
                    binding(&$($mut)? temporary.binding, visit);
                    if let Some((pod, _)) = &$($mut)? temporary.lost {
                        visit(pod);
                    }
                }
            }

            fn pods(pods: &$($mut)? Vec<Pod>, visit: &mut Visit<'_>) {
                for pod in pods {
                    visit(&$($mut)? pod.uid);
                    visit(&$($mut)? pod.temporary);
                }
            }

            fn volumes(volumes: &$($mut)? Vec<Volume>, visit: &mut Visit<'_>) {
                for volume in volumes {
                    visit(&$($mut)? volume.id);
                    if let Some(Owner::Temporary { uid, .. }) = &$($mut)? volume.owner {
                        visit(uid);
                    }
                }
            }

            fn acts(flight: &$($mut)? Flight, visit: &mut Visit<'_>) {
                for act in &$($mut)? flight.acts {
                    match act {
                        Act::CreatePod { temporary, .. } => visit(temporary),
                        Act::DeletePod(uid) | Act::ReleasePod(uid) | Act::DeleteTemporary { uid, .. } => {
                            visit(uid);
                        }
                        Act::RecordNodeLost { uid, lost } => {
                            visit(uid);
                            if let Some((pod, _)) = lost {
                                visit(pod);
                            }
                        }
                        Act::Rebind { volume, from, .. } => {
                            visit(volume);
                            visit(from);
                        }
                        Act::RecordFailure { failure, .. } => visit(&$($mut)? failure.pod),
                        Act::CreateTemporary { .. }
                        | Act::ForgetFailures
                        | Act::RejectNode { .. } => {}
                    }
                }
            }
        }
    };
}

visitor!(read, super::get,);
visitor!(write, super::make, mut);
