//! The nodes and instances that the rollouts of a manifest select, in rollout order.

use std::collections::BTreeSet;

use crate::configuration::expand::{Binding, CheckInstance, Expanded, Instance, Module, Selection};
use crate::manifest::{Drain, GateName, Rollout, RolloutName};
use crate::model::hash::HashMap;
use crate::model::{Address, Diagnostic, ModulePath, NodeName, Pattern, ResourceAddress, Span, error_codes, suggest};

/// A health gate of one node.
pub(crate) enum Gate<'e> {
    /// The health of an instance.
    Resource(&'e Instance),
    /// A check, with its index in [`Expanded::checks`].
    Check(usize, &'e CheckInstance),
}

impl Gate<'_> {
    /// Returns the name: `kubernetes_node.worker["gpu01"]` or `check.kubelet["gpu01"]`.
    pub fn name(&self) -> String {
        match self {
            Gate::Resource(instance) => instance.address.to_string(),
            Gate::Check(_, check) => check.name.clone(),
        }
    }
}

impl Selection {
    /// Returns the selections of all rollouts of `expanded`.
    ///
    /// # Errors
    /// Returns an error for an unknown role, a resource without `on`, a gate without health or without an instance for a node, an instance in two rollouts, nodes
    /// that cannot be drained, and rollouts that wait for each other.
    pub fn all(expanded: &Expanded) -> Result<Vec<Self>, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut selections: Vec<Self> = Vec::new();
        for (module, (name, rollout)) in all_rollouts(expanded) {
            let (name, rollout) = (qualified(module, name), &within(module, rollout));
            errors.extend(unknown_roles(expanded, rollout));
            errors.extend(unknown_nodes(expanded, rollout));
            errors.extend(rollout.resources.iter().filter_map(|(pattern, span)| unbound(expanded, pattern, *span)));
            let nodes = nodes(expanded, rollout);
            let places = nodes.iter().cloned().enumerate().map(|(place, node)| (node, place)).collect();
            let selection = Self { name, module: module.clone(), rollout: rollout.clone(), nodes, places };
            errors.extend(selection.gate_errors(expanded));
            errors.extend(selection.drain_error(expanded));
            errors.extend(selections.iter().filter_map(|other| selection.shared(other, expanded)));
            selections.push(selection);
        }
        errors.extend(selections.iter().find_map(|selection| selection.waits_for_itself(&selections)));
        if errors.is_empty() { Ok(selections) } else { Err(errors) }
    }

    /// Returns the position of `node` in the rollout, if the rollout selects `resource`.
    pub fn place_of(&self, resource: &ResourceAddress, node: &NodeName) -> Option<usize> {
        self.places.get(node).copied().filter(|_| self.includes(resource))
    }

    /// Returns the health gates of a node.
    pub fn gates<'e>(&'e self, expanded: &'e Expanded, node: &'e NodeName) -> impl Iterator<Item = Gate<'e>> {
        self.rollout.gates.iter().flat_map(move |(gate, _)| instances_of(expanded, gate, node))
    }

    /// Returns the instance that represents a node in its cluster, if the rollout drains nodes.
    pub fn drained<'e>(&self, expanded: &'e Expanded, node: &NodeName) -> Option<&'e Instance> {
        let Drain { resource: (address, _), .. } = self.rollout.drain.as_ref()?;
        represented_by(expanded, address, node)
    }

    /// Whether a change of this resource needs a drained node.
    pub fn needs_drain(&self, resource: &ResourceAddress) -> bool {
        self.rollout.drain.as_ref().is_some_and(|Drain { resources, .. }| {
            resources.is_empty() || resources.iter().any(|(pattern, _)| pattern.selects(resource))
        })
    }

    /// Returns the rollouts among `selections` that must be complete before this one starts.
    pub fn after<'s>(&'s self, selections: &'s [Self]) -> impl Iterator<Item = usize> {
        let place = |(name, _): &(RolloutName, Span)| {
            let name = name.to_string();
            selections.iter().position(|other| other.name == name)
        };
        self.rollout.after.iter().filter_map(place)
    }

    fn includes(&self, resource: &ResourceAddress) -> bool {
        let named = &self.rollout.resources;
        match named.is_empty() {
            true => resource.module.is_inside(&self.module),
            false => named.iter().any(|(pattern, _)| pattern.selects(resource)),
        }
    }

    fn gate_errors(&self, expanded: &Expanded) -> Vec<Diagnostic> {
        let mut errors = Vec::new();
        for (gate, span) in &self.rollout.gates {
            if let Some(error) = without_health(expanded, gate, *span) {
                errors.push(error);
                continue;
            }
            let uncovered = self.nodes.iter().find(|node| instances_of(expanded, gate, node).is_empty());
            if let Some(node) = uncovered {
                let message = format!("`{gate}` has no instance for the node `{node}` of the rollout `{}`", self.name);
                let help = "select all nodes of the rollout in `on` of the gate, or omit its `on`";
                errors.push(Diagnostic::error(message).at(*span, "").help(help));
            }
        }
        errors
    }

    /// Returns the error if the nodes of the rollout cannot be drained.
    fn drain_error(&self, expanded: &Expanded) -> Option<Diagnostic> {
        let Drain { resource: (address, span), .. } = self.rollout.drain.as_ref()?;
        let kind = &address.resource.resource_type;
        if !expanded.catalog.resource_type(kind).is_some_and(|resource_type| resource_type.can_be_drained()) {
            let error =
                Diagnostic::error(format!("`{kind}` does not represent nodes of a cluster and cannot be drained"));
            return Some(error.at(*span, ""));
        }
        let uncovered = self.nodes.iter().find(|node| represented_by(expanded, address, node).is_none())?;
        let message = format!("`{address}` has no instance for the node `{uncovered}` of the rollout `{}`", self.name);
        let help = "select all nodes of the rollout in `on` of the resource";
        Some(Diagnostic::error(message).at(*span, "").help(help))
    }

    /// Returns the error if this rollout waits for itself, directly or through others.
    fn waits_for_itself(&self, selections: &[Self]) -> Option<Diagnostic> {
        let own = selections.iter().position(|other| other.name == self.name)?;
        let mut seen = BTreeSet::new();
        let mut queue: Vec<usize> = self.after(selections).collect();
        while let Some(place) = queue.pop() {
            if seen.insert(place) {
                queue.extend(selections[place].after(selections));
            }
        }
        let (_, span) = self.rollout.after.first()?;
        let error = || Diagnostic::error(format!("the rollout `{}` comes after itself", self.name)).at(*span, "");
        seen.contains(&own).then(error)
    }

    /// Returns the error if an instance is in this rollout and in `other`.
    fn shared(&self, other: &Self, expanded: &Expanded) -> Option<Diagnostic> {
        let is_in = |selection: &Self, instance: &Instance| {
            let bound = instance.binding.node.as_ref().is_some_and(|n| selection.places.contains_key(&n.name));
            bound && selection.includes(&instance.address.resource)
        };
        let both = expanded.instances.iter().find(|i| is_in(self, i) && is_in(other, i))?;
        let message = format!("`{}` is in two rollouts, `{}` and `{}`", both.address, other.name, self.name);
        let error = Diagnostic::error(message).at(self.rollout.span, "second rollout");
        Some(
            error
                .related(other.rollout.span, "first rollout")
                .help("limit a rollout to some resources with `resources`"),
        )
    }
}

/// Returns the instance of `resource` that `on` binds to `node`.
fn represented_by<'e>(expanded: &'e Expanded, resource: &Address, node: &NodeName) -> Option<&'e Instance> {
    let is_bound = |instance: &&Instance| instance.binding.node.as_ref().is_some_and(|bound| bound.name == *node);
    expanded.instances_of_resource(&resource.resource).find(is_bound)
}

/// Returns the instances of a gate for `node`: those that `on` binds to it, and those without `on`.
fn instances_of<'e>(expanded: &'e Expanded, gate: &GateName, node: &NodeName) -> Vec<Gate<'e>> {
    let fits = |binding: &Binding| binding.node.as_ref().is_none_or(|bound| bound.name == *node);
    match gate {
        GateName::Resource(address) => {
            let resources = expanded.resources_of(&Pattern::Resource(address.clone()));
            let instances = resources.into_iter().flat_map(|resource| expanded.instances_of_resource(resource));
            instances.filter(|instance| fits(&instance.binding)).map(Gate::Resource).collect()
        }
        GateName::Check(..) => {
            let name = gate.to_string();
            let has_name = |check: &CheckInstance| {
                check.name.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
            };
            let checks = expanded.checks.iter().enumerate();
            let of_node = checks.filter(|(_, check)| has_name(check) && fits(&check.binding));
            of_node.map(|(place, check)| Gate::Check(place, check)).collect()
        }
    }
}

fn nodes(expanded: &Expanded, rollout: &Rollout) -> Vec<NodeName> {
    let mut named: HashMap<&NodeName, usize> = HashMap::default();
    for node in rollout.nodes.iter().filter_map(|(name, _)| expanded.inventory.named(name)).flatten() {
        let place = named.len();
        named.entry(&node.name).or_insert(place);
    }
    let has_role = |roles: &[String]| rollout.roles.iter().any(|(role, _)| roles.contains(role));
    let all = rollout.roles.is_empty() && rollout.nodes.is_empty();
    let resources: Vec<_> = rollout.resources.iter().flat_map(|(pattern, _)| expanded.resources_of(pattern)).collect();
    let has_instances = |name: &NodeName| {
        let bound = |i: &Instance| i.binding.node.as_ref().is_some_and(|node| node.name == *name);
        resources.iter().any(|resource| expanded.instances_of_resource(resource).any(bound))
    };
    let selected = expanded.inventory.iter().filter(|node| match all {
        true => has_instances(&node.name),
        false => named.contains_key(&node.name) || has_role(&node.roles),
    });
    let mut names: Vec<NodeName> = selected.map(|node| node.name.clone()).collect();
    names.sort_by_key(|name| named.get(name).copied().unwrap_or(usize::MAX));
    names
}

/// Returns the rollouts of all modules.
fn all_rollouts(expanded: &Expanded) -> impl Iterator<Item = (&ModulePath, (&String, &Rollout))> {
    fn of_module(module: &Module) -> impl Iterator<Item = (&ModulePath, (&String, &Rollout))> {
        module.manifest.rollouts.iter().map(|rollout| (&module.path, rollout))
    }
    expanded.modules.iter().flat_map(of_module)
}

/// Returns the name of a rollout of a module.
fn qualified(module: &ModulePath, name: &str) -> String {
    if module.is_root() { name.to_owned() } else { format!("{module}.{name}") }
}

/// Returns a rollout of a module with addresses from the root.
fn within(module: &ModulePath, rollout: &Rollout) -> Rollout {
    let gate = |gate: &GateName| match gate {
        GateName::Resource(address) => GateName::Resource(address.within(module)),
        GateName::Check(inner, name) => GateName::Check(module.join(inner), name.clone()),
    };
    let after = |name: &RolloutName| RolloutName { module: module.join(&name.module), name: name.name.clone() };
    let drain = |drain: &Drain| Drain {
        resource: (drain.resource.0.within(module), drain.resource.1),
        resources: drain.resources.iter().map(|(pattern, span)| (pattern.within(module), *span)).collect(),
        options: drain.options.clone(),
    };
    Rollout {
        resources: rollout.resources.iter().map(|(pattern, span)| (pattern.within(module), *span)).collect(),
        gates: rollout.gates.iter().map(|(name, span)| (gate(name), *span)).collect(),
        after: rollout.after.iter().map(|(name, span)| (after(name), *span)).collect(),
        drain: rollout.drain.as_ref().map(drain),
        ..rollout.clone()
    }
}

fn unknown_roles(expanded: &Expanded, rollout: &Rollout) -> Vec<Diagnostic> {
    let known: BTreeSet<&str> = expanded.inventory.iter().flat_map(|n| &n.roles).map(String::as_str).collect();
    let unknown = rollout.roles.iter().filter(|(role, _)| !known.contains(role.as_str()));
    let error = |(role, span): &(String, Span)| {
        let error =
            Diagnostic::error(format!("no node has the role `{role}`")).code(error_codes::UNKNOWN_ROLE).at(*span, "");
        Diagnostic { help: suggest(role, known.iter().copied()), ..error }
    };
    unknown.map(error).collect()
}

fn unknown_nodes(expanded: &Expanded, rollout: &Rollout) -> Vec<Diagnostic> {
    let inventory = &expanded.inventory;
    let unknown = rollout.nodes.iter().filter(|(name, _)| inventory.named(name).is_none());
    unknown.map(|(name, span)| inventory.unknown(name, *span)).collect()
}

/// Returns the error if a resource has no `on`.
fn unbound(expanded: &Expanded, pattern: &Pattern, span: Span) -> Option<Diagnostic> {
    let Pattern::Resource(address) = pattern else { return None };
    let resource = expanded.manifest.resource(&address.resource)?;
    let message = format!("`{address}` has no instance for each node, so a rollout cannot change it node by node");
    let error = || Diagnostic::error(message).at(span, "").related(resource.span, "no `on` here");
    resource.on.is_none().then(error)
}

fn without_health(expanded: &Expanded, gate: &GateName, span: Span) -> Option<Diagnostic> {
    let GateName::Resource(address) = gate else { return None };
    let kind = &address.resource.resource_type;
    let has_health =
        |kind: &str| expanded.catalog.resource_type(kind).is_some_and(|resource_type| resource_type.has_health());
    if has_health(kind) {
        return None;
    }
    let modules = expanded.manifest.modules();
    let known = modules.iter().flat_map(|(_, module)| module.resources.keys());
    let known: BTreeSet<&str> = known.map(|r| r.resource_type.as_str()).collect();
    let healthy: Vec<&str> = known.into_iter().filter(|kind| has_health(kind)).collect();
    let help = match healthy.as_slice() {
        [] => "a check can be a health gate too".to_owned(),
        some => format!("these types have health: {}; a check can be a health gate too", some.join(", ")),
    };
    Some(Diagnostic::error(format!("`{kind}` has no health and cannot be a health gate")).at(span, "").help(help))
}
