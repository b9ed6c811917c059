//! The planned changes of instances that have several objects, such as the documents of one text.

use moorfast_state::Record;

use super::planner::{Item, Planner};
use crate::configuration::expand::Instance;
use crate::model::{Address, Attributes};
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

impl Planner<'_> {
    /// Returns the planned changes of the objects of `instance` for its `action`, from the changes that its provider proposed.
    pub(super) fn planned_objects(
        &self,
        instance: &Instance,
        item: &Item,
        action: Action,
        proposed: Vec<ObjectChange>,
    ) -> PlannedObjects {
        let objects_of = |attributes: &Attributes| instance.resource_type.objects(attributes);
        let former = item.former.iter().flat_map(|former| objects_of(&former.attributes)).collect::<Vec<_>>();
        let observed = item.observed.iter().flat_map(|observed| objects_of(&observed.attributes)).collect::<Vec<_>>();
        let is_former = item.former.is_some();
        let under_action = |object: ObjectChange| {
            let action = match (action, object.action) {
                (Action::Adopt, _) => Action::Adopt,
                (Action::Replace, Action::NoOp | Action::Adopt | Action::Update) if !is_former => Action::Replace,
                (_, own) => own,
            };
            ObjectChange { action, ..object }
        };
        let is_several = former.len() > 1 || proposed.len() > 1;
        let gone = former.iter().map(|object| change_of(object, Action::Delete));
        let mut objects: Vec<_> = gone.chain(proposed.into_iter().map(under_action)).collect();
        self.hand_over(&instance.address, instance.target.name(), &mut objects);
        let existing = if is_former { &former } else { &observed };
        let losses = losses(existing, &objects, action);
        if action == Action::NoOp || !is_several {
            objects.clear();
        }
        PlannedObjects { objects, losses }
    }

    /// Returns the planned changes of the objects of a new instance.
    /// Returns the planned changes of the `existing` objects of a record that is removed.
    pub(super) fn removal(
        &self,
        address: &Address,
        target: &str,
        existing: &[Object],
        everything: bool,
    ) -> PlannedObjects {
        let mut objects: Vec<_> = existing.iter().map(|object| change_of(object, Action::Delete)).collect();
        if !everything {
            self.hand_over(address, target, &mut objects);
        }
        let losses = losses(existing, &objects, Action::Delete);
        PlannedObjects { objects, losses }
    }

    /// Keeps the objects that another instance owns from now on.
    fn hand_over(&self, address: &Address, target: &str, objects: &mut [ObjectChange]) {
        let is_claimed = |object: &ObjectChange| {
            let owner = self.draft.owners.of(target, &object.identity);
            owner
                .is_some_and(|owner| owner != address && owner.resource.resource_type == address.resource.resource_type)
        };
        for object in objects.iter_mut().filter(|object| object.action == Action::Delete) {
            if is_claimed(object) {
                object.action = Action::Forget;
            }
        }
    }

    /// Whether an instance of the manifest of the same type declares the object of `record`. That instance owns the object from now on.
    pub(super) fn is_claimed(&self, record: &Record) -> bool {
        let owner = self.draft.owners.of(&record.target, &record.identity);
        owner.is_some_and(|owner| owner.resource.resource_type == record.resource_type)
    }
}

/// Returns the planned changes of the objects of a new instance.
pub(super) fn all_created(instance: &Instance, desired: &Attributes) -> Vec<ObjectChange> {
    let objects = instance.resource_type.objects(desired);
    let created = objects.iter().map(|object| change_of(object, Action::Create));
    if objects.len() > 1 { created.collect() } else { Vec::new() }
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
