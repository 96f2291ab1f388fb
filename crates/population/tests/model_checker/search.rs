//! The searches: breadth first within bounds, and at random beyond them. From every state that is
//! reached, the cluster is made to behave, and the run must come to a good end.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    rc::Rc,
};

use crate::{
    check::{self, Rule, Violation},
    disturb::{self, Kind},
    faults::Fault,
    planner::{Class, Planner},
    state::{Api, FIRST, Ghost, Life, NODES, Replica, State},
    step::{self, Step},
};

/// More steps than any run needs that comes to an end.
const LONGEST_END: usize = 600;
/// A walk is brought to its end once in so many steps.
const REST_EVERY: usize = 8;

/// What is searched.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) class: Class,
    pub(crate) users: usize,
    pub(crate) replicas: usize,
    /// How many claims may be served at a time.
    pub(crate) limit: usize,
    /// How many disturbances a run has at most.
    pub(crate) budget: u8,
    pub(crate) allowed: Vec<Kind>,
    pub(crate) fault: Option<Fault>,
    /// The settings name an image that cannot be pulled, until they are corrected.
    pub(crate) wrong_image: bool,
    /// The first target was bound before it was seen, by a backup tool for instance.
    pub(crate) is_restored: bool,
    /// The users whose secret is missing.
    pub(crate) broken: [bool; 2],
    /// How many temporary claims the namespace's quota allows.
    pub(crate) quota: usize,
    /// The search ends here, if it does not end before.
    pub(crate) most_states: usize,
}

/// What a search has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// Steps with which a cluster that behaves came to its end, those that were seen before left out.
    pub(crate) ends: usize,
    /// Different worlds that were planned for.
    pub(crate) worlds: usize,
    /// Steps from the start to the farthest state.
    pub(crate) depth: usize,
    /// Whether every state within the bounds was reached.
    pub(crate) is_complete: bool,
}

/// A rule that does not hold, and the steps that lead there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) violation: Violation,
    pub(crate) trace: Vec<Step>,
    /// The steps of a cluster that behaves, after those.
    pub(crate) end: Vec<Step>,
    pub(crate) counts: Counts,
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            states,
            steps,
            ends,
            worlds,
            depth,
            is_complete,
        } = self;
        let bound = if *is_complete {
            "all"
        } else {
            "as far as the bound"
        };
        write!(
            formatter,
            "{states} states ({bound}), {steps} steps, depth {depth}, {worlds} worlds planned for, \
             {ends} steps to the ends"
        )
    }
}

/// A fast hash without a seed, so that every run is the same.
#[derive(Default)]
struct Fast(u64);

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

type Seen = HashSet<u64, BuildHasherDefault<Fast>>;

fn hash(state: &State) -> u64 {
    let mut hasher = Fast::default();
    state.hash(&mut hasher);
    hasher.finish()
}

impl Scenario {
    pub(crate) fn planner(&self) -> Planner {
        Planner::new(self.class, self.limit, self.quota, self.fault)
    }

    /// The resources and the targets are there, and nothing else.
    pub(crate) fn start(&self, planner: &mut Planner) -> State {
        let mut state = State {
            api: Api {
                resources: Rc::new(vec![Some(1); self.users]),
                ..Api::default()
            },
            ghost: Ghost {
                wrong_image: self.wrong_image,
                broken: self.broken,
                ..Ghost::default()
            },
            replicas: vec![Replica::default(); self.replicas],
            next_target: 1,
            next: FIRST,
            budget: self.budget,
        };
        for user in 0..self.users {
            disturb::create_target(&mut state, user);
        }
        if self.is_restored {
            disturb::restore(&mut state, 1);
        }
        for replica in 0..self.replicas {
            crate::replica::restart(&mut state, planner, replica);
        }
        state
    }
}

struct Reached {
    parent: u32,
    depth: u32,
    step: Option<(Option<Kind>, Step)>,
}

/// Breadth first: the first violation found is one of the shortest.
pub(crate) fn breadth_first(scenario: &Scenario) -> Result<Counts, Box<Found>> {
    let mut planner = scenario.planner();
    let start = scenario.start(&mut planner);
    let mut counts = Counts::default();
    let mut seen = Seen::default();
    let mut good = Good::default();
    let mut reached = vec![Reached {
        parent: 0,
        depth: 0,
        step: None,
    }];
    let mut queue = VecDeque::from([(0, start.clone())]);
    seen.insert(hash(&start));
    while let Some((index, state)) = queue.pop_front() {
        counts.states += 1;
        counts.depth = counts.depth.max(reached[index].depth as usize);
        counts.worlds = planner.worlds();
        if let Err((violation, end)) = behave(&state, &mut planner, &mut good, &mut counts) {
            let trace = trace(&reached, index);
            return Err(Box::new(Found {
                violation,
                trace,
                end,
                counts,
            }));
        }
        if counts.states >= scenario.most_states {
            return Ok(counts);
        }
        let fair = step::fair(&state, &planner)
            .into_iter()
            .map(|step| (None, step));
        let unfair = step::unfair(&state, &planner, &scenario.allowed);
        for (kind, step) in fair.chain(unfair) {
            counts.steps += 1;
            let next = match step::take(&state, &mut planner, &step, kind) {
                Ok(next) => next,
                Err(violation) => {
                    let mut trace = trace(&reached, index);
                    trace.push(step);
                    let end = Vec::new();
                    return Err(Box::new(Found {
                        violation,
                        trace,
                        end,
                        counts,
                    }));
                }
            };
            if seen.insert(hash(&next)) {
                reached.push(Reached {
                    parent: u32::try_from(index).expect("fewer states"),
                    depth: reached[index].depth + 1,
                    step: Some((kind, step)),
                });
                queue.push_back((reached.len() - 1, next));
            }
        }
    }
    counts.is_complete = true;
    Ok(counts)
}

fn trace(reached: &[Reached], mut index: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((_, step)) = reached[index].step {
        steps.push(step);
        index = reached[index].parent as usize;
    }
    steps.reverse();
    steps
}

/// How a cluster that behaves goes on with nodes that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// They return.
    Return,
    /// They are switched off for good, and an administrator deletes them.
    Delete,
}

/// The states from which a good end is known.
#[derive(Default)]
struct Good {
    returning: Seen,
    deleting: Seen,
}

/// The cluster behaves from here on, in each way that it can.
fn behave(
    state: &State,
    planner: &mut Planner,
    good: &mut Good,
    counts: &mut Counts,
) -> Result<(), (Violation, Vec<Step>)> {
    let mut state = state.clone();
    // What may still go wrong later is no difference now.
    state.budget = 0;
    let is_lost = |life: &Life| *life != Life::Up;
    let lost: Vec<usize> = (0..NODES)
        .filter(|node| is_lost(&state.ghost.life[*node]))
        .collect();
    if !lost.is_empty() && lost.len() < NODES {
        let mut state = state.clone();
        for node in lost {
            disturb::delete_for_good(&mut state, node);
        }
        come_to_rest(state, Repair::Delete, planner, &mut good.deleting, counts)?;
    }
    come_to_rest(state, Repair::Return, planner, &mut good.returning, counts)
}

fn come_to_rest(
    mut state: State,
    repair: Repair,
    planner: &mut Planner,
    good: &mut Seen,
    counts: &mut Counts,
) -> Result<(), (Violation, Vec<Step>)> {
    let mut passed = Vec::new();
    let mut steps = Vec::new();
    loop {
        let hash = hash(&state);
        if good.contains(&hash) {
            break;
        }
        let mut fair = step::fair(&state, planner).into_iter();
        let next =
            fair.find(|step| repair == Repair::Return || !matches!(step, Step::NodeReturns(_)));
        let cycle = passed.iter().position(|it| *it == hash);
        let (Some(step), None) = (next, cycle) else {
            // Nothing but looks and the clock is left, or the same is written for ever.
            let repeated = &steps[cycle.unwrap_or(steps.len())..];
            let is_write = |step: &Step| matches!(step, Step::Write(..));
            if repeated.iter().any(is_write) {
                return no_rest("the same is written for ever", steps);
            }
            if let Err(violation) = check::end(&state, planner) {
                return Err((violation, steps));
            }
            break;
        };
        passed.push(hash);
        steps.push(step);
        counts.ends += 1;
        if steps.len() > LONGEST_END {
            return no_rest("no end", steps);
        }
        match step::take(&state, planner, &step, None) {
            Ok(next) => state = next,
            Err(violation) => return Err((violation, steps)),
        }
    }
    good.extend(passed);
    Ok(())
}

fn no_rest(what: &str, steps: Vec<Step>) -> Result<(), (Violation, Vec<Step>)> {
    let violation = Violation {
        rule: Rule::Quiet,
        what: what.to_owned(),
    };
    Err((violation, steps))
}

/// Numbers by dice that are the same in every run.
struct Dice(u64);

impl Dice {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % end as u64).expect("a number below an index")
    }
}

/// Walks at random, each from the start and as long as `length`.
pub(crate) fn walk(
    scenario: &Scenario,
    seed: u64,
    walks: usize,
    length: usize,
) -> Result<Counts, Box<Found>> {
    let mut planner = scenario.planner();
    let first = scenario.start(&mut planner);
    let mut dice = Dice(seed);
    let mut counts = Counts::default();
    let mut good = Good::default();
    let mut known = Seen::default();
    for _ in 0..walks {
        let mut state = first.clone();
        let mut trace = Vec::new();
        for number in 1..=length {
            let fair = step::fair(&state, &planner);
            let unfair = step::unfair(&state, &planner, &scenario.allowed);
            // With nothing but the clock left, something has to happen sooner.
            let odds = if fair.len() < 2 { 2 } else { 6 };
            let is_disturbed = fair.is_empty() || (!unfair.is_empty() && dice.below(odds) == 0);
            let (kind, step) = if is_disturbed {
                match unfair.len() {
                    0 => break,
                    many => unfair[dice.below(many)],
                }
            } else {
                (None, fair[dice.below(fair.len())])
            };
            trace.push(step);
            counts.steps += 1;
            let taken = step::take(&state, &mut planner, &step, kind);
            let checked = taken
                .map_err(|violation| (violation, Vec::new()))
                .and_then(|next| {
                    counts.states += usize::from(known.insert(hash(&next)));
                    if number % REST_EVERY == 0 {
                        behave(&next, &mut planner, &mut good, &mut counts)?;
                    }
                    Ok(next)
                });
            match checked {
                Ok(next) => state = next,
                Err((violation, end)) => {
                    return Err(Box::new(Found {
                        violation,
                        trace,
                        end,
                        counts,
                    }));
                }
            }
        }
        counts.depth = counts.depth.max(trace.len());
    }
    counts.worlds = planner.worlds();
    Ok(counts)
}
