//! The product in the model: `plan` and `Slots`, each asked once for what it was asked before.

use std::{collections::HashMap, rc::Rc, time::Duration};

use backoff::Backoff;
use contract::args::flag;
use k8s_openapi::api::core::v1 as core;
use population::{
    Settings,
    model::{self, Kind, Uid},
    plan::{Action, DeleteReason, Full, Queued, plan},
    settings::Retry,
    slots::{Admission, Request, Slots},
};
use populator_api::{Reason, names::annotation as key};

use crate::{
    faults::{self, Fault},
    state::{Disk, Id, NODES, Node, NodeId, Pod, Target, Temporary, Volume},
    translate::{self, now, number, uid},
};

/// What `plan` decides from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) target: Target,
    pub(crate) temporary: Option<Temporary>,
    pub(crate) pod: Option<Pod>,
    pub(crate) volume: Option<Volume>,
    pub(crate) resource: Option<Disk>,
    pub(crate) nodes: [Node; NODES],
}

/// The storage class of all claims.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a property of its own"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Class {
    /// It waits for a consumer.
    pub(crate) waits: bool,
    /// A volume is reached from one node only.
    pub(crate) local: bool,
    /// The reclaim policy is `Retain`.
    pub(crate) retains: bool,
    /// The provisioner is built into Kubernetes, and a CSI driver serves it.
    pub(crate) in_tree: bool,
    /// The targets ask for binding without a consumer.
    pub(crate) bind_immediately: bool,
}

/// One write of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    CreateTemporary {
        node: Option<NodeId>,
    },
    CreatePod {
        template: u16,
        temporary: Id,
        finalizer: bool,
    },
    DeletePod(Id),
    ReleasePod(Id),
    RecordNodeLost {
        uid: Id,
        lost: Option<(Id, NodeId)>,
    },
    DeleteTemporary {
        uid: Id,
        is_done: bool,
    },
    Rebind {
        volume: Id,
        version: u8,
        from: Id,
        disk: Option<Disk>,
    },
    RecordFailure {
        recreations: u8,
        pod: Id,
        reason: Reason,
    },
    ForgetFailures,
    ClearNode(NodeId),
}

/// A plan in the model's terms.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) acts: Vec<Act>,
    /// What is done instead while there is no slot.
    pub(crate) deferred: Vec<Act>,
    pub(crate) reason: Reason,
    pub(crate) requeues: bool,
    pub(crate) request: Option<u16>,
}

/// A pod as a plan creates it.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) json: String,
    pub(crate) disk: Disk,
    pub(crate) pin: Option<NodeId>,
}

/// A call to the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SlotCall {
    Count(Id, Option<u16>),
    Decide(Id, Option<u16>),
    Started(Id),
    Leave(Id),
}

/// What follows from a call to the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotAnswer {
    pub(crate) next: u16,
    pub(crate) is_admitted: bool,
    pub(crate) triggers: Vec<Id>,
}

#[derive(Debug)]
pub(crate) struct Planner {
    pub(crate) settings: Settings,
    pub(crate) class: Class,
    pub(crate) fault: Option<Fault>,
    pub(crate) tolerates_leaks: bool,
    plans: HashMap<View, Rc<Planned>>,
    templates: Vec<Template>,
    requests: Table<Request>,
    /// For each state of the slots the calls that lead to it.
    slots: Table<Vec<SlotCall>>,
    answers: HashMap<(u16, SlotCall), SlotAnswer>,
    held: Vec<(usize, usize)>,
}

/// Values by the text that tells them apart.
#[derive(Debug)]
struct Table<T> {
    values: Vec<T>,
    index: HashMap<String, u16>,
}

impl<T> Table<T> {
    fn new() -> Self {
        Self {
            values: Vec::new(),
            index: HashMap::new(),
        }
    }

    fn intern(&mut self, text: String, value: T) -> u16 {
        let next = u16::try_from(self.values.len()).expect("few values");
        let found = *self.index.entry(text).or_insert(next);
        if found == next {
            self.values.push(value);
        }
        found
    }

    fn get(&self, index: u16) -> &T {
        &self.values[usize::from(index)]
    }
}

impl Planner {
    pub(crate) fn new(class: Class, limit: usize, fault: Option<Fault>) -> Self {
        let settings = Settings {
            images: [(Kind::Ovirt, "ovirt:1".to_owned())].into(),
            max_in_flight: limit,
            max_in_flight_per_source: limit,
            // All waits end with the same step of the model's clock.
            retry: Retry {
                most: 1,
                backoff: Backoff::new(Duration::from_secs(10), Duration::from_secs(10)),
            },
            ..Settings::default()
        };
        let mut slots = Table::new();
        slots.intern(format!("{:?}", Slots::default()), Vec::new());
        Self {
            settings,
            class,
            fault,
            tolerates_leaks: true,
            plans: HashMap::new(),
            templates: Vec::new(),
            requests: Table::new(),
            slots,
            answers: HashMap::new(),
            held: vec![(0, 0)],
        }
    }

    /// How many different worlds were planned for.
    pub(crate) fn worlds(&self) -> usize {
        self.plans.len()
    }

    pub(crate) fn template(&self, index: u16) -> &Template {
        &self.templates[usize::from(index)]
    }

    pub(crate) fn plan(&mut self, view: &View) -> Rc<Planned> {
        if let Some(planned) = self.plans.get(view) {
            return Rc::clone(planned);
        }
        let planned = Rc::new(self.plan_anew(view));
        self.plans.insert(view.clone(), Rc::clone(&planned));
        planned
    }

    fn plan_anew(&mut self, view: &View) -> Planned {
        let mut world = translate::world(view, self.class, &self.templates);
        faults::before(self.fault, &mut world);
        let mut plan = plan(&world, &self.settings, now()).expect("a claim of ours");
        faults::after(self.fault, &world, &mut plan);
        let request = plan.slot.map(|usage| {
            let request = Request::new(&world, usage);
            self.requests.intern(format!("{request:?}"), request)
        });
        let queued = Queued {
            ahead: 0,
            limit: 1,
            full: Full::Controller,
        };
        Planned {
            acts: plan.actions.iter().map(|action| self.act(action)).collect(),
            reason: plan.status.reason,
            requeues: plan.requeue_after.is_some(),
            request,
            deferred: {
                let deferred = plan.deferred(&queued);
                deferred
                    .actions
                    .iter()
                    .map(|action| self.act(action))
                    .collect()
            },
        }
    }

    fn act(&mut self, action: &Action) -> Act {
        let id = |uid: &Uid| number(uid.as_str());
        match action {
            Action::CreateTemporaryClaim(object) => {
                let annotations = object.metadata.annotations.as_ref();
                let node = annotations.and_then(|map| map.get(key::SELECTED_NODE));
                Act::CreateTemporary {
                    node: node.map(|name| number(name)),
                }
            }
            Action::CreatePod(object) => self.create_pod(object),
            Action::DeletePod { uid, .. } => Act::DeletePod(id(uid)),
            Action::ReleasePod { uid, .. } => Act::ReleasePod(id(uid)),
            Action::RecordNodeLost { uid, lost, .. } => Act::RecordNodeLost {
                uid: id(uid),
                lost: lost
                    .as_ref()
                    .map(|lost| (id(&lost.pod), number(&lost.node))),
            },
            Action::DeleteTemporaryClaim { uid, reason, .. } => Act::DeleteTemporary {
                uid: id(uid),
                is_done: *reason == DeleteReason::Populated,
            },
            Action::RebindVolume { volume, from, disk } => Act::Rebind {
                volume: number(&volume.name),
                version: volume.resource_version.parse().expect("a version"),
                from: id(from),
                disk: disk.as_deref().map(number),
            },
            Action::RecordFailure {
                recreations,
                failure,
            } => Act::RecordFailure {
                recreations: u8::try_from(*recreations).expect("few attempts"),
                pod: id(&failure.pod),
                reason: failure.reason,
            },
            Action::ForgetFailures => Act::ForgetFailures,
            Action::ClearSelectedNode { node } => Act::ClearNode(number(node)),
            Action::AdoptTemporaryClaim { .. } | Action::AdoptPod { .. } => {
                panic!("Forklift's controller is not part of the model: {action:?}")
            }
        }
    }

    fn create_pod(&mut self, object: &core::Pod) -> Act {
        let annotations = object.metadata.annotations.as_ref();
        let temporary = annotations
            .and_then(|map| map.get(key::TEMPORARY_CLAIM))
            .expect("a pod names its temporary claim");
        let json = serde_json::to_string(object).expect("a pod");
        let json = json.replace(temporary.as_str(), translate::TEMPORARY);
        let known = self.templates.iter().position(|known| known.json == json);
        let template = known.unwrap_or_else(|| {
            let mut named = object.clone();
            named.metadata.uid = Some(uid(0));
            let pod = model::Pod::from_object(&named).expect("a pod");
            self.templates.push(Template {
                disk: number(pod.argument(flag::DISK_ID).expect("a disk")),
                pin: pod.pinned_to.as_deref().map(number),
                json,
            });
            self.templates.len() - 1
        });
        Act::CreatePod {
            template: u16::try_from(template).expect("few templates"),
            temporary: number(temporary),
            finalizer: object
                .metadata
                .finalizers
                .as_ref()
                .is_some_and(|list| !list.is_empty()),
        }
    }

    /// Calls the slots in one of their states.
    pub(crate) fn call_slots(&mut self, state: u16, call: SlotCall) -> SlotAnswer {
        if let Some(known) = self.answers.get(&(state, call)) {
            return known.clone();
        }
        let mut slots = Slots::default();
        let mut history = self.slots.get(state).clone();
        for call in &history {
            self.do_call(&mut slots, *call);
        }
        let (is_admitted, triggers) = self.do_call(&mut slots, call);
        history.push(call);
        let next = self.slots.intern(format!("{slots:?}"), history);
        if usize::from(next) == self.held.len() {
            self.held.push(slots.held_and_queued());
        }
        let answer = SlotAnswer {
            next,
            is_admitted,
            triggers: triggers.iter().map(|uid| number(uid.as_str())).collect(),
        };
        self.answers.insert((state, call), answer.clone());
        answer
    }

    fn do_call(&self, slots: &mut Slots, call: SlotCall) -> (bool, Vec<Uid>) {
        let request = |index: Option<u16>| index.map(|index| self.requests.get(index).clone());
        let named = |target| Uid::from(uid(target));
        match call {
            SlotCall::Count(target, wanted) => {
                slots.count(&named(target), request(wanted));
                (true, Vec::new())
            }
            SlotCall::Decide(target, wanted) => {
                let decision = slots.decide(&named(target), request(wanted), &self.settings);
                (decision.admission == Admission::Admitted, decision.trigger)
            }
            SlotCall::Started(target) => {
                slots.started(&named(target));
                (true, Vec::new())
            }
            SlotCall::Leave(target) => (true, slots.leave(&named(target), &self.settings)),
        }
    }

    /// How many claims hold a slot, and how many wait for one.
    pub(crate) fn held_and_queued(&self, state: u16) -> (usize, usize) {
        self.held[usize::from(state)]
    }
}
