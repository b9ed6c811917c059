//! The resource types and data sources of all providers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Mode, ResourceAddress, nearest};
use crate::provider::{Provider, ResourceType};

/// The resource types and data sources of all providers, by name.
#[derive(Clone)]
pub(crate) struct Catalog {
    entries: BTreeMap<(Mode, String), Entry>,
    providers: BTreeMap<&'static str, Arc<dyn Provider>>,
}

/// A type and its provider.
#[derive(Clone)]
pub(crate) struct Entry {
    pub provider: Arc<dyn Provider>,
    pub resource_type: Arc<dyn ResourceType>,
}

impl Catalog {
    pub fn new(providers: &[Arc<dyn Provider>]) -> Self {
        let mut entries = BTreeMap::new();
        for provider in providers {
            let managed = provider.resource_types().into_iter().map(|t| (Mode::Managed, t));
            let data = provider.data_sources().into_iter().map(|t| (Mode::Data, t));
            for (mode, resource_type) in managed.chain(data) {
                let key = (mode, resource_type.name().to_owned());
                entries.insert(key, Entry { provider: provider.clone(), resource_type });
            }
        }
        Self { entries, providers: providers.iter().map(|p| (p.name(), p.clone())).collect() }
    }

    /// Returns the type of the resource `address`.
    pub fn find(&self, address: &ResourceAddress) -> Option<&Entry> {
        self.entries.get(&(address.mode, address.resource_type.clone()))
    }

    /// Returns the resource type with this name, for example that of a record. `None` if no provider has it.
    pub fn resource_type(&self, name: &str) -> Option<&Arc<dyn ResourceType>> {
        self.entries.get(&(Mode::Managed, name.to_owned())).map(|entry| &entry.resource_type)
    }

    /// Returns the most similar name of a type of this mode.
    pub fn suggest(&self, mode: Mode, name: &str) -> Option<String> {
        let names = self.entries.keys().filter(|(m, _)| *m == mode).map(|(_, n)| n.as_str());
        nearest(name, names).map(str::to_owned)
    }

    /// Returns the provider of a provider instance: `kubernetes` for `kubernetes.prod`.
    pub fn provider(&self, alias: &str) -> Option<&Arc<dyn Provider>> {
        self.providers.get(alias.split('.').next().unwrap_or(alias))
    }

    /// Returns the name of the provider that connects to nodes. `None` if there is none.
    pub fn node_provider(&self) -> Option<&'static str> {
        self.providers().find(|provider| provider.host_keys().is_some()).map(|provider| provider.name())
    }

    /// Returns all providers, ordered by name.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.providers.values()
    }
}
