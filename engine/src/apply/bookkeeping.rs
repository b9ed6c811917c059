//! Writes to the state without operations.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use moorfast_state::{Outcome as Recorded, Output};

use super::Executor;
use super::record::is_same_record;
use crate::apply::ChangeResult;
use crate::configuration::scope::InstanceScope;
use crate::model::{Address, Value};
use crate::plan::PlanMode;
use crate::provider::Action;
use crate::session::Event;

impl Executor<'_> {
    /// Renames moved records in the state. The plan has renamed them in memory already.
    ///
    /// If a record moves to the old address of another record, the other record is renamed first.
    pub(super) async fn rename_moved(&mut self) {
        let moved = self.context.plan.changes.iter().filter_map(|c| Some((c.moved_from.clone()?, c.address.clone())));
        let mut waiting: Vec<(Address, Address)> = moved.collect();
        while !waiting.is_empty() {
            let left: HashSet<&Address> = waiting.iter().map(|(from, _)| from).collect();
            let (free, behind): (Vec<_>, Vec<_>) = waiting.iter().cloned().partition(|(_, to)| !left.contains(to));
            // The state rejects a cycle of moves.
            let (now, later) = if free.is_empty() { (behind, free) } else { (free, behind) };
            let lock = self.lock;
            let renames =
                now.into_iter().map(|(from, to)| async move { lock.rename(&from.to_string(), &to.to_string()).await });
            if let Err(error) = join_all(renames).await.into_iter().collect::<Result<(), _>>() {
                self.report.state_error = Some(error);
                return;
            }
            waiting = later;
        }
    }

    /// Resolves the intents of an earlier run. The plan has read the objects, so it is known which of them exist.
    pub(super) async fn close_intents(&mut self) {
        let moved =
            self.context.plan.changes.iter().filter_map(|c| Some((c.moved_from.as_ref()?.to_string(), &c.address)));
        let moved: HashMap<String, &Address> = moved.collect();
        let lock = self.lock;
        let closes = self.context.open.iter().filter_map(|intent| {
            let address = moved.get(&intent.address).map(|to| (*to).clone()).or_else(|| intent.address.parse().ok());
            // An intent of an instance that this plan did not read stays open.
            let item = self.context.items.get(&address?)?;
            let exists = item.observed.is_some() || item.former.is_some();
            Some(async move { (intent, exists, lock.finish(&intent.id, Recorded::Unchanged).await) })
        });
        for (intent, exists, closed) in join_all(closes).await {
            if let Err(error) = closed {
                self.report.state_error = Some(error);
                return;
            }
            let message = format!(
                "an earlier run died during the {} operation of {}; the object {} now",
                intent.action,
                intent.started_at.strftime("%F %T UTC"),
                if exists { "exists" } else { "does not exist" }
            );
            self.events.send(Event::Recovered { address: intent.address.clone(), message });
        }
    }

    /// Records the changes that need no operation: unchanged, adopted and removed records.
    pub(super) async fn record_only(&mut self, changes: Vec<usize>) {
        let writes = changes.into_iter().map(|i| {
            let change = self.change(i);
            let address = change.address.to_string();
            let lock = self.lock;
            let record = match change.action {
                Action::Forget => None,
                _ => Some(self.refreshed(change)),
            };
            let known = self.records.get(&address).cloned();
            async move {
                let written = match &record {
                    None => lock.remove(&address).await,
                    Some(Some(record)) if known.as_deref().is_none_or(|k| !is_same_record(k, record)) => {
                        lock.put(record.clone()).await
                    }
                    Some(_) => Ok(()),
                };
                (i, record.flatten(), written)
            }
        });
        for (i, record, written) in join_all(writes.collect::<Vec<_>>()).await {
            if let Err(error) = written {
                self.report.state_error = Some(error);
                return;
            }
            let address = self.change(i).address.to_string();
            match record {
                Some(record) => _ = self.records.insert(address, Arc::new(record)),
                None => _ = self.records.remove(&address),
            }
            self.end(i, ChangeResult::Done);
        }
    }

    /// Records the outputs, evaluated with the current values. An output that cannot be evaluated keeps its old value.
    pub(super) async fn finish_outputs(&mut self) {
        let mut recorded = BTreeMap::new();
        if self.context.plan.options.mode != PlanMode::Destroy {
            for (name, output) in &self.context.expanded.manifest.outputs {
                let scope = InstanceScope::new(&self.context.expanded, &self.context.values, Default::default());
                let value = output.value.evaluate(&scope).unwrap_or_else(|errors| {
                    self.report.errors.extend(errors);
                    Value::Unknown
                });
                let value = if output.sensitive { value.sensitive() } else { value };
                let sealed = value.seal(&self.context.key);
                if value.is_unknown() || value.is_retained() {
                    if let Some(before) = self.context.plan.outputs.get(name).and_then(|o| o.before.clone()) {
                        recorded.insert(name.clone(), Output { value: before, sensitive: value.is_sensitive() });
                    }
                    continue;
                }
                recorded.insert(name.clone(), Output { value: sealed, sensitive: value.is_sensitive() });
                self.report.outputs.insert(name.clone(), value);
            }
        }
        if self.report.state_error.is_none()
            && let Err(error) = self.lock.set_outputs(recorded).await
        {
            self.report.state_error = Some(error);
        }
    }
}
