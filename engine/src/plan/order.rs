//! The parts of the changes of a plan, and the order between them. An apply walks it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::item::Item;
use super::model::Change;
use super::sequence::{Part, Sequence};
use crate::model::Address;
use crate::model::hash::HashMap;

/// The parts of the changes of a plan, and the order between them.
///
/// A change is named by its index in the plan, a part by its index in [`Order::parts`]. There are no cycles.
pub(crate) struct Order {
    /// The parts. Those of one change are neighbours, in their order.
    pub parts: Vec<PlannedPart>,
    /// The parts that wait for each part.
    pub after: Vec<Vec<usize>>,
    /// The parts of each change.
    of_change: Vec<Range<usize>>,
    /// The changes that wait for any part of each change.
    dependants: Vec<Vec<usize>>,
}

/// A part of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedPart {
    /// The index of the change in the plan.
    pub change: usize,
    /// The work.
    pub part: Part,
    /// Whether it is the first part of its change.
    pub is_first: bool,
    /// Whether it is the last part of its change.
    pub is_last: bool,
}

impl Order {
    pub fn new(changes: &[Change], items: &HashMap<Address, Box<Item>>) -> Self {
        let Sequence { parts: sequence, edges, .. } = Sequence::of(changes, items).without_cycles();
        let mut of_change = vec![0..0; changes.len()];
        for (place, (change, _)) in sequence.iter().enumerate() {
            let range = &mut of_change[*change];
            *range = if range.end == 0 { place..place + 1 } else { range.start..place + 1 };
        }
        let part = |(place, (change, part)): (usize, (usize, Part))| {
            let Range { start, end } = of_change[change];
            PlannedPart { change, part, is_first: place == start, is_last: place + 1 == end }
        };
        let parts: Vec<PlannedPart> = sequence.into_iter().enumerate().map(part).collect();
        let mut after = vec![Vec::new(); parts.len()];
        let mut dependants = vec![BTreeSet::new(); changes.len()];
        for (_, first, second) in edges {
            after[first].push(second);
            let (first, second) = (parts[first].change, parts[second].change);
            if first != second {
                dependants[first].insert(second);
            }
        }
        let dependants = dependants.into_iter().map(|after| after.into_iter().collect()).collect();
        Self { parts, after, of_change, dependants }
    }

    /// Returns the parts of a change, in their order. A change has at least one.
    pub fn parts_of(&self, change: usize) -> Range<usize> {
        self.of_change[change].clone()
    }

    /// Returns the changes that wait for a change.
    pub fn dependants(&self, change: usize) -> &[usize] {
        &self.dependants[change]
    }
}
