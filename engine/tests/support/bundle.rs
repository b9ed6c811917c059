//! `mem_bundle`: an instance with several items, written as `a=1 b=2`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Action, Applied, Declaration, Object, ObjectChange, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ReadRequest, ResourceType, TargetKind,
};
use moorfast_engine::state::Record;

use super::{World, found};

/// The type `mem_bundle`.
pub struct Bundle(Declaration);

impl Default for Bundle {
    fn default() -> Self {
        let items = Attribute::optional("items", Kind::String, "Keys and values.");
        let objects = Attribute::computed("objects", Kind::map(Kind::Any), "The items by key.");
        let schema = Schema::new("Several items.", [items, objects]);
        Self(Declaration { name: "mem_bundle", target_kind: TargetKind::Provider, schema })
    }
}

/// Whether the instances of the type have several items.
pub fn is_bundle(resource_type: &Arc<dyn ResourceType>) -> bool {
    resource_type.downcast_ref::<Bundle>().is_some()
}

impl ResourceType for Bundle {
    fn declaration(&self) -> &Declaration {
        &self.0
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        held(attributes).into_iter().next()
    }

    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        !recorded(record).is_disjoint(&held(attributes))
    }

    /// The contents of an item whose key starts with `box` are lost when the item is removed.
    fn objects(&self, attributes: &Attributes) -> Vec<Object> {
        let object = |key: String| Object {
            contents: key.starts_with("box").then(|| format!("everything in {key}")),
            name: key.clone(),
            identity: key,
        };
        held(attributes).into_iter().map(object).collect()
    }

    fn has_health(&self) -> bool {
        true
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        found(observed)
    }
}

fn wanted(attributes: &Attributes) -> BTreeMap<String, String> {
    let text = attributes.get("items").and_then(Value::as_str).unwrap_or_default();
    let item = |word: &str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split_whitespace().filter_map(item).collect()
}

fn held(attributes: &Attributes) -> BTreeSet<String> {
    match attributes.get("objects").and_then(Value::as_map) {
        Some(objects) => objects.keys().cloned().collect(),
        None => wanted(attributes).into_keys().collect(),
    }
}

fn recorded(record: &Record) -> BTreeSet<String> {
    serde_json::from_value(record.private.clone()).unwrap_or_default()
}

fn attributes(items: impl Iterator<Item = (String, String)>) -> Attributes {
    let items = items.map(|(key, value)| (key, Value::Map([("value".to_owned(), Value::from(value))].into())));
    [("objects".to_owned(), Value::Map(items.collect()))].into()
}

pub fn read(world: &World, request: &ReadRequest) -> Option<Observed> {
    let mut keys = request.desired.as_ref().map(held).unwrap_or_default();
    keys.extend(request.recorded.iter().flat_map(|record| recorded(record)));
    let there: Vec<_> =
        keys.into_iter().filter_map(|key| Some((key.clone(), world.items.get(&key)?.clone()))).collect();
    let private = serde_json::to_value(there.iter().map(|(key, _)| key).collect::<Vec<_>>()).unwrap();
    (!there.is_empty()).then(|| Observed { attributes: attributes(there.into_iter()), private })
}

pub fn plan(world: &World, request: &PlanRequest) -> Proposal {
    let wanted = wanted(&request.desired);
    let there = request.observed.as_ref().map(|observed| held(&observed.attributes)).unwrap_or_default();
    let change = |key: &String, action| ObjectChange {
        identity: key.clone(),
        name: key.clone(),
        action,
        replace_paths: if action == Action::Replace { vec![format!("objects.{key}.value")] } else { Vec::new() },
    };
    let fate = |(key, value): (&String, &String)| match world.items.get(key).filter(|_| there.contains(key)) {
        None => change(key, Action::Create),
        Some(before) if before == value => change(key, Action::NoOp),
        Some(_) if world.fixed.contains(key) => change(key, Action::Replace),
        Some(_) => change(key, Action::Update),
    };
    let gone = there.iter().filter(|key| !wanted.contains_key(*key)).map(|key| change(key, Action::Delete));
    let objects: Vec<_> = wanted.iter().map(fate).chain(gone).collect();
    let action = match objects.as_slice() {
        _ if request.observed.is_none() => ProposedAction::Create,
        [only] if only.action == Action::Replace => ProposedAction::Replace(only.replace_paths.clone()),
        all if all.iter().all(|object| object.action == Action::NoOp) => ProposedAction::NoOp,
        _ => ProposedAction::Update,
    };
    Proposal { objects, ..Proposal::new(action, attributes(wanted.into_iter())) }
}

pub fn perform(world: &mut World, operation: &Operation) -> Applied {
    let fate = |key: &str| operation.objects.iter().find(|object| object.identity == key).map(|object| object.action);
    let there: BTreeSet<String> = operation
        .observed
        .iter()
        .flat_map(|observed| serde_json::from_value::<BTreeSet<String>>(observed.private.clone()).unwrap_or_default())
        .collect();
    let log = |world: &mut World, verb: &str, key: &str| world.log.push(format!("{verb} {key}"));
    let desired = match &operation.action {
        OperationAction::Create(desired) | OperationAction::Update(desired) => desired,
        OperationAction::Delete => {
            for key in there.iter().filter(|key| fate(key) != Some(Action::Forget)) {
                log(world, "delete", key);
                world.items.remove(key);
            }
            return Applied::default();
        }
    };
    let is_update = matches!(operation.action, OperationAction::Update(_));
    for key in there.iter().filter(|key| is_update && fate(key).is_some_and(Action::removes)) {
        log(world, "delete", key);
        world.items.remove(key);
    }
    let wanted = wanted(desired);
    for (key, value) in &wanted {
        let verb = if world.items.contains_key(key) { "update" } else { "create" };
        if world.items.get(key) != Some(value) {
            log(world, verb, key);
        }
        world.items.insert(key.clone(), value.clone());
    }
    let private = serde_json::to_value(wanted.keys().collect::<Vec<_>>()).unwrap();
    Applied { attributes: attributes(wanted.into_iter()), private, ..Applied::default() }
}
