//! The product in the model: `plan` and `Slots`, each asked once for what it was asked before.

use std::{collections::HashMap, rc::Rc, time::Duration};

use backoff::Backoff;
use contract::args::flag;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;
use population::{
    Plan, Settings,
    model::{self, Kind, LastFailure, Uid},
    plan::{Action, DeleteReason, Full, Queued, plan},
    settings::Retry,
    slots::{Admission, Request, Slots},
};
use populator_api::{Reason, names::annotation as key};

use crate::{
    faults::{self, Fault},
    state::{Disk, Failure, Id, NODES, Node, NodeId, Pod, Rejected, Target, Temporary, Volume},
    translate::{self, now, number, uid},
};

const WRONG_IMAGE: &str = "ovirt:wrong";

/// What `plan` decides from.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) target: Target,
    pub(crate) temporary: Option<Temporary>,
    pub(crate) pod: Option<Pod>,
    pub(crate) volume: Option<Volume>,
    pub(crate) resource: Option<Disk>,
    pub(crate) is_short: bool,
    pub(crate) wrong_image: bool,
    /// The pod's secret is missing.
    pub(crate) is_broken: bool,
    pub(crate) nodes: [Node; NODES],
}

/// The storage class of all claims, and what else they have in common.
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
    /// The targets are those of a migration of Forklift's.
    pub(crate) is_forklifts: bool,
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
        failure: Failure,
    },
    ForgetFailures,
    RejectNode {
        node: NodeId,
        rejected: Vec<Rejected>,
    },
}

/// A plan in the model's terms.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) acts: Vec<Act>,
    /// What is done instead while there is no slot.
    pub(crate) deferred: Vec<Act>,
    /// Nothing is said of a claim that is none of ours.
    pub(crate) reason: Option<Reason>,
    pub(crate) requeues: bool,
    pub(crate) request: Option<u16>,
}

/// A pod as a plan creates it.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) json: String,
    pub(crate) disk: Disk,
    /// The retry that it answers.
    pub(crate) retry: u8,
    /// Its image cannot be pulled.
    pub(crate) is_wrong: bool,
}

/// A call to the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SlotCall {
    Count(Id, Option<u16>),
    Decide(Id, Option<u16>),
    Started(Id),
    Seen(Id),
    Leave(Id),
    Reject(Id),
    /// Time passes.
    Tick,
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
    /// How many temporary claims a quota allows.
    pub(crate) quota: usize,
    plans: HashMap<View, Rc<Planned>>,
    templates: Vec<Template>,
    /// What pods were made from, as verdicts keep it.
    origins: Vec<String>,
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
    pub(crate) fn new(class: Class, limit: usize, quota: usize, fault: Option<Fault>) -> Self {
        let settings = Settings {
            images: [(Kind::Ovirt, "ovirt:1".to_owned())].into(),
            max_in_flight: limit,
            max_in_flight_per_source: limit,
            // All waits end with the same step of the model's clock.
            retry: Retry {
                most: 1,
                most_disruptions: 30,
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
            quota,
            plans: HashMap::new(),
            templates: Vec::new(),
            origins: Vec::new(),
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
        let mut world = translate::world(view, self.class, &self.templates, &self.origins);
        faults::before(self.fault, &mut world);
        let mut settings = self.settings.clone();
        if view.wrong_image {
            settings.images = [(Kind::Ovirt, WRONG_IMAGE.to_owned())].into();
        }
        let Some(mut plan) = plan(&world, &settings, now()) else {
            return Planned {
                acts: Vec::new(),
                deferred: Vec::new(),
                reason: None,
                requeues: false,
                request: None,
            };
        };
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
            acts: self.acts(&plan),
            reason: Some(plan.status.reason),
            requeues: plan.requeue_after.is_some(),
            request,
            deferred: self.acts(&plan.deferred(&queued)),
        }
    }

    fn acts(&mut self, plan: &Plan) -> Vec<Act> {
        plan.actions.iter().map(|action| self.act(action)).collect()
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
                failure: self.failure(failure),
            },
            Action::ForgetFailures => Act::ForgetFailures,
            Action::RejectNode { node, rejected, .. } => Act::RejectNode {
                node: number(node),
                rejected: rejected.iter().map(translate::rejected).collect(),
            },
            other => panic!("not part of the model: {other:?}"),
        }
    }

    fn failure(&mut self, failure: &LastFailure) -> Failure {
        let verdict = failure.verdict.as_ref().map(|verdict| {
            let mut known = self.origins.iter();
            let origin = known
                .position(|known| *known == verdict.origin)
                .unwrap_or_else(|| {
                    self.origins.push(verdict.origin.clone());
                    self.origins.len() - 1
                });
            let retry = verdict.retry.as_deref().map_or(0, number);
            (u16::try_from(origin).expect("few origins"), retry)
        });
        Failure {
            pod: number(failure.pod.as_str()),
            old: false,
            reason: failure.reason,
            disruptions: u8::try_from(failure.disruptions).expect("few disruptions"),
            verdict,
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
                retry: pod.retry.as_deref().map_or(0, number),
                is_wrong: json.contains(WRONG_IMAGE),
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
        let mut clock = now();
        let mut history = self.slots.get(state).clone();
        for call in &history {
            self.do_call(&mut slots, *call, &mut clock);
        }
        let (is_admitted, triggers) = self.do_call(&mut slots, call, &mut clock);
        history.push(call);
        let next = self.slots.intern(text_of(&slots, clock), history);
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

    fn do_call(
        &self,
        slots: &mut Slots,
        call: SlotCall,
        clock: &mut Timestamp,
    ) -> (bool, Vec<Uid>) {
        let request = |index: Option<u16>| index.map(|index| self.requests.get(index).clone());
        let named = |target| Uid::from(uid(target));
        let settings = &self.settings;
        match call {
            SlotCall::Count(target, wanted) => {
                slots.count(&named(target), request(wanted), *clock);
            }
            SlotCall::Decide(target, wanted) => {
                let decision = slots.decide(&named(target), request(wanted), settings, *clock);
                return (decision.admission == Admission::Admitted, decision.trigger);
            }
            SlotCall::Started(target) => slots.started(&named(target), *clock),
            SlotCall::Seen(_) | SlotCall::Tick if self.fault == Some(Fault::SlotLeaked) => {}
            SlotCall::Seen(target) => slots.seen(&named(target)),
            SlotCall::Leave(target) => return (true, slots.leave(&named(target), settings)),
            SlotCall::Reject(target) => return (true, slots.reject(&named(target), settings)),
            SlotCall::Tick => *clock += TICK,
        }
        (true, Vec::new())
    }

    /// How many claims hold a slot, and how many wait for one.
    pub(crate) fn held_and_queued(&self, state: u16) -> (usize, usize) {
        self.held[usize::from(state)]
    }
}

/// By how much the slots' clock advances when time passes.
const TICK: SignedDuration = SignedDuration::from_hours(1);

/// The slots as a text that is the same for states that behave alike: times by their age, and turns
/// by their order.
fn text_of(slots: &Slots, clock: Timestamp) -> String {
    let mut text = format!("{slots:?}").replace(&clock.to_string(), "now");
    let mut past = clock;
    while past > now() {
        past -= TICK;
        text = text.replace(&past.to_string(), "past");
    }
    let Some((before, turns)) = text.split_once("turns: {") else {
        return text;
    };
    let numbers = |text: &str| -> Vec<(String, u64)> {
        let entries = text.split(", ").filter_map(|entry| entry.rsplit_once(": "));
        let entries =
            entries.filter_map(|(name, turn)| Some((name.to_owned(), turn.parse().ok()?)));
        entries.collect()
    };
    let turns = turns.split('}').next().unwrap_or_default();
    let mut turns = numbers(turns);
    turns.sort_by_key(|(_, turn)| *turn);
    let order: Vec<String> = turns.into_iter().map(|(name, _)| name).collect();
    format!("{before} {order:?}")
}
