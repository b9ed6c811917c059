//! The records of instances, and how the results of operations change them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use moorfast_state::{Digest, Record};
use serde_json::{Map, Value as Json};

use super::provisional_attributes::provisional_attributes;
use crate::apply::context::ApplyContext;
use crate::configuration::expand::Instance;
use crate::configuration::graph::matching;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Attributes, seal_attributes};
use crate::plan::order::PlannedPart;
use crate::plan::sequence::OldObject;
use crate::plan::{Change, PlanMode, merged_attributes, watched_digest};
use crate::provider::Action;

/// The current records. They are ahead of the state by the outcomes that are about to be written.
pub(super) struct Records {
    by_address: HashMap<Address, Arc<Record>>,
    /// The objects that were in the state when this was planned.
    planned_objects: OnceLock<HashSet<Object>>,
}

/// An object: its resource type, its target and its identity.
type Object = (String, String, String);

impl Records {
    /// Returns the records as the plan knows them, after `[[moved]]`.
    pub fn new(context: &ApplyContext) -> Self {
        let records = context.records.iter().map(|(address, record)| (address.clone(), record.shared()));
        Self { by_address: records.collect(), planned_objects: OnceLock::new() }
    }

    pub fn get(&self, address: &Address) -> Option<&Arc<Record>> {
        self.by_address.get(address)
    }

    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.by_address.values().map(AsRef::as_ref)
    }

    /// Sets the record of an address, or removes it.
    pub fn set(&mut self, address: &Address, record: Option<Arc<Record>>) {
        match record {
            Some(record) => _ = self.by_address.insert(address.clone(), record),
            None => _ = self.by_address.remove(address),
        }
    }

    /// Returns the record after the object of a change was created or changed. Old objects that are removed later stay in it.
    pub fn after_make(
        &self,
        context: &ApplyContext,
        part: PlannedPart,
        attributes: &Attributes,
        private: Json,
    ) -> Record {
        let change = context.change(part.change);
        let identity = identity(context, change, attributes);
        let identity = identity.or_else(|| change.identity.clone()).unwrap_or_default();
        let known = self.get(&change.address);
        let mut pending: Vec<Record> = known.into_iter().flat_map(|known| &known.pending).cloned().collect();
        if let Some(old) = known.filter(|_| change.action == Action::ReplaceCreateFirst && !part.is_last) {
            pending.push(Record { pending: Vec::new(), ..(**old).clone() });
        }
        // If a superseded object exists, a later part of the change removes it.
        pending.retain(|p| p.identity != identity && !(part.is_last && is_superseded(context, change, p)));
        Record {
            attributes: seal_attributes(attributes, &context.key),
            private,
            pending,
            identity,
            ..self.new_record(context, change)
        }
    }

    /// Returns the record after an old object of a change was removed. Returns `None` if the state has no record.
    pub fn after_removal(&self, context: &ApplyContext, part: PlannedPart, old: OldObject) -> Option<Record> {
        let change = context.change(part.change);
        let item = context.item(change)?;
        let mut record = (**self.get(&change.address)?).clone();
        let gone = match old {
            OldObject::Superseded(place) => item.superseded.get(place).map(|superseded| &superseded.record),
            OldObject::Own => item.recorded.as_ref(),
            OldObject::Displaced => None,
        };
        record.pending.retain(|pending| gone.is_none_or(|gone| gone.identity != pending.identity));
        record.incomplete |= !part.is_last;
        record.updated_at = Timestamp::now();
        Some(record)
    }

    /// Returns the record of an instance without an operation, from the observed attributes and the manifest.
    pub fn refreshed(&self, context: &ApplyContext, change: &Change) -> Option<Arc<Record>> {
        let item = context.item(change)?;
        let known = self.get(&change.address);
        let Some(observed) = &item.observed else { return known.cloned() };
        let mut record = Record {
            attributes: merged_attributes(known.map(AsRef::as_ref), observed, &context.key),
            identity: change.identity.clone().unwrap_or_default(),
            private: observed.private.clone(),
            ..self.new_record(context, change)
        };
        if let Some(known) = known {
            record.machine = record.machine.or_else(|| known.machine.clone());
            record.pending = known.pending.clone();
            // Private data is written by operations, not by readings.
            record.private = known.private.clone();
            // Only an operation and a refresh accept what the object reports. Until then it is drift.
            if context.plan.options.mode == PlanMode::Normal
                && change.action == Action::NoOp
                && let Some(resource_type) = context.resource_type(change)
            {
                for name in resource_type.schema().reported() {
                    let recorded = known.attributes.get(name).map(|value| (name.to_owned(), value.clone()));
                    record.attributes.extend(recorded);
                }
            }
            // Only an operation restarts the instance.
            for (address, seen) in &mut record.triggers {
                known.triggers.get(address).into_iter().for_each(|known| known.clone_into(seen));
            }
            // A refresh makes no changes, so pending restarts stay pending.
            if context.plan.options.mode == PlanMode::RefreshOnly {
                record.dependencies = known.dependencies.clone();
                record.triggers = known.triggers.clone();
                record.prevent_destroy = known.prevent_destroy;
                record.incomplete = known.incomplete;
                record.machine = known.machine.clone();
            }
            // A record that differs only in its time is not written.
            let now = std::mem::replace(&mut record.updated_at, known.updated_at);
            if record == **known {
                return Some(known.clone());
            }
            record.updated_at = now;
        }
        Some(Arc::new(record))
    }

    /// Returns the record to write before an operation that creates an object, so that the object is found if the run is killed. Returns `None` if the record does
    /// not change.
    pub fn before_make(&self, context: &ApplyContext, change: &Change, desired: &Attributes) -> Option<Record> {
        let Some(known) = self.get(&change.address) else {
            return self.unfinished_record(context, change, desired);
        };
        let instance = context.expanded.instance(&change.address)?;
        if instance.continues(known, desired) {
            // An object that is created again has new private data.
            return self.incomplete(context, change, Some(desired)).filter(|_| change.action == Action::Create);
        }
        let new = self.unfinished_record(context, change, desired)?;
        let item = context.item(change);
        let exists = item.is_some_and(|item| item.former.is_some() && item.observed.is_some() && !item.displaced);
        // An object that existed before is kept when this one is destroyed, unless another instance had recorded it.
        if exists && !self.was_recorded(context, &new) {
            return None;
        }
        let others = known.pending.iter().filter(|pending| pending.identity != new.identity).cloned();
        let pending = others.chain([new.clone()]).collect();
        Some(Record { pending, updated_at: Timestamp::now(), ..(**known).clone() })
    }

    /// Returns the record after a failed operation, with which the object can be found again. Returns `None` if there is nothing to find.
    pub fn incomplete(&self, context: &ApplyContext, change: &Change, desired: Option<&Attributes>) -> Option<Record> {
        if let Some(known) = self.get(&change.address) {
            let private = desired
                .filter(|_| change.action == Action::Create)
                .and_then(|desired| initial_private_data(context, change, desired));
            let private = private.unwrap_or_else(|| known.private.clone());
            return Some(Record { private, incomplete: true, updated_at: Timestamp::now(), ..(**known).clone() });
        }
        self.unfinished_record(context, change, desired?)
    }

    /// Returns the record of an object that may not be created completely.
    fn unfinished_record(&self, context: &ApplyContext, change: &Change, desired: &Attributes) -> Option<Record> {
        if change.action == Action::Delete {
            return None;
        }
        let identity = change.identity.clone().or_else(|| identity(context, change, desired))?;
        let attributes = provisional_attributes(desired, change.after.as_ref(), &identity, &context.key);
        // No operation has completed, so all restarts are pending.
        let (private, triggers) = (initial_private_data(context, change, desired).unwrap_or_default(), BTreeMap::new());
        Some(Record { identity, attributes, private, triggers, incomplete: true, ..self.new_record(context, change) })
    }

    /// Whether the object of `record` was in the state when this was planned.
    fn was_recorded(&self, context: &ApplyContext, record: &Record) -> bool {
        let object = |r: &Record| (r.resource_type.clone(), r.target.clone(), r.identity.clone());
        let planned = || context.items.values().filter_map(|item| item.recorded.as_deref()).map(object).collect();
        self.planned_objects.get_or_init(planned).contains(&object(record))
    }

    fn new_record(&self, context: &ApplyContext, change: &Change) -> Record {
        let instance = context.expanded.instance(&change.address);
        Record {
            address: change.address.to_string(),
            resource_type: change.resource_type.clone(),
            provider: change.provider.clone(),
            target: change.target.clone(),
            identity: String::new(),
            attributes: Map::new(),
            dependencies: change.dependencies.iter().map(ToString::to_string).collect(),
            triggers: instance.map(|instance| self.triggers(context, instance)).unwrap_or_default(),
            private: Json::Null,
            prevent_destroy: instance.is_some_and(|i| i.resource.lifecycle.prevent_destroy),
            incomplete: false,
            pending: Vec::new(),
            machine: instance.and_then(|instance| machine_of(context, instance)),
            updated_at: Timestamp::now(),
        }
    }

    /// Returns the current digests of the watched instances.
    fn triggers(&self, context: &ApplyContext, instance: &Instance) -> BTreeMap<String, Digest> {
        let watched = instance.resource.restart_on.iter().chain(&instance.resource.lifecycle.replace_triggered_by);
        let addresses = watched.filter_map(|(p, _)| matching(&context.expanded, p, &instance.binding)).flatten();
        let digest = |address: &Address| {
            let watched = context.expanded.instance(address).map(|watched| watched.resource_type.as_ref());
            Some(watched_digest(&self.get(address)?.attributes, watched))
        };
        addresses.filter_map(|address| Some((address.to_string(), digest(&address)?))).collect()
    }
}

/// Whether a pending object is superseded.
fn is_superseded(context: &ApplyContext, change: &Change, pending: &Record) -> bool {
    let mut superseded = context.item(change).into_iter().flat_map(|item| &item.superseded);
    superseded.any(|superseded| superseded.record.identity == pending.identity)
}

fn initial_private_data(context: &ApplyContext, change: &Change, desired: &Attributes) -> Option<Json> {
    let observed = context.item(change).and_then(|item| item.observed.as_ref());
    let instance = context.expanded.instance(&change.address)?;
    instance.resource_type.initial_private_data(desired, observed)
}

/// Returns the machine-id of the machine that the instance belongs to, if any.
fn machine_of(context: &ApplyContext, instance: &Instance) -> Option<String> {
    let node = instance.machine()?;
    context.machines.seen.get(node)?.machine_id.clone()
}

fn identity(context: &ApplyContext, change: &Change, attributes: &Attributes) -> Option<String> {
    context.expanded.instance(&change.address)?.identity(attributes)
}
