//! Static data: the results of data sources that read this machine and whose arguments depend only on variables, locals, functions and other static data.
//!
//! They are read before the inventory is evaluated, so `for_each` of nodes and resources can depend on them.

use std::collections::BTreeMap;

use crate::configuration::values::Values;
use crate::model::{Address, Attributes};

/// The results of the static data sources. Before they are read, and in an offline validation, it is empty and their values are unknown.
#[derive(Clone, Default)]
pub(crate) struct StaticData {
    results: BTreeMap<Address, Attributes>,
    values: Values,
}

impl StaticData {
    /// Inserts what the provider read for an instance with these arguments.
    pub fn insert(&mut self, address: Address, arguments: Attributes, read: Attributes) {
        let mut values = arguments;
        values.extend(read.clone());
        self.values.insert(address.clone(), values);
        self.results.insert(address, read);
    }

    /// Returns what the provider read for an instance.
    pub fn result(&self, address: &Address) -> Option<&Attributes> {
        self.results.get(address)
    }

    /// Returns what the provider read for all instances.
    pub fn results(&self) -> impl Iterator<Item = (&Address, &Attributes)> {
        self.results.iter()
    }

    /// Returns the values of all instances.
    pub fn values(&self) -> &Values {
        &self.values
    }
}
