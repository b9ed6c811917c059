//! The order of changes, and the parts of changes that are ready to start.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::item::Item;
use super::model::Change;
use super::sequence::{Part, Sequence};
use crate::model::Address;

/// The changes of a plan and their dependencies. A change is named by its index in the plan.
pub(crate) struct Order {
    parts: Vec<ScheduledPart>,
    /// The parts of each change, in their order.
    of_change: Vec<Vec<usize>>,
    /// The number of completed parts of each change.
    done: Vec<usize>,
    /// The changes that wait for any part of each change.
    dependants: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    /// The changes that are ready, but held back by limits.
    queued: BTreeSet<usize>,
}

/// A part of a change with its state.
struct ScheduledPart {
    change: usize,
    part: Part,
    /// The number of parts that it waits for.
    waits: usize,
    /// The parts that wait for it.
    dependants: Vec<usize>,
    state: PartState,
}

#[derive(Clone, Copy, PartialEq)]
enum PartState {
    Open,
    Started,
    Done,
    /// It will not be done.
    Abandoned,
}

/// The progress of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeProgress {
    /// All parts are done.
    Complete,
    /// The next part is still to be done.
    NextPart,
    /// The next part will not be done.
    Abandoned,
}

impl Order {
    pub fn new(changes: &[Change], items: &HashMap<Address, Item>) -> Self {
        let Sequence { parts, edges, .. } = Sequence::of(changes, items).without_cycles();
        let mut of_change = vec![Vec::new(); changes.len()];
        for (step, (change, _)) in parts.iter().enumerate() {
            of_change[*change].push(step);
        }
        let step =
            |(change, part)| ScheduledPart { change, part, waits: 0, dependants: Vec::new(), state: PartState::Open };
        let mut parts: Vec<ScheduledPart> = parts.into_iter().map(step).collect();
        let mut dependants = vec![BTreeSet::new(); changes.len()];
        for (_, before, after) in edges {
            parts[after].waits += 1;
            parts[before].dependants.push(after);
            let (before, after) = (parts[before].change, parts[after].change);
            if before != after {
                dependants[before].insert(after);
            }
        }
        let ready = (0..parts.len()).filter(|step| parts[*step].waits == 0).collect();
        Self {
            parts,
            of_change,
            done: vec![0; changes.len()],
            dependants: dependants.into_iter().map(|after| after.into_iter().collect()).collect(),
            ready,
            queued: BTreeSet::new(),
        }
    }

    /// Takes the changes whose next part waits for nothing any more. Each part is returned once.
    pub fn take_ready(&mut self) -> Vec<usize> {
        let ready = std::mem::take(&mut self.ready);
        for step in &ready {
            self.parts[*step].state = PartState::Started;
        }
        ready.into_iter().map(|step| self.parts[step].change).collect()
    }

    /// Returns the next part of a change.
    pub fn part(&self, change: usize) -> Part {
        let step = self.of_change[change].get(self.done[change]).or(self.of_change[change].last());
        step.map_or(Part::Make, |step| self.parts[*step].part)
    }

    /// Whether some parts of a change are done, and others are not.
    pub fn is_half_done(&self, change: usize) -> bool {
        (1..self.of_change[change].len()).contains(&self.done[change])
    }

    /// Whether the next part of a change is its last.
    pub fn is_last(&self, change: usize) -> bool {
        self.done[change] + 1 >= self.of_change[change].len()
    }

    /// Holds a change back until the limits permit it.
    pub fn queue(&mut self, i: usize) {
        self.queued.insert(i);
    }

    /// Whether a change is held back.
    pub fn is_queued(&self, i: usize) -> bool {
        self.queued.contains(&i)
    }

    /// Takes the admitted changes out of the queue, grouped by `key`.
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

    /// Marks the next part of a change as done. Parts that waited for nothing else become ready.
    pub fn done(&mut self, i: usize) -> ChangeProgress {
        let Some(step) = self.of_change[i].get(self.done[i]).copied() else { return ChangeProgress::Complete };
        self.done[i] += 1;
        self.parts[step].state = PartState::Done;
        for dependant in self.parts[step].dependants.clone() {
            let ScheduledPart { waits, state, .. } = &mut self.parts[dependant];
            *waits -= 1;
            if *waits == 0 && *state == PartState::Open {
                self.ready.insert(dependant);
            }
        }
        match self.of_change[i].get(self.done[i]) {
            None => ChangeProgress::Complete,
            Some(next) if self.parts[*next].state == PartState::Abandoned => ChangeProgress::Abandoned,
            Some(_) => ChangeProgress::NextPart,
        }
    }

    /// Returns the changes that wait for a change.
    pub fn dependants(&self, i: usize) -> &[usize] {
        &self.dependants[i]
    }

    /// Marks changes as abandoned, without their dependants.
    pub fn close(&mut self, places: &[usize]) {
        for i in places {
            self.queued.remove(i);
            for step in self.of_change[*i].iter().skip(self.done[*i]) {
                self.parts[*step].state = PartState::Abandoned;
                self.ready.remove(step);
            }
        }
    }

    /// Marks changes as abandoned, and everything that waits for them, directly or indirectly. Returns their abandoned dependants.
    ///
    /// A running part of a dependant is finished.
    pub fn abandon(&mut self, places: &[usize]) -> Vec<usize> {
        self.close(places);
        let mut abandoned = BTreeSet::new();
        let rest = |i: &usize| self.of_change[*i].iter().skip(self.done[*i]).copied();
        let mut queue: Vec<usize> = places.iter().flat_map(rest).collect();
        while let Some(step) = queue.pop() {
            for next in self.parts[step].dependants.clone() {
                let change = self.parts[next].change;
                if self.parts[next].state != PartState::Open {
                    continue;
                }
                abandoned.insert(change);
                // If the new object is not created, the old one is kept.
                for part in self.of_change[change].clone() {
                    let waits = self.parts[part].state == PartState::Open || self.queued.contains(&change);
                    if waits && !matches!(self.parts[part].state, PartState::Done | PartState::Abandoned) {
                        self.parts[part].state = PartState::Abandoned;
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

    /// Returns the changes that were not started or not completed: those that wait, and those that are held back.
    pub fn rest(&self) -> Vec<usize> {
        let is_open = |i: &usize| self.of_change[*i].iter().any(|step| self.parts[*step].state == PartState::Open);
        (0..self.of_change.len()).filter(|i| is_open(i) || self.queued.contains(i)).collect()
    }
}
