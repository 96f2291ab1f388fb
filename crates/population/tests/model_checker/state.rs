//! The state of the modelled cluster: small values that can be compared, hashed and renumbered.

use std::rc::Rc;

use populator_api::Reason;

use crate::planner::Act;

/// UID of an object, or name of a volume. Those from [`FIRST`] on are renumbered, so that states
/// that differ only in how many objects existed before are one state. Targets keep theirs.
pub(crate) type Id = u8;
pub(crate) type Disk = u8;
pub(crate) type NodeId = u8;

/// The first number that is not a target's.
pub(crate) const FIRST: Id = 16;
/// No target has this number.
pub(crate) const FOREIGN: Id = 0;
pub(crate) const NODES: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) api: Api,
    pub(crate) ghost: Ghost,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) next_target: Id,
    pub(crate) next: Id,
    /// How many disturbances may still happen.
    pub(crate) budget: u8,
}

/// The objects that the API server holds. A kind is what one watch shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Api {
    pub(crate) claims: Rc<Claims>,
    pub(crate) pods: Rc<Vec<Pod>>,
    pub(crate) volumes: Rc<Vec<Volume>>,
    /// The disk that each user's populator resource names; `None` without a resource.
    pub(crate) resources: Rc<Vec<Option<Disk>>>,
    pub(crate) nodes: [Node; NODES],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Claims {
    pub(crate) targets: Vec<Target>,
    pub(crate) temporaries: Vec<Temporary>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Bound,
    Lost,
}

/// The part that the binding controller of Kubernetes writes to any claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Binding {
    pub(crate) volume: Option<Id>,
    pub(crate) phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) uid: Id,
    /// Whose claim it is: index of the resource. A user's next claim has the same name.
    pub(crate) user: usize,
    pub(crate) terminating: bool,
    pub(crate) binding: Binding,
    pub(crate) node: Option<NodeId>,
    /// Nodes that could not get the volume: how often, and whether the last time was long ago.
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) recreations: u8,
    pub(crate) failure: Option<Failure>,
    pub(crate) retry: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rejected {
    pub(crate) node: NodeId,
    pub(crate) count: u8,
    pub(crate) old: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    pub(crate) pod: Id,
    pub(crate) old: bool,
    pub(crate) reason: Reason,
    /// How many pods the cluster has ended.
    pub(crate) disruptions: u8,
    /// What the pod was made from, as the planner numbers it, and the retry that it answered.
    pub(crate) verdict: Option<(u16, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Temporary {
    pub(crate) uid: Id,
    /// UID of the target, which is in its name and owns it.
    pub(crate) owner: Id,
    pub(crate) old: bool,
    pub(crate) terminating: Option<Deadline>,
    pub(crate) binding: Binding,
    pub(crate) node: Option<NodeId>,
    /// The node that it was created for.
    pub(crate) chosen: Option<NodeId>,
    /// The pod and the node that the record names.
    pub(crate) lost: Option<(Id, NodeId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// How a mover ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum End {
    Complete,
    /// With 0, as a program that is no mover does.
    Silent,
    Transient,
    Permanent,
    /// By a signal.
    Terminated,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pod {
    pub(crate) uid: Id,
    pub(crate) owner: Id,
    /// The object as the plan made it, without what is below.
    pub(crate) template: u16,
    pub(crate) temporary: Id,
    pub(crate) finalizer: bool,
    pub(crate) old: bool,
    pub(crate) terminating: Option<Deadline>,
    pub(crate) forced: bool,
    pub(crate) phase: PodPhase,
    pub(crate) node: Option<NodeId>,
    /// The cluster ended it: a drain, the taint manager, a full node.
    pub(crate) evicted: bool,
    pub(crate) collected: bool,
    pub(crate) ended: Option<End>,
    /// Its end was long ago.
    pub(crate) cold: bool,
}

/// Whether a time to wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Deadline {
    Ahead,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Temporary { uid: Id, of: Id },
    Target(Id),
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum VolumePhase {
    Free,
    Bound,
    Released,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Volume {
    pub(crate) id: Id,
    pub(crate) version: u8,
    pub(crate) phase: VolumePhase,
    pub(crate) terminating: bool,
    pub(crate) owner: Option<Owner>,
    /// User whose resource `populated-from` names.
    pub(crate) from: Option<usize>,
    pub(crate) populated_for: Option<Id>,
    pub(crate) disk: Option<Disk>,
    pub(crate) chosen: bool,
    /// The number that the next target would have got when the volume was created.
    pub(crate) era: Id,
    /// The only node that reaches it.
    pub(crate) reach: Option<NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) exists: bool,
    /// Since when it is not ready.
    pub(crate) unready: Option<Deadline>,
    pub(crate) cordoned: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            exists: true,
            unready: None,
            cordoned: false,
        }
    }
}

/// What is true and no API server shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ghost {
    pub(crate) writers: Vec<Writer>,
    pub(crate) contents: Vec<(Id, Content)>,
    pub(crate) life: [Life; NODES],
    pub(crate) full: [bool; NODES],
    /// The secret of these users is missing: their pods do not start.
    pub(crate) broken: [bool; 2],
    /// The controller's settings name an image that cannot be pulled.
    pub(crate) wrong_image: bool,
    /// How often a mover has failed for a target by itself.
    pub(crate) failures: Vec<(Id, u8)>,
    /// Targets whose mover has failed for good, with nothing changed since.
    pub(crate) verdicts: Vec<Id>,
    /// What happened to each user's objects that a claim may fail of.
    pub(crate) excuses: [u8; 2],
}

/// A process that may write to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) pod: Id,
    pub(crate) volume: Id,
    pub(crate) disk: Disk,
    pub(crate) node: NodeId,
    /// How it ended, on a node that could not report it yet.
    pub(crate) done: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// Being written by this pod; no other one has written since.
    Partial(Id),
    /// All of one disk. Whether the API server has seen the pod's success.
    Complete {
        disk: Disk,
        reported: bool,
    },
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Life {
    #[default]
    Up,
    /// Its pods run, and it does not reach the API server.
    Cut,
    Off,
}

/// One process of the controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Replica {
    pub(crate) seen: Seen,
    /// Index of the slots' state in the planner.
    pub(crate) slots: u16,
    /// A quota has rejected a claim a short time ago.
    pub(crate) is_short: bool,
    pub(crate) wakes: Vec<(Id, Wake)>,
    pub(crate) flights: Vec<Flight>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wake {
    Now,
    Later,
}

/// What is left of a plan that is being applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) target: Id,
    pub(crate) acts: Vec<Act>,
    /// The disk that the resource named in the plan's world.
    pub(crate) wanted: Option<Disk>,
}

/// The kinds whose watch is late, as they were last seen. The others are seen as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Seen {
    pub(crate) claims: Option<Rc<Claims>>,
    pub(crate) pods: Option<Rc<Vec<Pod>>>,
    pub(crate) volumes: Option<Rc<Vec<Volume>>>,
    pub(crate) resources: Option<Rc<Vec<Option<Disk>>>>,
    pub(crate) nodes: Option<[Node; NODES]>,
}

impl Seen {
    /// The cluster as the watches show it.
    pub(crate) fn of(&self, api: &Api) -> Api {
        Api {
            claims: self.claims.clone().unwrap_or_else(|| api.claims.clone()),
            pods: self.pods.clone().unwrap_or_else(|| api.pods.clone()),
            volumes: self.volumes.clone().unwrap_or_else(|| api.volumes.clone()),
            resources: self
                .resources
                .clone()
                .unwrap_or_else(|| api.resources.clone()),
            nodes: self.nodes.unwrap_or(api.nodes),
        }
    }
}

impl Api {
    pub(crate) fn target(&self, uid: Id) -> Option<&Target> {
        self.claims.targets.iter().find(|target| target.uid == uid)
    }

    /// The temporary claim of a target, by its name.
    pub(crate) fn temporary_of(&self, target: Id) -> Option<&Temporary> {
        let mut all = self.claims.temporaries.iter();
        all.find(|temporary| temporary.owner == target)
    }

    pub(crate) fn pod_of(&self, target: Id) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.owner == target)
    }

    pub(crate) fn volume(&self, id: Id) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.id == id)
    }

    pub(crate) fn target_mut(&mut self, uid: Id) -> Option<&mut Target> {
        let claims = Rc::make_mut(&mut self.claims);
        claims.targets.iter_mut().find(|target| target.uid == uid)
    }

    pub(crate) fn temporary_mut(&mut self, target: Id) -> Option<&mut Temporary> {
        let claims = Rc::make_mut(&mut self.claims);
        let mut all = claims.temporaries.iter_mut();
        all.find(|temporary| temporary.owner == target)
    }

    pub(crate) fn pod(&self, uid: Id) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    pub(crate) fn pod_mut(&mut self, uid: Id) -> Option<&mut Pod> {
        Rc::make_mut(&mut self.pods)
            .iter_mut()
            .find(|pod| pod.uid == uid)
    }

    /// A volume that is changed, with its next version.
    pub(crate) fn volume_mut(&mut self, id: Id) -> Option<&mut Volume> {
        let volumes = Rc::make_mut(&mut self.volumes);
        let found = volumes.iter_mut().find(|volume| volume.id == id)?;
        found.version = found.version.wrapping_add(1);
        Some(found)
    }

    /// What Kubernetes has bound the claim to that owns a volume, if that claim exists.
    pub(crate) fn binding_of(&self, owner: Owner) -> Option<Binding> {
        match owner {
            Owner::Temporary { uid, of } => self
                .temporary_of(of)
                .filter(|temporary| temporary.uid == uid)
                .map(|temporary| temporary.binding),
            Owner::Target(uid) => self.target(uid).map(|target| target.binding),
            Owner::Foreign => None,
        }
    }

    pub(crate) fn binding_mut(&mut self, owner: Owner) -> Option<&mut Binding> {
        match owner {
            Owner::Temporary { uid, of } => self
                .temporary_mut(of)
                .filter(|temporary| temporary.uid == uid)
                .map(|temporary| &mut temporary.binding),
            Owner::Target(uid) => self.target_mut(uid).map(|target| &mut target.binding),
            Owner::Foreign => None,
        }
    }
}

impl State {
    pub(crate) fn fresh(&mut self) -> Id {
        self.next = self.next.checked_add(1).expect("states are renumbered");
        self.next - 1
    }

    pub(crate) fn content(&self, volume: Id) -> Option<Content> {
        let mut all = self.ghost.contents.iter();
        all.find(|(id, _)| *id == volume)
            .map(|(_, content)| *content)
    }

    pub(crate) fn set_content(&mut self, volume: Id, content: Content) {
        self.ghost.contents.retain(|(id, _)| *id != volume);
        self.ghost.contents.push((volume, content));
        self.ghost.contents.sort_by_key(|(id, _)| *id);
    }

    pub(crate) fn failures(&self, target: Id) -> u8 {
        let mut all = self.ghost.failures.iter();
        all.find(|(id, _)| *id == target)
            .map_or(0, |(_, count)| *count)
    }

    /// Counts that the mover in a pod has failed by itself.
    pub(crate) fn count_failure(&mut self, pod: Id) {
        let Some(owner) = self.api.pod(pod).map(|pod| pod.owner) else {
            return;
        };
        let count = self.failures(owner) + 1;
        self.ghost.failures.retain(|(id, _)| *id != owner);
        // More make no difference.
        self.ghost.failures.push((owner, count.min(3)));
        self.ghost.failures.sort_unstable();
    }

    /// All waits are over, those that stale caches show included.
    pub(crate) fn age(&mut self) {
        let claims = self.replicas.iter_mut();
        let claims = claims.filter_map(|it| it.seen.claims.as_mut());
        for claims in std::iter::once(&mut self.api.claims).chain(claims) {
            Rc::make_mut(claims).age();
        }
        let pods = self.replicas.iter_mut();
        let pods = pods.filter_map(|it| it.seen.pods.as_mut());
        for pods in std::iter::once(&mut self.api.pods).chain(pods) {
            for pod in Rc::make_mut(pods) {
                pod.old = true;
                pod.cold = pod.ended.is_some();
                pod.terminating = pod.terminating.map(|_| Deadline::Over);
            }
        }
        let nodes = self.replicas.iter_mut();
        let nodes = nodes.filter_map(|it| it.seen.nodes.as_mut());
        for node in std::iter::once(&mut self.api.nodes).chain(nodes).flatten() {
            node.unready = node.unready.map(|_| Deadline::Over);
        }
    }
}

impl Temporary {
    /// Its deletion begins.
    pub(crate) fn delete(&mut self) {
        self.terminating = self.terminating.or(Some(Deadline::Ahead));
    }
}

impl Claims {
    fn age(&mut self) {
        for target in &mut self.targets {
            if let Some(failure) = &mut target.failure {
                failure.old = true;
            }
            for rejected in &mut target.rejected {
                rejected.old = true;
            }
        }
        for temporary in &mut self.temporaries {
            temporary.old = true;
            temporary.terminating = temporary.terminating.map(|_| Deadline::Over);
        }
    }
}
