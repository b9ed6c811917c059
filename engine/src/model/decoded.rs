//! The decoded state. The crate of the state stores addresses as text and machines as JSON; nothing else in the engine parses recorded addresses.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use moorfast_state::{Intent, Record, Snapshot};

use super::address::{Address, ResourceAddress};
use super::{Machine, NodeConnection, NodeName};
use crate::model::hash::{HashMap, HashSet};

/// The member of a recorded machine that has the connection to it.
pub(crate) const CONNECTION: &str = "connection";

/// The decoded entries of a state, in the order of the state.
#[derive(Debug, Default)]
pub struct Decoded<'s> {
    /// The records.
    pub records: Vec<(Address, Recorded)>,
    /// The operations without a recorded outcome.
    pub intents: Vec<(Address, &'s Intent)>,
    /// The texts in place of an address that are not valid. The records with them cannot be used.
    pub invalid_records: Vec<&'s str>,
    /// The recorded machines of the nodes.
    pub machines: BTreeMap<NodeName, Machine>,
    /// The recorded connections to the nodes.
    pub connections: BTreeMap<NodeName, NodeConnection>,
}

impl<'s> Decoded<'s> {
    /// Decodes the entries of `state`.
    pub fn of(state: &'s Snapshot) -> Self {
        Self::sharing(state, [])
    }

    /// Decodes the entries of `state`. Addresses share the `known` resources.
    pub(crate) fn sharing<'k>(state: &'s Snapshot, known: impl IntoIterator<Item = &'k Arc<ResourceAddress>>) -> Self {
        let mut decoded = Self { records: Vec::with_capacity(state.records.len()), ..Self::default() };
        let mut resources = SharedResources(known.into_iter().cloned().collect());
        for record in state.records.values() {
            match resources.parse(&record.address) {
                Some(address) => decoded.records.push((address, Recorded::of(record.clone(), &mut resources))),
                None => decoded.invalid_records.push(&record.address),
            }
        }
        // An intent without a valid address is of no instance, so it stays open.
        let intent = |intent: &'s Intent| Some((intent.address.parse().ok()?, intent));
        decoded.intents = state.intents.iter().filter_map(intent).collect();
        let machine = |(name, machine): (&String, &serde_json::Value)| {
            Some((NodeName(name.clone()), serde_json::from_value(machine.clone()).ok()?))
        };
        decoded.machines = state.nodes.iter().filter_map(machine).collect();
        let connection = |(name, machine): (&String, &serde_json::Value)| {
            let connection = serde_json::from_value(machine.get(CONNECTION)?.clone()).ok()?;
            Some((NodeName(name.clone()), connection))
        };
        decoded.connections = state.nodes.iter().filter_map(connection).collect();
        decoded
    }

    /// Returns the addresses of the records.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.records.iter().map(|(address, _)| address)
    }
}

/// The resources of parsed addresses. Each is in memory once, because a state names it many times.
#[derive(Default)]
struct SharedResources(HashSet<Arc<ResourceAddress>>);

impl SharedResources {
    fn parse(&mut self, text: &str) -> Option<Address> {
        let Address { resource, key } = text.parse().ok()?;
        if let Some(known) = self.0.get(&resource) {
            return Some(known.instance(key));
        }
        self.0.insert(resource.clone());
        Some(Address { resource, key })
    }
}

/// A record with its addresses. Clones share the data.
#[derive(Clone, Debug)]
pub struct Recorded {
    record: Arc<Record>,
    dependencies: Arc<[Address]>,
    pending: Arc<[Recorded]>,
}

impl Recorded {
    fn of(record: Arc<Record>, resources: &mut SharedResources) -> Self {
        // A text that is not an address is of no instance, so it orders nothing.
        let dependencies = record.dependencies.iter().filter_map(|dependency| resources.parse(dependency)).collect();
        let of_pending = |pending: &Record| Self::of(Arc::new(pending.clone()), resources);
        let pending = record.pending.iter().map(of_pending).collect();
        Self { record, dependencies, pending }
    }

    /// Returns the addresses of the dependencies.
    pub fn dependencies(&self) -> &[Address] {
        &self.dependencies
    }

    /// Returns the unfinished replacements: [`Record::pending`], decoded.
    pub fn pending(&self) -> &[Recorded] {
        &self.pending
    }

    /// Returns the record as providers get it.
    pub fn shared(&self) -> Arc<Record> {
        self.record.clone()
    }

    /// Sets whether an operation failed halfway.
    pub(crate) fn set_incomplete(&mut self, incomplete: bool) {
        if self.incomplete != incomplete {
            Arc::make_mut(&mut self.record).incomplete = incomplete;
        }
    }

    fn rename(&mut self, moved: &HashMap<Address, Address>, texts: &HashMap<String, String>) {
        Arc::make_mut(&mut self.record).rename(&|address| texts.get(address).cloned());
        let renamed = |address: &Address| moved.get(address).unwrap_or(address).clone();
        self.dependencies = self.dependencies.iter().map(renamed).collect();
        Arc::make_mut(&mut self.pending).iter_mut().for_each(|pending| pending.rename(moved, texts));
    }
}

/// Replaces addresses in records. `moved` has the new address of each old one.
pub(crate) fn rename<'r>(records: impl Iterator<Item = &'r mut Recorded>, moved: &HashMap<Address, Address>) {
    let texts = moved.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect();
    records.for_each(|record| record.rename(moved, &texts));
}

impl From<Record> for Recorded {
    fn from(record: Record) -> Self {
        Self::of(Arc::new(record), &mut SharedResources::default())
    }
}

impl Deref for Recorded {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}
