//! The queue as it stands: one serialised step that lets claims in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, Stand, admit};
use crate::{Settings, plan::Admission};

/// Who holds a place, who waits, and who was let in.
///
/// It is filled from the cluster after a start, and kept true by each look at a claim. A claim that was
/// let in holds its place until it is seen to hold it, or to have no use for it: what the watches show
/// late cannot let in more than there are places.
#[derive(Debug, Default)]
pub struct Turns {
    candidates: BTreeMap<String, Candidate>,
    granted: BTreeSet<String>,
    /// Of these, the ones that have made their temporary claim: it will be seen.
    begun: BTreeSet<String>,
}

/// The outcome of a look at a claim.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whether it may go on.
    pub admission: Admission,
    /// Other claims that may go on since then: they are to be looked at.
    pub woken: Vec<String>,
}

impl Turns {
    /// Notes how a claim was found after a start, and lets nobody in. One that has begun and has no pod now may have
    /// one in a moment, by the hand of whoever led before: it holds a place.
    pub fn count(&mut self, claim_uid: &str, candidate: Option<Candidate>) {
        self.note(claim_uid, candidate, Stand::Holds);
    }

    /// `resumed` is how one stands that resumes, unless that is known.
    fn note(&mut self, claim_uid: &str, candidate: Option<Candidate>, resumed: Stand) {
        match candidate {
            Some(mut candidate) => {
                if candidate.stand == Stand::Resumes {
                    let known = self.candidates.get(claim_uid).map(|known| known.stand);
                    candidate.stand = known.unwrap_or(resumed);
                }
                if candidate.stand == Stand::Holds {
                    self.granted.remove(claim_uid);
                    self.begun.remove(claim_uid);
                }
                self.candidates.insert(claim_uid.to_owned(), candidate);
            }
            // What it made has not been seen yet.
            None if self.begun.contains(claim_uid) => {}
            None => self.forget(claim_uid),
        }
    }

    /// Notes how a claim was found, and decides whether it, and others, may go on.
    pub fn decide(
        &mut self,
        claim_uid: &str,
        candidate: Option<Candidate>,
        settings: &Settings,
    ) -> Turn {
        self.note(claim_uid, candidate, Stand::Waits);
        let (mut outcome, mut woken) = self.let_in(settings);
        woken.retain(|uid| uid != claim_uid);
        Turn {
            // Who has no part in the queue is not held up by it.
            admission: outcome.remove(claim_uid).unwrap_or(Admission::Granted),
            woken,
        }
    }

    /// The claim has made its temporary claim.
    pub fn began(&mut self, claim_uid: &str) {
        if self.granted.contains(claim_uid) {
            self.begun.insert(claim_uid.to_owned());
        }
    }

    /// The claim is gone, or could not begin (a quota, a policy) and makes way until it is looked at again; returns
    /// the claims that are to be looked at.
    pub fn leave(&mut self, claim_uid: &str, settings: &Settings) -> Vec<String> {
        self.forget(claim_uid);
        self.let_in(settings).1
    }

    /// How many hold a place, those that were let in included, and how many wait for one.
    #[must_use]
    pub fn places(&self) -> (usize, usize) {
        let holds = |candidate: &&Candidate| {
            candidate.stand == Stand::Holds || self.granted.contains(&candidate.uid)
        };
        let held = self.candidates.values().filter(holds).count();
        (held, self.candidates.len() - held)
    }

    fn forget(&mut self, claim_uid: &str) {
        self.candidates.remove(claim_uid);
        self.granted.remove(claim_uid);
        self.begun.remove(claim_uid);
    }

    fn let_in(&mut self, settings: &Settings) -> (BTreeMap<String, Admission>, Vec<String>) {
        let candidates: Vec<Candidate> = self.candidates.values().cloned().collect();
        let outcome = admit(&candidates, &self.granted, settings);
        let is_new = |candidate: &&Candidate| {
            candidate.stand == Stand::Waits
                && !self.granted.contains(&candidate.uid)
                && outcome.get(&candidate.uid) == Some(&Admission::Granted)
        };
        let woken: Vec<String> = candidates
            .iter()
            .filter(is_new)
            .map(|candidate| candidate.uid.clone())
            .collect();
        self.granted.extend(woken.iter().cloned());
        (outcome, woken)
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
    fn candidate(uid: &str, stand: Stand) -> Option<Candidate> {
        Some(Candidate {
            uid: uid.to_owned(),
            created: Timestamp::UNIX_EPOCH,
            server: "https://e".to_owned(),
            stand,
        })
    }

    fn granted(turn: &Turn) -> bool {
        turn.admission == Admission::Granted
    }

    fn with_three_waiting() -> Turns {
        let mut turns = Turns::default();
        for uid in ["a", "b", "c"] {
            turns.count(uid, candidate(uid, Stand::Waits));
        }
        turns
    }

    #[test]
    fn those_that_were_let_in_hold_their_places_before_they_are_seen_to() {
        let mut turns = with_three_waiting();
        let turn = turns.decide("a", candidate("a", Stand::Waits), &settings());
        assert!(granted(&turn));
        assert_eq!(turn.woken, ["b"]);
        turns.began("a");
        // A late watch shows the claim as it was, or as one that has no use for its place.
        for late in [candidate("a", Stand::Waits), None] {
            assert!(granted(&turns.decide("a", late, &settings())));
            assert!(!granted(&turns.decide(
                "c",
                candidate("c", Stand::Waits),
                &settings()
            )));
        }
        assert_eq!(turns.places(), (2, 1));
    }

    #[test]
    fn whoever_leaves_lets_the_next_one_in() {
        let mut turns = with_three_waiting();
        turns.decide("a", candidate("a", Stand::Waits), &settings());
        turns.began("a");
        turns.decide("a", candidate("a", Stand::Holds), &settings());
        let turn = turns.decide("a", None, &settings());
        assert_eq!(turn.woken, ["c"]);
        assert_eq!(turns.leave("b", &settings()), Vec::<String>::new());
        assert_eq!(turns.places(), (1, 0));
    }

    #[test]
    fn one_that_cannot_begin_makes_way_and_comes_back() {
        let mut turns = with_three_waiting();
        turns.decide("a", candidate("a", Stand::Waits), &settings());
        assert_eq!(turns.leave("a", &settings()), ["c"]);
        let turn = turns.decide("a", candidate("a", Stand::Waits), &settings());
        assert!(!granted(&turn));
        assert_eq!(turns.leave("b", &settings()), ["a"]);
    }

    #[test]
    fn after_a_start_places_are_counted_before_anybody_is_let_in() {
        let mut turns = Turns::default();
        turns.count("a", candidate("a", Stand::Waits));
        for (uid, stand) in [("x", Stand::Holds), ("y", Stand::Resumes)] {
            turns.count(uid, candidate(uid, stand));
        }
        assert!(!granted(&turns.decide(
            "a",
            candidate("a", Stand::Waits),
            &settings()
        )));
    }

    #[test]
    fn whoever_has_given_its_place_up_queues_to_go_on() {
        let mut turns = Turns::default();
        let mut decide = |uid: &str, stand| turns.decide(uid, candidate(uid, stand), &settings());
        for uid in ["a", "b"] {
            assert!(granted(&decide(uid, Stand::Waits)));
            // It has made its temporary claim, and then its pod.
            assert!(granted(&decide(uid, Stand::Resumes)));
            assert!(granted(&decide(uid, Stand::Holds)));
        }
        // Between attempts.
        assert!(granted(&decide("a", Stand::Resumes)));
        // It had failed for good, which made room for the others; now its secret was corrected.
        assert!(!granted(&decide("c", Stand::Resumes)));
        assert_eq!(turns.decide("a", None, &settings()).woken, ["c"]);
        let mut decide = |uid: &str, stand| turns.decide(uid, candidate(uid, stand), &settings());
        assert!(granted(&decide("c", Stand::Resumes)));
        assert!(!granted(&decide("a", Stand::Resumes)));
    }

    #[test]
    fn who_is_not_in_the_queue_is_not_held_up() {
        let mut turns = with_three_waiting();
        assert!(granted(&turns.decide("z", None, &settings())));
    }
}
