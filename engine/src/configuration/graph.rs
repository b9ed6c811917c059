//! The dependency graph of instances.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::configuration::expand::{Binding, CheckInstance, Expanded, Instance};
use crate::configuration::scope::{InstanceScope, Referenced, Values, instance_by_key, referenced};
use crate::expression::{Expr, Reference, ReferenceUse};
use crate::manifest::Condition;
use crate::model::convert::to_text;
use crate::model::hash::HashSet;
use crate::model::{Address, Diagnostic, Mode, Pattern, ResourceAddress, Span, Value, error_codes, suggest};

/// The dependency graph for display: nodes and edges by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphView {
    /// The nodes: addresses, `output.NAME` and `check.NAME`.
    pub nodes: Vec<String>,
    /// The edges from each dependant to its dependency.
    pub edges: Vec<(String, String)>,
}

/// The dependency graph of the instances of a manifest. Its indexes are those of [`Expanded::instances`].
#[derive(Debug)]
pub(crate) struct Graph {
    /// Edges from each dependency to its dependants.
    edges: DiGraph<usize, ()>,
    vertices: Vec<NodeIndex>,
}

impl Graph {
    /// Builds the graph of `expanded`.
    ///
    /// # Errors
    /// Returns the references to missing resources and the cycles.
    pub fn new(expanded: &Expanded) -> Result<Self, Vec<Diagnostic>> {
        let mut edges = DiGraph::with_capacity(expanded.instances.len(), expanded.instances.len());
        let vertices: Vec<_> = (0..expanded.instances.len()).map(|i| edges.add_node(i)).collect();
        let mut locals = LocalReferences::default();
        let mut errors = Vec::new();
        errors.extend(circular_providers(expanded));
        for (i, instance) in expanded.instances.iter().enumerate() {
            for address in dependencies(expanded, instance, &mut locals, &mut errors) {
                if let Some(before) = expanded.index.get(&address) {
                    edges.add_edge(vertices[*before], vertices[i], ());
                }
            }
        }
        let graph = Self { edges, vertices };
        errors.extend(graph.cycles(expanded));
        // One error for a block with many instances.
        let mut seen = HashSet::default();
        errors.retain(|e| seen.insert((e.summary.clone(), e.at.clone().map(|(span, _)| span))));
        if errors.is_empty() { Ok(graph) } else { Err(errors) }
    }

    /// Adds an edge from `before` to `after`, unless that would close a cycle.
    pub fn order(&mut self, before: usize, after: usize) {
        // An instance has few dependencies, but it may have very many dependants.
        if before == after || self.dependencies(after).any(|known| known == before) {
            return;
        }
        let (before, after) = (self.vertices[before], self.vertices[after]);
        if !petgraph::algo::has_path_connecting(&self.edges, after, before, None) {
            self.edges.add_edge(before, after, ());
        }
    }

    /// Returns the direct dependencies of `instance`.
    pub fn dependencies(&self, instance: usize) -> impl Iterator<Item = usize> + '_ {
        self.neighbors(instance, petgraph::Incoming)
    }

    /// Returns the instances that depend directly on `instance`.
    pub fn dependants(&self, instance: usize) -> impl Iterator<Item = usize> + '_ {
        self.neighbors(instance, petgraph::Outgoing)
    }

    fn neighbors(&self, instance: usize, direction: petgraph::Direction) -> impl Iterator<Item = usize> + '_ {
        self.edges.neighbors_directed(self.vertices[instance], direction).map(|v| self.edges[v])
    }

    /// Returns the instances in waves. Each wave depends only on earlier waves.
    pub fn waves(&self) -> Vec<Vec<usize>> {
        let mut places = vec![0; self.vertices.len()];
        // The graph has no cycles, so it has an order.
        for i in toposort(&self.edges, None).unwrap_or_default().into_iter().map(|v| self.edges[v]) {
            places[i] = self.dependencies(i).map(|before| places[before] + 1).max().unwrap_or(0);
        }
        let mut waves = vec![Vec::new(); places.iter().max().map_or(0, |last| last + 1)];
        places.into_iter().enumerate().for_each(|(i, place)| waves[place].push(i));
        waves
    }

    /// Returns `start` and all instances that are reachable from it.
    pub fn closure(&self, start: impl IntoIterator<Item = usize>, direction: petgraph::Direction) -> HashSet<usize> {
        let mut found: HashSet<usize> = HashSet::default();
        let mut queue: Vec<usize> = start.into_iter().collect();
        while let Some(i) = queue.pop() {
            if found.insert(i) {
                queue.extend(self.neighbors(i, direction));
            }
        }
        found
    }

    fn cycles(&self, expanded: &Expanded) -> Vec<Diagnostic> {
        // No instance depends on itself: that is an error of its own.
        let components = tarjan_scc(&self.edges).into_iter().filter(|component| component.len() > 1);
        components.map(|component| self.cycle_error(&component, expanded)).collect()
    }

    /// Returns the error for a strongly connected component. It shows one cycle.
    fn cycle_error(&self, component: &[NodeIndex], expanded: &Expanded) -> Diagnostic {
        let members: HashSet<_> = component.iter().copied().collect();
        let start = component.iter().copied().min().unwrap_or_default();
        let mut path = vec![start];
        let mut seen = HashSet::from_iter([start]);
        // Follow dependencies inside the component until an instance repeats. In a component there is always a next one.
        let repeated = loop {
            let current = path[path.len() - 1];
            let next = self.edges.edges_directed(current, petgraph::Incoming).map(|e| e.source());
            let Some(next) = next.filter(|n| members.contains(n)).min_by_key(|n| (seen.contains(n) && *n != start, *n))
            else {
                break start;
            };
            path.push(next);
            if !seen.insert(next) {
                break next;
            }
        };
        let cycle = path.iter().skip_while(|i| **i != repeated).map(|i| &expanded.instances[self.edges[*i]]);
        let names: Vec<_> = cycle.clone().map(|i| format!("`{}`", i.address)).collect();
        let mut error = Diagnostic::error(format!("resources form a dependency cycle: {}", names.join(" -> ")))
            .code(error_codes::CYCLE)
            .help("remove one of these references or `depends_on` entries; `moorfast graph` shows the graph");
        let mut blocks = BTreeSet::new();
        for instance in cycle.filter(|i| blocks.insert(i.address.resource.clone())) {
            error = match error.at {
                None => error.at(instance.resource.span, "this resource"),
                Some(_) => error.related(instance.resource.span, "and this resource"),
            };
        }
        error
    }

    /// Returns the graph for display.
    pub fn view(&self, expanded: &Expanded) -> GraphView {
        let name = |i: usize| expanded.instances[i].address.to_string();
        let mut view = GraphView { nodes: (0..self.vertices.len()).map(name).collect(), edges: Vec::new() };
        for i in 0..self.vertices.len() {
            view.edges.extend(self.dependencies(i).map(|before| (name(i), name(before))));
        }
        let mut locals = LocalReferences::default();
        for check in &expanded.checks {
            let found = check_dependencies(expanded, check, &mut locals);
            view.nodes.push(check.name.clone());
            view.edges.extend(found.into_iter().map(|address| (check.name.clone(), address.to_string())));
        }
        for (output, block) in &expanded.manifest.outputs {
            let references = locals.of(expanded, 0, [&block.value]);
            let found = locals.instances_of(expanded, &references, &Binding::default());
            view.nodes.push(format!("output.{output}"));
            view.edges.extend(found.into_iter().map(|address| (format!("output.{output}"), address.to_string())));
        }
        view.edges.sort();
        view
    }
}

/// Where a reference is written, as seen from the block that uses it: in the block or its locals, or through inputs and outputs of modules in another module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Context {
    /// In the block itself, in this module.
    Own(usize),
    /// In the call of this module instance, in the module that calls it.
    Call(usize),
    /// In an output of this module instance.
    Output(usize),
}

impl Context {
    /// Returns the module of the reference.
    pub(super) fn module(self, expanded: &Expanded) -> usize {
        match self {
            Context::Own(module) | Context::Output(module) => module,
            Context::Call(module) => expanded.modules[module].call.as_ref().map_or(0, |call| call.caller),
        }
    }

    /// Returns the binding of the reference for a block with this binding.
    fn binding(self, expanded: &Expanded, block: &Binding) -> Binding {
        match self {
            Context::Own(_) => block.clone(),
            Context::Output(module) => block.in_module(module),
            Context::Call(module) => {
                expanded.modules[module].call.as_ref().map_or_else(Binding::default, |call| block.in_call(call))
            }
        }
    }
}

/// A reference to a resource, or to outputs of a module that an index selects, with the place of its expression.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(super) context: Context,
    pub(super) reference: ReferenceUse,
}

/// A named value that is defined by an expression.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Definition {
    Local(String),
    Variable(String),
    /// An output of this module instance.
    Output(usize, String),
}

/// A cache of the references of each local, input and output, including those of the values that it uses.
#[derive(Default)]
pub(crate) struct LocalReferences(BTreeMap<(Context, Definition), Vec<Use>>);

impl LocalReferences {
    /// Returns all references of `exprs` of a block in `module`, directly or through locals, inputs and outputs.
    pub fn of<'e>(
        &mut self,
        expanded: &Expanded,
        module: usize,
        exprs: impl IntoIterator<Item = &'e Expr>,
    ) -> Vec<Use> {
        self.in_context(expanded, Context::Own(module), exprs)
    }

    fn in_context<'e>(
        &mut self,
        expanded: &Expanded,
        context: Context,
        exprs: impl IntoIterator<Item = &'e Expr>,
    ) -> Vec<Use> {
        let mut found = Vec::new();
        for reference in exprs.into_iter().flat_map(Expr::reference_uses) {
            let definitions = match &reference.reference {
                Reference::Local(name) => vec![Definition::Local(name.clone())],
                Reference::Variable(name) => vec![Definition::Variable(name.clone())],
                Reference::Module { name, key, any: false, output } => {
                    let called = expanded.modules[context.module(expanded)].called.get(name);
                    let is_named = |(instance, _): &(&Option<String>, &usize)| key.is_none() || *instance == key;
                    let instances = called.into_iter().flatten().filter(is_named);
                    instances.flat_map(|(_, module)| outputs(expanded, *module, output.as_deref())).collect()
                }
                _ => {
                    found.push(Use { context, reference });
                    continue;
                }
            };
            // An error is reported where the value is used, not inside its definition.
            let span = reference.span;
            for definition in definitions {
                found.extend(self.of_definition(expanded, context, definition).into_iter().map(|mut inner| {
                    inner.reference.span = span;
                    inner
                }));
            }
        }
        found
    }

    pub(super) fn of_definition(&mut self, expanded: &Expanded, context: Context, definition: Definition) -> Vec<Use> {
        let entry = (context, definition);
        if let Some(found) = self.0.get(&entry) {
            return found.clone();
        }
        // Inserted first, so that a cycle of values ends. The manifest check reports the cycle.
        self.0.insert(entry.clone(), Vec::new());
        let module = context.module(expanded);
        let found = match &entry.1 {
            Definition::Local(name) => {
                self.in_context(expanded, context, expanded.modules[module].manifest.locals.get(name))
            }
            Definition::Variable(name) => match &expanded.modules[module].call {
                Some(call) => {
                    let inputs = call.block(expanded).into_iter().flat_map(|block| &block.inputs);
                    let input = inputs.filter(|(input, ..)| input == name).map(|(_, _, expr)| expr);
                    let collection = call.collection.as_deref();
                    self.in_context(expanded, Context::Call(module), input.chain(collection))
                }
                None => Vec::new(),
            },
            Definition::Output(module, name) => {
                let output = expanded.modules[*module].manifest.outputs.get(name);
                self.in_context(expanded, Context::Output(*module), output.map(|output| &output.value))
            }
        };
        self.0.insert(entry, found.clone());
        found
    }

    /// Returns the instances to which `references` refer in a block with this binding.
    fn instances_of(&mut self, expanded: &Expanded, references: &[Use], block: &Binding) -> BTreeSet<Address> {
        let mut found = BTreeSet::new();
        for Use { context, reference: ReferenceUse { reference, index, .. } } in references {
            let binding = &context.binding(expanded, block);
            match reference {
                Reference::Resource { resource, key, any } => {
                    let resource = &*expanded.absolute(binding.module, resource);
                    let keys = match (key, index) {
                        (Some(key), _) => Some(vec![key.clone()]),
                        (None, Some(index)) => known_keys(expanded, index, binding),
                        (None, None) => None,
                    };
                    match keys {
                        Some(keys) => {
                            let by_key = |key: &String| instance_by_key(expanded, resource, key, binding);
                            found.extend(keys.iter().filter_map(by_key));
                        }
                        // The index is not known, so it can be any instance.
                        None if *any => found.extend(all_instances(expanded, resource)),
                        None => found.extend(addresses_of(expanded, resource, binding)),
                    }
                }
                Reference::Module { name, output, .. } => {
                    let keys = index.as_ref().and_then(|index| known_keys(expanded, index, binding));
                    let is_used = |key: &Option<String>| {
                        keys.as_ref().zip(key.as_ref()).is_none_or(|(keys, key)| keys.contains(key))
                    };
                    let called = expanded.modules[binding.module].called.get(name).into_iter().flatten();
                    for (_, module) in called.filter(|(key, _)| is_used(key)) {
                        for definition in outputs(expanded, *module, output.as_deref()) {
                            let inner = self.of_definition(expanded, *context, definition);
                            found.extend(self.instances_of(expanded, &inner, block));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// Returns the output of a module instance with this name, or all outputs.
pub(super) fn outputs(expanded: &Expanded, module: usize, name: Option<&str>) -> Vec<Definition> {
    let all = expanded.modules[module].manifest.outputs.keys();
    let used = all.filter(|output| name.is_none_or(|name| name == *output));
    used.map(|output| Definition::Output(module, output.clone())).collect()
}

fn dependencies(
    expanded: &Expanded,
    instance: &Instance,
    locals: &mut LocalReferences,
    errors: &mut Vec<Diagnostic>,
) -> BTreeSet<Address> {
    let resource = &instance.resource;
    // A postcondition is evaluated after the operation, but the instances that it reads must exist by then.
    let conditions = resource.preconditions.iter().chain(&resource.postconditions).flat_map(Condition::expressions);
    let attributes = resource.attributes.iter().map(|(_, _, expr)| expr);
    let collection = instance.binding.collection.as_deref();
    let references = locals.of(expanded, instance.binding.module, attributes.chain(conditions).chain(collection));
    let mut found = locals.instances_of(expanded, &references, &instance.binding);
    let lifecycle = &resource.lifecycle.replace_triggered_by;
    for (pattern, span) in resource.depends_on.iter().chain(&resource.restart_on).chain(lifecycle) {
        match matching(expanded, pattern, &instance.binding) {
            Some(addresses) => found.extend(addresses),
            None => errors.push(unknown_resource(expanded, pattern, *span)),
        }
    }
    for (pattern, span, binding) in call_dependencies(expanded, &instance.binding) {
        match matching(expanded, pattern, &binding) {
            Some(addresses) => found.extend(addresses),
            None => errors.push(unknown_resource(expanded, pattern, span)),
        }
    }
    if instance.resource_type.accesses_target() {
        found
            .extend(provider_dependencies(expanded, &instance.provider).filter(|address| *address != instance.address));
    }
    if resource.address.mode == Mode::Managed && found.contains(&instance.address) {
        let message = format!("`{}` refers to itself", instance.address);
        errors.push(Diagnostic::error(message).at(resource.span, "").help("use `self` in a postcondition"));
    }
    found.remove(&instance.address);
    found
}

/// Returns `depends_on` of all calls that lead to the module of a block, each with the binding of its call.
fn call_dependencies<'e>(expanded: &'e Expanded, block: &Binding) -> Vec<(&'e Pattern, Span, Binding)> {
    let mut found = Vec::new();
    let mut inside = block.clone();
    while let Some(call) = &expanded.modules[inside.module].call {
        inside = inside.in_call(call);
        let patterns = call.block(expanded).into_iter().flat_map(|block| &block.depends_on);
        found.extend(patterns.map(|(pattern, span)| (pattern, *span, inside.clone())));
    }
    found
}

/// Returns the instances on which all instances of a provider instance depend (`depends_on` of its block).
pub(crate) fn provider_dependencies<'e>(expanded: &'e Expanded, alias: &str) -> impl Iterator<Item = Address> + 'e {
    let patterns = expanded.manifest.providers.get(alias).map(|block| block.depends_on.as_slice()).unwrap_or_default();
    let everywhere = Binding::default();
    patterns.iter().flat_map(move |(pattern, _)| matching(expanded, pattern, &everywhere).unwrap_or_default())
}

/// Returns the errors for providers that depend on their own instances.
fn circular_providers(expanded: &Expanded) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for (alias, block) in &expanded.manifest.providers {
        for (pattern, span) in &block.depends_on {
            let dependencies = matching(expanded, pattern, &Binding::default()).unwrap_or_default();
            let is_own = |i: &Instance| i.provider == *alias && i.resource_type.accesses_target();
            if dependencies.iter().filter_map(|address| expanded.instance(address)).any(is_own) {
                let message = format!("the provider `{alias}` depends on `{pattern}`, which it manages itself");
                let help = "`depends_on` of a provider names resources of other providers that start its API, such as a unit on a node";
                errors.push(Diagnostic::error(message).at(*span, "").help(help));
            }
        }
    }
    errors
}

/// Returns the instances on which a check depends.
pub(crate) fn check_dependencies(
    expanded: &Expanded,
    check: &CheckInstance,
    locals: &mut LocalReferences,
) -> BTreeSet<Address> {
    let assertions = check.check.assertions.iter().flat_map(Condition::expressions);
    let collection = check.binding.collection.as_deref();
    let arguments = check.check.probe.iter().map(|probe| &probe.arguments);
    let exprs = arguments.chain(assertions).chain(collection);
    let references = locals.of(expanded, check.binding.module, exprs);
    let mut found = locals.instances_of(expanded, &references, &check.binding);
    let named = check.check.depends_on.iter().filter_map(|(pattern, _)| matching(expanded, pattern, &check.binding));
    let of_calls = call_dependencies(expanded, &check.binding).into_iter();
    let of_calls = of_calls.filter_map(|(pattern, _, binding)| matching(expanded, pattern, &binding));
    found.extend(named.chain(of_calls).flatten());
    found
}

/// Returns the keys to which an index evaluates, or `None` if they depend on resources.
fn known_keys(expanded: &Expanded, index: &Expr, binding: &Binding) -> Option<Vec<String>> {
    let value = index.evaluate(&InstanceScope::new(expanded, Values::none(), binding.clone())).ok()?;
    let mut keys = Vec::new();
    let mut open = vec![&value];
    while let Some(value) = open.pop() {
        match value.reveal() {
            Value::List(items) => open.extend(items),
            key => keys.push(to_text(key)?),
        }
    }
    Some(keys)
}

/// Returns the instances to which an address of `depends_on` or `restart_on` refers: the one with its key, or as a reference without a key does.
/// A module stands for all of its resources. `None` if the block or the instance does not exist.
pub(crate) fn matching(expanded: &Expanded, pattern: &Pattern, binding: &Binding) -> Option<Vec<Address>> {
    let pattern = &pattern.within(&expanded.modules[binding.module].path);
    let resources = expanded.resources_of(pattern);
    let mut found = Vec::new();
    for resource in &resources {
        match pattern.key() {
            Some(key) => found.push(instance_by_key(expanded, resource, key, binding)?),
            None => found.extend(addresses_of(expanded, resource, binding)),
        }
    }
    // Without its static data, the manifest does not show which instances exist.
    let can_be_empty = pattern.key().is_none() || !expanded.open.is_empty();
    (!resources.is_empty() || can_be_empty && expanded.has_block(pattern)).then_some(found)
}

fn addresses_of(expanded: &Expanded, resource: &ResourceAddress, binding: &Binding) -> Vec<Address> {
    match referenced(expanded, resource, binding) {
        Referenced::One(address) => vec![address],
        Referenced::Many(places) => places.iter().map(|i| expanded.instances[*i].address.clone()).collect(),
    }
}

fn all_instances<'e>(expanded: &'e Expanded, resource: &ResourceAddress) -> impl Iterator<Item = Address> + 'e {
    let places = expanded.by_resource.get(resource).map(Vec::as_slice).unwrap_or_default();
    places.iter().map(|i| expanded.instances[*i].address.clone())
}

fn unknown_resource(expanded: &Expanded, pattern: &Pattern, span: Span) -> Diagnostic {
    let known: BTreeSet<_> = expanded.instances.iter().map(|instance| instance.address.resource.to_string()).collect();
    let error =
        Diagnostic::error(format!("unknown resource `{pattern}`")).code(error_codes::UNKNOWN_REFERENCE).at(span, "");
    match suggest(&pattern.block().to_string(), known.iter().map(String::as_str)) {
        Some(help) => error.help(help),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(instances: usize) -> Graph {
        let mut edges = DiGraph::new();
        let vertices = (0..instances).map(|i| edges.add_node(i)).collect();
        Graph { edges, vertices }
    }

    fn edges(graph: &Graph) -> Vec<(usize, usize)> {
        let of = |after: usize| graph.dependencies(after).map(move |before| (before, after));
        let mut edges: Vec<_> = (0..graph.vertices.len()).flat_map(of).collect();
        edges.sort_unstable();
        edges
    }

    #[test]
    fn an_implied_order_is_added_unless_it_closes_a_cycle() {
        let mut graph = graph(4);
        graph.order(0, 1);
        graph.order(1, 2);
        assert_eq!(edges(&graph), [(0, 1), (1, 2)]);
        // A direct cycle, an indirect cycle, and a self-loop.
        graph.order(1, 0);
        graph.order(2, 0);
        graph.order(3, 3);
        assert_eq!(edges(&graph), [(0, 1), (1, 2)]);
        graph.order(0, 2);
        graph.order(3, 0);
        assert_eq!(edges(&graph), [(0, 1), (0, 2), (1, 2), (3, 0)]);
        // The same order twice is one edge.
        graph.order(0, 1);
        assert_eq!(edges(&graph).len(), 4);
        assert_eq!(graph.waves(), [vec![3], vec![0], vec![1], vec![2]]);
    }
}
