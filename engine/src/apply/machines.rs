//! What an apply does about the machines of nodes before anything else: it records who answers, and clears away what machines that are gone left in clusters.

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
    /// Records which machines answer for the nodes, so that another one is noticed. Those that a person approved are known from now on.
    pub(super) async fn record_machines(&mut self) {
        if self.context.plan.options.mode == PlanMode::Destroy {
            return;
        }
        let ApplyContext { machines, expanded, known_machines, session, .. } = &self.context;
        let allowed = machines.seen.iter().filter(|(node, _)| machines.unapproved(node).is_none());
        let met: Vec<_> = allowed.filter_map(|(node, machine)| Some((expanded.nodes.get(node)?, machine))).collect();
        let writes = met.iter().filter_map(|(node, machine)| {
            let name = &node.name.0;
            let now = serde_json::to_value(machine).ok()?;
            (known_machines.get(name) != Some(&now)).then(|| self.lock.set_node(name, now))
        });
        if let Err(error) = join_all(writes).await.into_iter().collect::<Result<(), _>>() {
            self.report.state_error = Some(error);
            return;
        }
        // Only once the state knows the machines: a run that dies in between finds them there.
        for (node, machine) in met {
            let alias = machines.accepted.get(&node.name);
            if let Some(connection) = alias.and_then(|alias| session.connection(alias))
                && let Err(error) = connection.trust_machine(&Target::Node(node.clone()), machine).await
            {
                // The state knows the machine, so the next run takes it for the node's as well.
                tracing::warn!(node = %node.name, %error, "the host keys could not be kept");
            }
        }
    }

    /// Forgets the machines of nodes that nothing is left of.
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

    /// Removes what machines that are gone left elsewhere: a new machine must not come upon the registration of the old one.
    /// What depends on others goes before them.
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

    /// Tells of the nodes where nothing is done.
    pub(super) fn report_unapproved(&self) {
        for node in self.context.machines.changes.iter().filter(|change| change.is_withheld()) {
            let changes = self.context.plan.changes.iter().filter(|c| c.action.is_change());
            let held = changes.filter(|c| self.context.unapproved.get(&c.address) == Some(&node.node));
            match held.count() {
                0 => {}
                operations => self.events.send(Event::Unapproved { node: node.clone(), operations }),
            }
        }
    }

    /// Is it something that a machine left behind, and that is to be made anew?
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
        let (Some(target), Some(connection)) =
            (self.context.target(&change), self.context.session.connection(&change.provider).cloned())
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
        let operation = Operation { machine_gone: true, ..self.deletion(&change, &item) };
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

    /// What could not be cleared away keeps its whole node from being begun.
    fn skip_node(&mut self, i: usize, error: &ProviderError) {
        let node = |address: &Address| self.context.expanded.instance(address)?.binding.node.as_ref().map(|n| &n.name);
        let of = node(&self.change(i).address);
        let all = self.context.plan.changes.iter().map(|change| &change.address);
        let held: Vec<_> = all.filter(|address| of.is_some() && node(address) == of).cloned().collect();
        self.context.unread.extend(held.into_iter().map(|address| (address, error.clone())));
    }
}
