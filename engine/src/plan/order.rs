//! Which change may start when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::sequence::{Part, Sequence};
use crate::model::Address;
use crate::plan::{Change, Item};

/// The changes of a plan and what each waits for. Indexes are places in the plan.
pub(crate) struct Order {
    steps: Vec<Step>,
    /// The steps of each change, one after the other.
    of_change: Vec<Vec<usize>>,
    /// How many steps of each change are done.
    done: Vec<usize>,
    /// The changes that wait for each, for whichever of its steps.
    dependants: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    /// Changes that are ready, but held back by limits.
    queued: BTreeSet<usize>,
}

/// A part of a change.
struct Step {
    change: usize,
    part: Part,
    /// How many steps it waits for.
    waits: usize,
    /// The steps that wait for it.
    dependants: Vec<usize>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Started,
    Done,
    /// It does not come about.
    Abandoned,
}

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of it is done.
    Over,
    /// Its next part is yet to come.
    Half,
    /// Its next part does not come about.
    CutShort,
}

impl Order {
    pub fn new(changes: &[Change], items: &HashMap<Address, Item>) -> Self {
        let Sequence { parts, edges, .. } = Sequence::of(changes, items).without_circles();
        let mut of_change = vec![Vec::new(); changes.len()];
        for (step, (change, _)) in parts.iter().enumerate() {
            of_change[*change].push(step);
        }
        let step = |(change, part)| Step { change, part, waits: 0, dependants: Vec::new(), phase: Phase::Open };
        let mut steps: Vec<Step> = parts.into_iter().map(step).collect();
        let mut dependants = vec![BTreeSet::new(); changes.len()];
        for (_, before, after) in edges {
            steps[after].waits += 1;
            steps[before].dependants.push(after);
            let (before, after) = (steps[before].change, steps[after].change);
            if before != after {
                dependants[before].insert(after);
            }
        }
        let ready = (0..steps.len()).filter(|step| steps[*step].waits == 0).collect();
        Self {
            steps,
            of_change,
            done: vec![0; changes.len()],
            dependants: dependants.into_iter().map(|after| after.into_iter().collect()).collect(),
            ready,
            queued: BTreeSet::new(),
        }
    }

    /// The changes that wait for nothing any more; each part of a change is given out once.
    pub fn take_ready(&mut self) -> Vec<usize> {
        let ready = std::mem::take(&mut self.ready);
        for step in &ready {
            self.steps[*step].phase = Phase::Started;
        }
        ready.into_iter().map(|step| self.steps[step].change).collect()
    }

    /// Returns which part of a change is to be done now.
    pub fn part(&self, change: usize) -> Part {
        let step = self.of_change[change].get(self.done[change]).or(self.of_change[change].last());
        step.map_or(Part::Make, |step| self.steps[*step].part)
    }

    /// Whether a part of a change is done, and another is not.
    pub fn is_half_done(&self, change: usize) -> bool {
        (1..self.of_change[change].len()).contains(&self.done[change])
    }

    /// Whether nothing comes after the part of a change that is to be done now.
    pub fn is_last(&self, change: usize) -> bool {
        self.done[change] + 1 >= self.of_change[change].len()
    }

    /// Holds a change back until limits allow it.
    pub fn queue(&mut self, i: usize) {
        self.queued.insert(i);
    }

    /// Is this change held back?
    pub fn is_queued(&self, i: usize) -> bool {
        self.queued.contains(&i)
    }

    /// All that is held back and admitted, grouped; it is out of the queue then.
    pub fn queued_by<K: Ord>(
        &mut self,
        key: impl Fn(usize) -> K,
        is_admitted: impl Fn(usize) -> bool,
    ) -> BTreeMap<K, Vec<usize>> {
        let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
        let (admitted, held) = std::mem::take(&mut self.queued).into_iter().partition(|i| is_admitted(*i));
        self.queued = held;
        let admitted: BTreeSet<usize> = admitted;
        for i in admitted {
            groups.entry(key(i)).or_default().push(i);
        }
        groups
    }

    /// Holds changes back again.
    pub fn requeue(&mut self, changes: Vec<usize>) {
        self.queued.extend(changes);
    }

    /// The part of a change that was to be done now is done: what waited for it alone is ready.
    pub fn done(&mut self, i: usize) -> Progress {
        let Some(step) = self.of_change[i].get(self.done[i]).copied() else { return Progress::Over };
        self.done[i] += 1;
        self.steps[step].phase = Phase::Done;
        for dependant in self.steps[step].dependants.clone() {
            let Step { waits, phase, .. } = &mut self.steps[dependant];
            *waits -= 1;
            if *waits == 0 && *phase == Phase::Open {
                self.ready.insert(dependant);
            }
        }
        match self.of_change[i].get(self.done[i]) {
            None => Progress::Over,
            Some(next) if self.steps[*next].phase == Phase::Abandoned => Progress::CutShort,
            Some(_) => Progress::Half,
        }
    }

    /// The changes that wait for this one.
    pub fn dependants(&self, i: usize) -> &[usize] {
        &self.dependants[i]
    }

    /// These changes do not come about.
    pub fn close(&mut self, places: &[usize]) {
        for i in places {
            self.queued.remove(i);
            for step in self.of_change[*i].iter().skip(self.done[*i]) {
                self.steps[*step].phase = Phase::Abandoned;
                self.ready.remove(step);
            }
        }
    }

    /// These changes did not come about: everything that waits for them, directly or not, never will. Returns that. The part of a change that is
    /// being done is brought to its end.
    pub fn abandon(&mut self, places: &[usize]) -> Vec<usize> {
        self.close(places);
        let mut abandoned = BTreeSet::new();
        let rest = |i: &usize| self.of_change[*i].iter().skip(self.done[*i]).copied();
        let mut queue: Vec<usize> = places.iter().flat_map(rest).collect();
        while let Some(step) = queue.pop() {
            for next in self.steps[step].dependants.clone() {
                let change = self.steps[next].change;
                if self.steps[next].phase != Phase::Open {
                    continue;
                }
                abandoned.insert(change);
                // What gets no new object keeps its old one.
                for part in self.of_change[change].clone() {
                    let waits = self.steps[part].phase == Phase::Open || self.queued.contains(&change);
                    if waits && !matches!(self.steps[part].phase, Phase::Done | Phase::Abandoned) {
                        self.steps[part].phase = Phase::Abandoned;
                        self.ready.remove(&part);
                        queue.push(part);
                    }
                }
                self.queued.remove(&change);
            }
        }
        places.iter().for_each(|i| _ = abandoned.remove(i));
        abandoned.into_iter().collect()
    }

    /// The changes that never were begun or are half done: those still waiting, and those held back.
    pub fn rest(&self) -> Vec<usize> {
        let is_open = |i: &usize| self.of_change[*i].iter().any(|step| self.steps[*step].phase == Phase::Open);
        (0..self.of_change.len()).filter(|i| is_open(i) || self.queued.contains(i)).collect()
    }
}
