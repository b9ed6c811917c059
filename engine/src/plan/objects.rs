//! The planned changes of instances that have several objects, such as the documents of one text.

use moorfast_state::Record;

use crate::configuration::owners::Owners;
use crate::model::Address;
use crate::provider::{Action, Consequence, Object, ObjectChange};

/// The planned changes of the objects of one instance.
pub(super) struct PlannedObjects {
    /// The change of each object. Empty for an instance that is one object.
    pub objects: Vec<ObjectChange>,
    /// The consequences of removed objects.
    pub losses: Vec<Consequence>,
}

impl PlannedObjects {
    /// Returns the names of the removed objects, including objects that are created again.
    pub fn removed(&self) -> Vec<&str> {
        self.objects.iter().filter(|object| object.action.removes()).map(|object| object.name.as_str()).collect()
    }

    /// Whether other instances own all of the objects from now on.
    pub fn is_handed_over(&self) -> bool {
        !self.objects.is_empty() && self.objects.iter().all(|object| object.action == Action::Forget)
    }
}

/// Returns the planned changes of the objects of an instance of the manifest, from the changes that its provider proposed.
///
/// `former` are the objects with the recorded identities, if the manifest now declares others, and `observed` those with the declared identities.
pub(super) fn planned_objects(
    action: Action,
    former: Option<&[Object]>,
    observed: &[Object],
    proposed: Vec<ObjectChange>,
    is_claimed: impl Fn(&ObjectChange) -> bool,
) -> PlannedObjects {
    let under_action = |object: ObjectChange| {
        let action = match (action, object.action) {
            (Action::Adopt, _) => Action::Adopt,
            (Action::Replace, Action::NoOp | Action::Adopt | Action::Update) if former.is_none() => Action::Replace,
            (_, own) => own,
        };
        ObjectChange { action, ..object }
    };
    let existing = former.unwrap_or(observed);
    let former = former.unwrap_or_default();
    let is_several = former.len() > 1 || proposed.len() > 1;
    let gone = former.iter().map(|object| change_of(object, Action::Delete));
    let mut objects: Vec<_> = gone.chain(proposed.into_iter().map(under_action)).collect();
    hand_over(&mut objects, is_claimed);
    let losses = losses(existing, &objects, action);
    if action == Action::NoOp || !is_several {
        objects.clear();
    }
    PlannedObjects { objects, losses }
}

/// Returns the planned changes of the objects of a new instance.
pub(super) fn all_created(objects: &[Object]) -> Vec<ObjectChange> {
    let created = objects.iter().map(|object| change_of(object, Action::Create));
    if objects.len() > 1 { created.collect() } else { Vec::new() }
}

/// Returns the planned changes of the `existing` objects of a record that is removed.
pub(super) fn removed_objects(existing: &[Object], is_claimed: impl Fn(&ObjectChange) -> bool) -> PlannedObjects {
    let mut objects: Vec<_> = existing.iter().map(|object| change_of(object, Action::Delete)).collect();
    hand_over(&mut objects, is_claimed);
    let losses = losses(existing, &objects, Action::Delete);
    PlannedObjects { objects, losses }
}

/// Keeps the objects that another instance owns from now on.
fn hand_over(objects: &mut [ObjectChange], is_claimed: impl Fn(&ObjectChange) -> bool) {
    for object in objects.iter_mut().filter(|object| object.action == Action::Delete) {
        if is_claimed(object) {
            object.action = Action::Forget;
        }
    }
}

/// Whether an instance of the same type as `address`, but another one, declares the object.
pub(super) fn is_claimed_from(owners: &Owners, address: &Address, target: &str, object: &ObjectChange) -> bool {
    let owner = owners.of(target, &object.identity);
    owner.is_some_and(|owner| owner != address && owner.resource.resource_type == address.resource.resource_type)
}

/// Whether an instance of the manifest of the same type declares the object of `record`. That instance owns the object from now on.
pub(super) fn is_claimed(owners: &Owners, record: &Record) -> bool {
    let owner = owners.of(&record.target, &record.identity);
    owner.is_some_and(|owner| owner.resource.resource_type == record.resource_type)
}

fn change_of(object: &Object, action: Action) -> ObjectChange {
    let Object { identity, name, .. } = object.clone();
    ObjectChange { identity, name, action, replace_paths: Vec::new() }
}

/// Returns the consequences of the removal of `existing` objects. `action` applies to the objects that `changes` does not name.
fn losses(existing: &[Object], changes: &[ObjectChange], action: Action) -> Vec<Consequence> {
    let is_removed = |object: &Object| {
        let own = changes.iter().find(|change| change.identity == object.identity);
        own.map_or(action, |change| change.action).removes()
    };
    let lost = existing.iter().filter(|object| is_removed(object)).filter_map(|object| object.contents.clone());
    lost.map(|object| Consequence::Removal { object }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::{Configuration, address};

    fn object(name: &str) -> Object {
        Object { identity: name.to_owned(), name: name.to_owned(), contents: Some(format!("the data of {name}")) }
    }

    fn planned(objects: &[(&str, Action)]) -> Vec<ObjectChange> {
        objects.iter().map(|(name, action)| change_of(&object(name), *action)).collect()
    }

    fn lost(name: &str) -> Consequence {
        Consequence::Removal { object: format!("the data of {name}") }
    }

    #[test]
    fn the_action_of_the_instance_decides_about_its_objects() {
        let [a, b] = ["a", "b"].map(object);
        let observed = [a.clone(), b.clone()];
        let of = |action, former: Option<&[Object]>, proposed: &[(&str, Action)]| {
            let PlannedObjects { objects, losses } =
                planned_objects(action, former, &observed, planned(proposed), |object| object.name == "claimed");
            (objects, losses)
        };
        let updated = [("a", Action::Update), ("b", Action::Delete)];
        assert_eq!(of(Action::Update, None, &updated), (planned(&updated), vec![lost("b")]));
        let kept = [("a", Action::NoOp), ("b", Action::Create)];
        assert_eq!(of(Action::Adopt, None, &kept).0, planned(&[("a", Action::Adopt), ("b", Action::Adopt)]));
        let replaced = (planned(&[("a", Action::Replace), ("b", Action::Create)]), vec![lost("a")]);
        assert_eq!(of(Action::Replace, None, &kept), replaced);
        assert_eq!(of(Action::NoOp, None, &kept), (Vec::new(), Vec::new()));
        // The former objects are removed, unless another instance owns them now.
        let former = [object("old"), object("claimed")];
        let moved = planned(&[("old", Action::Delete), ("claimed", Action::Forget), ("a", Action::Update)]);
        assert_eq!(of(Action::Replace, Some(&former), &[("a", Action::Update)]), (moved, vec![lost("old")]));
    }

    #[test]
    fn an_object_is_claimed_by_another_instance_of_the_same_type() {
        let configuration = Configuration::of("[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"");
        let owners = configuration.inputs().static_values.owners();
        let is_claimed = |from: &str, target: &str| {
            is_claimed_from(&owners, &address(from), target, &change_of(&object("/a"), Action::Delete))
        };
        assert!(is_claimed("mem_file.b[\"n1\"]", "n1"));
        assert!(!is_claimed("mem_file.a[\"n1\"]", "n1"));
        assert!(!is_claimed("mem_other.b[\"n1\"]", "n1"));
        assert!(!is_claimed("mem_file.b[\"n2\"]", "n2"));
    }

    #[test]
    fn an_instance_that_is_one_object_has_no_object_changes() {
        let one = planned_objects(Action::Replace, None, &[object("a")], planned(&[("a", Action::Update)]), |_| false);
        assert_eq!((one.objects, one.losses), (Vec::new(), vec![lost("a")]));
        assert_eq!(all_created(&[object("a")]), Vec::new());
        assert_eq!(all_created(&["a", "b"].map(object)), planned(&[("a", Action::Create), ("b", Action::Create)]));
    }

    #[test]
    fn a_removal_keeps_the_objects_that_another_instance_owns() {
        let objects = ["a", "b"].map(object);
        let part = removed_objects(&objects, |object| object.name == "a");
        assert_eq!((part.removed(), part.is_handed_over()), (vec!["b"], false));
        assert_eq!(part.losses, [lost("b")]);
        assert!(removed_objects(&objects, |_| true).is_handed_over());
    }
}
