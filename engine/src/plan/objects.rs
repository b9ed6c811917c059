//! The objects of an instance that stands for several, such as the documents of one text.

use moorfast_state::Record;

use super::planner::{Item, Planner};
use crate::configuration::expand::Instance;
use crate::model::{Address, Attributes};
use crate::provider::{Action, Consequence, Object, ObjectChange};

/// What a plan does with the objects of one instance.
pub(super) struct Fate {
    /// One entry for each object; empty for an instance of one object.
    pub objects: Vec<ObjectChange>,
    /// What is lost with the removed objects.
    pub losses: Vec<Consequence>,
}

impl Fate {
    /// Returns the names of the objects that are removed, if only to be created again.
    pub fn removed(&self) -> Vec<&str> {
        self.objects.iter().filter(|object| object.action.removes()).map(|object| object.name.as_str()).collect()
    }

    /// Whether another instance owns each of the objects from now on.
    pub fn is_handed_over(&self) -> bool {
        !self.objects.is_empty() && self.objects.iter().all(|object| object.action == Action::Forget)
    }
}

impl Planner<'_> {
    /// Returns what becomes of the objects of `instance` under `action`, where its provider proposed `proposed` for them.
    pub(super) fn fate(&self, instance: &Instance, item: &Item, action: Action, proposed: Vec<ObjectChange>) -> Fate {
        let provider = &instance.provider;
        let resource_type = instance.resource_type.name;
        let objects_of = |attributes: &Attributes| self.expanded.objects(provider, resource_type, attributes);
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
        let there = if is_former { &former } else { &observed };
        let losses = losses(there, &objects, action);
        if action == Action::NoOp || !is_several {
            objects.clear();
        }
        Fate { objects, losses }
    }

    /// Returns the entries of an instance all of whose objects are created.
    pub(super) fn all_created(&self, instance: &Instance, wanted: &Attributes) -> Vec<ObjectChange> {
        let objects = self.expanded.objects(&instance.provider, instance.resource_type.name, wanted);
        let created = objects.iter().map(|object| change_of(object, Action::Create));
        if objects.len() > 1 { created.collect() } else { Vec::new() }
    }

    /// Returns what becomes of the objects `there` of a record that is removed.
    pub(super) fn removal(&self, address: &Address, target: &str, there: &[Object], everything: bool) -> Fate {
        let mut objects: Vec<_> = there.iter().map(|object| change_of(object, Action::Delete)).collect();
        if !everything {
            self.hand_over(address, target, &mut objects);
        }
        let losses = losses(there, &objects, Action::Delete);
        Fate { objects, losses }
    }

    /// What another instance owns from now on is not removed.
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

    /// Checks whether an instance of the manifest, of the same type, wants the object that `record` remembers. Then that instance owns it.
    pub(super) fn is_claimed(&self, record: &Record) -> bool {
        let owner = self.draft.owners.of(&record.target, &record.identity);
        owner.is_some_and(|owner| owner.resource.resource_type == record.resource_type)
    }
}

fn change_of(object: &Object, action: Action) -> ObjectChange {
    let Object { identity, name, .. } = object.clone();
    ObjectChange { identity, name, action, replace_paths: Vec::new() }
}

/// What is lost with those of the objects `there` that are removed: by `action` as a whole where `changes` do not name them.
fn losses(there: &[Object], changes: &[ObjectChange], action: Action) -> Vec<Consequence> {
    let is_removed = |object: &Object| {
        let own = changes.iter().find(|change| change.identity == object.identity);
        own.map_or(action, |change| change.action).removes()
    };
    let lost = there.iter().filter(|object| is_removed(object)).filter_map(|object| object.contents.clone());
    lost.map(|object| Consequence::Removal { object }).collect()
}
