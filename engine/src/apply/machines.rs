//! The machines of nodes in an apply: they are recorded, and the objects of replaced machines in clusters are removed, before anything else is done.

use std::time::Instant;

use futures::future::join_all;
use moorfast_state::Outcome as Recorded;

use super::call::call;
use super::{ApplyContext, Executor};
use crate::model::{Address, NodeName};
use crate::plan::{PlanMode, Reason};
use crate::provider::{Action, Applied, Operation, ProviderError, Target};
use crate::session::Event;

impl Executor<'_> {
    /// Records the machines of the nodes, including newly approved ones, so that a replacement is noticed later.
    pub(super) async fn record_machines(&mut self) {
        if self.context.plan.options.mode == PlanMode::Destroy {
            return;
        }
        let ApplyContext { machines, expanded, known_machines, session, .. } = &self.context;
        let allowed = machines.seen.iter().filter(|(node, _)| machines.unapproved(node).is_none());
        let answering: Vec<_> =
            allowed.filter_map(|(node, machine)| Some((expanded.nodes.get(node)?, machine))).collect();
        let writes = answering.iter().filter_map(|(node, machine)| {
            let name = &node.name.0;
            let now = serde_json::to_value(machine).ok()?;
            (known_machines.get(name) != Some(&now)).then(|| self.lock.set_node(name, now))
        });
        if let Err(error) = join_all(writes).await.into_iter().collect::<Result<(), _>>() {
            self.report.state_error = Some(error);
            return;
        }
        // The provider trusts a machine only after the state has recorded it, so that the next run knows it even if this run is killed.
        for (node, machine) in answering {
            let alias = machines.accepted.get(&node.name);
            if let Some(connection) = alias.and_then(|alias| session.connection(alias))
                && let Err(error) = connection.trust_machine(&Target::Node(node.clone()), machine).await
            {
                // The state has recorded the machine, so the next run accepts it too.
                tracing::warn!(node = %node.name, %error, "cannot store the host keys");
            }
        }
    }

    /// Removes the machines of nodes without records from the state.
    pub(super) async fn remove_machines(&mut self) {
        let options = &self.context.plan.options;
        if !options.targets.is_empty() || !options.exclude.is_empty() {
            return;
        }
        let destroys = options.mode == PlanMode::Destroy;
        let stays = |node: &&String| {
            let in_manifest = self.context.expanded.nodes.contains_key(&NodeName((*node).clone()));
            (in_manifest && !destroys) || self.records.values().any(|record| record.target == **node)
        };
        let gone = self.context.known_machines.keys().filter(|node| !stays(node));
        let forgotten = join_all(gone.map(|node| self.lock.forget_node(node))).await;
        if let Err(error) = forgotten.into_iter().collect::<Result<(), _>>() {
            self.report.state_error = Some(error);
        }
    }

    /// Removes the objects of replaced machines in clusters, dependants first, because a new machine must not find the registration of the old one.
    pub(super) async fn remove_objects_of_former_machines(&mut self) {
        let left: Vec<_> =
            (0..self.context.plan.changes.len()).rev().filter(|i| self.is_of_former_machine(*i)).collect();
        for i in left {
            if self.is_stopping() || self.interrupt.stop.is_cancelled() {
                return;
            }
            if let Err(error) = self.clear(i).await {
                self.skip_node(i, &error);
            }
        }
    }

    /// Reports the nodes whose machine nobody approved.
    pub(super) fn report_unapproved(&self) {
        for node in self.context.machines.changes.iter().filter(|change| change.is_unapproved()) {
            let changes = self.context.plan.changes.iter().filter(|c| c.action.is_change());
            let held = changes.filter(|c| self.context.unapproved.get(&c.address) == Some(&node.node));
            match held.count() {
                0 => {}
                operations => self.events.send(Event::Unapproved { node: node.clone(), operations }),
            }
        }
    }

    /// Whether a change replaces an object of a replaced machine.
    fn is_of_former_machine(&self, i: usize) -> bool {
        let change = self.change(i);
        change.action == Action::Replace
            && change.reasons.contains(&Reason::OtherMachine)
            && !self.context.stale.contains_key(&change.address)
            && !self.context.unread.contains_key(&change.address)
            && !self.context.unapproved.contains_key(&change.address)
    }

    async fn clear(&mut self, i: usize) -> Result<(), ProviderError> {
        let change = self.change(i).clone();
        let item = self.context.items.get(&change.address).cloned().unwrap_or_default();
        let connection = self.context.session.connection(&change.provider).cloned();
        let (Some(target), Some(connection), Some(deletion)) =
            (self.context.target(&change), connection, self.deletion(&change, &item))
        else {
            return Ok(());
        };
        let intent = self.intent(&change);
        if let Err(error) = self.lock.begin(vec![intent.clone()]).await {
            self.report.state_error = Some(error);
            return Ok(());
        }
        let started = Instant::now();
        self.events.send(Event::Started { address: change.address.clone(), action: Action::Delete });
        let operation = Operation { machine_gone: true, ..deletion };
        let mut ended = Ok(Applied::default());
        call(&connection, &target, vec![operation], |_, result| ended = result).await;
        let outcome = if ended.is_ok() { Recorded::Remove } else { Recorded::Unchanged };
        if let Err(error) = self.lock.finish(&intent.id, outcome).await {
            self.report.state_error = Some(error);
            return Ok(());
        }
        let Applied { notes, .. } = ended?;
        self.records.remove(&change.address.to_string());
        self.cleared.insert(i);
        let Some(item) = self.context.items.get_mut(&change.address) else { return Ok(()) };
        (item.recorded, item.observed) = (None, None);
        let address = change.address;
        self.events.send(Event::Finished { address, action: Action::Delete, took: started.elapsed(), notes });
        Ok(())
    }

    /// Skips the whole node of an object that could not be removed.
    fn skip_node(&mut self, i: usize, error: &ProviderError) {
        let node = |address: &Address| self.context.expanded.instance(address)?.binding.node.as_ref().map(|n| &n.name);
        let of = node(&self.change(i).address);
        let all = self.context.plan.changes.iter().map(|change| &change.address);
        let held: Vec<_> = all.filter(|address| of.is_some() && node(address) == of).cloned().collect();
        self.context.unread.extend(held.into_iter().map(|address| (address, error.clone())));
    }
}
