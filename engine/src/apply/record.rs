//! What is remembered of an instance after an operation.

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
    /// The record after the object of a change was made or changed. Old objects that go after that are still known.
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

    /// The record after an old object of a change went, unless the state knows nothing of it.
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

    fn is_superseded(&self, i: usize, pending: &Record) -> bool {
        let item = self.context.items.get(&self.change(i).address);
        let mut superseded = item.into_iter().flat_map(|item| &item.superseded);
        superseded.any(|superseded| superseded.record.identity == pending.identity)
    }

    /// Whether nothing is left of a pending object, now that the object of the change is made.
    fn is_cleared(&self, i: usize, pending: &Record) -> bool {
        // What is there of it may go only after this.
        self.is_superseded(i, pending) && self.order.is_last(i)
    }

    /// The record of an instance that needs no operation: what was observed, under what the manifest says of it now.
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
            // What the provider keeps for itself is written by its operations, not by its readings.
            record.private = known.private.clone();
            // Only an operation acts on what it watches.
            for (address, seen) in &mut record.triggers {
                known.triggers.get(address).into_iter().for_each(|known| known.clone_into(seen));
            }
            // A refresh looks and does nothing: what is owed stays owed.
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

    /// The record before an operation that makes something which the state does not know yet: it is found whatever becomes of the run and of the
    /// manifest. None where there is nothing new.
    pub(super) fn record_before(&self, change: &Change, wanted: Option<&Attributes>) -> Option<Record> {
        let wanted = wanted?;
        let Some(known) = self.records.get(&change.address.to_string()) else {
            return self.unfinished_record(change, wanted);
        };
        let instance = self.context.expanded.instance(&change.address)?;
        if self.context.expanded.continues(instance, known, wanted) {
            // What is made again was found in another way than last time.
            return self.incomplete(change, Some(wanted)).filter(|_| change.action == Action::Create);
        }
        let new = self.unfinished_record(change, wanted)?;
        let item = self.context.items.get(&change.address);
        let is_there = item.is_some_and(|item| item.former.is_some() && item.observed.is_some() && !item.displaced);
        // What was there before us stays; what was another instance's goes with this one.
        if is_there && !self.was_recorded(&new) {
            return None;
        }
        let others = known.pending.iter().filter(|pending| pending.identity != new.identity).cloned();
        let pending = others.chain([new.clone()]).collect();
        Some(Record { pending, updated_at: Timestamp::now(), ..(**known).clone() })
    }

    /// The record after an operation that failed: enough to find the object again, and how it was found. `None` where there is
    /// nothing to find.
    pub(super) fn incomplete(&self, change: &Change, wanted: Option<&Attributes>) -> Option<Record> {
        let known = self.records.get(&change.address.to_string());
        if let Some(known) = known {
            let private = wanted
                .filter(|_| change.action == Action::Create)
                .and_then(|wanted| self.initial_private_data(change, wanted));
            let private = private.unwrap_or_else(|| known.private.clone());
            return Some(Record { private, incomplete: true, updated_at: Timestamp::now(), ..(**known).clone() });
        }
        self.unfinished_record(change, wanted?)
    }

    /// The record of an object that may be made, or may be half made.
    fn unfinished_record(&self, change: &Change, wanted: &Attributes) -> Option<Record> {
        if change.action == Action::Delete {
            return None;
        }
        let identity = change.identity.clone().or_else(|| self.identity(change, wanted))?;
        let attributes = provisional_attributes(wanted, change.after.as_ref(), &identity, &self.context.key);
        // It acted on nothing yet: its restarts are still owed.
        let (private, triggers) = (self.initial_private_data(change, wanted).unwrap_or_default(), BTreeMap::new());
        Some(Record { identity, attributes, private, triggers, incomplete: true, ..self.new_record(change) })
    }

    fn initial_private_data(&self, change: &Change, wanted: &Attributes) -> Option<Json> {
        let observed = self.context.items.get(&change.address).and_then(|item| item.observed.as_ref());
        let provider = self.context.expanded.catalog.provider(&change.provider)?;
        provider.initial_private_data(&change.resource_type, wanted, observed)
    }

    /// Was the object of `record` in the state when this was planned?
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

    /// The machine-id of the machine that an instance is of, where it is of one.
    fn machine_of(&self, instance: &Instance) -> Option<String> {
        let node = self.context.expanded.machine_of(instance)?;
        self.context.machines.seen.get(node)?.machine_id.clone()
    }

    /// The digests of what the instance watches, as they are now.
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
        self.context.expanded.identity(instance, attributes)
    }
}

/// Do two records say the same, whenever they were written?
pub(super) fn is_same_record(a: &Record, b: &Record) -> bool {
    let text = |r: &Record| {
        let timeless = Record { updated_at: Timestamp::UNIX_EPOCH, ..r.clone() };
        serde_json::to_value(timeless).map(|json| canonical(&json)).unwrap_or_default()
    };
    text(a) == text(b)
}
