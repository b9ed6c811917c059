//! The records of instances.

use std::collections::BTreeMap;

use jiff::Timestamp;
use moorfast_state::{Digest, Record, canonical};
use serde_json::Value as Json;

use super::Executor;
use super::provisional_attributes::provisional_attributes;
use crate::configuration::expand::Instance;
use crate::configuration::graph::matching;
use crate::model::{Attributes, seal_attributes};
use crate::plan::sequence::{OldObject, Part};
use crate::plan::{Change, PlanMode, merged_attributes};
use crate::provider::{Action, Applied};

impl Executor<'_> {
    /// Returns the record after the object of a change was created or changed. Old objects that are removed later stay in it.
    pub(super) fn record(&self, i: usize, applied: &Applied) -> Record {
        let change = self.change(i);
        let identity = self.identity(change, &applied.attributes);
        let identity = identity.or_else(|| change.identity.clone()).unwrap_or_default();
        let known = self.records.get(&change.address.to_string());
        let mut pending: Vec<Record> = known.into_iter().flat_map(|known| &known.pending).cloned().collect();
        if let Some(old) = known.filter(|_| change.action == Action::ReplaceCreateFirst && !self.order.is_last(i)) {
            pending.push(Record { pending: Vec::new(), ..(**old).clone() });
        }
        pending.retain(|p| p.identity != identity && !self.is_cleared(i, p));
        Record {
            attributes: seal_attributes(&applied.attributes, &self.context.key),
            private: applied.private.clone(),
            pending,
            identity,
            ..self.new_record(change)
        }
    }

    /// Returns the record after an old object of a change was removed. Returns `None` if the state has no record.
    pub(super) fn record_after_removal(&self, i: usize) -> Option<Record> {
        let Part::Remove(old) = self.order.part(i) else { return None };
        let change = self.change(i);
        let item = self.context.items.get(&change.address)?;
        let mut record = (**self.records.get(&change.address.to_string())?).clone();
        let gone = match old {
            OldObject::Superseded(place) => item.superseded.get(place).map(|superseded| &superseded.record),
            OldObject::Own => item.recorded.as_ref(),
            OldObject::Displaced => None,
        };
        record.pending.retain(|pending| gone.is_none_or(|gone| gone.identity != pending.identity));
        record.incomplete |= !self.order.is_last(i);
        record.updated_at = Timestamp::now();
        Some(record)
    }

    /// Whether a pending object is superseded.
    fn is_superseded(&self, i: usize, pending: &Record) -> bool {
        let item = self.context.items.get(&self.change(i).address);
        let mut superseded = item.into_iter().flat_map(|item| &item.superseded);
        superseded.any(|superseded| superseded.record.identity == pending.identity)
    }

    /// Whether a superseded object is gone, now that the object of the change is created.
    fn is_cleared(&self, i: usize, pending: &Record) -> bool {
        // If the object exists, a later part of the change removes it.
        self.is_superseded(i, pending) && self.order.is_last(i)
    }

    /// Returns the record of an instance without an operation, from the observed attributes and the manifest.
    pub(super) fn refreshed(&self, change: &Change) -> Option<Record> {
        let item = self.context.items.get(&change.address)?;
        let known = self.records.get(&change.address.to_string());
        let Some(observed) = &item.observed else { return known.map(|r| (**r).clone()) };
        let mut record = Record {
            attributes: merged_attributes(known.map(AsRef::as_ref), observed, &self.context.key),
            identity: change.identity.clone().unwrap_or_default(),
            private: observed.private.clone(),
            ..self.new_record(change)
        };
        if let Some(known) = known {
            record.machine = record.machine.or_else(|| known.machine.clone());
            record.pending = known.pending.clone();
            // Private data is written by operations, not by readings.
            record.private = known.private.clone();
            // Only an operation restarts the instance.
            for (address, seen) in &mut record.triggers {
                known.triggers.get(address).into_iter().for_each(|known| known.clone_into(seen));
            }
            // A refresh makes no changes, so pending restarts stay pending.
            if self.context.plan.options.mode == PlanMode::RefreshOnly {
                record.dependencies = known.dependencies.clone();
                record.triggers = known.triggers.clone();
                record.prevent_destroy = known.prevent_destroy;
                record.incomplete = known.incomplete;
                record.machine = known.machine.clone();
            }
        }
        Some(record)
    }

    /// Returns the record to write before an operation that creates an object, so that the object is found if the run is killed. Returns `None` if the record does
    /// not change.
    pub(super) fn record_before(&self, change: &Change, desired: Option<&Attributes>) -> Option<Record> {
        let desired = desired?;
        let Some(known) = self.records.get(&change.address.to_string()) else {
            return self.unfinished_record(change, desired);
        };
        let instance = self.context.expanded.instance(&change.address)?;
        if instance.continues(known, desired) {
            // An object that is created again has new private data.
            return self.incomplete(change, Some(desired)).filter(|_| change.action == Action::Create);
        }
        let new = self.unfinished_record(change, desired)?;
        let item = self.context.items.get(&change.address);
        let exists = item.is_some_and(|item| item.former.is_some() && item.observed.is_some() && !item.displaced);
        // An object that existed before is kept when this one is destroyed, unless another instance had recorded it.
        if exists && !self.was_recorded(&new) {
            return None;
        }
        let others = known.pending.iter().filter(|pending| pending.identity != new.identity).cloned();
        let pending = others.chain([new.clone()]).collect();
        Some(Record { pending, updated_at: Timestamp::now(), ..(**known).clone() })
    }

    /// Returns the record after a failed operation, with which the object can be found again. Returns `None` if there is nothing to find.
    pub(super) fn incomplete(&self, change: &Change, desired: Option<&Attributes>) -> Option<Record> {
        let known = self.records.get(&change.address.to_string());
        if let Some(known) = known {
            let private = desired
                .filter(|_| change.action == Action::Create)
                .and_then(|desired| self.initial_private_data(change, desired));
            let private = private.unwrap_or_else(|| known.private.clone());
            return Some(Record { private, incomplete: true, updated_at: Timestamp::now(), ..(**known).clone() });
        }
        self.unfinished_record(change, desired?)
    }

    /// Returns the record of an object that may not be created completely.
    fn unfinished_record(&self, change: &Change, desired: &Attributes) -> Option<Record> {
        if change.action == Action::Delete {
            return None;
        }
        let identity = change.identity.clone().or_else(|| self.identity(change, desired))?;
        let attributes = provisional_attributes(desired, change.after.as_ref(), &identity, &self.context.key);
        // No operation has completed, so all restarts are pending.
        let (private, triggers) = (self.initial_private_data(change, desired).unwrap_or_default(), BTreeMap::new());
        Some(Record { identity, attributes, private, triggers, incomplete: true, ..self.new_record(change) })
    }

    fn initial_private_data(&self, change: &Change, desired: &Attributes) -> Option<Json> {
        let observed = self.context.items.get(&change.address).and_then(|item| item.observed.as_ref());
        let instance = self.context.expanded.instance(&change.address)?;
        instance.resource_type.initial_private_data(desired, observed)
    }

    /// Whether the object of `record` was in the state when this was planned.
    fn was_recorded(&self, record: &Record) -> bool {
        let same = |r: &Record| {
            (&r.resource_type, &r.target, &r.identity) == (&record.resource_type, &record.target, &record.identity)
        };
        self.context.items.values().filter_map(|item| item.recorded.as_deref()).any(same)
    }

    fn new_record(&self, change: &Change) -> Record {
        let instance = self.context.expanded.instance(&change.address);
        Record {
            address: change.address.to_string(),
            resource_type: change.resource_type.clone(),
            provider: change.provider.clone(),
            target: change.target.clone(),
            identity: String::new(),
            attributes: serde_json::Map::new(),
            dependencies: change.dependencies.iter().map(ToString::to_string).collect(),
            triggers: instance.map(|i| self.triggers(i)).unwrap_or_default(),
            private: serde_json::Value::Null,
            prevent_destroy: instance.is_some_and(|i| i.resource.lifecycle.prevent_destroy),
            incomplete: false,
            pending: Vec::new(),
            machine: instance.and_then(|i| self.machine_of(i)),
            updated_at: Timestamp::now(),
        }
    }

    /// Returns the machine-id of the machine that the instance belongs to, if any.
    fn machine_of(&self, instance: &Instance) -> Option<String> {
        let node = instance.machine()?;
        self.context.machines.seen.get(node)?.machine_id.clone()
    }

    /// Returns the current digests of the watched instances.
    fn triggers(&self, instance: &Instance) -> BTreeMap<String, Digest> {
        let watched = instance.resource.restart_on.iter().chain(&instance.resource.lifecycle.replace_triggered_by);
        let addresses = watched.filter_map(|(p, _)| matching(&self.context.expanded, p, &instance.binding)).flatten();
        let digest = |address: crate::model::Address| {
            let address = address.to_string();
            let digest = self.records.get(&address)?.digest();
            Some((address, digest))
        };
        addresses.filter_map(digest).collect()
    }

    fn identity(&self, change: &Change, attributes: &Attributes) -> Option<String> {
        let instance = self.context.expanded.instance(&change.address)?;
        instance.identity(attributes)
    }
}

/// Whether two records are equal apart from their time.
pub(super) fn is_same_record(a: &Record, b: &Record) -> bool {
    let text = |r: &Record| {
        let timeless = Record { updated_at: Timestamp::UNIX_EPOCH, ..r.clone() };
        serde_json::to_value(timeless).map(|json| canonical(&json)).unwrap_or_default()
    };
    text(a) == text(b)
}
