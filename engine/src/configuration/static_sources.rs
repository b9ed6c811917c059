//! The blocks that are evaluated before the inventory: the static data sources, and the calls and outputs of modules that depend on nothing else.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::expression::{Expr, Reference};
use crate::manifest::{Condition, Manifest, ModuleCall};
use crate::model::{Mode, ModulePath, ResourceAddress};
use crate::provider::catalog::Catalog;

/// The static data sources of a manifest and its modules, each with its level: it depends only on those of lower levels. Paths of modules have no keys.
pub(crate) struct StaticSources {
    sources: BTreeMap<ResourceAddress, usize>,
    /// The calls whose instances are known before the inventory.
    calls: BTreeSet<ModulePath>,
    /// The outputs of the root's calls that are known before the inventory. No name stands for all outputs of the call.
    outputs: BTreeSet<(String, Option<String>)>,
}

impl StaticSources {
    /// Finds the static data sources of a manifest.
    pub fn new(manifest: &Manifest, catalog: &Catalog) -> Self {
        let mut finder = Finder { root: manifest, catalog, levels: BTreeMap::new() };
        let (mut sources, mut calls) = (BTreeMap::new(), BTreeSet::new());
        for (path, module) in manifest.modules() {
            if finder.call(&path).is_none() {
                continue;
            }
            for address in module.resources.keys().filter(|address| address.mode == Mode::Data) {
                sources.extend(finder.source(&path, address).map(|level| (address.within(&path), level)));
            }
            calls.insert(path);
        }
        let names_of = |(name, call): (&String, &ModuleCall)| {
            let outputs = call.manifest.outputs.keys().cloned().map(Some).chain([None]);
            outputs.map(|output| (name.clone(), output)).collect::<Vec<_>>()
        };
        let is_static = |(name, output): &(String, Option<String>)| {
            finder.outputs(&ModulePath::root(), name, output.as_deref()).is_some()
        };
        let outputs = manifest.modules.iter().flat_map(names_of).filter(is_static).collect();
        Self { sources, calls, outputs }
    }

    /// Whether a data source is static.
    pub fn contains(&self, address: &ResourceAddress) -> bool {
        self.level(address).is_some()
    }

    /// Whether the instances of the module at `path` are known before the inventory.
    pub fn contains_call(&self, path: &ModulePath) -> bool {
        self.calls.contains(&path.without_keys())
    }

    /// Whether the value of a reference in the root is static data.
    pub fn is_static(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Resource { resource, .. } => self.contains(resource),
            Reference::Module { name, output, .. } => self.outputs.contains(&(name.clone(), output.clone())),
            _ => false,
        }
    }

    /// Returns the level of a data source. `None` if it is not static.
    pub fn level(&self, address: &ResourceAddress) -> Option<usize> {
        self.sources.get(&*without_keys(address)).copied()
    }

    /// Returns all levels. The data sources of one level are read together, after those of lower levels.
    pub fn levels(&self) -> Range<usize> {
        0..self.sources.values().max().map_or(0, |last| last + 1)
    }
}

/// Returns the address without the keys of its module.
fn without_keys(address: &ResourceAddress) -> Cow<'_, ResourceAddress> {
    match address.module.is_root() {
        true => Cow::Borrowed(address),
        false => Cow::Owned(address.without_module_keys()),
    }
}

/// A value or block of the module at a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Block {
    /// The call of the module.
    Call(ModulePath),
    Source(ModulePath, ResourceAddress),
    Local(ModulePath, String),
    /// A variable. In the root it has a value from the start.
    Input(ModulePath, String),
    Output(ModulePath, String),
}

/// Finds the level of blocks: the number of waves of data sources that must be read before. `None` is the level of a block that is not static.
struct Finder<'m> {
    root: &'m Manifest,
    catalog: &'m Catalog,
    levels: BTreeMap<Block, Option<usize>>,
}

impl<'m> Finder<'m> {
    /// Returns the level of a call, including the calls around it.
    fn call(&mut self, path: &ModulePath) -> Option<usize> {
        self.known(Block::Call(path.clone()), |finder| {
            let Some((caller, call)) = finder.caller(path) else { return Some(0) };
            let around = finder.call(&caller)?;
            Some(around.max(finder.level(&caller, call.for_each.iter())?))
        })
    }

    /// Returns the level of a data source. What uses its result is one level higher.
    fn source(&mut self, path: &ModulePath, address: &ResourceAddress) -> Option<usize> {
        self.known(Block::Source(path.clone(), address.clone()), |finder| {
            let module = finder.root.module(path)?;
            let resource = module.resources.get(address)?;
            let entry = finder.catalog.find(address)?;
            entry.resource_type.local_access()?;
            let name = entry.provider.name();
            let alias = resource.provider.as_ref().map_or(name, |(alias, _)| alias.as_str());
            let provider = finder.root.providers.get(finder.provider_instance(path, alias));
            let waits = !resource.depends_on.is_empty() || provider.is_some_and(|block| !block.depends_on.is_empty());
            if resource.on.is_some() || waits || finder.waits(path) {
                return None;
            }
            let attributes = resource.attributes.iter().map(|(_, _, expr)| expr);
            let conditions = resource.preconditions.iter().flat_map(Condition::expressions);
            let own = finder.level(path, attributes.chain(&resource.for_each).chain(conditions))?;
            let configuration = provider.into_iter().flat_map(|block| &block.attributes).map(|(_, _, expr)| expr);
            let configured = finder.level(&ModulePath::root(), configuration)?;
            Some(own.max(configured).max(finder.call(path)?))
        })
    }

    fn local(&mut self, path: &ModulePath, name: String) -> Option<usize> {
        self.known(Block::Local(path.clone(), name.clone()), |finder| {
            finder.level(path, finder.root.module(path)?.locals.get(&name))
        })
    }

    fn variable(&mut self, path: &ModulePath, name: String) -> Option<usize> {
        self.known(Block::Input(path.clone(), name.clone()), |finder| {
            let Some((caller, call)) = finder.caller(path) else { return Some(0) };
            let input = call.inputs.iter().filter(|(input, ..)| *input == name).map(|(_, _, expr)| expr);
            // The input can use the element of `for_each`.
            Some(finder.level(&caller, input)?.max(finder.call(path)?))
        })
    }

    /// Returns the level of an output of the call `name` in the module at `caller`, or of all its outputs.
    fn outputs(&mut self, caller: &ModulePath, name: &str, output: Option<&str>) -> Option<usize> {
        let call = self.root.module(caller)?.modules.get(name)?;
        let mut outputs = call.manifest.outputs.keys().filter(|known| output.is_none_or(|output| output == *known));
        outputs.try_fold(0, |level, output| Some(level.max(self.output(caller, name, output)?)))
    }

    fn output(&mut self, caller: &ModulePath, name: &str, output: &str) -> Option<usize> {
        let path = caller.child(name, None);
        self.known(Block::Output(path.clone(), output.to_owned()), |finder| {
            let block = finder.root.module(&path)?.outputs.get(output)?;
            Some(finder.level(&path, [&block.value])?.max(finder.call(&path)?))
        })
    }

    /// Returns the level of expressions in the module at `path`.
    fn level<'e>(&mut self, path: &ModulePath, exprs: impl IntoIterator<Item = &'e Expr>) -> Option<usize> {
        let mut level = 0;
        for (reference, _) in exprs.into_iter().flat_map(Expr::references) {
            let needed = match reference {
                Reference::Path | Reference::Environment | Reference::Moorfast | Reference::Each => 0,
                Reference::Variable(name) => self.variable(path, name)?,
                Reference::Local(name) => self.local(path, name)?,
                Reference::Resource { resource, .. } => self.source(path, &resource)? + 1,
                Reference::Module { name, output, .. } => self.outputs(path, &name, output.as_deref())?,
                Reference::Node | Reference::Nodes | Reference::This | Reference::Plan => return None,
            };
            level = level.max(needed);
        }
        Some(level)
    }

    /// Returns the level of a block, and finds it the first time.
    fn known(&mut self, block: Block, find: impl FnOnce(&mut Self) -> Option<usize>) -> Option<usize> {
        if let Some(known) = self.levels.get(&block) {
            return *known;
        }
        // Inserted first, so that a cycle ends. The manifest check or the graph reports the cycle.
        self.levels.insert(block.clone(), None);
        let level = find(self);
        self.levels.insert(block, level);
        level
    }

    /// Returns the call of the module at `path`, and the path of the module that calls it. `None` for the root.
    fn caller(&self, path: &ModulePath) -> Option<(ModulePath, &'m ModuleCall)> {
        let (_, outer) = path.steps().split_last()?;
        Some((outer.to_vec().into(), self.root.call(path)?))
    }

    /// Whether a call that leads to the module at `path` has `depends_on`.
    fn waits(&self, path: &ModulePath) -> bool {
        let mut inside = path.clone();
        while let Some((caller, call)) = self.caller(&inside) {
            if !call.depends_on.is_empty() {
                return true;
            }
            inside = caller;
        }
        false
    }

    /// Returns the provider instance of the root that the calls of the module at `path` pass for `alias`.
    fn provider_instance<'a>(&self, path: &ModulePath, alias: &'a str) -> &'a str
    where
        'm: 'a,
    {
        let (mut alias, mut inside) = (alias, path.clone());
        while let Some((caller, call)) = self.caller(&inside) {
            alias = call.providers.get(alias).map_or(alias, |(mapped, _)| mapped.as_str());
            inside = caller;
        }
        alias
    }
}
