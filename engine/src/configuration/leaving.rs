//! The nodes that leave: the state has them, and the inventory does not have them any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use moorfast_state::Record;

use crate::configuration::expand::Expanded;
use crate::model::{Address, Decoded, Departure, Diagnostic, Node, NodeName, ResourceAddress, nearest, suggest};
use crate::provider::{Target, TargetKind};

/// The nodes that leave, and the nodes whose machine does not exist any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeavingNodes {
    nodes: BTreeMap<NodeName, Leaving>,
    /// The node of each recorded machine-id.
    by_machine: BTreeMap<String, NodeName>,
}

#[derive(Clone, Debug)]
struct Leaving {
    departure: Departure,
    /// The node as the state remembers it, or as the inventory declares it. `None` if an older version of moorfast wrote the state.
    node: Option<Arc<Node>>,
}

impl LeavingNodes {
    /// Returns the nodes that leave. The machines of `dead` do not exist any more. In a destroy, they may still be in the inventory.
    ///
    /// # Errors
    /// If a node of `dead` does not exist or does not leave, or if `[[removed]]` names a node of the inventory, or one like a node that leaves.
    pub fn of(
        expanded: &Expanded,
        state: &Decoded<'_>,
        dead: &[NodeName],
        destroys: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        let inventory = &expanded.nodes;
        let mut errors: Vec<Diagnostic> = dead
            .iter()
            .filter(|name| !destroys || !inventory.contains_key(name))
            .filter_map(|name| not_leaving(expanded, state, name))
            .collect();
        let released = expanded.manifest.removed_nodes.iter();
        errors.extend(released.clone().filter(|removed| inventory.contains_key(&removed.node)).map(|removed| {
            Diagnostic::error(format!("the node `{}` is still in the inventory", removed.node))
                .at(removed.span, "remove this block, or the node")
        }));
        let left = state.machines.keys().filter(|name| !inventory.contains_key(name));
        let not_released = left
            .clone()
            .filter(|left| !released.clone().any(|removed| removed.node == **left))
            .map(|left| left.0.as_str());
        // The block of a node that left in an earlier run stays valid.
        let unknown = released.clone().filter(|removed| !state.machines.contains_key(&removed.node));
        errors.extend(unknown.filter_map(|removed| {
            let meant = nearest(&removed.node.0, not_released.clone())?;
            let error = Diagnostic::error(format!("the node `{}` is not in the state", removed.node));
            let help =
                format!("the node `{meant}` leaves; write its name, or remove this block if it is not needed any more");
            Some(error.at(removed.span, "").help(help))
        }));
        if !errors.is_empty() {
            return Err(errors);
        }
        let dead_in_inventory = dead.iter().filter(|name| inventory.contains_key(name));
        let leaving = |name: &NodeName| {
            let is_released = released.clone().any(|removed| removed.node == *name && !removed.destroy);
            let departure = match (dead.contains(name), is_released) {
                (_, true) => Departure::Released,
                (true, false) => Departure::Dead,
                (false, false) => Departure::Destroyed,
            };
            let remembered = || state.connections.get(name).cloned().map(|connection| Arc::new(connection.node(name)));
            let node = inventory.get(name).cloned().or_else(remembered);
            (name.clone(), Leaving { departure, node })
        };
        let by_machine = state.machines.iter().filter_map(|(name, machine)| {
            let is_left = !inventory.contains_key(name);
            machine.machine_id.clone().filter(|_| is_left).map(|id| (id, name.clone()))
        });
        Ok(Self { nodes: left.chain(dead_in_inventory).map(leaving).collect(), by_machine: by_machine.collect() })
    }

    /// Returns how a node leaves. `None` if it stays.
    pub fn departure(&self, node: &NodeName) -> Option<Departure> {
        self.nodes.get(node).map(|leaving| leaving.departure)
    }

    /// Returns the target of a resource by the names of its provider instance and target, as [`Expanded::target`], also on a node that leaves.
    pub fn target(
        &self,
        expanded: &Expanded,
        resource: &ResourceAddress,
        provider: &str,
        name: &str,
    ) -> Option<Target> {
        expanded.target(resource, provider, name).or_else(|| {
            let is_on_node =
                expanded.catalog.find(resource)?.resource_type.declaration().target_kind == TargetKind::Node;
            let leaving = self.nodes.get(&NodeName(name.to_owned())).filter(|_| is_on_node)?;
            leaving.node.clone().map(Target::Node)
        })
    }

    /// Returns the node that leaves and to which a record belongs: the node of its target, or the one that `on` selected.
    pub fn node_of(&self, expanded: &Expanded, address: &Address, record: &Record) -> Option<&NodeName> {
        if self.nodes.is_empty() {
            return None;
        }
        let known = |name: &str| self.nodes.get_key_value(&NodeName(name.to_owned())).map(|(name, _)| name);
        let is_bound = expanded.manifest.resource(&address.resource).is_some_and(|resource| resource.on.is_some());
        let of_key = || address.key.as_deref()?.split('/').next().and_then(known);
        let of_machine = || known(&self.by_machine.get(record.machine.as_ref()?)?.0);
        known(&record.target).or_else(|| if is_bound { of_key() } else { None }).or_else(of_machine)
    }

    /// Returns how the node of a record leaves. `None` if it stays.
    pub fn departure_of(&self, expanded: &Expanded, address: &Address, record: &Record) -> Option<Departure> {
        self.departure(self.node_of(expanded, address, record)?)
    }

    /// Whether the object of a record cannot be reached, or must not be: it is reached through a machine that is dead or is left as it is.
    pub fn is_cut_off(&self, expanded: &Expanded, address: &Address, record: &Record) -> bool {
        let is_on_machine =
            expanded.catalog.find(&address.resource).is_some_and(|entry| entry.resource_type.is_reached_through_node());
        let departure = self.departure_of(expanded, address, record);
        is_on_machine && matches!(departure, Some(Departure::Dead | Departure::Released))
    }
}

/// Returns the error if a node that is said to be dead does not leave.
fn not_leaving(expanded: &Expanded, state: &Decoded<'_>, name: &NodeName) -> Option<Diagnostic> {
    if expanded.nodes.contains_key(name) {
        let error = Diagnostic::error(format!("the node `{name}` is still in the inventory, so its machine is needed"));
        return Some(error.help(format!(
            "remove the node from the inventory; if another machine takes its place: --replace-node {name}"
        )));
    }
    if state.machines.contains_key(name) {
        return None;
    }
    let error = Diagnostic::error(format!("the node `{name}` is not in the state"));
    match suggest(&name.0, state.machines.keys().map(|known| known.0.as_str())) {
        Some(help) => Some(error.help(help)),
        None => Some(error),
    }
}
