//! The machines of the nodes, which are identified before anything is compared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::future::join_all;
use moorfast_state::Record;

use super::PlanMode;
use super::planner::Planner;
use super::reading::{Reading, ReadingKey};
use crate::configuration::expand::Instance;
use crate::model::{Address, Diagnostic, Identified, Machine, NodeChange, NodeChangeKind, NodeName};
use crate::provider::Target;
use crate::session::Failure;

/// The machines that answer as the nodes.
#[derive(Clone, Default)]
pub(crate) struct Machines {
    /// The machine of each node, except machines that nobody approved.
    pub seen: BTreeMap<NodeName, Machine>,
    /// The nodes whose machines differ from the recorded ones, the most severe first.
    pub changes: Vec<NodeChange>,
    /// The nodes whose machine was accepted although it did not prove its identity, with the provider instance. Either a person approved the machine, or the state
    /// knows it.
    pub accepted: BTreeMap<NodeName, String>,
    /// The instances that are recorded on a replaced machine.
    pub former: HashSet<Address>,
    /// The nodes that are not read, because nobody approved their machine.
    unread_nodes: BTreeSet<NodeName>,
}

impl Machines {
    /// Returns the change of a node whose machine nobody approved. Nothing is done on such a node.
    pub fn unapproved(&self, node: &NodeName) -> Option<&NodeChange> {
        self.changes.iter().find(|change| change.node == *node && change.is_unapproved())
    }
}

impl Planner<'_> {
    /// Identifies the machines of the nodes, and reads again if this changes what must be read.
    pub(super) async fn identify(&mut self, readings: &mut HashMap<ReadingKey, Reading>) -> Result<(), Failure> {
        let nodes = self.planned_nodes();
        let session = self.session;
        let identified = join_all(nodes.iter().map(|(name, (alias, target))| async move {
            let connection = session.connection(alias)?;
            // A node that does not answer is reported by the reading.
            let identity = connection.identify(target).await.ok().flatten()?;
            Some((name.clone(), identity))
        }));
        let identified: BTreeMap<_, _> = identified.await.into_iter().flatten().collect();
        let clones = clones(&identified);
        if !clones.is_empty() {
            return Err(Failure::Manifest(clones));
        }
        for (name, identity) in identified {
            let Some((alias, target)) = nodes.get(&name) else { continue };
            self.classify(name, identity, alias, target, readings).await;
        }
        self.draft.machines.changes.sort_by_key(|change| change.kind);
        let again = self.drop_records_of_former_machines();
        if !again.is_empty() {
            let is_again = |target: &Target| matches!(target, Target::Node(node) if again.contains(&node.name));
            let fresh = self.read_all(is_again).await;
            readings.retain(|which, _| !again.iter().any(|node| self.is_read_on(which, node)));
            readings.extend(fresh);
        }
        Ok(())
    }

    /// Returns the nodes of this plan, each with the provider instance that reaches it.
    fn planned_nodes(&self) -> BTreeMap<NodeName, (String, Target)> {
        let instances = self.selected.iter().map(|i| &self.expanded.instances[*i]);
        let of_manifest = instances.filter(|_| self.options.mode != PlanMode::Destroy);
        let of_manifest = of_manifest.map(|i| (i.provider.clone(), Some(i.target.clone())));
        let records = self.records.iter().filter(|(address, _)| self.is_selected(address));
        let of_records = records.map(|(_, record)| (record.provider.clone(), self.target_of(record)));
        let mut nodes = BTreeMap::new();
        for (alias, target) in of_manifest.chain(of_records) {
            if let Some(Target::Node(node)) = target {
                nodes.entry(node.name.clone()).or_insert((alias, Target::Node(node)));
            }
        }
        nodes
    }

    /// Compares the machine of a node with the recorded machine.
    async fn classify(
        &mut self,
        node: NodeName,
        identity: Identified,
        alias: &str,
        target: &Target,
        readings: &mut HashMap<ReadingKey, Reading>,
    ) {
        let Identified { machine, trusted } = identity;
        // A machine that is not recorded must prove its identity. If it does not, the reading fails.
        let known = self.known_machines.get(&node).cloned();
        let kind = known.as_ref().and_then(|known| known.became(&machine));
        let approved = match kind {
            Some(kind) if kind.is_another_machine() => self.is_approved(target, &machine, trusted),
            Some(NodeChangeKind::Rotated) => trusted,
            Some(_) => true,
            None => trusted || known.is_some(),
        };
        let mut is_known = trusted;
        if !trusted && approved && self.accept(alias, target, &machine).await {
            self.draft.machines.accepted.insert(node.clone(), alias.to_owned());
            is_known = true;
        }
        if let (Some(before), Some(kind)) = (known, kind) {
            let change = NodeChange {
                node: node.clone(),
                kind,
                before,
                after: machine.clone(),
                approved: approved && is_known,
                pinned: is_pinned(target),
            };
            match (is_known, kind.is_another_machine()) {
                (false, true) => self.discard_readings(&node, readings),
                (false, false) => self.report_rotation(&change, readings),
                (true, _) => {}
            }
            self.draft.machines.changes.push(change);
        }
        if is_known {
            self.draft.machines.seen.insert(node, machine);
        }
    }

    /// Whether a person approved that this machine replaces the recorded one, by name or by its host key in the manifest.
    fn is_approved(&self, target: &Target, machine: &Machine, trusted: bool) -> bool {
        let Target::Node(node) = target else { return false };
        let pinned = is_pinned(target);
        let named = self
            .options
            .replace_nodes
            .iter()
            .any(|r| r.node == node.name && r.host_key.as_ref().is_none_or(|key| machine.host_keys.contains(key)));
        // A host key in the manifest approves the machine, and no option overrules it.
        if pinned { trusted } else { named }
    }

    async fn accept(&self, alias: &str, target: &Target, machine: &Machine) -> bool {
        match self.session.connection(alias) {
            Some(connection) => connection.accept_machine(target, machine).await.is_ok(),
            None => false,
        }
    }

    /// Discards the readings of a node whose machine nobody approved: the machine has none of the recorded objects. A refresh reports the failed readings instead.
    fn discard_readings(&mut self, node: &NodeName, readings: &mut HashMap<ReadingKey, Reading>) {
        if self.options.mode == PlanMode::RefreshOnly {
            return;
        }
        self.draft.machines.unread_nodes.insert(node.clone());
        for (which, reading) in readings.iter_mut().filter(|(which, _)| self.is_read_on(which, node)) {
            tracing::debug!(?which, "not read: another machine answers as the node");
            *reading = Ok(None);
        }
    }

    /// Explains failed readings by the new host keys of the node.
    fn report_rotation(&self, change: &NodeChange, readings: &mut HashMap<ReadingKey, Reading>) {
        let node = &change.node;
        let help = "compare the fingerprint with the one on the console of the node, then accept the new keys";
        for (_, reading) in readings.iter_mut().filter(|(which, _)| self.is_read_on(which, node)) {
            if let Err(error) = reading {
                error.summary = change.to_string();
                error.help = Some(match change.pinned {
                    true => format!("{help}: set host_key"),
                    false => format!("{help}: moorfast node trust {node}"),
                });
            }
        }
    }

    fn is_read_on(&self, which: &ReadingKey, node: &NodeName) -> bool {
        let (ReadingKey::Current(address) | ReadingKey::Former(address) | ReadingKey::Pending(address, _)) = which;
        let of_manifest = self.expanded.instance(address).map(|i| &i.target);
        let recorded = || self.records.get(address).and_then(|record| self.target_of(record));
        match of_manifest.cloned().or_else(recorded) {
            Some(Target::Node(at)) => at.name == *node,
            _ => false,
        }
    }

    /// Drops the records of objects on replaced machines. Returns the nodes that must be read again without these records.
    fn drop_records_of_former_machines(&mut self) -> BTreeSet<NodeName> {
        let mut again: BTreeSet<_> = self.draft.machines.accepted.keys().cloned().collect();
        if self.options.mode == PlanMode::RefreshOnly {
            return again;
        }
        let expanded = self.expanded;
        let mut gone = Vec::new();
        for (address, record) in &self.records {
            let instance = expanded.instance(address).filter(|_| self.options.mode == PlanMode::Normal);
            let own_node = match self.target_of(record) {
                Some(Target::Node(node)) => Some(node.name.clone()),
                _ => None,
            };
            let Some(node) = own_node.clone().or_else(|| instance.and_then(|i| i.machine().cloned())) else {
                continue;
            };
            if !self.is_of_another_machine(record, &node) {
                continue;
            }
            self.draft.machines.former.insert(address.clone());
            // An object in a cluster still exists, and the record of a removed instance is still to be removed.
            if own_node.is_some() && instance.is_some() {
                gone.push(address.clone());
                again.insert(node);
            }
        }
        for address in gone {
            self.records.remove(&address);
        }
        again.retain(|node| !self.draft.machines.unread_nodes.contains(node));
        again
    }

    fn is_of_another_machine(&self, record: &Record, node: &NodeName) -> bool {
        let change = self.draft.machines.changes.iter().find(|c| c.node == *node && c.kind.is_another_machine());
        let now = self.draft.machines.seen.get(node).or(change.map(|c| &c.after));
        match (&record.machine, now.and_then(|machine| machine.machine_id.as_ref())) {
            (Some(recorded), Some(now)) => recorded != now,
            // A record without a machine-id belongs to the recorded machine.
            _ => change.is_some(),
        }
    }

    /// Whether the instance is on a node whose machine nobody approved.
    pub(super) fn is_on_unapproved_node(&self, instance: &Instance) -> bool {
        match &instance.target {
            Target::Node(node) => self.draft.machines.unread_nodes.contains(&node.name),
            Target::Provider(_) => false,
        }
    }
}

/// Whether the manifest sets the host key of the node.
fn is_pinned(target: &Target) -> bool {
    matches!(target, Target::Node(node) if !node.host_keys.is_empty())
}

/// Returns an error for each machine-id that several nodes share: a copied disk, or one machine with two names.
fn clones(identified: &BTreeMap<NodeName, Identified>) -> Vec<Diagnostic> {
    let mut by_id: BTreeMap<&str, Vec<&NodeName>> = BTreeMap::new();
    for (name, identity) in identified {
        // The machine that runs moorfast may have several names.
        if let Some(id) = identity.machine.machine_id.as_deref().filter(|_| !identity.machine.host_keys.is_empty()) {
            by_id.entry(id).or_default().push(name);
        }
    }
    let error = |(id, names): (&str, Vec<&NodeName>)| {
        let names: Vec<_> = names.into_iter().map(ToString::to_string).collect();
        let names = names.join(" and ");
        Diagnostic::error(format!("the nodes {names} have the same machine-id {id}: one is a copy of another, or they are one machine"))
            .help("on the copy: rm /etc/machine-id /var/lib/dbus/machine-id /etc/ssh/ssh_host_*; systemd-machine-id-setup; ssh-keygen -A; reboot. If they are one machine, keep one of the names")
    };
    by_id.into_iter().filter(|(_, names)| names.len() > 1).map(error).collect()
}
