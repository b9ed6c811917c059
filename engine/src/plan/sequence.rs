//! What comes before what, in which parts: the old objects of dependants are destroyed first, then the old object, then the new ones are created in order.

use std::collections::{BTreeSet, HashMap, HashSet};

use moorfast_state::Record;
use petgraph::algo::{has_path_connecting, tarjan_scc};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::model::Address;
use crate::plan::{Change, Item};
use crate::provider::Action;

/// A part of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// An old object goes.
    Remove(Old),
    /// The object is made, changed or read.
    Make,
}

/// An object that a change removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Old {
    /// What an earlier run left, by its place in [`Item::leftovers`].
    Leftover(usize),
    /// What was found where the new object goes and cannot become it.
    Found,
    /// The object that is deleted or replaced.
    Own,
}

/// Why one part comes before another. Where the reasons contradict each other, the earlier one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// They are parts of one change.
    Own,
    /// The new object takes the place of the old one.
    Place,
    /// The manifest says so.
    Manifest,
    /// The state says so: what depends on an object goes before it.
    Recorded,
    /// What depends on an object lets go of it before it goes.
    Release,
}

/// The parts of changes and their order.
pub(crate) struct Sequence {
    /// Which change and which part of it.
    pub parts: Vec<(usize, Part)>,
    /// From a part to one that comes after it, by their places in `parts`.
    pub edges: BTreeSet<(Why, usize, usize)>,
    /// The replacements whose old object another instance wants.
    pub hands_over: Vec<bool>,
}

/// An object: its target and its identity.
type Object<'a> = (&'a str, &'a str);

impl Sequence {
    pub fn of(changes: &[Change], items: &HashMap<Address, Item>) -> Self {
        let claimed: HashSet<(&str, Object)> = changes
            .iter()
            .filter(|change| change.after.is_some())
            .filter_map(|change| Some((change.resource_type.as_str(), object_of(change)?)))
            .collect();
        let nothing = Item::default();
        let item = |change: &Change| items.get(&change.address).unwrap_or(&nothing);
        let hands_over: Vec<bool> = changes
            .iter()
            .map(|change| {
                let recorded = item(change).recorded.as_ref().filter(|_| item(change).former.is_some());
                let old = recorded.map(|r| (r.resource_type.as_str(), recorded_object(r)));
                change.action.is_replacement() && old.is_some_and(|old| claimed.contains(&old))
            })
            .collect();
        let mut sequence = Self { parts: Vec::new(), edges: BTreeSet::new(), hands_over };
        let mut places = Places::of(changes, items);
        for (i, change) in changes.iter().enumerate() {
            let first = sequence.parts.len();
            for part in parts_of(change, item(change), sequence.hands_over[i], places.found_first(change)) {
                places.enter(i, part, sequence.parts.len());
                sequence.parts.push((i, part));
            }
            sequence.edges.extend((first + 1..sequence.parts.len()).map(|next| (Why::Own, next - 1, next)));
        }
        for (i, change) in changes.iter().enumerate() {
            places.order(i, change, &mut sequence.edges);
        }
        sequence
    }

    /// The changes that wait for each other, for other reasons than that something is let go of.
    pub fn circles(&self) -> Vec<BTreeSet<usize>> {
        let edges = self.edges.iter().filter(|(why, ..)| *why != Why::Release);
        let circles = tarjan_scc(&graph(self.parts.len(), edges)).into_iter().filter(|circle| circle.len() > 1);
        circles.map(|circle| circle.into_iter().map(|part| self.parts[part.index()].0).collect()).collect()
    }

    /// The sequence without what closes a circle: records of several manifests' times may contradict each other.
    pub fn without_circles(mut self) -> Self {
        let mut circle_of = vec![0; self.parts.len()];
        let components = tarjan_scc(&graph(self.parts.len(), &self.edges));
        if components.len() == self.parts.len() {
            return self;
        }
        for (number, component) in components.iter().enumerate() {
            component.iter().for_each(|part| circle_of[part.index()] = number);
        }
        let mut inside = graph(self.parts.len(), []);
        self.edges.retain(|(_, before, after)| {
            if circle_of[*before] != circle_of[*after] {
                return true;
            }
            let (before, after) = (NodeIndex::new(*before), NodeIndex::new(*after));
            let stays = !has_path_connecting(&inside, after, before, None);
            if stays {
                inside.add_edge(before, after, ());
            }
            stays
        });
        self
    }
}

/// The parts of a change, in the order in which they are done.
fn parts_of(change: &Change, item: &Item, hands_over: bool, found_first: bool) -> Vec<Part> {
    let leftovers = item.leftovers.iter().enumerate().filter(|(_, leftover)| leftover.observed.is_some());
    let mut removals: Vec<Part> = leftovers.map(|(place, _)| Part::Remove(Old::Leftover(place))).collect();
    if change.action.is_replacement() {
        let mut own: Vec<Part> = (!hands_over).then_some(Part::Remove(Old::Own)).into_iter().collect();
        own.extend(item.displaced.then_some(Part::Remove(Old::Found)));
        if found_first {
            own.reverse();
        }
        removals.extend(own);
    }
    match change.action {
        Action::Delete | Action::Forget => {
            let own = item.observed.is_some() || removals.is_empty();
            removals.into_iter().chain(own.then_some(Part::Remove(Old::Own))).collect()
        }
        Action::Replace => removals.into_iter().chain([Part::Make]).collect(),
        _ => [Part::Make].into_iter().chain(removals).collect(),
    }
}

/// Where everything is that an order is made of.
struct Places<'a> {
    changes: &'a [Change],
    items: &'a HashMap<Address, Item>,
    of_address: HashMap<&'a Address, usize>,
    /// The part that makes the object of each change.
    makes: Vec<Option<usize>>,
    /// The parts that remove the old objects of each change.
    removals: Vec<Vec<(Old, usize)>>,
    /// The part that removes an object.
    removers: HashMap<Object<'a>, usize>,
}

impl<'a> Places<'a> {
    fn of(changes: &'a [Change], items: &'a HashMap<Address, Item>) -> Self {
        Self {
            changes,
            items,
            of_address: changes.iter().enumerate().map(|(i, change)| (&change.address, i)).collect(),
            makes: vec![None; changes.len()],
            removals: vec![Vec::new(); changes.len()],
            removers: HashMap::new(),
        }
    }

    fn item(&self, i: usize) -> Option<&'a Item> {
        self.items.get(&self.changes[i].address)
    }

    fn enter(&mut self, i: usize, part: Part, place: usize) {
        match part {
            Part::Make => self.makes[i] = Some(place),
            Part::Remove(old) => {
                self.removals[i].push((old, place));
                // An object whose record alone goes may be removed by the instance that wants it now.
                if self.changes[i].action == Action::Forget {
                    return;
                }
                self.removers.extend(self.removed(i, old).map(|object| (object, place)));
            }
        }
    }

    /// The object that a part removes.
    fn removed(&self, i: usize, old: Old) -> Option<Object<'a>> {
        let (change, item) = (&self.changes[i], self.item(i)?);
        let is_other = item.former.is_some() || change.identity.is_none() || !change.action.is_replacement();
        match old {
            Old::Leftover(place) => item.leftovers.get(place).map(|leftover| recorded_object(&leftover.record)),
            Old::Own if is_other => item.recorded.as_ref().map(|record| recorded_object(record)),
            Old::Own | Old::Found => object_of(change),
        }
    }

    /// Adds what the parts of a change come after, and what comes after them because of what is recorded.
    fn order(&self, i: usize, change: &Change, edges: &mut BTreeSet<(Why, usize, usize)>) {
        for (old, removal) in &self.removals[i] {
            let others = self.leaned_on(self.recorded_dependencies(i, *old), true);
            edges.extend(others.into_iter().filter(|d| d != removal).map(|d| (Why::Recorded, *removal, d)));
        }
        let Some(make) = self.makes[i] else { return };
        let before = change.dependencies.iter().filter_map(|d| self.makes[*self.of_address.get(d)?]);
        edges.extend(before.filter(|before| *before != make).map(|before| (Why::Manifest, before, make)));
        let remover = object_of(change).and_then(|object| self.removers.get(&object)).copied();
        let is_other = |removal: &usize| self.removals[i].iter().all(|(_, own)| own != removal);
        edges.extend(remover.filter(is_other).map(|removal| (Why::Place, removal, make)));
        let recorded = self.item(i).and_then(|item| item.recorded.as_ref()).map(|record| parsed(record));
        let let_go = recorded.unwrap_or_default().into_iter().filter(|d| self.lets_go_first(change, d));
        let released = self.leaned_on(let_go.collect(), false).into_iter().filter(is_other);
        edges.extend(released.map(|d| (Why::Release, make, d)));
    }

    /// Whether the old object of a dependency goes only after `change` has let go of it.
    fn lets_go_first(&self, change: &Change, dependency: &Address) -> bool {
        match self.of_address.get(dependency).map(|d| self.changes[*d].action) {
            // What is destroyed and created again lets go when it is destroyed.
            Some(Action::Delete | Action::Forget) => change.action != Action::Replace,
            Some(Action::Replace) | None => false,
            Some(_) => true,
        }
    }

    /// The parts that remove old objects of these addresses; with `through`, also of what those depend on of which nothing is removed.
    fn leaned_on(&self, addresses: Vec<Address>, through: bool) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        if self.removals.iter().all(Vec::is_empty) {
            return found;
        }
        let mut seen = HashSet::new();
        let mut queue = addresses;
        while let Some(address) = queue.pop() {
            if !seen.insert(address.clone()) {
                continue;
            }
            let removals = self.removals_of(&address);
            if removals.is_empty() && through {
                queue.extend(self.record(&address).map(parsed).unwrap_or_default());
            }
            found.extend(removals);
        }
        found
    }

    /// The parts that remove the old objects of an address, also where these are another instance's by now.
    fn removals_of(&self, address: &Address) -> BTreeSet<usize> {
        let own = self.of_address.get(address).into_iter().flat_map(|i| &self.removals[*i]);
        let own = own.filter(|(old, _)| *old != Old::Found).map(|(_, place)| *place);
        let object = self.record(address).and_then(|record| self.removers.get(&recorded_object(record)));
        own.chain(object.copied()).collect()
    }

    fn record(&self, address: &Address) -> Option<&'a Record> {
        self.items.get(address)?.recorded.as_deref()
    }

    /// What an old object depends on, by its record.
    fn recorded_dependencies(&self, i: usize, old: Old) -> Vec<Address> {
        let Some(item) = self.item(i) else { return Vec::new() };
        let record = match old {
            Old::Leftover(place) => item.leftovers.get(place).map(|leftover| &*leftover.record),
            Old::Own => item.recorded.as_deref().or_else(|| self.owner(&self.changes[i])),
            Old::Found => self.owner(&self.changes[i]),
        };
        record.map(parsed).unwrap_or_default()
    }

    /// The record of the object that is there under the identity that a change is to have.
    fn owner(&self, change: &Change) -> Option<&'a Record> {
        let object = object_of(change)?;
        let records = self.items.values().filter_map(|item| item.recorded.as_deref());
        records.into_iter().find(|record| recorded_object(record) == object)
    }

    /// Whether what is found where the new object goes depends on the old object.
    fn found_first(&self, change: &Change) -> bool {
        if !self.items.get(&change.address).is_some_and(|item| item.displaced) {
            return false;
        }
        let mut seen = HashSet::new();
        let mut queue = self.owner(change).map(parsed).unwrap_or_default();
        while let Some(address) = queue.pop() {
            if seen.insert(address.clone()) {
                queue.extend(self.record(&address).map(parsed).unwrap_or_default());
            }
        }
        seen.contains(&change.address)
    }
}

fn parsed(record: &Record) -> Vec<Address> {
    record.dependencies.iter().filter_map(|dependency| dependency.parse().ok()).collect()
}

fn recorded_object(record: &Record) -> Object<'_> {
    (record.target.as_str(), record.identity.as_str())
}

fn object_of(change: &Change) -> Option<Object<'_>> {
    Some((change.target.as_str(), change.identity.as_deref()?))
}

fn graph<'e>(parts: usize, edges: impl IntoIterator<Item = &'e (Why, usize, usize)>) -> DiGraph<(), ()> {
    let mut graph = DiGraph::new();
    (0..parts).for_each(|_| _ = graph.add_node(()));
    for (_, before, after) in edges {
        graph.add_edge(NodeIndex::new(*before), NodeIndex::new(*after), ());
    }
    graph
}
