//! The draft of a plan: the decisions so far.

use std::collections::BTreeMap;

use moorfast_state::Digest;

use super::item::Item;
use super::machines::Machines;
use super::model::{Change, Drift};
use crate::configuration::owners::Owners;
use crate::configuration::scope::Values;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Attributes, Recorded};
use crate::provider::{Action, ProviderError};

/// The decision about one instance.
pub(super) struct Decision {
    pub change: Change,
    /// The change made outside moorfast since the last apply.
    pub drift: Option<Drift>,
    /// The data for the apply. `None` for a data source.
    pub item: Option<Item>,
    /// The attributes that references to the instance get. `None` if the instance will not exist.
    pub values: Option<Attributes>,
}

/// The decisions about all instances so far.
#[derive(Default)]
pub(crate) struct Draft {
    pub changes: Vec<Change>,
    /// The prior records, also those that are not selected.
    pub records: BTreeMap<Address, Recorded>,
    /// The place of each instance in `changes`.
    places: HashMap<Address, usize>,
    pub drift: Vec<Drift>,
    pub items: HashMap<Address, Box<Item>>,
    pub values: Values,
    /// The digest of the result of each data source that read this machine, by its address.
    pub inputs: BTreeMap<String, Digest>,
    pub warnings: Vec<String>,
    /// Whether an apply also changes the storage of a provider itself, as a warning announces.
    pub maintains: bool,
    /// The instances that could not be read. Only a refresh and the apply of a saved plan tolerate them, otherwise the plan fails.
    pub unread: Vec<(Address, ProviderError)>,
    pub machines: Machines,
    /// The owner of each object among the instances of the manifest.
    pub owners: Owners,
    /// The instances that `--target` and `--exclude` select. `None` if all are selected.
    pub selected: Option<HashSet<Address>>,
}

impl Draft {
    /// Returns a draft without decisions.
    pub(super) fn new(machines: Machines, owners: Owners, warnings: Vec<String>) -> Self {
        Self { machines, owners, warnings, ..Self::default() }
    }

    /// Reserves room for the decisions about this many instances.
    pub(super) fn reserve(&mut self, instances: usize) {
        self.changes.reserve_exact(instances);
        self.items.reserve(instances);
        self.places.reserve(instances);
    }

    pub(super) fn add(&mut self, decision: Decision) {
        let Decision { change, drift, item, values } = decision;
        let address = change.address.clone();
        if let Some(values) = values {
            self.values.insert(address.clone(), values);
        }
        if let Some(item) = item {
            self.items.insert(address.clone(), Box::new(item));
        }
        self.places.insert(address, self.changes.len());
        self.drift.extend(drift);
        self.changes.push(change);
    }

    /// Returns the planned change of an instance. `None` if nothing is decided about it yet, or if it is a data source that the plan reads.
    pub(super) fn change(&self, address: &Address) -> Option<&Change> {
        self.places.get(address).map(|place| &self.changes[*place])
    }

    /// Returns the planned action of an instance.
    pub(super) fn action(&self, address: &Address) -> Option<Action> {
        self.change(address).map(|change| change.action)
    }
}
