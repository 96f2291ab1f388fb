//! What the process remembers between reconciles, to spare the API server and to count each success
//! once. No decision depends on it: a restart forgets it, and does no harm.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use population::{model::Uid, plan::Action};
use tokio::time::Instant;

/// Between two objects of one kind for one claim: if something deletes them as soon as they exist,
/// this bounds the load on the API server. The same between two deletions of one object.
const PAUSE: Duration = Duration::from_secs(10);
/// For this long after a quota has rejected a claim, its namespace is taken to be short of it.
const SHORT: Duration = Duration::from_mins(10);

/// The kinds of objects that are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Created {
    /// The temporary claim.
    TemporaryClaim,
    /// The pod.
    Pod,
}

/// When each claim's objects were created last, which were ended a moment ago, which claims were counted,
/// and which quotas are exhausted.
#[derive(Debug, Default)]
pub struct Pace {
    created: HashMap<(Uid, Created), Instant>,
    ended: HashMap<(Uid, Ending), Instant>,
    populated: HashSet<Uid>,
    short: HashMap<String, Instant>,
}

/// What is done to an object once, and holds for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ending {
    /// It is deleted.
    Deletion,
    /// Our finalizer is removed.
    Release,
}

impl Ending {
    /// The object that the action ends, by its UID, and how.
    fn by(action: &Action) -> Option<(Uid, Self)> {
        match action {
            Action::DeletePod { uid, .. } | Action::DeleteTemporaryClaim { uid, .. } => {
                Some((uid.clone(), Self::Deletion))
            }
            Action::ReleasePod { uid, .. } => Some((uid.clone(), Self::Release)),
            _ => None,
        }
    }
}

impl Created {
    /// What the action creates.
    #[must_use]
    pub const fn by(action: &Action) -> Option<Self> {
        match action {
            Action::CreateTemporaryClaim(_) => Some(Self::TemporaryClaim),
            Action::CreatePod(_) => Some(Self::Pod),
            _ => None,
        }
    }
}

impl Pace {
    /// What is left of the pause before the next object of this kind.
    pub(crate) fn left(&self, claim_uid: &Uid, kind: Created) -> Option<Duration> {
        let last = self.created.get(&(claim_uid.clone(), kind))?;
        let left = PAUSE.saturating_sub(last.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// The object was created.
    pub(crate) fn created(&mut self, claim_uid: &Uid, kind: Created) {
        self.created.retain(|_, at| at.elapsed() < PAUSE);
        self.created
            .insert((claim_uid.clone(), kind), Instant::now());
    }

    /// What is left of the time in which the action is not sent again after its success. The watch that
    /// triggers the next reconcile is not the one that shows what the action did.
    pub(crate) fn left_of_ending(&self, action: &Action) -> Option<Duration> {
        let last = self.ended.get(&Ending::by(action)?)?;
        let left = PAUSE.saturating_sub(last.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// The action was taken.
    pub(crate) fn ended(&mut self, action: &Action) {
        if let Some(ending) = Ending::by(action) {
            self.ended.retain(|_, at| at.elapsed() < PAUSE);
            self.ended.insert(ending, Instant::now());
        }
    }

    /// The claim is populated; returns whether this is the first call for it. A late watch shows its
    /// temporary claim, which is deleted with the success, once more.
    pub(crate) fn populated(&mut self, claim_uid: &Uid) -> bool {
        self.populated.insert(claim_uid.clone())
    }

    /// The claim is gone.
    pub(crate) fn forget(&mut self, claim_uid: &Uid) {
        self.populated.remove(claim_uid);
        for kind in [Created::TemporaryClaim, Created::Pod] {
            self.created.remove(&(claim_uid.clone(), kind));
        }
    }

    /// A quota of the namespace has rejected a claim.
    pub(crate) fn quota_rejected(&mut self, namespace: &str) {
        self.short.retain(|_, at| at.elapsed() < SHORT);
        self.short.insert(namespace.to_owned(), Instant::now());
    }

    /// Whether a quota of the namespace has rejected a claim a short time ago.
    pub(crate) fn is_short_of_quota(&self, namespace: &str) -> bool {
        let at = self.short.get(namespace);
        at.is_some_and(|at| at.elapsed() < SHORT)
    }
}
