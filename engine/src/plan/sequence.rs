//! The parts of changes and their order.
//!
//! The old objects of dependants are destroyed first, then the old object, then the new objects are created in the order of their dependencies.

use std::collections::BTreeSet;

use moorfast_state::Record;
use petgraph::algo::{has_path_connecting, tarjan_scc};
use petgraph::graph::{DiGraph, NodeIndex};

use super::item::Item;
use super::model::Change;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Recorded, ResourceAddress};
use crate::provider::Action;

/// A part of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// An old object is removed.
    Remove(OldObject),
    /// The object is created, changed or read.
    Make,
}

/// An old object that a change removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OldObject {
    /// An object that an earlier replacement left, by its index in [`Item::superseded`].
    Superseded(usize),
    /// The existing object with the new identity, which must be destroyed and created again.
    Displaced,
    /// The object that is destroyed or replaced.
    Own,
}

/// The reason why one part comes before another. If reasons contradict each other, the first variant has priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EdgeReason {
    /// They are parts of the same change.
    SameChange,
    /// The new object has the identity of the old one.
    Identity,
    /// The manifest declares the dependency.
    Manifest,
    /// The state records the dependency: dependants are removed first.
    Recorded,
    /// A dependant stops using the object before the object is removed.
    Release,
    /// An instance keeps the record of its old object until the new owner has removed this object, because the records of its contents name the instance.
    HandOver,
    /// A node that leaves is out of use before the other nodes change what they know about it.
    Leaving,
}

/// The parts of changes and their order.
pub(crate) struct Sequence {
    /// The index of the change of each part, and the part.
    pub parts: Vec<(usize, Part)>,
    /// Edges from a part to a later part, as indexes into `parts`.
    pub edges: BTreeSet<(EdgeReason, usize, usize)>,
    /// Whether each change is a replacement whose old object another instance owns from now on.
    pub keeps_old_object: Vec<bool>,
}

/// An object: its target and its identity.
type Object<'a> = (&'a str, &'a str);

impl Sequence {
    pub fn of(changes: &[Change], items: &HashMap<Address, Box<Item>>) -> Self {
        let claimed: HashSet<(&str, Object)> = changes
            .iter()
            .filter(|change| change.after.is_some())
            .filter_map(|change| Some((change.resource_type.as_str(), object_of(change)?)))
            .collect();
        let empty = Item::default();
        let item = |change: &Change| items.get(&change.address).map_or(&empty, AsRef::as_ref);
        let keeps_old_object: Vec<bool> = changes
            .iter()
            .map(|change| {
                let recorded = item(change).recorded.as_ref().filter(|_| item(change).former.is_some());
                let old = recorded.map(|r| (r.resource_type.as_str(), recorded_object(r)));
                change.action.is_replacement() && old.is_some_and(|old| claimed.contains(&old))
            })
            .collect();
        let mut sequence = Self { parts: Vec::new(), edges: BTreeSet::new(), keeps_old_object };
        let mut places = Places::of(changes, items);
        for (i, change) in changes.iter().enumerate() {
            let first = sequence.parts.len();
            for part in parts_of(change, item(change), sequence.keeps_old_object[i], places.displaced_first(change)) {
                places.enter(i, part, sequence.parts.len());
                sequence.parts.push((i, part));
            }
            sequence
                .edges
                .extend((first + 1..sequence.parts.len()).map(|next| (EdgeReason::SameChange, next - 1, next)));
        }
        for (i, change) in changes.iter().enumerate() {
            places.order(i, change, &mut sequence.edges);
        }
        sequence
    }

    /// Returns the changes that wait for each other, apart from edges with the reasons [`EdgeReason::Release`] and [`EdgeReason::Leaving`].
    pub fn cycles(&self) -> Vec<BTreeSet<usize>> {
        let edges = self.edges.iter().filter(|(why, ..)| ![EdgeReason::Release, EdgeReason::Leaving].contains(why));
        let cycles = tarjan_scc(&graph(self.parts.len(), edges)).into_iter().filter(|cycle| cycle.len() > 1);
        cycles.map(|cycle| cycle.into_iter().map(|part| self.parts[part.index()].0).collect()).collect()
    }

    /// Returns the sequence without the edges that close a cycle. Records that were written for different manifests may form cycles.
    pub fn without_cycles(mut self) -> Self {
        let mut cycle_of = vec![0; self.parts.len()];
        let components = tarjan_scc(&graph(self.parts.len(), &self.edges));
        if components.len() == self.parts.len() {
            return self;
        }
        for (number, component) in components.iter().enumerate() {
            component.iter().for_each(|part| cycle_of[part.index()] = number);
        }
        let mut inside = graph(self.parts.len(), []);
        self.edges.retain(|(_, before, after)| {
            if cycle_of[*before] != cycle_of[*after] {
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

/// Returns the parts of a change, in their order.
fn parts_of(change: &Change, item: &Item, keeps_old_object: bool, displaced_first: bool) -> Vec<Part> {
    let superseded = item.superseded.iter().enumerate().filter(|(_, superseded)| superseded.observed.is_some());
    let mut removals: Vec<Part> = superseded.map(|(place, _)| Part::Remove(OldObject::Superseded(place))).collect();
    if change.action.is_replacement() {
        let mut own: Vec<Part> = (!keeps_old_object).then_some(Part::Remove(OldObject::Own)).into_iter().collect();
        own.extend(item.displaced.then_some(Part::Remove(OldObject::Displaced)));
        if displaced_first {
            own.reverse();
        }
        removals.extend(own);
    }
    match change.action {
        Action::Delete | Action::Forget => {
            let own = item.observed.is_some() || removals.is_empty();
            removals.into_iter().chain(own.then_some(Part::Remove(OldObject::Own))).collect()
        }
        Action::Replace => removals.into_iter().chain([Part::Make]).collect(),
        _ => [Part::Make].into_iter().chain(removals).collect(),
    }
}

/// The indexes of the parts.
struct Places<'a> {
    changes: &'a [Change],
    items: &'a HashMap<Address, Box<Item>>,
    of_address: HashMap<&'a Address, usize>,
    /// The part that creates or changes the object of each change.
    makes: Vec<Option<usize>>,
    /// The parts that remove the old objects of each change.
    removals: Vec<Vec<(OldObject, usize)>>,
    /// Whether any change removes an object.
    has_removals: bool,
    /// The parts that remove objects of nodes that leave, by their resource.
    leaving: HashMap<&'a ResourceAddress, Vec<usize>>,
    /// The part that removes each object.
    removers: HashMap<Object<'a>, usize>,
    /// The record of each object.
    owners: HashMap<Object<'a>, &'a Recorded>,
}

impl<'a> Places<'a> {
    fn of(changes: &'a [Change], items: &'a HashMap<Address, Box<Item>>) -> Self {
        let records = changes.iter().filter_map(|change| items.get(&change.address)?.recorded.as_ref());
        Self {
            changes,
            items,
            owners: records.map(|record| (recorded_object(record), record)).collect(),
            of_address: changes.iter().enumerate().map(|(i, change)| (&change.address, i)).collect(),
            makes: vec![None; changes.len()],
            removals: vec![Vec::new(); changes.len()],
            has_removals: false,
            leaving: HashMap::default(),
            removers: HashMap::default(),
        }
    }

    fn item(&self, i: usize) -> Option<&'a Item> {
        self.items.get(&self.changes[i].address).map(AsRef::as_ref)
    }

    fn enter(&mut self, i: usize, part: Part, place: usize) {
        match part {
            Part::Make => self.makes[i] = Some(place),
            Part::Remove(old) => {
                self.removals[i].push((old, place));
                self.has_removals = true;
                let change = &self.changes[i];
                if change.is_of_leaving_node() {
                    self.leaving.entry(&change.address.resource).or_default().push(place);
                }
                // The instance that owns the object now may still remove an object whose record alone is removed.
                if self.changes[i].action == Action::Forget {
                    return;
                }
                self.removers.extend(self.removed(i, old).map(|object| (object, place)));
            }
        }
    }

    /// Returns the object that a part removes.
    fn removed(&self, i: usize, old: OldObject) -> Option<Object<'a>> {
        match old {
            OldObject::Own | OldObject::Displaced if self.has_new_identity(i, old) => object_of(&self.changes[i]),
            OldObject::Own | OldObject::Superseded(_) | OldObject::Displaced => {
                self.recorded_by_instance(i, old).map(|record| recorded_object(record))
            }
        }
    }

    /// Whether an old object has the new identity of its change. Another instance may have recorded it.
    fn has_new_identity(&self, i: usize, old: OldObject) -> bool {
        let change = &self.changes[i];
        let is_own = || {
            let has_former = self.item(i).is_some_and(|item| item.former.is_some());
            change.action.is_replacement() && change.identity.is_some() && !has_former
        };
        match old {
            OldObject::Superseded(_) => false,
            OldObject::Own => is_own(),
            OldObject::Displaced => true,
        }
    }

    /// Returns the record that the instance of a change has of an old object.
    fn recorded_by_instance(&self, i: usize, old: OldObject) -> Option<&'a Recorded> {
        let item = self.item(i)?;
        match old {
            OldObject::Superseded(place) => item.superseded.get(place).map(|superseded| &superseded.record),
            OldObject::Own => item.recorded.as_ref(),
            OldObject::Displaced => None,
        }
    }

    /// Adds the edges of a change: to its dependencies, and between old objects as they are recorded.
    fn order(&self, i: usize, change: &Change, edges: &mut BTreeSet<(EdgeReason, usize, usize)>) {
        for (old, removal) in &self.removals[i] {
            let others = self.removals_of_all(self.recorded_dependencies(i, *old), true);
            edges.extend(others.into_iter().filter(|d| d != removal).map(|d| (EdgeReason::Recorded, *removal, d)));
        }
        let is_other = |removal: &usize| self.removals[i].iter().all(|(_, own)| own != removal);
        let old_object = self.record(&change.address).map(|record| recorded_object(record));
        let new_owner = old_object.and_then(|object| self.removers.get(&object)).copied().filter(is_other);
        let given_up = self.removals[i].iter().map(|(_, removal)| *removal).filter(|_| change.action == Action::Forget);
        for given_up in given_up.chain(self.makes[i]) {
            edges.extend(new_owner.map(|removal| (EdgeReason::HandOver, removal, given_up)));
        }
        let Some(make) = self.makes[i] else { return };
        let before = change.dependencies.iter().filter_map(|d| self.makes[*self.of_address.get(d)?]);
        edges.extend(before.filter(|before| *before != make).map(|before| (EdgeReason::Manifest, before, make)));
        let leaving = self.leaving.get(&*change.address.resource).into_iter().flatten().copied();
        let is_known = change.action == Action::Update || change.action.is_replacement();
        edges.extend(leaving.filter(|_| is_known).map(|removal| (EdgeReason::Leaving, removal, make)));
        let remover = object_of(change).and_then(|object| self.removers.get(&object)).copied();
        edges.extend(remover.filter(is_other).map(|removal| (EdgeReason::Identity, removal, make)));
        let recorded =
            self.item(i).and_then(|item| item.recorded.as_ref()).into_iter().flat_map(Recorded::dependencies);
        let released_first = recorded.filter(|d| self.is_released_first(change, d)).cloned();
        let released = self.removals_of_all(released_first.collect(), false).into_iter().filter(is_other);
        edges.extend(released.map(|d| (EdgeReason::Release, make, d)));
    }

    /// Whether the old object of a dependency is removed only after `change` stops using it.
    fn is_released_first(&self, change: &Change, dependency: &Address) -> bool {
        match self.of_address.get(dependency).map(|d| self.changes[*d].action) {
            // A replaced object stops using its dependency when it is destroyed.
            Some(Action::Delete | Action::Forget) => change.action != Action::Replace,
            Some(Action::Replace) | None => false,
            Some(_) => true,
        }
    }

    /// Returns the parts that remove old objects of these addresses. With `through`, an address without removals stands for its dependencies.
    fn removals_of_all(&self, addresses: Vec<Address>, through: bool) -> BTreeSet<usize> {
        let mut parts = BTreeSet::new();
        if !self.has_removals {
            return parts;
        }
        let mut seen = HashSet::default();
        let mut queue = addresses;
        while let Some(address) = queue.pop() {
            if !seen.insert(address.clone()) {
                continue;
            }
            let removals = self.removals_of(&address);
            if removals.is_empty() && through {
                queue.extend(self.record(&address).into_iter().flat_map(Recorded::dependencies).cloned());
            }
            parts.extend(removals);
        }
        parts
    }

    /// Returns the parts that remove the old objects of an address, even if another instance owns them now.
    fn removals_of(&self, address: &Address) -> BTreeSet<usize> {
        let own =
            self.of_address.get(address).into_iter().flat_map(|i| self.removals[*i].iter().map(|part| (*i, part)));
        let own = own.filter(|(i, (old, _))| !self.has_new_identity(*i, *old)).map(|(_, (_, place))| *place);
        let object = self.record(address).and_then(|record| self.removers.get(&recorded_object(record)));
        own.chain(object.copied()).collect()
    }

    fn record(&self, address: &Address) -> Option<&'a Recorded> {
        self.items.get(address)?.recorded.as_ref()
    }

    /// Returns the recorded dependencies of an old object.
    fn recorded_dependencies(&self, i: usize, old: OldObject) -> Vec<Address> {
        let owner = self.owner(&self.changes[i]).filter(|_| self.has_new_identity(i, old));
        let record = owner.or_else(|| self.recorded_by_instance(i, old));
        record.into_iter().flat_map(Recorded::dependencies).cloned().collect()
    }

    /// Returns the record of the existing object with the new identity of a change.
    fn owner(&self, change: &Change) -> Option<&'a Recorded> {
        self.owners.get(&object_of(change)?).copied()
    }

    /// Whether the existing object with the new identity depends on the old object.
    fn displaced_first(&self, change: &Change) -> bool {
        if !self.items.get(&change.address).is_some_and(|item| item.displaced) {
            return false;
        }
        let mut seen = HashSet::default();
        let mut queue: Vec<Address> =
            self.owner(change).into_iter().flat_map(Recorded::dependencies).cloned().collect();
        while let Some(address) = queue.pop() {
            if seen.insert(address.clone()) {
                queue.extend(self.record(&address).into_iter().flat_map(Recorded::dependencies).cloned());
            }
        }
        seen.contains(&change.address)
    }
}

fn recorded_object(record: &Record) -> Object<'_> {
    (record.target.as_str(), record.identity.as_str())
}

fn object_of(change: &Change) -> Option<Object<'_>> {
    Some((change.target.as_str(), change.identity.as_deref()?))
}

fn graph<'e>(parts: usize, edges: impl IntoIterator<Item = &'e (EdgeReason, usize, usize)>) -> DiGraph<(), ()> {
    let mut graph = DiGraph::new();
    (0..parts).for_each(|_| _ = graph.add_node(()));
    for (_, before, after) in edges {
        graph.add_edge(NodeIndex::new(*before), NodeIndex::new(*after), ());
    }
    graph
}
