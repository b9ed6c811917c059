//! What the world did since the last apply.

use std::collections::HashMap;

use moorfast_state::Record;
use serde_json::{Map, Value as Json};

use super::planner::{Item, Planner};
use super::reading::{Reading, Which, observed_digest};
use super::{Action, Change, Drift, Reason, differences};
use crate::{Address, seal_attributes};

impl Planner<'_> {
    /// Compares what is recorded with what is there, and nothing else.
    pub(super) fn refresh(&mut self, readings: &mut HashMap<Which, Reading>) {
        for (address, record) in self.records.clone() {
            if !self.is_selected(&address) {
                continue;
            }
            let current = readings.remove(&Which::Current(address.clone()));
            let Some(reading) = current.or_else(|| readings.remove(&Which::Former(address.clone()))) else { continue };
            let observed = match reading {
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
                identity: Some(record.identity.clone()),
                action: if sealed.is_some() { Action::NoOp } else { Action::Forget },
                reasons: if sealed.is_some() { Vec::new() } else { vec![Reason::Gone] },
                before: sealed.clone(),
                after: sealed,
                dependencies: record.dependencies.iter().filter_map(|d| d.parse().ok()).collect(),
                observed: Some(observed_digest(observed.as_ref(), self.key)),
                notes: Vec::new(),
            });
            self.draft.items.insert(address, Item { recorded: Some(record), observed, ..Item::default() });
        }
    }

    pub(super) fn note_drift(
        &mut self,
        address: &Address,
        target: &str,
        recorded: Option<&Record>,
        observed: Option<&Map<String, Json>>,
        moved: bool,
    ) {
        // A record that an unfinished operation left says nothing of what was there.
        let Some(record) = recorded.filter(|r| !r.incomplete && !moved) else { return };
        let after = observed.map(|o| common(o, &record.attributes));
        if let Some(after) = &after
            && differences(Some(&record.attributes), after).is_empty()
        {
            return;
        }
        let before = record.attributes.clone();
        self.draft.drift.push(Drift { address: address.clone(), target: target.to_owned(), before, after });
    }
}

/// The members of `observed` that `recorded` has too: only these can have drifted.
pub(super) fn common(observed: &Map<String, Json>, recorded: &Map<String, Json>) -> Map<String, Json> {
    observed.iter().filter(|(name, _)| recorded.contains_key(*name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
