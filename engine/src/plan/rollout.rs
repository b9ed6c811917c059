//! The rollouts of a plan: which nodes are changed one after the other, and in which order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use serde::{Deserialize, Serialize};

use super::planner::Draft;
use super::{Change, Reason};
use crate::configuration::expand::{Expanded, Selection};
use crate::configuration::selection::Gate;
use crate::model::{Address, Diagnostic, NodeName};
use crate::plan::order::Order;
use crate::provider::Action;

/// Nodes that an apply changes a few at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedRollout {
    /// The rollout of the manifest.
    pub name: String,
    /// How many nodes may be in work at once.
    pub max_unavailable: usize,
    /// What must be healthy before a node is through, as the manifest names it.
    pub gates: Vec<String>,
    /// How long each gate may take.
    pub timeout: Duration,
    /// How long is waited after a node before the next begins.
    pub pause: Duration,
    /// The nodes with their changes, in the order in which they are taken.
    pub nodes: Vec<RolledNode>,
    /// The nodes of the rollout without a change: those that are not healthy take from `max_unavailable`.
    pub settled: Vec<NodeName>,
}

/// One node of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolledNode {
    /// Its name.
    pub name: NodeName,
    /// What is changed before the next node may begin.
    pub changes: Vec<Address>,
}

/// The rollouts of a draft.
///
/// # Errors
/// If nodes of a rollout wait for each other.
pub(crate) fn rollouts(expanded: &Expanded, draft: &Draft) -> Result<Vec<PlannedRollout>, Vec<Diagnostic>> {
    let changes = &draft.changes;
    let works: Vec<_> = expanded.rollouts.iter().map(|selection| Nodes::of(selection, expanded, draft)).collect();
    // In the order in which they are taken where nothing speaks against it.
    let units: Vec<(usize, &NodeName)> = works
        .iter()
        .enumerate()
        .flat_map(|(i, work)| work.rolled.keys().map(move |place| (i, &work.names[*place])))
        .collect();
    let members: Vec<&[usize]> = works.iter().flat_map(|work| work.rolled.values().map(Vec::as_slice)).collect();
    let before = arrange(&members, &Order::new(changes, &draft.items));
    let order = in_turn(&before).map_err(|circles| {
        let error = |circle: &Vec<usize>| circular(expanded, changes, &units, &before, circle);
        circles.iter().map(error).collect::<Vec<_>>()
    })?;
    let planned = works.iter().enumerate().filter(|(_, work)| !work.rolled.is_empty()).map(|(i, work)| {
        let Selection { name, rollout, nodes, .. } = work.selection;
        let own = order.iter().filter(|unit| units[**unit].0 == i);
        let node = |unit: &usize| RolledNode {
            name: units[*unit].1.clone(),
            changes: members[*unit].iter().map(|place| changes[*place].address.clone()).collect(),
        };
        PlannedRollout {
            name: name.clone(),
            max_unavailable: rollout.max_unavailable.of(nodes.len()),
            gates: rollout.gates.iter().map(|(gate, _)| gate.to_string()).collect(),
            timeout: rollout.timeout,
            pause: rollout.pause,
            nodes: own.map(node).collect(),
            settled: work.settled.clone(),
        }
    });
    Ok(planned.collect())
}

/// The nodes of one rollout.
struct Nodes<'e> {
    selection: &'e Selection,
    names: &'e [NodeName],
    /// The changes of each node that is taken in its turn, by the node's place in `names`.
    rolled: BTreeMap<usize, Vec<usize>>,
    /// The nodes that nothing is done with.
    settled: Vec<NodeName>,
}

impl<'e> Nodes<'e> {
    fn of(selection: &'e Selection, expanded: &Expanded, draft: &Draft) -> Self {
        let changes = &draft.changes;
        let mut rolled: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, change) in changes.iter().enumerate().filter(|(_, c)| is_work(c.action)) {
            let node = change.bound_node(expanded);
            let place = node.and_then(|node| selection.place_of(&change.address.resource, &node.name));
            if let Some(place) = place {
                rolled.entry(place).or_default().push(i);
            }
        }
        let new: HashSet<&Address> = changes.iter().filter(|c| is_new(c)).map(|c| &c.address).collect();
        // Nothing is done on a machine that nobody approved, and it does not serve.
        rolled.retain(|place, _| draft.machines.withheld(&selection.nodes[*place]).is_none());
        let untouched = selection.nodes.iter().enumerate().filter(|(i, _)| !rolled.contains_key(i));
        let settled = untouched.map(|(_, node)| node.clone()).collect();
        // Work on a node that is not in service yet takes nothing away: all of it is new there, or what its gates ask for is.
        let is_absent = |gate: Gate| matches!(gate, Gate::Resource(instance) if new.contains(&instance.address));
        rolled.retain(|place, work| {
            let all_new = work.iter().all(|i| is_new(&changes[*i]));
            !all_new && !selection.gates(expanded, &selection.nodes[*place]).any(is_absent)
        });
        Self { selection, names: &selection.nodes, rolled, settled }
    }
}

/// Is it made where there was nothing, or on another machine than before?
fn is_new(change: &Change) -> bool {
    change.action == Action::Create || change.reasons.contains(&Reason::OtherMachine)
}

/// Is it done to the world? Reading is not.
fn is_work(action: Action) -> bool {
    action.acts_on_world() && action != Action::Read
}

/// For each unit of changes the units that come before it, each with the two changes that say so. What comes between them belongs to no unit.
pub(crate) fn arrange(units: &[&[usize]], order: &Order) -> Vec<BTreeMap<usize, (usize, usize)>> {
    let unit_of: HashMap<usize, usize> =
        units.iter().enumerate().flat_map(|(unit, members)| members.iter().map(move |place| (*place, unit))).collect();
    let mut before = vec![BTreeMap::new(); units.len()];
    for (unit, members) in units.iter().enumerate() {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<(usize, usize)> = members.iter().map(|place| (*place, *place)).collect();
        while let Some((first, place)) = queue.pop() {
            for next in order.dependants(place).iter().copied().filter(|next| seen.insert(*next)).collect::<Vec<_>>() {
                match unit_of.get(&next) {
                    Some(other) if *other != unit => _ = before[*other].entry(unit).or_insert((first, next)),
                    // It starts a way of its own.
                    Some(_) => {}
                    None => queue.push((first, next)),
                }
            }
        }
    }
    before
}

/// The units, each after those before it, else as they are numbered; or those that wait for each other.
fn in_turn(before: &[BTreeMap<usize, (usize, usize)>]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut waiting: BTreeSet<usize> = (0..before.len()).collect();
    let mut order = Vec::new();
    while let Some(next) = waiting.iter().copied().find(|unit| before[*unit].keys().all(|b| !waiting.contains(b))) {
        waiting.remove(&next);
        order.push(next);
    }
    if waiting.is_empty() {
        return Ok(order);
    }
    let edges =
        before.iter().enumerate().flat_map(|(after, all)| all.keys().map(move |before| (*before as u32, after as u32)));
    let graph: DiGraph<(), ()> = DiGraph::from_edges(edges);
    let circles = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1);
    let sorted = |circle: Vec<petgraph::graph::NodeIndex>| {
        let mut units: Vec<usize> = circle.into_iter().map(|unit| unit.index()).collect();
        units.sort_unstable();
        units
    };
    Err(circles.map(sorted).collect())
}

fn circular(
    expanded: &Expanded,
    changes: &[Change],
    units: &[(usize, &NodeName)],
    before: &[BTreeMap<usize, (usize, usize)>],
    circle: &[usize],
) -> Diagnostic {
    let names: Vec<_> = circle.iter().map(|unit| units[*unit].1.to_string()).collect();
    let selection = circle.first().map(|unit| &expanded.rollouts[units[*unit].0]);
    let why = circle.iter().flat_map(|after| circle.iter().filter_map(|b| before[*after].get(b))).take(2);
    let why: Vec<_> = why
        .map(|(first, next)| format!("{} comes after {}", changes[*next].address, changes[*first].address))
        .collect();
    let name = selection.map(|s| s.name.as_str()).unwrap_or_default();
    let message = format!(
        "the rollout `{name}` can't take its nodes one after the other: {} wait for each other",
        names.join(", ")
    );
    let error = Diagnostic::error(message).help(format!(
        "{}; take one of these references away, or leave one of the resources out with `resources`",
        why.join(", and ")
    ));
    match selection {
        Some(selection) => error.at(selection.rollout.span, ""),
        None => error,
    }
}
