//! Writes to the state without operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use moorfast_state::{Intent, Outcome, Output, Record, StateError};

use super::operations::Journal;
use crate::apply::context::ApplyContext;
use crate::model::decoded::CONNECTION;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Attributes, Machine, Node, NodeConnection, NodeName, seal_attributes};
use crate::plan::{Change, PlanMode};
use crate::provider::Action;

/// An intent of an earlier run that is resolved now.
pub(in crate::apply) struct Recovered {
    /// The address of the instance, as the earlier run named it.
    pub address: Address,
    /// What happened, and whether the object exists now.
    pub message: String,
}

impl Journal<'_> {
    /// Renames moved records in the state. The plan has renamed them in memory already.
    ///
    /// If a record moves to the old address of another record, the other record is renamed first.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub async fn rename_moved(&self, context: &ApplyContext) -> Result<(), StateError> {
        let moved = context.plan.changes.iter().filter_map(|c| Some((c.moved_from.as_ref()?, &c.address)));
        let mut waiting: Vec<(&Address, &Address)> = moved.collect();
        while !waiting.is_empty() {
            let left: HashSet<&Address> = waiting.iter().map(|(from, _)| *from).collect();
            let (free, behind): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, to)| !left.contains(to));
            // The state rejects a cycle of moves.
            let (now, later) = if free.is_empty() { (behind, free) } else { (free, behind) };
            let rename = |(from, to): (&Address, &Address)| {
                let (from, to) = (from.to_string(), to.to_string());
                async move { self.lock.rename(&from, &to).await }
            };
            try_join_all(now.into_iter().map(rename)).await?;
            waiting = later;
        }
        Ok(())
    }

    /// Resolves the intents of an earlier run. The plan has read the objects, so it is known which of them exist.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub async fn close_intents(&self, context: &ApplyContext) -> Result<Vec<Recovered>, StateError> {
        let moved = context.plan.changes.iter().filter_map(|c| Some((c.moved_from.as_ref()?, &c.address)));
        let moved: HashMap<&Address, &Address> = moved.collect();
        let closes = context.open.iter().filter_map(|(address, intent)| {
            // An intent of an instance that this plan did not read stays open.
            let item = context.items.get(moved.get(address).copied().unwrap_or(address))?;
            let exists = item.observed.is_some() || item.former.is_some();
            Some(async move {
                self.lock.finish(&intent.id, Outcome::Unchanged).await?;
                Ok(recovered(address, intent, exists))
            })
        });
        try_join_all(closes).await
    }

    /// Records changes that need no operation, in one transaction: unchanged, adopted and removed records.
    pub async fn record_without_operation(
        &mut self,
        context: &ApplyContext,
        changes: impl IntoIterator<Item = usize>,
    ) -> Vec<(usize, Result<(), StateError>)> {
        let records = changes.into_iter().map(|i| {
            let change = context.change(i);
            let record = if change.action == Action::Forget { None } else { self.records.refreshed(context, change) };
            (i, record)
        });
        let records: Vec<_> = records.collect();
        let written = join_all(records.iter().map(|(i, record)| self.write(context.change(*i), record.as_ref()))).await;
        let mut recorded = Vec::new();
        for ((i, record), written) in records.into_iter().zip(written) {
            if written.is_ok() {
                self.records.set(&context.change(i).address, record);
            }
            recorded.push((i, written));
        }
        recorded
    }

    /// Writes the record of a change that needs no operation, if it differs from the current one.
    async fn write(&self, change: &Change, record: Option<&Arc<Record>>) -> Result<(), StateError> {
        match record {
            Some(record) if self.record(&change.address).is_some_and(|known| Arc::ptr_eq(known, record)) => Ok(()),
            Some(record) => self.lock.put(record.clone()).await,
            None if change.action == Action::Forget => self.lock.remove(&change.address.to_string()).await,
            None => Ok(()),
        }
    }

    /// Records these attributes of unchanged instances, in one transaction. The other attributes keep their recorded values.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub async fn record_attributes(
        &mut self,
        context: &ApplyContext,
        attributes: &[(Address, Attributes)],
    ) -> Result<(), StateError> {
        let changed = attributes.iter().filter_map(|(address, attributes)| {
            let known = self.record(address)?;
            let mut record = (**known).clone();
            record.attributes.extend(seal_attributes(attributes, &context.key));
            record.updated_at = Timestamp::now();
            (record.attributes != known.attributes).then(|| (address, Arc::new(record)))
        });
        let changed: Vec<_> = changed.collect();
        try_join_all(changed.iter().map(|(_, record)| self.lock.put(record.clone()))).await?;
        changed.into_iter().for_each(|(address, record)| self.records.set(address, Some(record)));
        Ok(())
    }

    /// Records the outputs.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub async fn record_outputs(&self, outputs: BTreeMap<String, Output>) -> Result<(), StateError> {
        self.lock.set_outputs(outputs).await
    }

    /// Records machines, including newly approved ones, so that a replacement is noticed later, and the connections to them, so that a node that left the inventory can
    /// still be reached.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub async fn record_machines<'m>(
        &self,
        context: &ApplyContext,
        machines: impl IntoIterator<Item = (&'m Node, &'m Machine)>,
    ) -> Result<(), StateError> {
        let writes = machines.into_iter().filter_map(|(node, machine)| {
            let mut now = serde_json::to_value(machine).ok()?;
            now[CONNECTION] = serde_json::to_value(NodeConnection::from(node)).ok()?;
            let name = &node.name.0;
            (context.known_machines.get(name) != Some(&now)).then(|| self.lock.set_node(name, now))
        });
        try_join_all(writes).await.map(drop)
    }

    /// Removes the machines of nodes without records from the state.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub async fn forget_machines(&self, context: &ApplyContext) -> Result<(), StateError> {
        let options = &context.plan.options;
        if options.is_partial() {
            return Ok(());
        }
        let destroys = options.mode == PlanMode::Destroy;
        let used: HashSet<&str> = self.records.all().map(|record| record.target.as_str()).collect();
        let stays = |node: &str| {
            let in_manifest = context.expanded.nodes.contains_key(&NodeName(node.to_owned()));
            (in_manifest && !destroys) || used.contains(node)
        };
        let gone = context.known_machines.keys().filter(|node| !stays(node));
        try_join_all(gone.map(|node| self.lock.forget_node(node))).await.map(drop)
    }
}

fn recovered(address: &Address, intent: &Intent, exists: bool) -> Recovered {
    let message = format!(
        "an earlier run died during the {} operation of {}; the object {} now",
        intent.action,
        intent.started_at.strftime("%F %T UTC"),
        if exists { "exists" } else { "does not exist" }
    );
    Recovered { address: address.clone(), message }
}
