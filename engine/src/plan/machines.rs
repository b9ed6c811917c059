//! Which machines answer for the nodes: looked at before anything of them is compared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::future::join_all;
use moorfast_state::Record;

use super::PlanMode;
use super::planner::Planner;
use super::reading::{Reading, Which};
use crate::configuration::expand::Instance;
use crate::model::{Address, Diagnostic, Identified, Machine, NodeChange, NodeChangeKind, NodeName};
use crate::provider::Target;
use crate::session::Failure;

/// What is known of the machines that answer for the nodes.
#[derive(Clone, Default)]
pub(crate) struct Machines {
    /// Who answers, by node; not those that nobody approved.
    pub seen: BTreeMap<NodeName, Machine>,
    /// Those whose machines are not as they were seen last, what is worst first.
    pub changes: Vec<NodeChange>,
    /// Those that were taken for the node's though they did not prove it: by the approval of a person, or because the state knows them.
    pub accepted: BTreeMap<NodeName, String>,
    /// The instances that are recorded on a machine that is gone.
    pub former: HashSet<Address>,
    /// Nodes that are not spoken to.
    strangers: BTreeSet<NodeName>,
}

impl Machines {
    /// The change of a node where nothing is done, because nobody approved its machine.
    pub fn withheld(&self, node: &NodeName) -> Option<&NodeChange> {
        self.changes.iter().find(|change| change.node == *node && change.is_withheld())
    }
}

impl Planner<'_> {
    /// Finds out which machines answer, and reads again where that changes what is to be read.
    pub(super) async fn identify(&mut self, readings: &mut HashMap<Which, Reading>) -> Result<(), Failure> {
        let nodes = self.nodes_in_question();
        let session = self.session;
        let identified = join_all(nodes.iter().map(|(name, (alias, target))| async move {
            let connection = session.connection(alias)?;
            // Who does not answer is told by the reading.
            let found = connection.identify(target).await.ok().flatten()?;
            Some((name.clone(), found))
        }));
        let identified: BTreeMap<_, _> = identified.await.into_iter().flatten().collect();
        let clones = clones(&identified);
        if !clones.is_empty() {
            return Err(Failure::Manifest(clones));
        }
        for (name, found) in identified {
            let Some((alias, target)) = nodes.get(&name) else { continue };
            self.classify(name, found, alias, target, readings).await;
        }
        self.draft.machines.changes.sort_by_key(|change| change.kind);
        let again = self.leave_former_machines();
        if !again.is_empty() {
            let is_again = |target: &Target| matches!(target, Target::Node(node) if again.contains(&node.name));
            let fresh = self.read_all(is_again).await;
            readings.retain(|which, _| !again.iter().any(|node| self.is_read_on(which, node)));
            readings.extend(fresh);
        }
        Ok(())
    }

    /// The nodes that this plan looks at, each with the provider instance that reaches it.
    fn nodes_in_question(&self) -> BTreeMap<NodeName, (String, Target)> {
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

    /// Compares who answers for a node with who is recorded.
    async fn classify(
        &mut self,
        node: NodeName,
        found: Identified,
        alias: &str,
        target: &Target,
        readings: &mut HashMap<Which, Reading>,
    ) {
        let Identified { machine, trusted } = found;
        // Who is seen for the first time must prove who it is, and the reading tells if it does not.
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
                (false, true) => self.know_nothing_of(&node, readings),
                (false, false) => self.tell_of_rotation(&change, readings),
                (true, _) => {}
            }
            self.draft.machines.changes.push(change);
        }
        if is_known {
            self.draft.machines.seen.insert(node, machine);
        }
    }

    /// Did a person say that this machine may take the place of the recorded one? By name, or beforehand by its key in the manifest.
    fn is_approved(&self, target: &Target, machine: &Machine, trusted: bool) -> bool {
        let Target::Node(node) = target else { return false };
        let pinned = is_pinned(target);
        let named = self
            .options
            .replace_nodes
            .iter()
            .any(|r| r.node == node.name && r.host_key.as_ref().is_none_or(|key| machine.host_keys.contains(key)));
        // A key in the manifest approves, and is never overruled.
        if pinned { trusted } else { named }
    }

    async fn accept(&self, alias: &str, target: &Target, machine: &Machine) -> bool {
        match self.session.connection(alias) {
            Some(connection) => connection.accept(target, machine).await.is_ok(),
            None => false,
        }
    }

    /// Nothing of what was recorded is on a machine that nobody knows, and it is not asked. Where the world is only looked at, that is told instead.
    fn know_nothing_of(&mut self, node: &NodeName, readings: &mut HashMap<Which, Reading>) {
        if self.options.mode == PlanMode::RefreshOnly {
            return;
        }
        self.draft.machines.strangers.insert(node.clone());
        for (which, reading) in readings.iter_mut().filter(|(which, _)| self.is_read_on(which, node)) {
            tracing::debug!(?which, "not asked: another machine answers for the node");
            *reading = Ok(None);
        }
    }

    fn tell_of_rotation(&self, change: &NodeChange, readings: &mut HashMap<Which, Reading>) {
        let node = &change.node;
        let help = "compare the fingerprint with what its console shows, then take the new keys";
        for (_, reading) in readings.iter_mut().filter(|(which, _)| self.is_read_on(which, node)) {
            if let Err(error) = reading {
                error.summary = change.to_string();
                error.help = Some(match change.pinned {
                    true => format!("{help}: write it into host_key"),
                    false => format!("{help}: moorfast node trust {node}"),
                });
            }
        }
    }

    fn is_read_on(&self, which: &Which, node: &NodeName) -> bool {
        let (Which::Current(address) | Which::Former(address) | Which::Pending(address, _)) = which;
        let of_manifest = self.expanded.instance(address).map(|i| &i.target);
        let recorded = || self.records.get(address).and_then(|record| self.target_of(record));
        match of_manifest.cloned().or_else(recorded) {
            Some(Target::Node(at)) => at.name == *node,
            _ => false,
        }
    }

    /// Forgets what is recorded on machines that are gone. Returns the nodes that are to be read as if nothing were known of them.
    fn leave_former_machines(&mut self) -> BTreeSet<NodeName> {
        let mut again: BTreeSet<_> = self.draft.machines.accepted.keys().cloned().collect();
        if self.options.mode == PlanMode::RefreshOnly {
            return again;
        }
        let expanded = self.expanded;
        let mut gone = Vec::new();
        for (address, record) in &self.records {
            let instance = expanded.instance(address).filter(|_| self.options.mode == PlanMode::Normal);
            let lives_on = match self.target_of(record) {
                Some(Target::Node(node)) => Some(node.name.clone()),
                _ => None,
            };
            let Some(node) = lives_on.clone().or_else(|| instance.and_then(|i| expanded.machine_of(i).cloned())) else {
                continue;
            };
            if !self.is_of_another_machine(record, &node) {
                continue;
            }
            self.draft.machines.former.insert(address.clone());
            // What lives elsewhere is still there, and what left the manifest has yet to be forgotten.
            if lives_on.is_some() && instance.is_some() {
                gone.push(address.clone());
                again.insert(node);
            }
        }
        for address in gone {
            self.records.remove(&address);
        }
        again.retain(|node| !self.draft.machines.strangers.contains(node));
        again
    }

    fn is_of_another_machine(&self, record: &Record, node: &NodeName) -> bool {
        let change = self.draft.machines.changes.iter().find(|c| c.node == *node && c.kind.is_another_machine());
        let now = self.draft.machines.seen.get(node).or(change.map(|c| &c.after));
        match (&record.machine, now.and_then(|machine| machine.machine_id.as_ref())) {
            (Some(recorded), Some(now)) => recorded != now,
            // What does not say whose it is, is the recorded machine's.
            _ => change.is_some(),
        }
    }

    /// Is nothing asked of the node that the instance lives on?
    pub(super) fn is_on_a_stranger(&self, instance: &Instance) -> bool {
        match &instance.target {
            Target::Node(node) => self.draft.machines.strangers.contains(&node.name),
            Target::Provider(_) => false,
        }
    }
}

/// Is the host key of the node in the manifest?
fn is_pinned(target: &Target) -> bool {
    matches!(target, Target::Node(node) if !node.host_keys.is_empty())
}

/// Two nodes that are one installation: the copy of a disk, or one machine under two names.
fn clones(identified: &BTreeMap<NodeName, Identified>) -> Vec<Diagnostic> {
    let mut by_id: BTreeMap<&str, Vec<&NodeName>> = BTreeMap::new();
    for (name, found) in identified {
        // This very machine may go by several names.
        if let Some(id) = found.machine.machine_id.as_deref().filter(|_| !found.machine.host_keys.is_empty()) {
            by_id.entry(id).or_default().push(name);
        }
    }
    let error = |(id, names): (&str, Vec<&NodeName>)| {
        let names: Vec<_> = names.into_iter().map(ToString::to_string).collect();
        let names = names.join(" and ");
        Diagnostic::error(format!("the nodes {names} have one machine-id, {id}: one is the copy of another, or they are one machine"))
            .help("on the copy: rm /etc/machine-id /var/lib/dbus/machine-id /etc/ssh/ssh_host_*; systemd-machine-id-setup; ssh-keygen -A; reboot. Of two names for one machine, keep one")
    };
    by_id.into_iter().filter(|(_, names)| names.len() > 1).map(error).collect()
}
