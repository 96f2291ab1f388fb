//! The state of the queue for slots: one serialised step admits claims or defers them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{Admission, Request, admit};
use crate::{Settings, model::Uid, plan::SlotUse};

/// For this long after a claim has created its temporary claim, the watches may not show it yet. One
/// that was deleted before they did is never shown, and must not keep its slot.
const UNSEEN: Duration = Duration::from_mins(1);

/// Which claims hold a slot, which are queued, and which were admitted.
///
/// It is filled from the cluster after a start, and updated by each reconcile. An admitted claim
/// keeps its slot until the watches show that it holds one or needs none: a late watch cannot admit
/// more claims than there are slots.
#[derive(Debug, Default)]
pub struct Slots {
    requests: BTreeMap<Uid, Request>,
    admitted: BTreeSet<Uid>,
    /// When the admitted claims created their temporary claims that the watches do not show yet.
    started: BTreeMap<Uid, Timestamp>,
    /// The claims that gave a slot up, in that order. They queue behind all others.
    turns: BTreeMap<Uid, u64>,
    last_turn: u64,
}

/// The decision about one claim, and what follows for others.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the claim may continue.
    pub admission: Admission,
    /// Other claims that were admitted by this decision, or must make room, to be reconciled.
    pub trigger: Vec<Uid>,
}

impl Slots {
    /// Counts what a claim needs after a start, and admits none. A claim that has its temporary
    /// claim and no pod may get one at any moment, from the previous leader: it holds a slot.
    pub fn count(&mut self, claim_uid: &Uid, request: Option<Request>, now: Timestamp) {
        self.update(claim_uid, request, SlotUse::Held, now);
    }

    /// `resumed` is the use that [`SlotUse::Resume`] stands for if the claim is not known yet.
    fn update(
        &mut self,
        claim_uid: &Uid,
        request: Option<Request>,
        resumed: SlotUse,
        now: Timestamp,
    ) {
        let Some(mut request) = request else {
            // The watches may not show its temporary claim yet. Without it the plan asks for nothing
            // (the resource may be gone just now), but the volume is being provisioned.
            let is_unseen = |at: &Timestamp| now.duration_since(*at).unsigned_abs() < UNSEEN;
            if !self.started.get(claim_uid).is_some_and(is_unseen) {
                self.forget(claim_uid);
            }
            return;
        };
        match request.usage {
            // Only the queue knows whether a claim that resumes has given its slot up.
            SlotUse::Resume => {
                let known = self.requests.get(claim_uid).map(|known| known.usage);
                request.usage = match known {
                    Some(SlotUse::Held) => SlotUse::Held,
                    Some(_) => SlotUse::Acquire,
                    None => resumed,
                };
            }
            // What is seen counts from now on. A stalled claim whose pod starts by itself is counted
            // here, beyond the limit if need be.
            SlotUse::Held => {
                self.admitted.remove(claim_uid);
                self.started.remove(claim_uid);
                self.turns.remove(claim_uid);
            }
            SlotUse::Stalled { .. } => {
                self.admitted.remove(claim_uid);
                self.started.remove(claim_uid);
            }
            SlotUse::Acquire => {}
        }
        self.requests.insert(claim_uid.clone(), request);
    }

    /// The watches show the claim's temporary claim: from now on its plans know about it, and one
    /// that asks for nothing needs nothing.
    pub fn seen(&mut self, claim_uid: &Uid) {
        self.started.remove(claim_uid);
    }

    /// Updates what a claim needs, and decides whether it, and others, may continue.
    pub fn decide(
        &mut self,
        claim_uid: &Uid,
        request: Option<Request>,
        settings: &Settings,
        now: Timestamp,
    ) -> Decision {
        let before = self.outcome(settings);
        self.update(claim_uid, request, SlotUse::Acquire, now);
        let (mut outcome, mut trigger) = self.admit(settings);
        // Those that must make room for the ones that were admitted.
        let parked = |uid: &&Uid| {
            self.is_stalled(uid)
                && before.get(uid) != outcome.get(uid)
                && outcome.get(uid) != Some(&Admission::Admitted)
        };
        trigger.extend(self.requests.keys().filter(parked).cloned());
        trigger.retain(|uid| uid != claim_uid);
        // A claim without a request needs no slot.
        let admission = outcome.remove(claim_uid).unwrap_or(Admission::Admitted);
        if self.is_stalled(claim_uid) && admission != Admission::Admitted {
            self.pass(claim_uid);
        }
        Decision { admission, trigger }
    }

    /// The claim has created its temporary claim.
    pub fn started(&mut self, claim_uid: &Uid, now: Timestamp) {
        if self.admitted.contains(claim_uid) {
            self.started.insert(claim_uid.clone(), now);
        }
    }

    /// The claim is gone; returns the claims that are to be reconciled.
    pub fn leave(&mut self, claim_uid: &Uid, settings: &Settings) -> Vec<Uid> {
        self.forget(claim_uid);
        self.turns.remove(claim_uid);
        self.admit(settings).1
    }

    /// An object of the claim was rejected (a quota, a policy), and others may use its slot until it
    /// is reconciled again; returns the claims that are to be reconciled.
    pub fn reject(&mut self, claim_uid: &Uid, settings: &Settings) -> Vec<Uid> {
        self.forget(claim_uid);
        self.pass(claim_uid);
        self.admit(settings).1
    }

    /// How many claims hold a slot, including those that were admitted, and how many wait for one.
    #[must_use]
    pub fn held_and_queued(&self) -> (usize, usize) {
        let is_held = |request: &&Request| {
            request.usage == SlotUse::Held || self.admitted.contains(&request.uid)
        };
        let held = self.requests.values().filter(is_held).count();
        let stalled = self.requests.keys().filter(|uid| self.is_stalled(uid));
        (held, self.requests.len() - held - stalled.count())
    }

    fn is_stalled(&self, claim_uid: &Uid) -> bool {
        let request = self.requests.get(claim_uid);
        request.is_some_and(|request| matches!(request.usage, SlotUse::Stalled { .. }))
    }

    /// The claim queues behind all others from now on.
    fn pass(&mut self, claim_uid: &Uid) {
        self.last_turn += 1;
        self.turns.insert(claim_uid.clone(), self.last_turn);
    }

    fn forget(&mut self, claim_uid: &Uid) {
        self.requests.remove(claim_uid);
        self.admitted.remove(claim_uid);
        self.started.remove(claim_uid);
    }

    fn outcome(&self, settings: &Settings) -> BTreeMap<Uid, Admission> {
        let requests: Vec<Request> = self.requests.values().cloned().collect();
        admit(&requests, &self.admitted, &self.turns, settings)
    }

    fn admit(&mut self, settings: &Settings) -> (BTreeMap<Uid, Admission>, Vec<Uid>) {
        // All of them, since one claim that leaves may let another one in, whose reconcile nothing
        // else triggers.
        let outcome = self.outcome(settings);
        let requests = self.requests.values();
        let new: Vec<Uid> = requests
            .filter(|request| {
                // A holder needs no admission; one would keep its slot after it gave that up.
                request.usage == SlotUse::Acquire
                    && !self.admitted.contains(&request.uid)
                    && outcome.get(&request.uid) == Some(&Admission::Admitted)
            })
            .map(|request| request.uid.clone())
            .collect();
        self.admitted.extend(new.iter().cloned());
        (outcome, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            max_in_flight: 2,
            ..Settings::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn request(uid: &str, usage: SlotUse) -> Request {
        Request {
            uid: uid.into(),
            created: Timestamp::UNIX_EPOCH,
            namespace: "vms".to_owned(),
            server: "https://e".to_owned(),
            usage,
        }
    }

    /// A decision at the first second.
    fn decide(slots: &mut Slots, uid: &str, usage: Option<SlotUse>) -> Decision {
        let request = usage.map(|usage| request(uid, usage));
        slots.decide(&uid.into(), request, &settings(), at(0))
    }

    fn admitted(decision: &Decision) -> bool {
        decision.admission == Admission::Admitted
    }

    fn is_admitted(slots: &mut Slots, uid: &str, usage: SlotUse) -> bool {
        admitted(&decide(slots, uid, Some(usage)))
    }

    fn count(slots: &mut Slots, uid: &str, usage: SlotUse) {
        slots.count(&uid.into(), Some(request(uid, usage)), at(0));
    }

    fn with_three_waiting() -> Slots {
        let mut slots = Slots::default();
        for uid in ["a", "b", "c"] {
            count(&mut slots, uid, SlotUse::Acquire);
        }
        slots
    }

    #[test]
    fn admitted_claims_hold_their_slots_before_the_watches_show_it() {
        let mut slots = with_three_waiting();
        let decision = decide(&mut slots, "a", Some(SlotUse::Acquire));
        assert!(admitted(&decision));
        assert_eq!(decision.trigger, [Uid::from("b")]);
        slots.started(&"a".into(), at(0));
        // A late watch shows the claim as it was, or as one that needs no slot.
        for late in [Some(SlotUse::Acquire), None] {
            assert!(admitted(&decide(&mut slots, "a", late)));
            assert!(!is_admitted(&mut slots, "c", SlotUse::Acquire));
        }
        assert_eq!(slots.held_and_queued(), (2, 1));
    }

    /// Its resource is deleted, its grant revoked, or its pod fails before a busy worker looks again.
    #[test]
    fn a_claim_that_leaves_before_it_was_seen_to_hold_a_slot_leaves_none_behind() {
        let mut slots = with_three_waiting();
        is_admitted(&mut slots, "a", SlotUse::Acquire);
        slots.started(&"a".into(), at(0));
        slots.seen(&"a".into());
        assert_eq!(
            decide(&mut slots, "a", None).trigger,
            [Uid::from("c")],
            "its temporary claim was seen, and it needs nothing"
        );
        assert_eq!(slots.held_and_queued(), (2, 0));
    }

    #[test]
    fn a_temporary_claim_that_is_never_seen_keeps_no_slot() {
        let mut slots = with_three_waiting();
        is_admitted(&mut slots, "a", SlotUse::Acquire);
        slots.started(&"a".into(), at(0));
        let at_second = |slots: &mut Slots, second| {
            slots
                .decide(&"a".into(), None, &settings(), at(second))
                .trigger
        };
        assert!(at_second(&mut slots, 59).is_empty());
        assert_eq!(at_second(&mut slots, 60), [Uid::from("c")]);
    }

    #[test]
    fn a_claim_that_leaves_admits_the_next_one() {
        let mut slots = with_three_waiting();
        is_admitted(&mut slots, "a", SlotUse::Acquire);
        slots.started(&"a".into(), at(0));
        is_admitted(&mut slots, "a", SlotUse::Held);
        let decision = decide(&mut slots, "a", None);
        assert_eq!(decision.trigger, [Uid::from("c")]);
        assert!(slots.leave(&"b".into(), &settings()).is_empty());
        assert_eq!(slots.held_and_queued(), (1, 0));
    }

    #[test]
    fn a_claim_that_is_rejected_frees_its_slot_and_queues_again_behind_others() {
        let mut slots = with_three_waiting();
        is_admitted(&mut slots, "a", SlotUse::Acquire);
        assert_eq!(slots.reject(&"a".into(), &settings()), [Uid::from("c")]);
        count(&mut slots, "d", SlotUse::Acquire);
        assert!(!is_admitted(&mut slots, "a", SlotUse::Acquire));
        assert_eq!(slots.leave(&"b".into(), &settings()), [Uid::from("d")]);
        assert_eq!(slots.leave(&"c".into(), &settings()), [Uid::from("a")]);
    }

    #[test]
    fn after_a_start_slots_are_counted_before_any_claim_is_admitted() {
        let mut slots = Slots::default();
        count(&mut slots, "a", SlotUse::Acquire);
        count(&mut slots, "x", SlotUse::Held);
        count(&mut slots, "y", SlotUse::Resume);
        assert!(!is_admitted(&mut slots, "a", SlotUse::Acquire));
    }

    #[test]
    fn a_claim_that_gave_its_slot_up_queues_to_resume() {
        let mut slots = Slots::default();
        for uid in ["a", "b"] {
            // It has created its temporary claim, and then its pod.
            for usage in [SlotUse::Acquire, SlotUse::Resume, SlotUse::Held] {
                assert!(is_admitted(&mut slots, uid, usage));
            }
        }
        // Between attempts it holds its slot.
        assert!(is_admitted(&mut slots, "a", SlotUse::Resume));
        // It had failed permanently, which freed its slot; now the user has corrected its secret.
        assert!(!is_admitted(&mut slots, "c", SlotUse::Resume));
        assert_eq!(decide(&mut slots, "a", None).trigger, [Uid::from("c")]);
        assert!(is_admitted(&mut slots, "c", SlotUse::Resume));
        assert!(!is_admitted(&mut slots, "a", SlotUse::Resume));
    }

    const EARLY: SlotUse = SlotUse::Stalled { is_late: false };
    const LATE: SlotUse = SlotUse::Stalled { is_late: true };

    /// Claims whose secret is missing, of one plan, and a good one of the same source.
    #[test]
    fn broken_claims_stop_no_other_claim() {
        let mut slots = Slots::default();
        for uid in ["a", "b"] {
            assert!(is_admitted(&mut slots, uid, SlotUse::Acquire));
        }
        assert!(!is_admitted(&mut slots, "good", SlotUse::Acquire));
        let decision = decide(&mut slots, "a", Some(EARLY));
        assert_eq!(decision.trigger, [Uid::from("good")]);
        assert!(admitted(&decision), "its pod stays");
        assert_eq!(slots.held_and_queued(), (2, 0));
        // Someone creates the secret, and its pod starts by itself: it counts again.
        assert!(is_admitted(&mut slots, "a", SlotUse::Held));
        assert_eq!(slots.held_and_queued(), (3, 0));
        assert!(!is_admitted(&mut slots, "next", SlotUse::Acquire));
    }

    #[test]
    fn a_stalled_claim_makes_room_and_comes_back_after_the_others() {
        let mut slots = Slots::default();
        for uid in ["a", "b", "c", "d"] {
            assert!(is_admitted(&mut slots, uid, LATE), "no other claim waits");
        }
        let decision = decide(&mut slots, "good", Some(SlotUse::Acquire));
        assert!(admitted(&decision));
        assert_eq!(decision.trigger, [Uid::from("d")], "it is to make room");
        assert!(!is_admitted(&mut slots, "d", LATE));
        // Its pod is deleted. It queues like one without a slot, and behind one that was never tried.
        assert!(is_admitted(&mut slots, "good", SlotUse::Held));
        assert!(is_admitted(&mut slots, "other", SlotUse::Acquire));
        assert!(!is_admitted(&mut slots, "d", SlotUse::Resume));
        assert!(!is_admitted(&mut slots, "zz", SlotUse::Acquire));
        let freed = slots.leave(&"good".into(), &settings());
        assert_eq!(freed, [Uid::from("zz")]);
        let freed = slots.leave(&"other".into(), &settings());
        assert_eq!(freed, [Uid::from("d")]);
    }

    #[test]
    fn a_claim_outside_the_queue_is_not_held_up() {
        let mut slots = with_three_waiting();
        assert!(admitted(&decide(&mut slots, "z", None)));
    }
}
