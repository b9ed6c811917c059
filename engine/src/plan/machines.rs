//! The machines of the nodes, which are identified before anything is compared.

use std::collections::{BTreeMap, BTreeSet};

use moorfast_state::Record;

use super::inputs::Inputs;
use super::model::{PlanMode, PlanOptions};
use super::prior::Prior;
use super::readings::{ReadingKey, Readings};
use super::selected::Selected;
use crate::model::hash::HashSet;
use crate::model::{Address, Diagnostic, Identified, Machine, NodeChange, NodeChangeKind, NodeName};
use crate::provider::Target;

/// The machines that answer as the nodes.
#[derive(Clone, Debug, Default)]
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
    /// The nodes that left the inventory and whose machine is another node of the inventory.
    pub renamed: BTreeSet<NodeName>,
    /// The nodes that are not read, because nobody approved their machine.
    unread_nodes: BTreeSet<NodeName>,
}

/// The comparison of a node's machine with the recorded machine.
#[derive(Debug)]
pub(super) struct Assessment {
    pub node: NodeName,
    pub machine: Machine,
    /// Whether the machine proved its identity.
    trusted: bool,
    /// The recorded machine and how it changed. `None` if it did not change, or if no machine is recorded.
    change: Option<(Machine, NodeChangeKind)>,
    /// Whether a person or the state approves the machine.
    approved: bool,
    pinned: bool,
}

/// The nodes of a plan, each with the provider instance that reaches it.
pub(super) type Nodes = BTreeMap<NodeName, (String, Target)>;

/// Returns the nodes of the selected instances and records, and the nodes whose machines hold the selected instances.
pub(super) fn nodes(inputs: &Inputs, prior: &Prior, selected: &Selected) -> Nodes {
    let is_selected = inputs.options.mode != PlanMode::Destroy;
    let instances: Vec<_> = selected.instances().filter(|_| is_selected).collect();
    let holders: BTreeSet<_> = instances.iter().filter_map(|instance| instance.machine()).collect();
    let on_holders = inputs.expanded.instances.iter();
    let on_holders = on_holders.filter(|i| matches!(&i.target, Target::Node(node) if holders.contains(&node.name)));
    let of_manifest = instances.into_iter().chain(on_holders).map(|i| (&i.provider, Some(i.target.clone())));
    let records = prior.records.iter().filter(|(address, _)| selected.contains(address));
    let of_records = records.map(|(address, record)| (&record.provider, inputs.reachable_target_of(address, record)));
    let mut nodes = BTreeMap::new();
    for (alias, target) in of_manifest.chain(of_records) {
        if let Some(Target::Node(node)) = target
            && !nodes.contains_key(&node.name)
        {
            nodes.insert(node.name.clone(), (alias.clone(), Target::Node(node)));
        }
    }
    nodes
}

/// Takes the nodes out of `identified` that left the inventory, and whose machine is another node of the inventory: they were renamed.
pub(super) fn take_renamed(inputs: &Inputs, identified: &mut BTreeMap<NodeName, Identified>) -> BTreeSet<NodeName> {
    let inventory = &inputs.expanded.nodes;
    let stays = identified.iter().filter(|(name, _)| inventory.contains_key(name));
    let ids: HashSet<String> = stays.filter_map(|(_, identity)| identity.machine.machine_id.clone()).collect();
    let is_renamed = |name: &NodeName, identity: &Identified| {
        !inventory.contains_key(name) && identity.machine.machine_id.as_ref().is_some_and(|id| ids.contains(id))
    };
    let renamed = identified.iter().filter(|(name, identity)| is_renamed(name, identity));
    let renamed: BTreeSet<NodeName> = renamed.map(|(name, _)| name.clone()).collect();
    identified.retain(|name, _| !renamed.contains(name));
    renamed
}

/// Compares the machines that answer with the recorded ones.
///
/// # Errors
/// If several nodes have the same machine-id.
pub(super) fn assess(
    identified: BTreeMap<NodeName, Identified>,
    nodes: &Nodes,
    recorded: &BTreeMap<NodeName, Machine>,
    options: &PlanOptions,
) -> Result<Vec<Assessment>, Vec<Diagnostic>> {
    let clones = clones(&identified);
    if !clones.is_empty() {
        return Err(clones);
    }
    let assess = |(node, identity): (NodeName, Identified)| {
        let (_, target) = nodes.get(&node)?;
        let Identified { machine, trusted } = identity;
        // A machine that is not recorded must prove its identity. If it does not, the reading fails.
        let known = recorded.get(&node);
        let kind = known.and_then(|known| known.became(&machine));
        let pinned = is_pinned(target);
        let approved = match kind {
            // A host key in the manifest approves the machine, and no option overrules it.
            Some(kind) if kind.is_another_machine() && pinned => trusted,
            Some(kind) if kind.is_another_machine() => is_approved(&node, &machine, options),
            Some(NodeChangeKind::Rotated) => trusted,
            Some(_) => true,
            None => trusted || known.is_some(),
        };
        Some(Assessment { change: known.cloned().zip(kind), node, machine, trusted, approved, pinned })
    };
    Ok(identified.into_iter().filter_map(assess).collect())
}

impl Assessment {
    /// Whether the provider must accept the machine although it did not prove its identity.
    pub fn is_to_be_accepted(&self) -> bool {
        self.approved && !self.trusted
    }
}

impl Machines {
    /// Returns the machines of the nodes. `accepted` are the machines that did not prove their identity, but that the providers accepted.
    pub(super) fn of(assessments: Vec<Assessment>, accepted: BTreeMap<NodeName, String>, mode: PlanMode) -> Self {
        let mut machines = Self { accepted, ..Self::default() };
        for Assessment { node, machine, trusted, change, approved, pinned } in assessments {
            let is_known = trusted || machines.accepted.contains_key(&node);
            if let Some((before, kind)) = change {
                // A refresh reports the failed readings instead.
                if !is_known && kind.is_another_machine() && mode != PlanMode::RefreshOnly {
                    machines.unread_nodes.insert(node.clone());
                }
                machines.changes.push(NodeChange {
                    node: node.clone(),
                    kind,
                    before,
                    after: machine.clone(),
                    approved: approved && is_known,
                    pinned,
                });
            }
            if is_known {
                machines.seen.insert(node, machine);
            }
        }
        machines.changes.sort_by_key(|change| change.kind);
        machines
    }

    /// Returns the change of a node whose machine nobody approved. Nothing is done on such a node.
    pub fn unapproved(&self, node: &NodeName) -> Option<&NodeChange> {
        self.changes.iter().find(|change| change.node == *node && change.is_unapproved())
    }

    /// Whether the target is a node that is not read, because nobody approved its machine.
    pub(super) fn is_unread(&self, target: &Target) -> bool {
        matches!(target, Target::Node(node) if self.unread_nodes.contains(&node.name))
    }

    /// Replaces the failed readings of nodes with other machines. `node_of` returns the node of a reading.
    pub(super) fn explain_readings(&self, readings: &mut Readings, node_of: impl Fn(&ReadingKey) -> Option<NodeName>) {
        let rotated: Vec<_> = self.changes.iter().filter(|change| self.is_rotated(change)).collect();
        if rotated.is_empty() && self.unread_nodes.is_empty() {
            return;
        }
        for (key, reading) in &mut readings.0 {
            let Some(node) = node_of(key) else { continue };
            if self.unread_nodes.contains(&node) {
                // A machine that nobody approved has none of the recorded objects.
                tracing::debug!(?key, "not read: another machine answers as the node");
                *reading = Ok(None);
            } else if let Err(error) = reading
                && let Some(change) = rotated.iter().find(|change| change.node == node)
            {
                let help = "compare the fingerprint with the one on the console of the node, then accept the new keys";
                error.summary = change.to_string();
                error.help = Some(match change.pinned {
                    true => format!("{help}: set host_key"),
                    false => format!("{help}: moorfast node trust {node}"),
                });
            }
        }
    }

    /// Whether the same machine has other host keys, which nobody accepted.
    fn is_rotated(&self, change: &NodeChange) -> bool {
        !change.kind.is_another_machine() && !self.seen.contains_key(&change.node)
    }

    fn is_of_another_machine(&self, record: &Record, node: &NodeName) -> bool {
        let change = self.changes.iter().find(|c| c.node == *node && c.kind.is_another_machine());
        let now = self.seen.get(node).or(change.map(|c| &c.after));
        match (&record.machine, now.and_then(|machine| machine.machine_id.as_ref())) {
            (Some(recorded), Some(now)) => recorded != now,
            // A record without a machine-id belongs to the recorded machine.
            _ => change.is_some(),
        }
    }
}

/// Returns the node that a reading is of.
pub(super) fn node_of_reading(inputs: &Inputs, prior: &Prior, key: &ReadingKey) -> Option<NodeName> {
    let address = key.address();
    let of_manifest = inputs.expanded.instance(address).map(|instance| instance.target.clone());
    let recorded = || prior.records.get(address).and_then(|record| inputs.target_of(address, record));
    match of_manifest.or_else(recorded)? {
        Target::Node(node) => Some(node.name.clone()),
        Target::Provider(_) => None,
    }
}

/// Notes the records of objects on replaced machines in `machines`, and drops those whose object is gone with its machine. Returns the nodes that must be read
/// again without these records.
pub(super) fn drop_former_records(inputs: &Inputs, prior: &mut Prior, machines: &mut Machines) -> BTreeSet<NodeName> {
    let mut again: BTreeSet<_> = machines.accepted.keys().cloned().collect();
    if inputs.options.mode == PlanMode::RefreshOnly {
        return again;
    }
    let expanded = inputs.expanded;
    let mut former = HashSet::default();
    prior.retain(|address, record| {
        let instance = expanded.instance(address).filter(|_| inputs.options.mode == PlanMode::Normal);
        let own_node = match inputs.target_of(address, record) {
            Some(Target::Node(node)) => Some(node.name.clone()),
            _ => None,
        };
        let is_on_node = own_node.is_some();
        let Some(node) = own_node.or_else(|| instance.and_then(|i| i.machine().cloned())) else {
            return true;
        };
        if !machines.is_of_another_machine(record, &node) {
            return true;
        }
        former.insert(address.clone());
        // An object in a cluster still exists, and the record of a removed instance is still to be removed.
        let is_gone = is_on_node && instance.is_some();
        if is_gone {
            again.insert(node);
        }
        !is_gone
    });
    machines.former = former;
    again.retain(|node| !machines.unread_nodes.contains(node));
    again
}

/// Whether a person approved by name or by host key that this machine replaces the recorded one.
fn is_approved(node: &NodeName, machine: &Machine, options: &PlanOptions) -> bool {
    let names = |key: &String| machine.host_keys.contains(key);
    options.replace_nodes.iter().any(|r| r.node == *node && r.host_key.as_ref().is_none_or(names))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Node, Replacement};
    use crate::plan::samples::{address, record};
    use crate::provider::{Class, ProviderError};

    fn machine(host_key: &str, id: &str) -> Machine {
        Machine { host_keys: vec![host_key.to_owned()], machine_id: Some(id.to_owned()), ..Machine::default() }
    }

    /// Returns the machines of the node `n1`, for which `now` answers. The provider accepts what is to be accepted if `accepts`.
    fn assessed(
        recorded: Option<Machine>,
        now: Machine,
        trusted: bool,
        options: &PlanOptions,
        accepts: bool,
    ) -> Machines {
        assessed_as(Node::new("n1"), recorded, now, trusted, options, accepts)
    }

    fn assessed_as(
        node: Node,
        recorded: Option<Machine>,
        now: Machine,
        trusted: bool,
        options: &PlanOptions,
        accepts: bool,
    ) -> Machines {
        let nodes = Nodes::from([(name(), ("mem".to_owned(), Target::Node(Arc::new(node))))]);
        let identified = BTreeMap::from([(name(), Identified { machine: now, trusted })]);
        let recorded = recorded.map(|machine| (name(), machine)).into_iter().collect();
        let assessments = assess(identified, &nodes, &recorded, options).unwrap();
        let accepted = assessments.iter().filter(|assessment| accepts && assessment.is_to_be_accepted());
        let accepted = accepted.map(|assessment| (assessment.node.clone(), "mem".to_owned())).collect();
        Machines::of(assessments, accepted, options.mode)
    }

    fn name() -> NodeName {
        NodeName("n1".to_owned())
    }

    #[test]
    fn another_machine_is_used_only_if_somebody_approved_it() {
        let (old, new) = (machine("old", "1"), machine("new", "2"));
        let of = |options: &PlanOptions, accepts| assessed(Some(old.clone()), new.clone(), false, options, accepts);
        let unapproved = of(&PlanOptions::default(), true);
        assert_eq!(unapproved.unapproved(&name()).map(|change| change.kind), Some(NodeChangeKind::Replaced));
        assert!(unapproved.seen.is_empty() && unapproved.unread_nodes.contains(&name()));
        let approved = |host_key: Option<&str>| PlanOptions {
            replace_nodes: vec![Replacement { node: name(), host_key: host_key.map(str::to_owned) }],
            ..PlanOptions::default()
        };
        let accepted = of(&approved(None), true);
        assert_eq!(accepted.seen.get(&name()), Some(&new));
        assert!(accepted.unapproved(&name()).is_none() && accepted.accepted.contains_key(&name()));
        assert!(of(&approved(Some("new")), true).seen.contains_key(&name()));
        // An approval of another host key, and a provider that does not accept the machine.
        assert!(of(&approved(Some("other")), true).unapproved(&name()).is_some());
        assert!(of(&approved(None), false).unapproved(&name()).is_some());
    }

    #[test]
    fn a_host_key_in_the_manifest_approves_the_machine_that_has_it_and_no_other() {
        let pinned = Node { host_keys: vec!["new".to_owned()], ..Node::new("n1") };
        let approving =
            PlanOptions { replace_nodes: vec![Replacement { node: name(), host_key: None }], ..PlanOptions::default() };
        let is_approved = |trusted, options: &PlanOptions| {
            let recorded = Some(machine("old", "1"));
            let machines = assessed_as(pinned.clone(), recorded, machine("new", "2"), trusted, options, true);
            machines.unapproved(&name()).is_none()
        };
        assert!(is_approved(true, &PlanOptions::default()));
        assert!(!is_approved(false, &approving));
        // The same machine with another host key, which it proved to have, or after another boot.
        let rebooted = Machine { boot_id: Some("2".to_owned()), ..machine("old", "1") };
        for now in [machine("new", "1"), rebooted] {
            let recorded = Machine { boot_id: Some("1".to_owned()), ..machine("old", "1") };
            let machines = assessed(Some(recorded), now, true, &PlanOptions::default(), true);
            let [change] = machines.changes.as_slice() else { panic!("{:?}", machines.changes) };
            assert!(change.approved, "{change:?}");
        }
    }

    #[test]
    fn a_record_is_of_another_machine_if_the_recorded_one_does_not_answer_any_more() {
        let record = |id: Option<&str>| Record { machine: id.map(str::to_owned), ..record("t.a[\"n1\"]", &[]) };
        let options = PlanOptions { mode: PlanMode::RefreshOnly, ..PlanOptions::default() };
        let replaced = assessed(Some(machine("old", "1")), machine("new", "2"), false, &options, false);
        let same = assessed(Some(machine("key", "2")), machine("key", "2"), true, &options, true);
        for (machines, id, expected) in [
            (&replaced, Some("1"), true),
            // It was created on the new machine already.
            (&replaced, Some("2"), false),
            (&replaced, None, true),
            (&same, Some("1"), true),
            (&same, Some("2"), false),
            (&same, None, false),
        ] {
            assert_eq!(machines.is_of_another_machine(&record(id), &name()), expected, "{id:?} {:?}", machines.changes);
        }
        let other = NodeName("n2".to_owned());
        assert!(!replaced.is_of_another_machine(&record(None), &other));
    }

    #[test]
    fn an_unknown_machine_must_prove_its_identity_and_a_recorded_one_need_not() {
        let options = PlanOptions::default();
        let now = machine("key", "1");
        assert!(assessed(None, now.clone(), false, &options, true).seen.is_empty());
        assert!(assessed(None, now.clone(), true, &options, true).seen.contains_key(&name()));
        let recorded = assessed(Some(now.clone()), now, false, &options, true);
        assert!(recorded.seen.contains_key(&name()) && recorded.changes.is_empty());
    }

    #[test]
    fn the_failed_readings_of_a_node_are_explained_by_its_machine() {
        let key = ReadingKey::Current(address("t.a"));
        let read = |machines: &Machines| {
            let failed = Err(ProviderError::new(Class::Identity, "the host key changed"));
            let mut readings = Readings([(key.clone(), failed)].into_iter().collect());
            machines.explain_readings(&mut readings, |_| Some(name()));
            readings.take(&key)
        };
        let replaced = |mode| {
            let options = PlanOptions { mode, ..PlanOptions::default() };
            assessed(Some(machine("old", "1")), machine("new", "2"), false, &options, true)
        };
        assert!(matches!(read(&replaced(PlanMode::Normal)), Ok(None)));
        assert!(read(&replaced(PlanMode::RefreshOnly)).is_err_and(|error| error.help.is_none()));
        let options = PlanOptions::default();
        let rotated = assessed(Some(machine("old", "1")), machine("new", "1"), false, &options, true);
        let help = read(&rotated).unwrap_err().help.unwrap_or_default();
        assert!(help.contains("moorfast node trust n1"), "{help}");
    }

    #[test]
    fn nodes_with_the_same_machine_id_are_an_error() {
        let identified = ["n1", "n2"]
            .map(|node| (NodeName(node.to_owned()), Identified { machine: machine(node, "same"), trusted: true }));
        let errors = assess(identified.into(), &Nodes::new(), &BTreeMap::new(), &PlanOptions::default()).unwrap_err();
        assert!(errors[0].summary.contains("the nodes n1 and n2 have the same machine-id same"), "{errors:?}");
    }
}
