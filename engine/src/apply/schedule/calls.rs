//! The changes that wait for a free call, and the limits of calls.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::Change;

/// The limits of calls that run at the same time.
#[derive(Clone, Copy, Debug)]
pub(in crate::apply) struct Limits {
    /// In all.
    pub parallelism: usize,
    /// On one node.
    pub per_node: usize,
}

/// The changes that wait for a free call, by target, and the number of running calls.
pub(super) struct Calls {
    limits: Limits,
    /// The targets, in the order in which they are called.
    targets: Vec<TargetCalls>,
    /// The target of each change.
    target_of: Vec<usize>,
    /// The targets with queued changes.
    waiting: BTreeSet<usize>,
    /// The number of running calls.
    running: usize,
    /// The number of running calls on each place: a node or a cluster. Several provider instances may reach one node.
    running_on: Vec<usize>,
}

/// The changes on one target of one provider instance.
struct TargetCalls {
    queue: BTreeSet<usize>,
    /// The index of the place.
    place: usize,
    is_node: bool,
}

/// A running call, which counts against the limits until it is given back with [`Calls::over`].
#[derive(Debug)]
#[must_use]
pub(in crate::apply) struct Call {
    place: usize,
}

impl Calls {
    pub fn new(changes: &[Change], limits: Limits) -> Self {
        let key = |change: &Change| (change.provider.clone(), change.target.clone());
        let mut targets: BTreeMap<(String, String), usize> = changes.iter().map(|change| (key(change), 0)).collect();
        targets.values_mut().enumerate().for_each(|(place, target)| *target = place);
        let mut places = BTreeMap::new();
        let target = |(provider, name): &(String, String)| {
            let next = places.len();
            // The target of an object that is not on a node is its provider instance.
            TargetCalls {
                queue: BTreeSet::new(),
                place: *places.entry(name.clone()).or_insert(next),
                is_node: provider != name,
            }
        };
        let list: Vec<TargetCalls> = targets.keys().map(target).collect();
        Self {
            limits,
            target_of: changes.iter().map(|change| targets[&key(change)]).collect(),
            targets: list,
            waiting: BTreeSet::new(),
            running: 0,
            running_on: vec![0; places.len()],
        }
    }

    /// Adds a change to the queue of its target.
    pub fn queue(&mut self, change: usize) {
        let target = self.target_of[change];
        self.targets[target].queue.insert(change);
        self.waiting.insert(target);
    }

    /// Removes a change from the queue of its target.
    pub fn remove(&mut self, change: usize) {
        let target = self.target_of[change];
        self.targets[target].queue.remove(&change);
        if self.targets[target].queue.is_empty() {
            self.waiting.remove(&target);
        }
    }

    /// Takes all changes that wait for one target, if the limits permit another call there.
    pub fn take(&mut self) -> Option<(Call, BTreeSet<usize>)> {
        if self.running >= self.limits.parallelism {
            return None;
        }
        let is_free = |target: &usize| {
            let TargetCalls { place, is_node, .. } = self.targets[*target];
            !is_node || self.running_on[place] < self.limits.per_node
        };
        let target = self.waiting.iter().copied().find(is_free)?;
        self.waiting.remove(&target);
        let TargetCalls { queue, place, .. } = &mut self.targets[target];
        self.running += 1;
        self.running_on[*place] += 1;
        Some((Call { place: *place }, std::mem::take(queue)))
    }

    /// Gives back a call that ended.
    pub fn over(&mut self, call: Call) {
        self.running -= 1;
        self.running_on[call.place] -= 1;
    }

    /// Whether a call runs.
    pub fn is_running(&self) -> bool {
        self.running > 0
    }
}
