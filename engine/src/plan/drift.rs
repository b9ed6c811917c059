//! What the world did since the last apply.

use std::collections::HashMap;

use moorfast_state::Record;
use serde_json::{Map, Value as Json};

use super::planner::{Item, Planner};
use super::reading::{Reading, Which, observed_digest};
use super::{Change, Drift, Reason, differences};
use crate::model::{Address, Attributes, Value, seal_attributes};
use crate::provider::{Action, Class, ProviderError};

impl Planner<'_> {
    /// Compares what is recorded with what is there, and nothing else.
    pub(super) fn refresh(&mut self, readings: &mut HashMap<Which, Reading>) {
        for (address, record) in self.records.clone() {
            if !self.is_selected(&address) {
                continue;
            }
            // Where the manifest means another object by now, it is the recorded one that may have drifted.
            let kinds = [Which::Former, Which::Current].map(|kind| kind(address.clone()));
            let reading = kinds.iter().find_map(|which| readings.remove(which));
            let observed = match reading.unwrap_or_else(|| Err(self.unasked(&address, &record))) {
                Ok(observed) => observed,
                Err(error) => {
                    self.draft.unread.push((address, error));
                    continue;
                }
            };
            let sealed = observed.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
            self.note_drift(&address, &record.target, Some(&record), sealed.as_ref(), false);
            if let (Some(instance), Some(observed)) = (self.expanded.instance(&address), &observed) {
                let mut values = self.early.get(&instance.address).cloned().unwrap_or_default();
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

    /// Why nobody could be asked for the object of `record`.
    fn unasked(&self, address: &Address, record: &Record) -> ProviderError {
        let Record { resource_type, target, .. } = record;
        let summary = match self.expanded.catalog.find(&address.resource) {
            Some(_) => format!("`{target}` is not in the inventory any more, so nobody can be asked"),
            None => format!("this moorfast has no resource type `{resource_type}`, so nobody can be asked"),
        };
        let help = format!("`moorfast apply` forgets it; or leave it out: --exclude '{address}'");
        ProviderError::new(Class::Failed, summary).help(help)
    }

    pub(super) fn note_drift(
        &mut self,
        address: &Address,
        target: &str,
        recorded: Option<&Record>,
        observed: Option<&Map<String, Json>>,
        moved: bool,
    ) {
        // A record that an unfinished operation left says nothing of what was there, and of what nobody could look at nothing is known.
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

    /// Returns `observed` with the recorded values of what `lifecycle.ignore_changes` names: these differences are no drift.
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
        let desired = self.early.get(address).cloned().unwrap_or_default();
        for path in self.expanded.ignored_paths(instance, &desired, &recorded) {
            path.copy(&recorded, &mut seen, false);
        }
        seen.into_iter().filter_map(|(name, value)| Some((name, value.to_json()?))).collect()
    }
}

/// The members of `observed` that `recorded` has too: only these can have drifted.
pub(super) fn common(observed: &Map<String, Json>, recorded: &Map<String, Json>) -> Map<String, Json> {
    observed.iter().filter(|(name, _)| recorded.contains_key(*name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
