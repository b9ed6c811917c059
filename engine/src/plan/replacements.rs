//! Replacements that create the new object before the old one is destroyed.

use std::collections::BTreeSet;

use super::item::Item;
use super::model::Change;
use super::sequence::Sequence;
use crate::model::Address;
use crate::model::hash::HashMap;
use crate::provider::Action;

/// Propagates `create_before_destroy` to dependencies, and drops it where the order is impossible.
pub(super) fn order_replacements(changes: &mut [Change], items: &HashMap<Address, Box<Item>>) {
    let is_first = |change: &Change| change.action == Action::ReplaceCreateFirst;
    if !changes.iter().any(is_first) {
        return;
    }
    propagate_create_first(changes, items);
    loop {
        let cycles = Sequence::of(changes, items).cycles();
        let stuck: BTreeSet<usize> = cycles.into_iter().flatten().filter(|i| is_first(&changes[*i])).collect();
        if stuck.is_empty() {
            return;
        }
        for i in stuck {
            let note = "create_before_destroy has no effect: an object that this one depends on is destroyed first";
            changes[i].notes.push(note.to_owned());
            changes[i].action = Action::Replace;
        }
    }
}

/// Creates the dependencies of a create-first replacement first too.
///
/// The old object of a dependant uses the old object of its dependency. It is destroyed only after the new dependant was created from the new dependency, so
/// both objects of the dependency must exist at the same time.
fn propagate_create_first(changes: &mut [Change], items: &HashMap<Address, Box<Item>>) {
    let places: HashMap<Address, usize> =
        changes.iter().enumerate().map(|(i, change)| (change.address.clone(), i)).collect();
    let keeps_old_object = Sequence::of(changes, items).keeps_old_object;
    let first = (0..changes.len()).filter(|i| changes[*i].action == Action::ReplaceCreateFirst);
    let mut queue: Vec<(usize, usize)> = first.map(|i| (i, i)).collect();
    let mut seen = BTreeSet::new();
    while let Some((i, dependant)) = queue.pop() {
        if !seen.insert(i) {
            continue;
        }
        if can_be_created_first(&changes[i], items) && !keeps_old_object[i] {
            let because = &changes[dependant].address;
            let note = format!("created before the old object is destroyed, because `{because}` is too");
            changes[i].notes.push(note);
            changes[i].action = Action::ReplaceCreateFirst;
        }
        let before = changes[i].dependencies.iter().filter_map(|d| places.get(d).copied());
        queue.extend(before.map(|d| (d, dependant)));
    }
}

/// Whether the old and the new object of a replacement can exist at the same time.
fn can_be_created_first(change: &Change, items: &HashMap<Address, Box<Item>>) -> bool {
    let item = items.get(&change.address);
    change.action == Action::Replace && item.is_some_and(|item| item.former.is_some() && !item.displaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Recorded;
    use crate::plan::samples::{address, change, record};
    use crate::provider::Observed;

    /// Returns the item of a replacement by an object with another identity.
    fn renamed(name: &str, dependencies: &[&str]) -> (Address, Box<Item>) {
        let mut record = record(name, dependencies);
        record.identity = format!("old {name}");
        let item =
            Item { recorded: Some(Recorded::from(record)), former: Some(Observed::default()), ..Item::default() };
        (address(name), Box::new(item))
    }

    fn actions<const N: usize>(mut changes: Vec<Change>, items: [(Address, Box<Item>); N]) -> Vec<(Action, usize)> {
        order_replacements(&mut changes, &items.into_iter().collect());
        changes.iter().map(|change| (change.action, change.notes.len())).collect()
    }

    #[test]
    fn the_dependencies_of_a_create_first_replacement_are_created_first_too() {
        let first = change("t.b", Action::ReplaceCreateFirst, &["t.a"]);
        let changes = vec![change("t.a", Action::Replace, &[]), first, change("t.other", Action::Replace, &[])];
        let items = [renamed("t.a", &[]), renamed("t.b", &["t.a"]), renamed("t.other", &[])];
        let expected = [(Action::ReplaceCreateFirst, 1), (Action::ReplaceCreateFirst, 0), (Action::Replace, 0)];
        assert_eq!(actions(changes, items), expected);
    }

    #[test]
    fn an_object_is_not_created_first_if_its_dependency_is_destroyed_first() {
        let first = change("t.b", Action::ReplaceCreateFirst, &["t.a"]);
        let changes = vec![change("t.a", Action::Replace, &[]), first];
        // The dependency keeps its identity, so its old and its new object cannot exist at the same time.
        let same = Item {
            recorded: Some(Recorded::from(record("t.a", &[]))),
            observed: Some(Observed::default()),
            ..Item::default()
        };
        let items = [(address("t.a"), Box::new(same)), renamed("t.b", &["t.a"])];
        assert_eq!(actions(changes, items), [(Action::Replace, 0), (Action::Replace, 1)]);
    }

    #[test]
    fn a_plan_without_create_first_replacements_stays_as_it_is() {
        let changes = vec![change("t.a", Action::Replace, &[]), change("t.b", Action::Replace, &["t.a"])];
        let items = [renamed("t.a", &[]), renamed("t.b", &["t.a"])];
        assert_eq!(actions(changes, items), [(Action::Replace, 0), (Action::Replace, 0)]);
    }
}
