//! The dependency graph: which instance comes after which.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::configuration::expand::{Binding, CheckInstance, Expanded, Instance};
use crate::configuration::scope::{InstanceScope, Meant, Values, keyed, meant};
use crate::expression::{Expr, Mention, Reference};
use crate::manifest::Condition;
use crate::model::convert::to_text;
use crate::model::{Address, Diagnostic, Mode, ResourceAddress, Span, Value, suggest};

/// The dependency graph for people: nodes and edges by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphView {
    /// Every node: an address, or `var.x`, `local.x`, `output.x`, `check.x`.
    pub nodes: Vec<String>,
    /// From each dependant to what it depends on.
    pub edges: Vec<(String, String)>,
}

/// The instances of a manifest and what each comes after. Indexes are places in [`Expanded::instances`].
#[derive(Debug)]
pub(crate) struct Graph {
    /// From what comes first to what comes after it.
    edges: DiGraph<usize, ()>,
    vertices: Vec<NodeIndex>,
}

impl Graph {
    /// The graph of `expanded`.
    pub fn new(expanded: &Expanded) -> Result<Self, Vec<Diagnostic>> {
        let mut edges = DiGraph::with_capacity(expanded.instances.len(), expanded.instances.len());
        let vertices: Vec<_> = (0..expanded.instances.len()).map(|i| edges.add_node(i)).collect();
        let mut locals = LocalReferences::default();
        let mut errors = Vec::new();
        errors.extend(made_by_themselves(expanded));
        for (i, instance) in expanded.instances.iter().enumerate() {
            for address in dependencies(expanded, instance, &mut locals, &mut errors) {
                if let Some(before) = expanded.index.get(&address) {
                    edges.update_edge(vertices[*before], vertices[i], ());
                }
            }
        }
        let graph = Self { edges, vertices };
        errors.extend(graph.cycles(expanded));
        // One block has one error, however many instances it has.
        let mut seen = HashSet::new();
        errors.retain(|e| seen.insert((e.summary.clone(), e.at.clone().map(|(span, _)| span))));
        if errors.is_empty() { Ok(graph) } else { Err(errors) }
    }

    /// Adds that `after` comes after `before`, unless that would close a cycle.
    pub fn order(&mut self, before: usize, after: usize) {
        let (before, after) = (self.vertices[before], self.vertices[after]);
        if before != after && !petgraph::algo::has_path_connecting(&self.edges, after, before, None) {
            self.edges.update_edge(before, after, ());
        }
    }

    /// What `instance` comes directly after.
    pub fn dependencies(&self, instance: usize) -> impl Iterator<Item = usize> + '_ {
        self.neighbors(instance, petgraph::Incoming)
    }

    /// What comes directly after `instance`.
    pub fn dependants(&self, instance: usize) -> impl Iterator<Item = usize> + '_ {
        self.neighbors(instance, petgraph::Outgoing)
    }

    fn neighbors(&self, instance: usize, direction: petgraph::Direction) -> impl Iterator<Item = usize> + '_ {
        self.edges.neighbors_directed(self.vertices[instance], direction).map(|v| self.edges[v])
    }

    /// The instances in waves: each wave depends only on earlier ones.
    pub fn waves(&self) -> Vec<Vec<usize>> {
        let mut missing: Vec<_> = (0..self.vertices.len()).map(|i| self.dependencies(i).count()).collect();
        let mut wave: Vec<_> = (0..missing.len()).filter(|i| missing[*i] == 0).collect();
        let mut waves = Vec::new();
        while !wave.is_empty() {
            let mut next = BTreeSet::new();
            for dependant in wave.iter().flat_map(|i| self.dependants(*i)) {
                missing[dependant] -= 1;
                if missing[dependant] == 0 {
                    next.insert(dependant);
                }
            }
            waves.push(std::mem::replace(&mut wave, next.into_iter().collect()));
        }
        waves
    }

    /// `start` and everything that is reached from there.
    pub fn closure(&self, start: impl IntoIterator<Item = usize>, direction: petgraph::Direction) -> HashSet<usize> {
        let mut found: HashSet<usize> = HashSet::new();
        let mut queue: Vec<usize> = start.into_iter().collect();
        while let Some(i) = queue.pop() {
            if found.insert(i) {
                queue.extend(self.neighbors(i, direction));
            }
        }
        found
    }

    fn cycles(&self, expanded: &Expanded) -> Vec<Diagnostic> {
        let looped = |i: &NodeIndex| self.edges.contains_edge(*i, *i);
        let components = tarjan_scc(&self.edges).into_iter();
        components.filter(|c| c.len() > 1 || c.iter().any(looped)).map(|c| self.cycle_error(&c, expanded)).collect()
    }

    /// The error for a strongly connected component: shows one way round.
    fn cycle_error(&self, component: &[NodeIndex], expanded: &Expanded) -> Diagnostic {
        let members: HashSet<_> = component.iter().copied().collect();
        let start = component.iter().copied().min().unwrap_or_default();
        let mut way = vec![start];
        let mut seen = HashSet::from([start]);
        // Follow dependencies inside the component until an instance comes again; in a component there always is a next one.
        let first_again = loop {
            let here = way[way.len() - 1];
            let next = self.edges.edges_directed(here, petgraph::Incoming).map(|e| e.source());
            let Some(next) = next.filter(|n| members.contains(n)).min_by_key(|n| (seen.contains(n) && *n != start, *n))
            else {
                break start;
            };
            way.push(next);
            if !seen.insert(next) {
                break next;
            }
        };
        let round = way.iter().skip_while(|i| **i != first_again).map(|i| &expanded.instances[self.edges[*i]]);
        let names: Vec<_> = round.clone().map(|i| format!("`{}`", i.address)).collect();
        let mut error = Diagnostic::error(format!("resources depend on each other: {}", names.join(" -> ")))
            .help("take one of these references or `depends_on` away; `moorfast graph` draws them all");
        let mut blocks = BTreeSet::new();
        for instance in round.filter(|i| blocks.insert(i.address.resource.clone())) {
            error = match error.at {
                None => error.at(instance.resource.span, "this one"),
                Some(_) => error.related(instance.resource.span, "and this one"),
            };
        }
        error
    }

    /// The graph for people.
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
            let found = instances_of(expanded, &locals.of(expanded, [&block.value]), &Binding::default());
            view.nodes.push(format!("output.{output}"));
            view.edges.extend(found.into_iter().map(|address| (format!("output.{output}"), address.to_string())));
        }
        view.edges.sort();
        view
    }
}

/// What each local refers to, its own locals followed; found once per local.
#[derive(Default)]
pub(crate) struct LocalReferences(BTreeMap<String, Vec<Mention>>);

impl LocalReferences {
    /// Everything that `exprs` refer to, directly or through locals.
    pub fn of<'e>(&mut self, expanded: &Expanded, exprs: impl IntoIterator<Item = &'e Expr>) -> Vec<Mention> {
        let mut found = Vec::new();
        for mention in exprs.into_iter().flat_map(Expr::mentions) {
            match &mention.reference {
                // Inside a local the place of interest is still the one that uses it.
                Reference::Local(name) => {
                    let span = mention.span;
                    found.extend(self.of_local(expanded, name).into_iter().map(|m| Mention { span, ..m }))
                }
                _ => found.push(mention),
            }
        }
        found
    }

    fn of_local(&mut self, expanded: &Expanded, name: &str) -> Vec<Mention> {
        if let Some(found) = self.0.get(name) {
            return found.clone();
        }
        // Entered before it is known, so that a cycle of locals ends; evaluation reports the cycle.
        self.0.insert(name.to_owned(), Vec::new());
        let found = match expanded.manifest.locals.get(name) {
            Some(expr) => self.of(expanded, [expr]),
            None => Vec::new(),
        };
        self.0.insert(name.to_owned(), found.clone());
        found
    }
}

fn dependencies(
    expanded: &Expanded,
    instance: &Instance,
    locals: &mut LocalReferences,
    errors: &mut Vec<Diagnostic>,
) -> BTreeSet<Address> {
    let resource = &instance.resource;
    // A postcondition looks at others only after the fact, but it must be able to.
    let conditions = resource.preconditions.iter().chain(&resource.postconditions).flat_map(Condition::expressions);
    let attributes = resource.attributes.iter().map(|(_, _, expr)| expr);
    let collection = instance.binding.collection.as_deref();
    let references = locals.of(expanded, attributes.chain(conditions).chain(collection));
    let mut found = instances_of(expanded, &references, &instance.binding);
    let lifecycle = &resource.lifecycle.replace_triggered_by;
    for (pattern, span) in resource.depends_on.iter().chain(&resource.restart_on).chain(lifecycle) {
        match matching(expanded, pattern, &instance.binding) {
            Some(addresses) => found.extend(addresses),
            None => errors.push(no_such_resource(expanded, pattern, *span)),
        }
    }
    found.extend(provider_dependencies(expanded, &instance.provider).filter(|address| *address != instance.address));
    if resource.address.mode == Mode::Managed && found.contains(&instance.address) {
        let message = format!("`{}` refers to itself", instance.address);
        errors
            .push(Diagnostic::error(message).at(resource.span, "").help("`self` in a postcondition is this resource"));
    }
    found.remove(&instance.address);
    found
}

/// The instances that all of a provider instance comes after.
pub(crate) fn provider_dependencies<'e>(expanded: &'e Expanded, alias: &str) -> impl Iterator<Item = Address> + 'e {
    let patterns = expanded.manifest.providers.get(alias).map(|block| block.depends_on.as_slice()).unwrap_or_default();
    let everywhere = Binding::default();
    patterns.iter().flat_map(move |(pattern, _)| matching(expanded, pattern, &everywhere).unwrap_or_default())
}

/// The errors for providers that come after what they make themselves.
fn made_by_themselves(expanded: &Expanded) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for (alias, block) in &expanded.manifest.providers {
        for (pattern, span) in &block.depends_on {
            let made = matching(expanded, pattern, &Binding::default()).unwrap_or_default();
            if made.iter().filter_map(|address| expanded.instance(address)).any(|i| i.provider == *alias) {
                let message = format!("the provider `{alias}` comes after `{pattern}`, which it makes itself");
                let help = "it comes after what brings up that to which it connects: a unit on a node";
                errors.push(Diagnostic::error(message).at(*span, "").help(help));
            }
        }
    }
    errors
}

/// The instances that a check looks at.
pub(crate) fn check_dependencies(
    expanded: &Expanded,
    check: &CheckInstance,
    locals: &mut LocalReferences,
) -> BTreeSet<Address> {
    let assertions = check.check.assertions.iter().flat_map(Condition::expressions);
    let collection = check.binding.collection.as_deref();
    let references = locals.of(expanded, check.check.http.iter().chain(assertions).chain(collection));
    let mut found = instances_of(expanded, &references, &check.binding);
    let named = check.check.depends_on.iter().filter_map(|(pattern, _)| matching(expanded, pattern, &check.binding));
    found.extend(named.flatten());
    found
}

/// The instances that `mentions` name from within `binding`.
fn instances_of(expanded: &Expanded, mentions: &[Mention], binding: &Binding) -> BTreeSet<Address> {
    let mut found = BTreeSet::new();
    for Mention { reference, index, .. } in mentions {
        let Reference::Resource { resource, key, any } = reference else { continue };
        let keys = match (key, index) {
            (Some(key), _) => Some(vec![key.clone()]),
            (None, Some(index)) => known_keys(expanded, index, binding),
            (None, None) => None,
        };
        match keys {
            Some(keys) => found.extend(keys.iter().filter_map(|key| keyed(expanded, resource, key, binding))),
            // It may be any of them.
            None if *any => found.extend(all_instances(expanded, resource)),
            None => found.extend(meant_by(expanded, resource, binding)),
        }
    }
    found
}

/// The keys that an index evaluates to; `None` where they are not known before anything is read.
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

/// The instances that an address of `depends_on` or `restart_on` means: the one with its key, or those that a reference without a key means. `None`
/// where there is no such resource.
pub(crate) fn matching(expanded: &Expanded, pattern: &Address, binding: &Binding) -> Option<Vec<Address>> {
    match &pattern.key {
        Some(key) => Some(vec![keyed(expanded, &pattern.resource, key, binding)?]),
        None if expanded.manifest.resources.contains_key(&pattern.resource) => {
            Some(meant_by(expanded, &pattern.resource, binding))
        }
        None => None,
    }
}

fn meant_by(expanded: &Expanded, resource: &ResourceAddress, binding: &Binding) -> Vec<Address> {
    match meant(expanded, resource, binding) {
        Meant::One(address) => vec![address],
        Meant::All(places) => places.iter().map(|i| expanded.instances[*i].address.clone()).collect(),
    }
}

fn all_instances<'e>(expanded: &'e Expanded, resource: &ResourceAddress) -> impl Iterator<Item = Address> + 'e {
    let places = expanded.by_resource.get(resource).map(Vec::as_slice).unwrap_or_default();
    places.iter().map(|i| expanded.instances[*i].address.clone())
}

fn no_such_resource(expanded: &Expanded, pattern: &Address, span: Span) -> Diagnostic {
    let known: Vec<_> = expanded.manifest.resources.keys().map(ToString::to_string).collect();
    let error = Diagnostic::error(format!("there is no resource `{pattern}`")).at(span, "");
    match suggest(&pattern.resource.to_string(), known.iter().map(String::as_str)) {
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
        // Directly, over another one, and to itself.
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
