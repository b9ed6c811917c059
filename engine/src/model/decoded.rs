//! The decoded state. The crate of the state stores addresses as text and machines as JSON; nothing else in the engine parses recorded addresses.

use std::collections::BTreeMap;

use moorfast_state::{Intent, Record, Snapshot};

use super::address::Address;
use super::{Machine, NodeName};

/// The decoded entries of a state, in the order of the state.
#[derive(Debug, Default)]
pub struct Decoded<'s> {
    /// The records.
    pub records: Vec<(Address, &'s Record)>,
    /// The operations without a recorded outcome.
    pub intents: Vec<(Address, &'s Intent)>,
    /// The texts in place of an address that are not valid. The records with them cannot be used.
    pub invalid_records: Vec<&'s str>,
    /// The recorded machines of the nodes.
    pub machines: BTreeMap<NodeName, Machine>,
}

impl<'s> Decoded<'s> {
    /// Decodes the entries of `state`.
    pub fn of(state: &'s Snapshot) -> Self {
        let mut decoded = Self::default();
        for record in state.records.values() {
            match record.address.parse() {
                Ok(address) => decoded.records.push((address, record)),
                Err(_) => decoded.invalid_records.push(&record.address),
            }
        }
        // An intent without a valid address is of no instance, so it stays open.
        let intent = |intent: &'s Intent| Some((intent.address.parse().ok()?, intent));
        decoded.intents = state.intents.iter().filter_map(intent).collect();
        let machine = |(name, machine): (&String, &serde_json::Value)| {
            Some((NodeName(name.clone()), serde_json::from_value(machine.clone()).ok()?))
        };
        decoded.machines = state.nodes.iter().filter_map(machine).collect();
        decoded
    }

    /// Returns the addresses of the records.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.records.iter().map(|(address, _)| address)
    }
}

/// Returns the addresses of the recorded dependencies. A text that is not an address is no dependency.
pub(crate) fn dependencies(record: &Record) -> impl Iterator<Item = Address> {
    record.dependencies.iter().filter_map(|dependency| dependency.parse().ok())
}
