//! The objects of an instance that stands for several, such as the documents of one text.

use std::collections::HashMap;

use moorfast_state::Record;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::planner::{Item, Planner};
use super::{Action, Consequence};
use crate::expand::Instance;
use crate::{Address, Attributes, Diagnostic};

/// One of the objects that an instance stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its natural key within the target.
    pub identity: String,
    /// Its name for a person, and its key in the attribute that holds all objects.
    pub name: String,
    /// What is lost when it is removed, as the rest of `also removes …`; none for an object that holds nothing else.
    pub contents: Option<String>,
}

/// What a plan does with one object of an instance that stands for several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// Its natural key within the target.
    pub identity: String,
    /// Its name for a person, and its key in the attribute that holds all objects.
    pub name: String,
    /// What is done. [`Action::Forget`] means that another instance owns the object from now on.
    pub action: Action,
    /// The attributes that cannot be changed in place, as paths from the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replace_paths: Vec<String>,
}

impl ObjectChange {
    /// Returns the part of `attributes` that is this object.
    pub fn within<'a>(&self, attributes: Option<&'a Map<String, Json>>) -> Option<&'a Json> {
        attributes?.values().find_map(|value| value.get(&self.name))
    }
}

/// Which instance owns an object, by target and identity.
#[derive(Clone, Default)]
pub(crate) struct Owners(HashMap<(String, String), Address>);

impl Owners {
    /// Notes that `instance` owns the object, or returns the other instance that does.
    pub fn claim(&mut self, instance: &Instance, identity: String) -> Result<(), Address> {
        let owner = self.0.entry((instance.target.name().to_owned(), identity)).or_insert(instance.address.clone());
        if *owner == instance.address { Ok(()) } else { Err(owner.clone()) }
    }

    /// Returns the instance that owns the object.
    pub fn of(&self, target: &str, identity: &str) -> Option<&Address> {
        self.0.get(&(target.to_owned(), identity.to_owned()))
    }
}

/// Returns the error for two instances that are the same object.
pub(crate) fn same_object(first: &Instance, second: &Instance, identity: &str) -> Diagnostic {
    let message =
        format!("`{}` and `{}` are the same object: {identity} on {}", first.address, second.address, second.target);
    Diagnostic::error(message)
        .at(second.resource.span, "this one")
        .related(first.resource.span, "and this one")
        .help("an object can have one owner only; take one of them away")
}

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
