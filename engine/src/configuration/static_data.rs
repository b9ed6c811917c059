//! Static data: the results of data sources that read this machine and whose arguments depend only on variables, locals, functions and other static data.
//!
//! They are read before the inventory is evaluated, so `for_each` of nodes and resources can depend on them.

use std::collections::BTreeMap;

use crate::configuration::values::Values;
use crate::expression::{Expr, Reference};
use crate::manifest::{Condition, Manifest};
use crate::model::{Address, Attributes, Mode, ResourceAddress};
use crate::provider::catalog::Catalog;

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

/// The static data sources of a manifest, each with its level: it depends only on those of lower levels.
pub(crate) struct StaticSources(BTreeMap<ResourceAddress, usize>);

impl StaticSources {
    /// Finds the static data sources of a manifest.
    pub fn new(manifest: &Manifest, catalog: &Catalog) -> Self {
        let mut finder = Finder { manifest, catalog, sources: BTreeMap::new(), locals: BTreeMap::new() };
        let data = manifest.resources.keys().filter(|address| address.mode == Mode::Data);
        Self(data.filter_map(|address| Some((address.clone(), finder.source(address)?))).collect())
    }

    /// Whether a data source is static.
    pub fn contains(&self, address: &ResourceAddress) -> bool {
        self.0.contains_key(address)
    }

    /// Returns the data sources in waves. Each wave depends only on earlier waves.
    pub fn waves(&self) -> Vec<Vec<ResourceAddress>> {
        let mut waves = vec![Vec::new(); self.0.values().max().map_or(0, |last| last + 1)];
        self.0.iter().for_each(|(address, level)| waves[*level].push(address.clone()));
        waves
    }
}

/// Finds the level of data sources and locals. `None` is the level of what is not static.
struct Finder<'m> {
    manifest: &'m Manifest,
    catalog: &'m Catalog,
    sources: BTreeMap<ResourceAddress, Option<usize>>,
    locals: BTreeMap<String, Option<usize>>,
}

impl Finder<'_> {
    fn source(&mut self, address: &ResourceAddress) -> Option<usize> {
        if let Some(known) = self.sources.get(address) {
            return *known;
        }
        // Inserted first, so that a cycle ends. The graph reports the cycle.
        self.sources.insert(address.clone(), None);
        let level = self.level_of_source(address);
        self.sources.insert(address.clone(), level);
        level
    }

    fn level_of_source(&mut self, address: &ResourceAddress) -> Option<usize> {
        let resource = self.manifest.resources.get(address)?;
        let entry = self.catalog.find(address)?;
        entry.resource_type.local_access()?;
        let alias = resource.provider.as_ref().map_or(entry.provider.name(), |(alias, _)| alias.as_str());
        let provider = self.manifest.providers.get(alias);
        let waits = !resource.depends_on.is_empty() || provider.is_some_and(|block| !block.depends_on.is_empty());
        if resource.on.is_some() || waits {
            return None;
        }
        let attributes = provider.into_iter().flat_map(|block| &block.attributes).chain(&resource.attributes);
        let conditions = resource.preconditions.iter().flat_map(Condition::expressions);
        let mut exprs = attributes.map(|(_, _, expr)| expr).chain(&resource.for_each).chain(conditions);
        exprs.try_fold(0, |level, expr| Some(level.max(self.level(expr)?)))
    }

    fn level(&mut self, expr: &Expr) -> Option<usize> {
        expr.references().into_iter().try_fold(0, |level, (reference, _)| {
            let needed = match reference {
                Reference::Variable(_)
                | Reference::Path
                | Reference::Environment
                | Reference::Moorfast
                | Reference::Each => 0,
                Reference::Local(name) => self.local(&name)?,
                Reference::Resource { resource, .. } => self.source(&resource)? + 1,
                Reference::Module { .. } | Reference::Node | Reference::Nodes | Reference::This | Reference::Plan => {
                    return None;
                }
            };
            Some(level.max(needed))
        })
    }

    fn local(&mut self, name: &str) -> Option<usize> {
        if let Some(known) = self.locals.get(name) {
            return *known;
        }
        // A loaded manifest has no cycles of locals.
        let level = self.level(self.manifest.locals.get(name)?);
        self.locals.insert(name.to_owned(), level);
        level
    }
}
