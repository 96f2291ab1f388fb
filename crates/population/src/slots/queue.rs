//! The queue for slots as it stands: one serialised step admits claims or defers them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Admission, Request, admit};
use crate::{Settings, plan::SlotUse};

/// Which claims hold a slot, which are queued, and which were admitted.
///
/// It is filled from the cluster after a start, and kept true by each reconcile. A claim that was admitted holds its slot until
/// it is seen to hold it, or to have no use for it: what the watches show late cannot admit more than there are slots.
#[derive(Debug, Default)]
pub struct Slots {
    requests: BTreeMap<String, Request>,
    admitted: BTreeSet<String>,
    /// Of these, the ones that have created their temporary claim: it will be seen.
    begun: BTreeSet<String>,
}

/// What was decided about one claim, and what follows for others.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may go on.
    pub admission: Admission,
    /// Other claims that may go on since then: they are to be reconciled.
    pub trigger: Vec<String>,
}

impl Slots {
    /// Takes over what a claim was found to need after a start, and admits none. One that has begun and has no pod now may
    /// have one in a moment, created by the previous leader: it holds a slot.
    pub fn count(&mut self, claim_uid: &str, request: Option<Request>) {
        self.update(claim_uid, request, SlotUse::Held);
    }

    /// `resumed` is what a claim that resumes counts as, unless that is known.
    fn update(&mut self, claim_uid: &str, request: Option<Request>, resumed: SlotUse) {
        match request {
            Some(mut request) => {
                if request.usage == SlotUse::Resume {
                    let known = self.requests.get(claim_uid).map(|known| known.usage);
                    request.usage = known.unwrap_or(resumed);
                }
                if request.usage == SlotUse::Held {
                    self.admitted.remove(claim_uid);
                    self.begun.remove(claim_uid);
                }
                self.requests.insert(claim_uid.to_owned(), request);
            }
            // What it created has not been seen yet.
            None if self.begun.contains(claim_uid) => {}
            None => self.forget(claim_uid),
        }
    }

    /// Takes over what a claim needs, and decides whether it, and others, may go on.
    pub fn decide(
        &mut self,
        claim_uid: &str,
        request: Option<Request>,
        settings: &Settings,
    ) -> Decision {
        self.update(claim_uid, request, SlotUse::Acquire);
        let (mut outcome, mut trigger) = self.admit(settings);
        trigger.retain(|uid| uid != claim_uid);
        Decision {
            // A claim that needs no slot is not held up by the queue.
            admission: outcome.remove(claim_uid).unwrap_or(Admission::Admitted),
            trigger,
        }
    }

    /// The claim has created its temporary claim.
    pub fn began(&mut self, claim_uid: &str) {
        if self.admitted.contains(claim_uid) {
            self.begun.insert(claim_uid.to_owned());
        }
    }

    /// The claim is gone, or could not begin (a quota, a policy) and makes way until it is reconciled again; returns
    /// the claims that are to be reconciled.
    pub fn leave(&mut self, claim_uid: &str, settings: &Settings) -> Vec<String> {
        self.forget(claim_uid);
        self.admit(settings).1
    }

    /// How many hold a slot, those that were admitted included, and how many wait for one.
    #[must_use]
    pub fn held_and_queued(&self) -> (usize, usize) {
        let holds = |request: &&Request| {
            request.usage == SlotUse::Held || self.admitted.contains(&request.uid)
        };
        let held = self.requests.values().filter(holds).count();
        (held, self.requests.len() - held)
    }

    fn forget(&mut self, claim_uid: &str) {
        self.requests.remove(claim_uid);
        self.admitted.remove(claim_uid);
        self.begun.remove(claim_uid);
    }

    fn admit(&mut self, settings: &Settings) -> (BTreeMap<String, Admission>, Vec<String>) {
        let requests: Vec<Request> = self.requests.values().cloned().collect();
        let outcome = admit(&requests, &self.admitted, settings);
        let is_new = |request: &&Request| {
            request.usage == SlotUse::Acquire
                && !self.admitted.contains(&request.uid)
                && outcome.get(&request.uid) == Some(&Admission::Admitted)
        };
        let new: Vec<String> = requests
            .iter()
            .filter(is_new)
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

    #[allow(clippy::unnecessary_wraps, reason = "in the form in which it is noted")]
    fn request(uid: &str, usage: SlotUse) -> Option<Request> {
        Some(Request {
            uid: uid.to_owned(),
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
            slots.count(uid, request(uid, SlotUse::Acquire));
        }
        slots
    }

    #[test]
    fn those_that_were_let_in_hold_their_places_before_they_are_seen_to() {
        let mut slots = with_three_waiting();
        let decision = slots.decide("a", request("a", SlotUse::Acquire), &settings());
        assert!(admitted(&decision));
        assert_eq!(decision.trigger, ["b"]);
        slots.began("a");
        // A late watch shows the claim as it was, or as one that has no use for its place.
        for late in [request("a", SlotUse::Acquire), None] {
            assert!(admitted(&slots.decide("a", late, &settings())));
            assert!(!admitted(&slots.decide(
                "c",
                request("c", SlotUse::Acquire),
                &settings()
            )));
        }
        assert_eq!(slots.held_and_queued(), (2, 1));
    }

    #[test]
    fn whoever_leaves_lets_the_next_one_in() {
        let mut slots = with_three_waiting();
        slots.decide("a", request("a", SlotUse::Acquire), &settings());
        slots.began("a");
        slots.decide("a", request("a", SlotUse::Held), &settings());
        let decision = slots.decide("a", None, &settings());
        assert_eq!(decision.trigger, ["c"]);
        assert_eq!(slots.leave("b", &settings()), Vec::<String>::new());
        assert_eq!(slots.held_and_queued(), (1, 0));
    }

    #[test]
    fn one_that_cannot_begin_makes_way_and_comes_back() {
        let mut slots = with_three_waiting();
        slots.decide("a", request("a", SlotUse::Acquire), &settings());
        assert_eq!(slots.leave("a", &settings()), ["c"]);
        let decision = slots.decide("a", request("a", SlotUse::Acquire), &settings());
        assert!(!admitted(&decision));
        assert_eq!(slots.leave("b", &settings()), ["a"]);
    }

    #[test]
    fn after_a_start_places_are_counted_before_anybody_is_let_in() {
        let mut slots = Slots::default();
        slots.count("a", request("a", SlotUse::Acquire));
        for (uid, usage) in [("x", SlotUse::Held), ("y", SlotUse::Resume)] {
            slots.count(uid, request(uid, usage));
        }
        assert!(!admitted(&slots.decide(
            "a",
            request("a", SlotUse::Acquire),
            &settings()
        )));
    }

    #[test]
    fn whoever_has_given_its_place_up_queues_to_go_on() {
        let mut slots = Slots::default();
        let mut decide = |uid: &str, usage| slots.decide(uid, request(uid, usage), &settings());
        for uid in ["a", "b"] {
            assert!(admitted(&decide(uid, SlotUse::Acquire)));
            // It has made its temporary claim, and then its pod.
            assert!(admitted(&decide(uid, SlotUse::Resume)));
            assert!(admitted(&decide(uid, SlotUse::Held)));
        }
        // Between attempts.
        assert!(admitted(&decide("a", SlotUse::Resume)));
        // It had failed for good, which made room for the others; now its secret was corrected.
        assert!(!admitted(&decide("c", SlotUse::Resume)));
        assert_eq!(slots.decide("a", None, &settings()).trigger, ["c"]);
        let mut decide = |uid: &str, usage| slots.decide(uid, request(uid, usage), &settings());
        assert!(admitted(&decide("c", SlotUse::Resume)));
        assert!(!admitted(&decide("a", SlotUse::Resume)));
    }

    #[test]
    fn who_is_not_in_the_queue_is_not_held_up() {
        let mut slots = with_three_waiting();
        assert!(admitted(&slots.decide("z", None, &settings())));
    }
}
