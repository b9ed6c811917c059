//! Replacements that create the new object before the old one is destroyed.

use std::collections::{BTreeSet, HashMap};

use super::Change;
use super::planner::Planner;
use crate::model::Address;
use crate::plan::sequence::Sequence;
use crate::provider::Action;

impl Planner<'_> {
    /// Propagates `create_before_destroy` to dependencies, and drops it where the order is impossible.
    pub(super) fn order_replacements(&mut self) {
        self.propagate_create_first();
        loop {
            let cycles = Sequence::of(&self.draft.changes, &self.draft.items).cycles();
            let is_first = |i: &usize| self.draft.changes[*i].action == Action::ReplaceCreateFirst;
            let stuck: BTreeSet<usize> = cycles.into_iter().flatten().filter(is_first).collect();
            if stuck.is_empty() {
                return;
            }
            for i in stuck {
                let note = "create_before_destroy has no effect: an object that this one depends on is destroyed first";
                self.draft.changes[i].notes.push(note.to_owned());
                self.set_action(i, Action::Replace);
            }
        }
    }

    /// Creates the dependencies of a create-first replacement first too.
    ///
    /// The old object of a dependant uses the old object of its dependency. It is destroyed only after the new dependant was created from the new dependency, so
    /// both objects of the dependency must exist at the same time.
    fn propagate_create_first(&mut self) {
        let places: HashMap<Address, usize> =
            self.draft.changes.iter().enumerate().map(|(i, change)| (change.address.clone(), i)).collect();
        let is_first = |change: &Change| change.action == Action::ReplaceCreateFirst;
        let keeps_old_object = Sequence::of(&self.draft.changes, &self.draft.items).keeps_old_object;
        let mut queue: Vec<(usize, usize)> =
            (0..places.len()).filter(|i| is_first(&self.draft.changes[*i])).map(|i| (i, i)).collect();
        let mut seen = BTreeSet::new();
        while let Some((i, dependant)) = queue.pop() {
            if !seen.insert(i) {
                continue;
            }
            if self.can_be_created_first(i) && !keeps_old_object[i] {
                let because = &self.draft.changes[dependant].address;
                let note = format!("created before the old object is destroyed, because `{because}` is too");
                self.draft.changes[i].notes.push(note);
                self.set_action(i, Action::ReplaceCreateFirst);
            }
            let before = self.draft.changes[i].dependencies.iter().filter_map(|d| places.get(d).copied());
            queue.extend(before.map(|d| (d, dependant)));
        }
    }

    /// Whether the old and the new object of a replacement can exist at the same time.
    fn can_be_created_first(&self, i: usize) -> bool {
        let change = &self.draft.changes[i];
        let item = self.draft.items.get(&change.address);
        change.action == Action::Replace && item.is_some_and(|item| item.former.is_some() && !item.displaced)
    }

    fn set_action(&mut self, i: usize, action: Action) {
        self.draft.changes[i].action = action;
        self.actions.insert(self.draft.changes[i].address.clone(), action);
    }
}
