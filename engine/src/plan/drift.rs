//! Drift: changes made outside moorfast since the last apply.

use std::collections::HashMap;

use moorfast_state::Record;
use serde_json::{Map, Value as Json};

use super::planner::{Item, Planner};
use super::reading::{Reading, ReadingKey, observed_digest};
use super::{Change, Drift, Reason, differences};
use crate::model::{Address, Attributes, Value, seal_attributes};
use crate::provider::{Action, Class, ProviderError};

impl Planner<'_> {
    /// Compares the recorded with the observed attributes, and plans no changes.
    pub(super) fn refresh(&mut self, readings: &mut HashMap<ReadingKey, Reading>) {
        for (address, record) in self.records.clone() {
            if !self.is_selected(&address) {
                continue;
            }
            // If the manifest now declares another object, drift is about the recorded one.
            let kinds = [ReadingKey::Former, ReadingKey::Current].map(|kind| kind(address.clone()));
            let reading = kinds.iter().find_map(|which| readings.remove(which));
            let observed = match reading.unwrap_or_else(|| Err(self.unreadable(&address, &record))) {
                Ok(observed) => observed,
                Err(error) => {
                    self.draft.unread.push((address, error));
                    continue;
                }
            };
            let sealed = observed.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
            self.note_drift(&address, &record.target, Some(&record), sealed.as_ref(), false);
            if let (Some(instance), Some(observed)) = (self.expanded.instance(&address), &observed) {
                let mut values = self.static_values.get(&instance.address).cloned().unwrap_or_default();
                values.extend(observed.attributes.clone());
                self.draft.values.insert(address.clone(), values);
            }
            self.draft.changes.push(Change {
                address: address.clone(),
                moved_from: self.moved.get(&address).cloned(),
                resource_type: record.resource_type.clone(),
                provider: record.provider.clone(),
                target: record.target.clone(),
                node: self.node_of(&address, &record),
                identity: Some(record.identity.clone()),
                action: if sealed.is_some() { Action::NoOp } else { Action::Forget },
                reasons: if sealed.is_some() { Vec::new() } else { vec![Reason::Gone] },
                before: sealed.clone(),
                after: sealed,
                dependencies: record.dependencies.iter().filter_map(|d| d.parse().ok()).collect(),
                observed: Some(observed_digest(observed.as_ref(), self.key)),
                objects: Vec::new(),
                consequences: Vec::new(),
                notes: Vec::new(),
            });
            self.draft.items.insert(address, Item { recorded: Some(record), observed, ..Item::default() });
        }
    }

    /// Returns the reason why the object of `record` cannot be read.
    fn unreadable(&self, address: &Address, record: &Record) -> ProviderError {
        let Record { resource_type, target, .. } = record;
        let summary = match self.expanded.catalog.find(&address.resource) {
            Some(_) => format!("its status is unknown: `{target}` is not in the inventory any more"),
            None => format!("its status is unknown: this version of moorfast has no resource type `{resource_type}`"),
        };
        let help = format!("run `moorfast apply` to remove it from the state, or exclude it: --exclude '{address}'");
        ProviderError::new(Class::Failed, summary).help(help)
    }

    /// Adds the drift of an instance to the draft, if there is any.
    pub(super) fn note_drift(
        &mut self,
        address: &Address,
        target: &str,
        recorded: Option<&Record>,
        observed: Option<&Map<String, Json>>,
        moved: bool,
    ) {
        // The record of an incomplete operation does not say how the object was, and without a target the status is unknown.
        let Some(record) = recorded.filter(|r| !r.incomplete && !moved && self.target_of(r).is_some()) else { return };
        let after = observed.map(|o| self.with_ignored(address, record, common(o, &record.attributes)));
        if let Some(after) = &after
            && differences(Some(&record.attributes), after).is_empty()
        {
            return;
        }
        let before = record.attributes.clone();
        self.draft.drift.push(Drift { address: address.clone(), target: target.to_owned(), before, after });
    }

    /// Returns `observed` with the recorded values of the attributes in `lifecycle.ignore_changes`, which never drift.
    pub(super) fn with_ignored(
        &self,
        address: &Address,
        record: &Record,
        observed: Map<String, Json>,
    ) -> Map<String, Json> {
        let Some(instance) = self.expanded.instance(address) else { return observed };
        if instance.resource.lifecycle.ignore_changes.is_empty() {
            return observed;
        }
        let values = |map: &Map<String, Json>| -> Attributes {
            map.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect()
        };
        let (recorded, mut seen) = (values(&record.attributes), values(&observed));
        let desired = self.static_values.get(address).cloned().unwrap_or_default();
        for path in self.expanded.ignored_paths(instance, &desired, &recorded) {
            path.copy(&recorded, &mut seen, false);
        }
        seen.into_iter().filter_map(|(name, value)| Some((name, value.to_json()?))).collect()
    }
}

/// Returns the attributes of `observed` that are also in `recorded`. Only these can have drifted.
pub(super) fn common(observed: &Map<String, Json>, recorded: &Map<String, Json>) -> Map<String, Json> {
    observed.iter().filter(|(name, _)| recorded.contains_key(*name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
