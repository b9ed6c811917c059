//! The rollouts of a plan: the nodes that are changed one after the other, and their order.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::draft::Draft;
use super::model::{Change, Reason};
use super::order::Order;
use super::planned_rollout::{NodeDrain, PlannedRollout, RolledNode};
use crate::configuration::expand::{Expanded, Instance, Selection};
use crate::configuration::selection::Gate;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Diagnostic, NodeName};
use crate::provider::{Action, Target};

/// Returns the rollouts of a draft. `owner` is the owner of drains.
///
/// # Errors
/// If nodes of a rollout depend on each other.
pub(crate) fn rollouts(
    expanded: &Expanded,
    draft: &Draft,
    owner: &str,
) -> Result<Vec<PlannedRollout>, Vec<Diagnostic>> {
    if expanded.rollouts.is_empty() {
        return Ok(Vec::new());
    }
    let changes = &draft.changes;
    let by_rollout: Vec<_> =
        expanded.rollouts.iter().map(|selection| RolloutNodes::of(selection, expanded, draft, owner)).collect();
    // This is the order of the nodes, unless dependencies require another one.
    let in_order = || by_rollout.iter().enumerate().flat_map(|(i, one)| one.in_order().map(move |node| (i, node)));
    let groups: Vec<(usize, &NodeName)> = in_order().map(|(i, (place, _))| (i, &by_rollout[i].names[place])).collect();
    let members: Vec<&[usize]> = in_order().map(|(_, (_, members))| members).collect();
    let mut before = arrange(&members, &Order::new(changes, &draft.items));
    for (after, (i, _)) in groups.iter().enumerate() {
        let first: BTreeSet<usize> = expanded.rollouts[*i].after(&expanded.rollouts).collect();
        let first = groups.iter().enumerate().filter(|(_, (rollout, _))| first.contains(rollout));
        first.for_each(|(group, _)| _ = before[after].entry(group).or_insert(Cause::Rollout));
    }
    let order = in_turn(&before).map_err(|cycles| {
        let error = |cycle: &Vec<usize>| circular(expanded, changes, &groups, &before, cycle);
        cycles.iter().map(error).collect::<Vec<_>>()
    })?;
    let planned = by_rollout.iter().enumerate().filter(|(_, one)| !one.rolled.is_empty()).map(|(i, one)| {
        let Selection { name, rollout, nodes, .. } = one.selection;
        let own = order.iter().filter(|group| groups[**group].0 == i);
        let node = |group: &usize| RolledNode {
            name: groups[*group].1.clone(),
            changes: members[*group].iter().map(|place| changes[*place].address.clone()).collect(),
            drain: one.drain(groups[*group].1, members[*group], expanded, draft),
            was_drained: one.was_drained.contains(groups[*group].1),
        };
        let first = one.selection.after(&expanded.rollouts).filter(|first| !by_rollout[*first].rolled.is_empty());
        PlannedRollout {
            name: name.clone(),
            max_unavailable: rollout.max_unavailable.of(nodes.len()),
            gates: rollout.gates.iter().map(|(gate, _)| gate.to_string()).collect(),
            timeout: rollout.timeout,
            pause: rollout.pause,
            after: first.map(|first| expanded.rollouts[first].name.clone()).collect(),
            drain: rollout.drain.as_ref().map(|drain| drain.options.clone()),
            nodes: own.map(node).collect(),
            settled: one.settled.clone(),
        }
    });
    Ok(planned.collect())
}

/// Returns a warning for each node that an earlier run of `owner` drained, and that no rollout puts back into service: its `drain` was removed, or it does not select
/// the node any more.
pub(crate) fn forgotten_drains(expanded: &Expanded, draft: &Draft, owner: &str) -> Vec<String> {
    let is_forgotten = |instance: &&Instance| {
        let is_drained = || {
            let observed = draft.items.get(&instance.address)?.observed.as_ref()?;
            Some(instance.resource_type.drained_by(observed)? == owner)
        };
        let returns = |selection: &Selection, node: &NodeName| {
            let drained = selection.nodes.contains(node).then(|| selection.drained(expanded, node)).flatten();
            drained.is_some_and(|drained| drained.address == instance.address)
        };
        let node = instance.binding.node.as_ref().map(|node| &node.name);
        instance.resource_type.can_be_drained()
            && is_drained() == Some(true)
            && !node.is_some_and(|node| expanded.rollouts.iter().any(|selection| returns(selection, node)))
    };
    let warning = |instance: &Instance| {
        format!(
            "{} is out of service: an earlier run drained it, and no rollout drains it now; put it back by hand, or write `drain` in its rollout again and apply",
            instance.address
        )
    };
    expanded.instances.iter().filter(is_forgotten).map(warning).collect()
}

/// The nodes of one rollout.
struct RolloutNodes<'e> {
    selection: &'e Selection,
    names: &'e [NodeName],
    /// The changes of each node with changes, by the index of the node in `names`.
    rolled: BTreeMap<usize, Vec<usize>>,
    /// The nodes without changes.
    settled: Vec<NodeName>,
    /// The nodes that an earlier run drained and did not put back into service.
    was_drained: HashSet<&'e NodeName>,
}

/// The reason why one group comes before another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// The second change depends on the first.
    Changes(usize, usize),
    /// `after` of a rollout.
    Rollout,
}

impl<'e> RolloutNodes<'e> {
    fn of(selection: &'e Selection, expanded: &Expanded, draft: &Draft, owner: &str) -> Self {
        let changes = &draft.changes;
        let mut rolled: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, change) in changes.iter().enumerate().filter(|(_, c)| changes_object(c.action)) {
            let node = change.bound_node(expanded);
            let place = node.and_then(|node| selection.place_of(&change.address.resource, &node.name));
            if let Some(place) = place {
                rolled.entry(place).or_default().push(i);
            }
        }
        let is_drained = |node: &NodeName| {
            let instance = selection.drained(expanded, node)?;
            let observed = draft.items.get(&instance.address)?.observed.as_ref()?;
            instance.resource_type.drained_by(observed)
        };
        let was_drained: HashSet<&NodeName> =
            selection.nodes.iter().filter(|node| is_drained(node) == Some(owner)).collect();
        for (place, _) in selection.nodes.iter().enumerate().filter(|(_, node)| was_drained.contains(node)) {
            rolled.entry(place).or_default();
        }
        let new: HashSet<&Address> = changes.iter().filter(|c| is_new(c)).map(|c| &c.address).collect();
        // A node whose machine nobody approved is not changed, and it is not healthy.
        rolled.retain(|place, _| draft.machines.unapproved(&selection.nodes[*place]).is_none());
        let untouched = selection.nodes.iter().enumerate().filter(|(i, _)| !rolled.contains_key(i));
        let settled = untouched.map(|(_, node)| node.clone()).collect();
        // A node that is not in service yet is not part of the rollout: all of its objects are new, or the object of a gate is new.
        let is_absent = |gate: Gate| matches!(gate, Gate::Resource(instance) if new.contains(&instance.address));
        rolled.retain(|place, members| {
            let all_new = !members.is_empty() && members.iter().all(|i| is_new(&changes[*i]));
            !all_new && !selection.gates(expanded, &selection.nodes[*place]).any(is_absent)
        });
        Self { selection, names: &selection.nodes, rolled, settled, was_drained }
    }

    /// Returns the nodes with their changes: first those that are out of service already, so that not more of them are.
    fn in_order(&self) -> impl Iterator<Item = (usize, &[usize])> {
        let mut nodes: Vec<(usize, &[usize])> =
            self.rolled.iter().map(|(place, members)| (*place, members.as_slice())).collect();
        nodes.sort_by_key(|(place, _)| (!self.was_drained.contains(&self.names[*place]), *place));
        nodes.into_iter()
    }

    /// Returns whether a node is drained: if objects on it change.
    fn drain(&self, node: &NodeName, members: &[usize], expanded: &Expanded, draft: &Draft) -> NodeDrain {
        let needs_drain = |change: &Change| {
            let target = expanded.target(&change.address.resource, &change.provider, &change.target);
            matches!(target, Some(Target::Node(_))) && self.selection.needs_drain(&change.address.resource)
        };
        let Some(instance) = self.selection.drained(expanded, node) else { return NodeDrain::NotNeeded };
        if !members.iter().any(|i| needs_drain(&draft.changes[*i])) {
            return NodeDrain::NotNeeded;
        }
        let is_present = match draft.change(&instance.address) {
            Some(change) => {
                let observed = draft.items.get(&instance.address).and_then(|item| item.observed.as_ref());
                observed.is_some() && !is_new(change)
            }
            // It is not selected, so it was not read.
            None => draft.records.contains_key(&instance.address),
        };
        if is_present { NodeDrain::Planned } else { NodeDrain::Absent }
    }
}

/// Whether the object is created where none existed, or on another machine than before.
fn is_new(change: &Change) -> bool {
    change.action == Action::Create || change.reasons.contains(&Reason::OtherMachine)
}

/// Whether an object is changed. Reading a data source changes nothing.
fn changes_object(action: Action) -> bool {
    action.accesses_target() && action != Action::Read
}

/// Returns for each group of changes the groups before it, each with the two changes that cause this order. Changes between them may belong to no group.
pub(crate) fn arrange(groups: &[&[usize]], order: &Order) -> Vec<BTreeMap<usize, Cause>> {
    let group_of: HashMap<usize, usize> = groups
        .iter()
        .enumerate()
        .flat_map(|(group, members)| members.iter().map(move |place| (*place, group)))
        .collect();
    let mut before = vec![BTreeMap::new(); groups.len()];
    for (group, members) in groups.iter().enumerate() {
        let mut seen = BTreeSet::new();
        let mut queue: Vec<(usize, usize)> = members.iter().map(|place| (*place, *place)).collect();
        while let Some((first, place)) = queue.pop() {
            for next in order.dependants(place).iter().copied().filter(|next| seen.insert(*next)).collect::<Vec<_>>() {
                match group_of.get(&next) {
                    Some(other) if *other != group => {
                        _ = before[*other].entry(group).or_insert(Cause::Changes(first, next))
                    }
                    // The search continues from that group itself.
                    Some(_) => {}
                    None => queue.push((first, next)),
                }
            }
        }
    }
    before
}

/// Returns the groups, each after the groups before it and otherwise in their given order.
///
/// # Errors
/// The groups that depend on each other.
fn in_turn(before: &[BTreeMap<usize, Cause>]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut waiting: BTreeSet<usize> = (0..before.len()).collect();
    let mut order = Vec::new();
    while let Some(next) = waiting.iter().copied().find(|group| before[*group].keys().all(|b| !waiting.contains(b))) {
        waiting.remove(&next);
        order.push(next);
    }
    if waiting.is_empty() {
        return Ok(order);
    }
    let edges =
        before.iter().enumerate().flat_map(|(after, all)| all.keys().map(move |before| (*before as u32, after as u32)));
    let graph: DiGraph<(), ()> = DiGraph::from_edges(edges);
    let cycles = tarjan_scc(&graph).into_iter().filter(|cycle| cycle.len() > 1);
    let sorted = |cycle: Vec<petgraph::graph::NodeIndex>| {
        let mut groups: Vec<usize> = cycle.into_iter().map(|group| group.index()).collect();
        groups.sort_unstable();
        groups
    };
    Err(cycles.map(sorted).collect())
}

fn circular(
    expanded: &Expanded,
    changes: &[Change],
    groups: &[(usize, &NodeName)],
    before: &[BTreeMap<usize, Cause>],
    cycle: &[usize],
) -> Diagnostic {
    let names: Vec<_> = cycle.iter().map(|group| groups[*group].1.to_string()).collect();
    let selection = cycle.first().map(|group| &expanded.rollouts[groups[*group].0]);
    let why = cycle.iter().flat_map(|after| cycle.iter().filter_map(|b| before[*after].get(b))).take(2);
    let why: Vec<_> = why
        .map(|cause| match cause {
            Cause::Changes(first, next) => {
                format!("{} comes after {}", changes[*next].address, changes[*first].address)
            }
            Cause::Rollout => "a rollout comes after another one (`after`)".to_owned(),
        })
        .collect();
    let name = selection.map(|s| s.name.as_str()).unwrap_or_default();
    let message = format!(
        "the rollout `{name}` cannot change its nodes one after the other: {} depend on each other",
        names.join(", ")
    );
    let error = Diagnostic::error(message).help(format!(
        "{}; remove one of these references, or remove one of the resources from the rollout with `resources`",
        why.join(", and ")
    ));
    match selection {
        Some(selection) => error.at(selection.rollout.span, ""),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_depend_on_each_other_are_named_and_no_others() {
        let after = |groups: &[usize]| groups.iter().map(|group| (*group, Cause::Rollout)).collect();
        assert_eq!(in_turn(&[after(&[1]), after(&[]), after(&[1])]), Ok(vec![1, 0, 2]));
        let before = [after(&[1]), after(&[0]), after(&[1]), after(&[])];
        assert_eq!(in_turn(&before), Err(vec![vec![0, 1]]));
    }
}
