//! The resource types and data sources of all providers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Mode, ResourceAddress, nearest};
use crate::provider::{Provider, ResourceType};

/// The resource types and data sources of all providers, by name.
#[derive(Clone)]
pub(crate) struct Catalog {
    managed: BTreeMap<&'static str, Entry>,
    data: BTreeMap<&'static str, Entry>,
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
        let (mut managed, mut data) = (BTreeMap::new(), BTreeMap::new());
        for provider in providers {
            let entry = |t: Arc<dyn ResourceType>| (t.name(), Entry { provider: provider.clone(), resource_type: t });
            managed.extend(provider.resource_types().into_iter().map(entry));
            data.extend(provider.data_sources().into_iter().map(entry));
        }
        Self { managed, data, providers: providers.iter().map(|p| (p.name(), p.clone())).collect() }
    }

    fn of_mode(&self, mode: Mode) -> &BTreeMap<&'static str, Entry> {
        match mode {
            Mode::Managed => &self.managed,
            Mode::Data => &self.data,
        }
    }

    /// Returns the type of the resource `address`.
    pub fn find(&self, address: &ResourceAddress) -> Option<&Entry> {
        self.of_mode(address.mode).get(address.resource_type.as_str())
    }

    /// Returns the resource type with this name, for example that of a record. `None` if no provider has it.
    pub fn resource_type(&self, name: &str) -> Option<&Arc<dyn ResourceType>> {
        self.managed.get(name).map(|entry| &entry.resource_type)
    }

    /// Returns the most similar name of a type of this mode.
    pub fn suggest(&self, mode: Mode, name: &str) -> Option<String> {
        nearest(name, self.of_mode(mode).keys().copied()).map(str::to_owned)
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
