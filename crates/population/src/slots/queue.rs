//! The state of the queue for slots: one serialised step admits claims or defers them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Admission, Request, admit};
use crate::{Settings, model::Uid, plan::SlotUse};

/// Which claims hold a slot, which are queued, and which were admitted.
///
/// It is filled from the cluster after a start, and updated by each reconcile. An admitted claim
/// keeps its slot until the watches show that it holds one or needs none: a late watch cannot admit
/// more claims than there are slots.
#[derive(Debug, Default)]
pub struct Slots {
    requests: BTreeMap<Uid, Request>,
    admitted: BTreeSet<Uid>,
    /// The admitted claims that have created their temporary claim, which the watches will show.
    started: BTreeSet<Uid>,
}

/// The decision about one claim, and what follows for others.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the claim may continue.
    pub admission: Admission,
    /// Other claims that were admitted by this decision, to be reconciled.
    pub trigger: Vec<Uid>,
}

impl Slots {
    /// Counts what a claim needs after a start, and admits none. A claim that has its temporary
    /// claim and no pod may get one at any moment, from the previous leader: it holds a slot.
    pub fn count(&mut self, claim_uid: &Uid, request: Option<Request>) {
        self.update(claim_uid, request, SlotUse::Held);
    }

    /// `resumed` is the use that [`SlotUse::Resume`] stands for if the claim is not known yet.
    fn update(&mut self, claim_uid: &Uid, request: Option<Request>, resumed: SlotUse) {
        match request {
            Some(mut request) => {
                // Only the queue knows whether a claim that resumes has given its slot up.
                if request.usage == SlotUse::Resume {
                    let known = self.requests.get(claim_uid).map(|known| known.usage);
                    request.usage = known.unwrap_or(resumed);
                }
                if request.usage == SlotUse::Held {
                    self.admitted.remove(claim_uid);
                    self.started.remove(claim_uid);
                }
                self.requests.insert(claim_uid.clone(), request);
            }
            // The watches do not show its temporary claim yet. Without it the plan asks for nothing
            // (the resource may be gone just now), but the volume is being provisioned.
            None if self.started.contains(claim_uid) => {}
            None => self.forget(claim_uid),
        }
    }

    /// Updates what a claim needs, and decides whether it, and others, may continue.
    pub fn decide(
        &mut self,
        claim_uid: &Uid,
        request: Option<Request>,
        settings: &Settings,
    ) -> Decision {
        self.update(claim_uid, request, SlotUse::Acquire);
        let (mut outcome, mut trigger) = self.admit(settings);
        trigger.retain(|uid| uid != claim_uid);
        Decision {
            // A claim without a request needs no slot.
            admission: outcome.remove(claim_uid).unwrap_or(Admission::Admitted),
            trigger,
        }
    }

    /// The claim has created its temporary claim.
    pub fn started(&mut self, claim_uid: &Uid) {
        if self.admitted.contains(claim_uid) {
            self.started.insert(claim_uid.clone());
        }
    }

    /// The claim is gone, or its temporary claim was rejected (a quota, a policy) and others may
    /// use its slot until it is reconciled again; returns the claims that are to be reconciled.
    pub fn leave(&mut self, claim_uid: &Uid, settings: &Settings) -> Vec<Uid> {
        self.forget(claim_uid);
        self.admit(settings).1
    }

    /// How many claims hold a slot, including those that were admitted, and how many wait for one.
    #[must_use]
    pub fn held_and_queued(&self) -> (usize, usize) {
        let held = self
            .requests
            .values()
            .filter(|request| {
                request.usage == SlotUse::Held || self.admitted.contains(&request.uid)
            })
            .count();
        (held, self.requests.len() - held)
    }

    fn forget(&mut self, claim_uid: &Uid) {
        self.requests.remove(claim_uid);
        self.admitted.remove(claim_uid);
        self.started.remove(claim_uid);
    }

    fn admit(&mut self, settings: &Settings) -> (BTreeMap<Uid, Admission>, Vec<Uid>) {
        // All of them, since one claim that leaves may let another one in, whose reconcile nothing
        // else triggers.
        let requests: Vec<Request> = self.requests.values().cloned().collect();
        let outcome = admit(&requests, &self.admitted, settings);
        let new: Vec<Uid> = requests
            .iter()
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
    use jiff::Timestamp;

    use super::*;

    fn settings() -> Settings {
        Settings {
            max_in_flight: 2,
            ..Settings::default()
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "in the form that the queue takes")]
    fn request(uid: &str, usage: SlotUse) -> Option<Request> {
        Some(Request {
            uid: uid.into(),
            created: Timestamp::UNIX_EPOCH,
            server: "https://e".to_owned(),
            usage,
        })
    }

    fn admitted(decision: &Decision) -> bool {
        decision.admission == Admission::Admitted
    }

    fn with_three_waiting() -> Slots {
        let mut slots = Slots::default();
        for uid in ["a", "b", "c"] {
            slots.count(&uid.into(), request(uid, SlotUse::Acquire));
        }
        slots
    }

    #[test]
    fn admitted_claims_hold_their_slots_before_the_watches_show_it() {
        let mut slots = with_three_waiting();
        let decision = slots.decide(&"a".into(), request("a", SlotUse::Acquire), &settings());
        assert!(admitted(&decision));
        assert_eq!(decision.trigger, [Uid::from("b")]);
        slots.started(&"a".into());
        // A late watch shows the claim as it was, or as one that needs no slot.
        for late in [request("a", SlotUse::Acquire), None] {
            assert!(admitted(&slots.decide(&"a".into(), late, &settings())));
            assert!(!admitted(&slots.decide(
                &"c".into(),
                request("c", SlotUse::Acquire),
                &settings()
            )));
        }
        assert_eq!(slots.held_and_queued(), (2, 1));
    }

    #[test]
    fn a_claim_that_leaves_admits_the_next_one() {
        let mut slots = with_three_waiting();
        slots.decide(&"a".into(), request("a", SlotUse::Acquire), &settings());
        slots.started(&"a".into());
        slots.decide(&"a".into(), request("a", SlotUse::Held), &settings());
        let decision = slots.decide(&"a".into(), None, &settings());
        assert_eq!(decision.trigger, [Uid::from("c")]);
        assert!(slots.leave(&"b".into(), &settings()).is_empty());
        assert_eq!(slots.held_and_queued(), (1, 0));
    }

    #[test]
    fn a_claim_that_is_rejected_frees_its_slot_and_queues_again() {
        let mut slots = with_three_waiting();
        slots.decide(&"a".into(), request("a", SlotUse::Acquire), &settings());
        assert_eq!(slots.leave(&"a".into(), &settings()), [Uid::from("c")]);
        let decision = slots.decide(&"a".into(), request("a", SlotUse::Acquire), &settings());
        assert!(!admitted(&decision));
        assert_eq!(slots.leave(&"b".into(), &settings()), [Uid::from("a")]);
    }

    #[test]
    fn after_a_start_slots_are_counted_before_any_claim_is_admitted() {
        let mut slots = Slots::default();
        slots.count(&"a".into(), request("a", SlotUse::Acquire));
        for (uid, usage) in [("x", SlotUse::Held), ("y", SlotUse::Resume)] {
            slots.count(&uid.into(), request(uid, usage));
        }
        assert!(!admitted(&slots.decide(
            &"a".into(),
            request("a", SlotUse::Acquire),
            &settings()
        )));
    }

    #[test]
    fn a_claim_that_gave_its_slot_up_queues_to_resume() {
        let mut slots = Slots::default();
        let mut decide =
            |uid: &str, usage| slots.decide(&uid.into(), request(uid, usage), &settings());
        for uid in ["a", "b"] {
            assert!(admitted(&decide(uid, SlotUse::Acquire)));
            // It has created its temporary claim, and then its pod.
            assert!(admitted(&decide(uid, SlotUse::Resume)));
            assert!(admitted(&decide(uid, SlotUse::Held)));
        }
        // Between attempts it holds its slot.
        assert!(admitted(&decide("a", SlotUse::Resume)));
        // It had failed permanently, which freed its slot; now the user has corrected its secret.
        assert!(!admitted(&decide("c", SlotUse::Resume)));
        assert_eq!(
            slots.decide(&"a".into(), None, &settings()).trigger,
            [Uid::from("c")]
        );
        let mut decide =
            |uid: &str, usage| slots.decide(&uid.into(), request(uid, usage), &settings());
        assert!(admitted(&decide("c", SlotUse::Resume)));
        assert!(!admitted(&decide("a", SlotUse::Resume)));
    }

    #[test]
    fn a_claim_outside_the_queue_is_not_held_up() {
        let mut slots = with_three_waiting();
        assert!(admitted(&slots.decide(&"z".into(), None, &settings())));
    }
}
