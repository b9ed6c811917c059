//! Recorded instances that are not in the manifest any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use moorfast_state::Record;
use petgraph::algo::toposort;
use petgraph::graph::DiGraph;

use super::objects::PlannedObjects;
use super::planner::{Item, Planner, prevented};
use super::reading::{Reading, ReadingKey, observed_digest};
use super::superseded;
use super::{Change, Reason, Selector};
use crate::model::{Address, NodeName, seal_attributes};
use crate::provider::Action;
use crate::session::Failure;

impl Planner<'_> {
    /// Plans to remove recorded instances that are not in the manifest any more, dependants first.
    pub(super) fn plan_orphans(
        &mut self,
        readings: &mut HashMap<ReadingKey, Reading>,
        reason: Reason,
    ) -> Result<(), Failure> {
        let everything = reason == Reason::Destroy;
        let orphans: BTreeMap<Address, Arc<Record>> = self
            .records
            .iter()
            .filter(|(address, _)| {
                (everything || !self.expanded.index.contains_key(address)) && self.is_selected(address)
            })
            .map(|(address, record)| (address.clone(), record.clone()))
            .collect();
        let mut failures = Vec::new();
        let mut errors = Vec::new();
        for address in dependants_first(&orphans) {
            let record = &orphans[&address];
            let released = self.expanded.manifest.removed.iter().any(|r| !r.destroy && address.matches(&r.from));
            let reachable = self.target_of(record).is_some();
            let reading = readings.remove(&ReadingKey::Former(address.clone())).transpose();
            let superseded = self.superseded(&address, record, |_| false, readings);
            let (observed, mut superseded) = match reading.and_then(|reading| Ok((reading.flatten(), superseded?))) {
                // An object on another machine was never ours.
                Ok(_) if self.draft.machines.former.contains(&address) => (None, Vec::new()),
                Ok(reading) => reading,
                Err(_) if released => (None, Vec::new()),
                Err(error) => {
                    failures.push((address, error));
                    continue;
                }
            };
            let claimed = |record: &Record| !everything && self.is_claimed(record);
            superseded.retain(|superseded| superseded.observed.is_some() && !released && !claimed(&superseded.record));
            let resource_type = self.expanded.catalog.resource_type(&record.resource_type);
            let existing = resource_type.zip(observed.as_ref()).map(|(of, observed)| of.objects(&observed.attributes));
            let planned_objects = self.removal(&address, &record.target, &existing.unwrap_or_default(), everything);
            let is_claimed =
                if planned_objects.objects.is_empty() { claimed(record) } else { planned_objects.is_handed_over() };
            let removed = observed.clone().filter(|_| !released && !is_claimed);
            let action = match removed.is_some() || !superseded.is_empty() {
                true => Action::Delete,
                false => Action::Forget,
            };
            if !reachable && !released {
                self.draft.warnings.push(format!(
                    "`{address}` is removed from the state, but not destroyed: `{}` is not in the inventory any more",
                    record.target
                ));
            }
            if removed.is_some() && self.is_prevented(&address, record) {
                let span = self.expanded.instance(&address).map(|i| i.resource.span);
                let names = if planned_objects.objects.len() > 1 { planned_objects.removed() } else { Vec::new() };
                errors.push(prevented(&address, &names, span));
            }
            let PlannedObjects { objects, losses } = planned_objects;
            let is_deleted = action == Action::Delete && removed.is_some();
            let seen = observed_digest(observed.as_ref(), self.key);
            let observed = if action == Action::Delete { removed } else { observed };
            let before = observed.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
            self.note_drift(&address, &record.target, Some(record), before.as_ref(), false);
            let is_gone = observed.is_none() && reachable && !released;
            let why = match &reason {
                _ if is_gone => Reason::Gone,
                Reason::Removed => self.reason_of_removal(&address, record),
                reason => reason.clone(),
            };
            self.draft.changes.push(Change {
                address: address.clone(),
                moved_from: self.moved.get(&address).cloned(),
                resource_type: record.resource_type.clone(),
                provider: record.provider.clone(),
                target: record.target.clone(),
                node: self.node_of(&address, record),
                identity: Some(record.identity.clone()),
                action,
                reasons: std::iter::once(why).chain(superseded::reasons(&superseded)).collect(),
                before,
                after: None,
                dependencies: record.dependencies.iter().filter_map(|d| d.parse().ok()).collect(),
                observed: Some(seen),
                objects: if is_deleted && objects.len() > 1 { objects } else { Vec::new() },
                consequences: if is_deleted { losses } else { Vec::new() },
                notes: Vec::new(),
            });
            self.actions.insert(address.clone(), action);
            let item = Item { recorded: Some(record.clone()), observed, superseded, ..Item::default() };
            self.draft.items.insert(address, item);
        }
        if !errors.is_empty() {
            return Err(Failure::Manifest(errors));
        }
        self.note_unread(failures)
    }

    /// Returns the reason why the manifest does not have this instance any more.
    fn reason_of_removal(&self, address: &Address, record: &Record) -> Reason {
        let Some(resource) = self.expanded.manifest.resources.get(&address.resource) else { return Reason::Removed };
        let key = address.key.as_deref();
        let node = key.and_then(|key| key.split_once('/').map(|(node, _)| node).or(Some(key)));
        let node = node.filter(|node| resource.for_each.is_none() || *node == record.target);
        let by_node = self.expanded.by_node.get(&address.resource);
        let is_selected = |node: &str| by_node.is_some_and(|nodes| nodes.contains_key(&NodeName(node.to_owned())));
        let has_element = key.is_some_and(|key| key.contains('/')) || resource.on.is_none();
        let by = match (&resource.on, &resource.for_each, key) {
            (None, None, _) | (_, _, None) => Selector::Keys,
            (Some(_), _, _) if node.is_some_and(|node| !is_selected(node)) => Selector::On,
            (_, Some(_), _) if has_element => Selector::ForEach,
            _ => Selector::Keys,
        };
        Reason::Deselected { by }
    }

    pub(super) fn is_prevented(&self, address: &Address, record: &Record) -> bool {
        match self.expanded.instance(address) {
            Some(instance) => instance.resource.lifecycle.prevent_destroy,
            None => record.prevent_destroy,
        }
    }
}

/// Returns the addresses of `records`, each after its recorded dependants.
fn dependants_first(records: &BTreeMap<Address, Arc<Record>>) -> Vec<Address> {
    let addresses: Vec<_> = records.keys().cloned().collect();
    let mut graph = DiGraph::<usize, ()>::new();
    let vertices: HashMap<_, _> =
        records.values().enumerate().map(|(i, r)| (r.address.as_str(), graph.add_node(i))).collect();
    for record in records.values() {
        for dependency in &record.dependencies {
            if let Some(dependency) = vertices.get(dependency.as_str()) {
                graph.add_edge(vertices[record.address.as_str()], *dependency, ());
            }
        }
    }
    match toposort(&graph, None) {
        Ok(order) => order.into_iter().map(|v| addresses[graph[v]].clone()).collect(),
        // Records that were written for different manifests may form a cycle. Any order is correct then.
        Err(_) => addresses,
    }
}
