//! The progress of the parts of a plan: which of them wait, run, are done or will not be done.

use std::collections::BTreeSet;

use crate::plan::order::{Order, PlannedPart};

/// The progress of the parts of a plan.
pub(super) struct Progress {
    order: Order,
    states: Vec<PartState>,
    /// The number of parts that each part waits for.
    waits: Vec<usize>,
    /// The first part of each change that is not done.
    current: Vec<usize>,
    /// The parts that wait for nothing and were not taken yet.
    ready: BTreeSet<usize>,
    /// The number of running parts.
    running: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum PartState {
    Waiting,
    Running,
    Done,
    /// It will not be done, because this change did not succeed.
    Abandoned {
        because: usize,
    },
}

/// The progress of a change whose part is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::apply) enum ChangeProgress {
    /// All parts are done.
    Complete,
    /// The next part is still to be done.
    NextPart,
    /// The next part will not be done.
    Abandoned(Skipped),
}

/// A change that is not started or not completed because of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::apply) struct Skipped {
    /// The first part that is not done.
    pub part: PlannedPart,
    /// The change that did not succeed.
    pub because: usize,
}

impl Progress {
    pub fn new(order: Order) -> Self {
        let mut waits = vec![0; order.parts.len()];
        order.after.iter().flatten().for_each(|part| waits[*part] += 1);
        let ready = (0..waits.len()).filter(|part| waits[*part] == 0).collect();
        let firsts = order.parts.iter().enumerate().filter(|(_, part)| part.is_first);
        let current = firsts.map(|(place, _)| place).collect();
        let states = vec![PartState::Waiting; waits.len()];
        Self { order, states, waits, current, ready, running: 0 }
    }

    /// Takes a change whose next part waits for no other part any more. Each part is returned once.
    pub fn take_ready(&mut self) -> Option<usize> {
        self.ready.pop_first().map(|part| self.order.parts[part].change)
    }

    /// Returns the next part of a change, or its last part if all are done.
    pub fn part(&self, change: usize) -> PlannedPart {
        let last = self.order.parts_of(change).end - 1;
        self.order.parts[self.current[change].min(last)]
    }

    /// Whether a part runs.
    pub fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Whether the next part of a change runs.
    pub fn runs(&self, change: usize) -> bool {
        self.order.parts_of(change).any(|part| self.states[part] == PartState::Running)
    }

    /// Marks the next part of a change as running.
    pub fn start(&mut self, change: usize) {
        self.set(self.current[change], PartState::Running);
    }

    /// Marks the running part of a change as waiting again: it was not started after all.
    pub fn put_back(&mut self, change: usize) {
        self.set(self.current[change], PartState::Waiting);
    }

    /// Marks the running part of a change as done. Parts that waited for nothing else become ready.
    pub fn done(&mut self, change: usize) -> ChangeProgress {
        let part = self.current[change];
        self.current[change] += 1;
        self.set(part, PartState::Done);
        for next in &self.order.after[part] {
            self.waits[*next] -= 1;
            if self.waits[*next] == 0 && self.states[*next] == PartState::Waiting {
                self.ready.insert(*next);
            }
        }
        if self.order.parts[part].is_last {
            return ChangeProgress::Complete;
        }
        match self.states[part + 1] {
            PartState::Abandoned { because } => {
                ChangeProgress::Abandoned(Skipped { part: self.order.parts[part + 1], because })
            }
            PartState::Waiting | PartState::Running | PartState::Done => ChangeProgress::NextPart,
        }
    }

    /// Ends a change without its remaining parts. Its dependants keep waiting.
    pub fn close(&mut self, change: usize) {
        for part in self.rest(change) {
            self.set(part, PartState::Abandoned { because: change });
            self.ready.remove(&part);
        }
    }

    /// Ends changes without their remaining parts, and everything that waits for them, directly or indirectly. Returns these dependants.
    ///
    /// A running part of a dependant is finished.
    pub fn abandon(&mut self, changes: &[usize], because: usize) -> BTreeSet<usize> {
        changes.iter().for_each(|change| self.close(*change));
        let mut abandoned = BTreeSet::new();
        let mut queue: Vec<usize> = changes.iter().flat_map(|change| self.rest(*change)).collect();
        let Self { order, states, ready, .. } = self;
        while let Some(part) = queue.pop() {
            for next in &order.after[part] {
                if states[*next] != PartState::Waiting {
                    continue;
                }
                let change = order.parts[*next].change;
                abandoned.insert(change);
                // If the new object is not created, the old one is kept.
                for part in
                    order.parts_of(change).filter(|part| states[*part] == PartState::Waiting).collect::<Vec<_>>()
                {
                    states[part] = PartState::Abandoned { because };
                    ready.remove(&part);
                    queue.push(part);
                }
            }
        }
        abandoned
    }

    /// Returns the next part of each change that is not complete and will not be abandoned.
    pub fn unfinished(&self) -> impl Iterator<Item = PlannedPart> {
        let is_waiting = |part: usize| self.states[part] == PartState::Waiting;
        let changes = (0..self.current.len()).filter(move |change| self.rest(*change).any(is_waiting));
        changes.map(|change| self.part(change))
    }

    /// Returns the parts of a change that are not done.
    fn rest(&self, change: usize) -> std::ops::Range<usize> {
        self.current[change]..self.order.parts_of(change).end
    }

    fn set(&mut self, part: usize, state: PartState) {
        self.running -= usize::from(self.states[part] == PartState::Running);
        self.running += usize::from(state == PartState::Running);
        self.states[part] = state;
    }
}
