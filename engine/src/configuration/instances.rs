//! Expansion of blocks into instances: one for each node of `on` and each element of `for_each`, with its target and provider.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crate::configuration::expand::{Binding, CheckInstance, Expanded, Instance, Module, Selection, Stage};
use crate::configuration::needs::{Needs, shared_locals};
use crate::configuration::scope::{InstanceScope, Values};
use crate::configuration::static_data::StaticData;
use crate::configuration::static_sources::StaticSources;
use crate::expression::{Expr, Reference};
use crate::manifest::{
    Block, Check, GateName, Import, Inventory, KEY_STORE, Manifest, Moved, Removed, Resource, StaticScope,
    check_attributes, evaluate_inventory, for_each_members, has_unknown_keys, select_nodes,
};
use crate::model::hash::HashMap;
use crate::model::{
    AttributePath, Diagnostic, Mode, ModulePath, Node, NodeName, Schema, Span, Value, error_codes, suggest,
};
use crate::provider::catalog::{Catalog, Entry};
use crate::provider::{LocalAccess, Target, TargetKind};

/// The expansion of a block.
enum Expansion<T> {
    /// The nodes that `on` selects, and the instances.
    Instances(Arc<[NodeName]>, Vec<T>),
    /// The block depends on static data that is not read, for this reason.
    Open(Diagnostic),
}

impl Expanded {
    /// Expands `manifest`, with the results of its static data sources.
    ///
    /// # Errors
    /// Returns all errors in the inventory, the selectors and the attribute names.
    pub fn new(
        manifest: Arc<Manifest>,
        variables: BTreeMap<String, Value>,
        catalog: Catalog,
        static_data: Arc<StaticData>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut expanded = Self::of_static_data(manifest.clone(), variables.clone(), catalog, static_data)?;
        let (sources, scope, root) = (&expanded.static_sources, expanded.unbound(0), &expanded.modules[0]);
        let is_static = |reference: &Reference| sources.is_static(reference);
        let statics = StaticScope::new(&manifest, &variables, &root.files).with_data(&scope, &is_static);
        let inventory = evaluate_inventory(&manifest, &statics)?;
        expanded.nodes = inventory.iter().map(|node| (node.name.clone(), node.clone())).collect();
        expanded.open.extend(inventory.open().cloned());
        expanded.inventory = inventory;
        expanded.stage = Stage::Inventory;
        expanded.expand_modules()?;

        let mut errors = schema_errors(&manifest, &expanded.catalog);
        let mut warnings: Vec<_> = manifest.key_store.iter().filter_map(unencrypted).collect();
        let mut instances = expanded.instances.clone();
        let mut checks = Vec::new();
        for module in 0..expanded.modules.len() {
            let Module { path, manifest, .. } = &expanded.modules[module];
            let (path, manifest) = (path.clone(), manifest.clone());
            for resource in manifest.resources.values() {
                let address = resource.address.within(&path);
                if expanded.static_sources.contains(&address) {
                    continue;
                }
                match expanded.instances_of(module, resource, &mut warnings) {
                    Ok(Expansion::Instances(nodes, found)) => {
                        if !nodes.is_empty() {
                            let selected = nodes.iter().map(|node| (node.clone(), Vec::new()));
                            expanded.by_node.insert(Arc::new(address), selected.collect());
                        }
                        instances.extend(found);
                    }
                    Ok(Expansion::Open(reason)) => {
                        expanded.open.push(reason);
                        expanded.unexpanded.insert(address);
                    }
                    Err(found) => errors.extend(found),
                }
            }
            for (name, check) in &manifest.checks {
                let name = GateName::Check(path.clone(), name.clone()).to_string();
                match expanded.check_instances(module, &name, check, &mut warnings) {
                    Ok(Expansion::Instances(_, found)) => checks.extend(found),
                    Ok(Expansion::Open(reason)) => expanded.open.push(reason),
                    Err(found) => errors.extend(found),
                }
            }
            expanded.add_moves(&path, &manifest);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        expanded.index_instances(instances);
        expanded.stage = Stage::Complete;
        for module in 0..expanded.modules.len() {
            let shared = shared_locals(&expanded, module).into_iter().map(|name| (name, OnceLock::new()));
            expanded.modules[module].shared_locals = shared.collect();
        }
        expanded.checks = checks;
        expanded.warnings = warnings;
        // The nodes and the instances of a rollout are not all known.
        if expanded.open.is_empty() {
            expanded.rollouts = Selection::all(&expanded)?;
        }
        Ok(expanded)
    }

    /// Expands only the static data sources, as far as those are read on which they depend. There is no inventory.
    ///
    /// # Errors
    /// Returns the errors in `for_each`, and an error for each data source that may not be read.
    pub fn of_static_data(
        manifest: Arc<Manifest>,
        variables: BTreeMap<String, Value>,
        catalog: Catalog,
        static_data: Arc<StaticData>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let refused = refused_local_access(&manifest, &catalog);
        if !refused.is_empty() {
            return Err(refused);
        }
        let mut expanded = Self {
            modules: vec![Module::root(manifest.clone(), variables)],
            moved: Vec::new(),
            imports: Vec::new(),
            removed: Vec::new(),
            static_sources: StaticSources::new(&manifest, &catalog),
            manifest: manifest.clone(),
            catalog,
            inventory: Inventory::default(),
            nodes: BTreeMap::new(),
            nodes_value: OnceLock::new(),
            warnings: Vec::new(),
            instances: Vec::new(),
            checks: Vec::new(),
            static_data,
            open: Vec::new(),
            unexpanded: BTreeSet::new(),
            rollouts: Vec::new(),
            index: HashMap::default(),
            by_resource: HashMap::default(),
            by_node: HashMap::default(),
            stage: Stage::StaticData,
        };
        for level in expanded.static_sources.levels() {
            expanded.expand_calls()?;
            let mut instances = expanded.instances.clone();
            for module in 0..expanded.modules.len() {
                let Module { path, manifest, .. } = &expanded.modules[module];
                let (path, manifest) = (path.clone(), manifest.clone());
                for resource in manifest.resources.values().filter(|resource| resource.address.mode == Mode::Data) {
                    let address = resource.address.within(&path);
                    if expanded.static_sources.level(&address) != Some(level) {
                        continue;
                    }
                    match expanded.instances_of(module, resource, &mut Vec::new())? {
                        Expansion::Instances(_, found) => instances.extend(found),
                        Expansion::Open(reason) => {
                            expanded.open.push(reason);
                            expanded.unexpanded.insert(address);
                        }
                    }
                }
            }
            expanded.index_instances(instances);
        }
        expanded.expand_calls()?;
        Ok(expanded)
    }

    /// Sorts and indexes all instances.
    fn index_instances(&mut self, mut instances: Vec<Instance>) {
        instances.sort_by(|a, b| a.address.cmp(&b.address));
        instances.shrink_to_fit();
        self.index.clear();
        self.by_resource.clear();
        for (i, instance) in instances.iter().enumerate() {
            self.index.insert(instance.address.clone(), i);
            self.by_resource.entry(instance.address.resource.clone()).or_default().push(i);
            if let Some(node) = instance.node_name() {
                let of_resource = self.by_node.entry(instance.address.resource.clone()).or_default();
                of_resource.entry(node).or_default().push(i);
            }
        }
        self.instances = instances;
    }

    /// Adds `[[moved]]`, `[[import]]` and `[[removed]]` of a module.
    fn add_moves(&mut self, path: &ModulePath, manifest: &Manifest) {
        let moved = |m: &Moved| Moved { from: m.from.within(path), to: m.to.within(path), span: m.span };
        self.moved.extend(manifest.moved.iter().map(moved));
        self.imports.extend(manifest.imports.iter().map(|i| Import { to: i.to.within(path), span: i.span }));
        self.removed.extend(manifest.removed.iter().map(|r| Removed { from: r.from.within(path), ..r.clone() }));
    }

    /// Returns the scope of expressions outside instances, such as selectors, in a module.
    fn unbound(&self, module: usize) -> InstanceScope<'_> {
        InstanceScope::new(self, Values::none(), Binding::of_module(module))
    }

    /// Returns the nodes that `on` of a resource selects, and its instances.
    fn instances_of(
        &self,
        module: usize,
        resource: &Arc<Resource>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Expansion<Instance>, Vec<Diagnostic>> {
        let Entry { provider, resource_type } = self.entry(resource)?;
        let mut found = Vec::new();
        let bindings = self.bindings(module, resource.on.as_ref(), resource.for_each.as_ref(), &mut found)?;
        let about = |warning: Diagnostic| Diagnostic {
            summary: format!("`{}`: {}", resource.address, warning.summary),
            ..warning
        };
        warnings.extend(found.into_iter().map(about));
        let alias = self.provider_instance(module, provider.name(), resource.provider.as_ref())?;
        let (nodes, bindings) = match bindings {
            Expansion::Instances(nodes, bindings) => (nodes, bindings),
            Expansion::Open(reason) => return Ok(Expansion::Open(reason)),
        };
        let resource = match self.absolute(module, &resource.address) {
            Cow::Borrowed(_) => resource.clone(),
            Cow::Owned(address) => Arc::new(Resource { address: Arc::new(address), ..Resource::clone(resource) }),
        };
        let instance = |binding: Binding| {
            let target = match (resource_type.declaration().target_kind, &binding.node) {
                (TargetKind::Node, Some(node)) => Target::Node(node.clone()),
                (TargetKind::Provider, _) => Target::Provider(alias.clone()),
                (TargetKind::Node, None) => {
                    let message = format!("`{}` needs a node, but the resource has no `on`", resource.address);
                    return Err(vec![
                        Diagnostic::error(message)
                            .code(error_codes::MISSING_ON)
                            .at(resource.span, "add `on`")
                            .help("select the nodes with on = { role = \"worker\" }, on = \"gpu01\" or on = \"all\""),
                    ]);
                }
            };
            Ok(Instance {
                address: resource.address.instance(binding.key()),
                resource: resource.clone(),
                resource_type: resource_type.clone(),
                provider: alias.clone(),
                target,
                binding,
            })
        };
        Ok(Expansion::Instances(nodes, bindings.into_iter().map(instance).collect::<Result<_, _>>()?))
    }

    fn entry(&self, resource: &Resource) -> Result<Entry, Vec<Diagnostic>> {
        let address = &resource.address;
        self.catalog.find(address).cloned().ok_or_else(|| {
            let kind = if address.mode == Mode::Data { "data source" } else { "resource type" };
            let error = Diagnostic::error(format!("unknown {kind} `{}`", address.resource_type))
                .code(error_codes::UNKNOWN_TYPE)
                .at(resource.span, "no provider has this type");
            vec![match self.catalog.suggest(address.mode, &address.resource_type) {
                Some(name) => error.help(format!("did you mean `{name}`?")),
                None => error.help("`moorfast schema` lists all types"),
            }]
        })
    }

    /// Returns the provider instance of a resource: the one that it names, or the default. The calls of its module can map both to others.
    fn provider_instance(
        &self,
        module: usize,
        provider: &str,
        written: Option<&(String, Span)>,
    ) -> Result<String, Vec<Diagnostic>> {
        let default = provider.to_owned();
        let (mut alias, mut span) = written.map_or((&default, None), |(alias, span)| (alias, Some(*span)));
        let mut inside = module;
        while let Some(call) = &self.modules[inside].call {
            match call.block(self).and_then(|block| block.providers.get(alias)) {
                Some((mapped, place)) => (alias, span) = (mapped, Some(*place)),
                None if alias.contains('.') => {
                    let path = &self.modules[inside].path;
                    let message = format!("{path} has no provider instance `{alias}`");
                    let help = format!(
                        "name one of the caller in the call: providers = {{ \"{alias}\" = \"{provider}.ALIAS\" }}"
                    );
                    let error = Diagnostic::error(message).help(help);
                    return Err(vec![Diagnostic { at: span.map(|span| (span, String::new())), ..error }]);
                }
                None => {}
            }
            inside = call.caller;
        }
        let Some(span) = span else { return Ok(alias.clone()) };
        let own = alias.split('.').next() == Some(provider);
        if own && (*alias == provider || self.manifest.providers.contains_key(alias)) {
            return Ok(alias.clone());
        }
        let message = format!("unknown provider instance `{alias}` for a resource of `{provider}`");
        Err(vec![Diagnostic::error(message).at(span, "").help(format!("declare it as [providers.{provider}.ALIAS]"))])
    }

    /// Whether the value of `on` is unknown because static data was not read, or because a variable has no value.
    fn is_open(&self, module: usize, on: &Expr) -> bool {
        let is_unknown = |value: Value| value.is_unknown() && !value.is_sensitive();
        Needs::of(self, module, on).is_static && on.evaluate(&self.unbound(module)).is_ok_and(is_unknown)
    }

    /// Returns the instances of the check `name`.
    fn check_instances(
        &self,
        module: usize,
        name: &str,
        check: &Check,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Expansion<CheckInstance>, Vec<Diagnostic>> {
        let sources = match self.bindings(module, check.from.as_ref(), None, warnings)? {
            Expansion::Instances(_, bindings) => bindings.into_iter().filter_map(|binding| binding.node),
            Expansion::Open(reason) => return Ok(Expansion::Open(reason)),
        };
        let (check, from) = (Arc::new(check.clone()), sources.collect::<Arc<[_]>>());
        let instance = |binding: Binding| CheckInstance {
            name: match binding.key() {
                Some(key) => format!("{name}[{}]", serde_json::Value::String(key)),
                None => name.to_owned(),
            },
            check: check.clone(),
            binding,
            from: from.clone(),
        };
        Ok(match self.bindings(module, check.on.as_ref(), check.for_each.as_ref(), warnings)? {
            Expansion::Instances(nodes, bindings) => {
                Expansion::Instances(nodes, bindings.into_iter().map(instance).collect())
            }
            Expansion::Open(reason) => Expansion::Open(reason),
        })
    }

    /// Returns the nodes that `on` selects, and the binding of each instance.
    fn bindings(
        &self,
        module: usize,
        on: Option<&Expr>,
        for_each: Option<&Expr>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Expansion<Binding>, Vec<Diagnostic>> {
        let mut nodes: Arc<[NodeName]> = Arc::default();
        let mut bound: Vec<Option<Arc<Node>>> = vec![None];
        if let Some(on) = on {
            if let Some(reason) = self.inventory.open().next() {
                return Ok(Expansion::Open(reason.clone()));
            }
            let (names, found) = match select_nodes(on, &self.unbound(module), &self.inventory) {
                Err(mut reasons) if self.is_open(module, on) => {
                    return reasons.pop().map(Expansion::Open).ok_or(reasons);
                }
                selected => selected?,
            };
            warnings.extend(found);
            bound = names.iter().filter_map(|name| self.nodes.get(name).cloned()).map(Some).collect();
            nodes = Arc::from(names);
        }
        let mut bindings = Vec::new();
        for node in bound {
            let binding = Binding { node, nodes: nodes.clone(), ..Binding::of_module(module) };
            let Some(for_each) = for_each else {
                bindings.push(binding);
                continue;
            };
            let scope = InstanceScope::new(self, Values::none(), binding.clone());
            let value = for_each.evaluate(&scope)?;
            if has_unknown_keys(&value) {
                return Needs::unknown_keys(self, module, for_each).map(Expansion::Open);
            }
            for item in for_each_members(for_each, value)? {
                let collection = item.1.is_unknown().then(|| Arc::new(for_each.clone()));
                bindings.push(Binding { each: Some(item), collection, ..binding.clone() });
            }
        }
        Ok(Expansion::Instances(nodes, bindings))
    }
}

/// Returns an error for each data source that must not use this machine: all of them if the manifest is not trusted, otherwise those that run commands if the
/// user excluded them.
fn refused_local_access(manifest: &Manifest, catalog: &Catalog) -> Vec<Diagnostic> {
    let modules = manifest.modules();
    let resources = modules.iter().flat_map(|(_, module)| module.resources.values());
    let refused = resources.filter_map(|resource| {
        let access = catalog.find(&resource.address)?.resource_type.local_access()?;
        let (option, help) = match manifest.untrusted {
            Some(_) => ("plan --untrusted", "review the manifest first; then plan without --untrusted"),
            None if manifest.no_local_commands && access == LocalAccess::Command => {
                ("--no-local-commands", "review the command first; then run moorfast without --no-local-commands")
            }
            None => return None,
        };
        let summary = format!("`{}` is not allowed: `{option}` {}", resource.address, access.refusal());
        Some(Diagnostic::error(summary).at(resource.span, "").help(help))
    });
    refused.collect()
}

/// Returns the warning about a key store that is not encrypted.
fn unencrypted(key_store: &Block) -> Option<Diagnostic> {
    let has_recipients = key_store.attributes.iter().any(|(name, ..)| name == "recipients");
    let warning =
        || Diagnostic::warning("the key store is not encrypted: it has no `recipients`").at(key_store.span, "");
    let help = "add the public keys of those who may use it, as in recipients = [\"age1…\"]";
    (!has_recipients).then(|| warning().help(help))
}

/// Returns the errors of resources and providers against their schemas.
fn schema_errors(manifest: &Manifest, catalog: &Catalog) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for (path, module) in manifest.modules() {
        for resource in module.resources.values() {
            if let Some(entry) = catalog.find(&resource.address) {
                let (schema, name) = (entry.resource_type.schema(), resource.address.within(&path).to_string());
                errors.extend(check_attributes(schema, &name, resource.span, &resource.attributes));
                errors.extend(invalid_paths(resource, schema));
            }
        }
    }
    for (alias, block) in &manifest.providers {
        match catalog.provider(alias) {
            Some(provider) => {
                let name = format!("providers.{alias}");
                errors.extend(check_attributes(&provider.config_schema(), &name, block.span, &block.attributes));
            }
            None => {
                let names = catalog.providers().map(|p| p.name());
                let error = Diagnostic::error(format!("unknown provider `{alias}`")).at(block.span, "");
                errors.push(match suggest(alias, names) {
                    Some(help) => error.help(help),
                    None => error,
                });
            }
        }
    }
    if let Some(block) = &manifest.key_store {
        errors.extend(check_attributes(&KEY_STORE, "keystore", block.span, &block.attributes));
    }
    errors
}

/// Returns the errors of `ignore_changes` paths that do not exist in the schema.
fn invalid_paths(resource: &Resource, schema: &Schema) -> Vec<Diagnostic> {
    let paths = resource.lifecycle.ignore_changes.iter().filter(|(text, _)| text != "all");
    let errors = paths.filter_map(|(text, span)| {
        let checked = match text.parse::<AttributePath>() {
            Ok(path) => path.check(schema),
            Err(message) => Err((message, None)),
        };
        let (message, help) = checked.err()?;
        let summary = format!("`ignore_changes` of {}: {message}", resource.address);
        Some(Diagnostic { help, ..Diagnostic::error(summary).at(*span, "") })
    });
    errors.collect()
}
