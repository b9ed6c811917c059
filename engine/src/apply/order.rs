//! Which change may start when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Address;
use crate::plan::{Action, Change, Item};

/// The changes of a plan and what each waits for. Indexes are places in the plan.
pub(crate) struct Order {
    /// How many changes each waits for.
    waits: Vec<usize>,
    /// The changes that wait for each.
    dependants: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    /// Ready, but held back by limits.
    queued: BTreeSet<usize>,
    state: Vec<Phase>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Started,
    Over,
}

impl Order {
    pub fn new(changes: &[Change], items: &HashMap<Address, Item>) -> Self {
        let places: HashMap<&Address, usize> = changes.iter().enumerate().map(|(i, c)| (&c.address, i)).collect();
        let object = |c: &Change| Some((c.target.clone(), c.identity.clone()?));
        let removed: HashMap<_, usize> = changes
            .iter()
            .enumerate()
            .filter(|(_, c)| c.action == Action::Delete)
            .filter_map(|(i, c)| Some((object(c)?, i)))
            .collect();
        let mut edges = BTreeSet::new();
        for (i, change) in changes.iter().enumerate() {
            if !removes(change.action) {
                let before = change.dependencies.iter().filter_map(|d| places.get(d));
                edges.extend(before.filter(|d| !removes(changes[**d].action)).map(|d| (*d, i)));
            }
            // What is removed goes after everything that was recorded as depending on it.
            let recorded = items.get(&change.address).and_then(|item| item.recorded.as_ref());
            let leaning = recorded.iter().flat_map(|r| &r.dependencies).filter_map(|d| d.parse::<Address>().ok());
            edges.extend(
                leaning.filter_map(|d| places.get(&d)).filter(|d| removes(changes[**d].action)).map(|d| (i, *d)),
            );
        }
        // What takes the place of another object (a folder where a file was) waits until that one is gone.
        for (i, change) in changes.iter().enumerate().filter(|(_, c)| !removes(c.action)) {
            if let Some(removal) = object(change).and_then(|o| removed.get(&o)) {
                edges.remove(&(i, *removal));
                edges.insert((*removal, i));
            }
        }
        let mut order = Self {
            waits: vec![0; changes.len()],
            dependants: vec![Vec::new(); changes.len()],
            ready: BTreeSet::new(),
            queued: BTreeSet::new(),
            state: vec![Phase::Open; changes.len()],
        };
        for (before, after) in edges.into_iter().filter(|(before, after)| before != after) {
            order.waits[after] += 1;
            order.dependants[before].push(after);
        }
        order.ready = (0..changes.len()).filter(|i| order.waits[*i] == 0).collect();
        order
    }

    /// The changes that wait for nothing any more; each is given out once.
    pub fn take_ready(&mut self) -> Vec<usize> {
        let ready: Vec<_> = std::mem::take(&mut self.ready).into_iter().collect();
        for i in &ready {
            self.state[*i] = Phase::Started;
        }
        ready
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

    /// A change is done: what waited for it alone is ready.
    pub fn done(&mut self, i: usize) {
        self.state[i] = Phase::Over;
        for dependant in self.dependants[i].clone() {
            self.waits[dependant] -= 1;
            if self.waits[dependant] == 0 && self.state[dependant] == Phase::Open {
                self.ready.insert(dependant);
            }
        }
    }

    /// The changes that wait for this one.
    pub fn dependants(&self, i: usize) -> &[usize] {
        &self.dependants[i]
    }

    /// These changes do not come about.
    pub fn close(&mut self, places: &[usize]) {
        for i in places {
            self.state[*i] = Phase::Over;
            self.ready.remove(i);
            self.queued.remove(i);
        }
    }

    /// These changes did not come about: everything that waits for them, directly or not, never will. Returns that.
    pub fn abandon(&mut self, places: &[usize]) -> Vec<usize> {
        self.close(places);
        let mut abandoned = Vec::new();
        let mut queue: Vec<usize> = places.iter().flat_map(|i| self.dependants[*i].iter().copied()).collect();
        while let Some(next) = queue.pop() {
            if self.state[next] == Phase::Open {
                self.state[next] = Phase::Over;
                self.ready.remove(&next);
                abandoned.push(next);
                queue.extend(self.dependants[next].iter().copied());
            }
        }
        abandoned.sort_unstable();
        abandoned
    }

    /// The changes that never were begun: those still waiting, and those held back.
    pub fn rest(&self) -> Vec<usize> {
        let waiting = (0..self.state.len()).filter(|i| self.state[*i] == Phase::Open || self.queued.contains(i));
        waiting.collect()
    }
}

fn removes(action: Action) -> bool {
    matches!(action, Action::Delete | Action::Forget)
}
