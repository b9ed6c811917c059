//! Expansion of blocks into instances: one for each node of `on` and each element of `for_each`, with its target and provider.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::configuration::expand::{Binding, CheckInstance, Expanded, Instance, Selection};
use crate::configuration::scope::{InstanceScope, Values};
use crate::expression::Expr;
use crate::manifest::{
    Check, Inventory, Manifest, Resource, check_attributes, evaluate_for_each, evaluate_inventory, select_nodes,
};
use crate::model::{AttributePath, Diagnostic, Mode, Node, NodeName, Schema, Span, Value, suggest};
use crate::provider::catalog::{Catalog, Entry};
use crate::provider::{LocalAccess, Target, TargetKind};

/// The nodes that `on` of a block selects, and the expansion of the block.
type Selected<T> = Result<(Arc<[NodeName]>, Vec<T>), Vec<Diagnostic>>;

impl Expanded {
    /// Expands `manifest`.
    ///
    /// # Errors
    /// Returns all errors in the inventory, the selectors and the attribute names.
    pub fn new(
        manifest: Arc<Manifest>,
        variables: BTreeMap<String, Value>,
        catalog: Catalog,
    ) -> Result<Self, Vec<Diagnostic>> {
        let refused = refused_local_access(&manifest, &catalog);
        if !refused.is_empty() {
            return Err(refused);
        }
        let files = manifest.files();
        let mut expanded = Self {
            manifest: manifest.clone(),
            variables,
            files,
            catalog,
            inventory: Inventory::default(),
            nodes: BTreeMap::new(),
            warnings: Vec::new(),
            instances: Vec::new(),
            checks: Vec::new(),
            rollouts: Vec::new(),
            index: HashMap::new(),
            by_resource: HashMap::new(),
            by_node: HashMap::new(),
            is_complete: false,
        };
        expanded.inventory = evaluate_inventory(&manifest, &expanded.variables, &expanded.files)?;
        expanded.nodes = expanded.inventory.iter().map(|node| (node.name.clone(), node.clone())).collect();

        let mut errors = schema_errors(&manifest, &expanded.catalog);
        let mut warnings = Vec::new();
        let mut instances = Vec::new();
        for resource in manifest.resources.values() {
            match expanded.instances_of(resource, &mut warnings) {
                Ok((nodes, found)) => {
                    let selected = nodes.iter().map(|node| (node.clone(), Vec::new()));
                    expanded.by_node.insert(resource.address.clone(), selected.collect());
                    instances.extend(found);
                }
                Err(found) => errors.extend(found),
            }
        }
        let mut checks = Vec::new();
        for (name, check) in &manifest.checks {
            match expanded.bindings(check.on.as_ref(), check.for_each.as_ref(), &mut warnings) {
                Ok((_, bindings)) => checks.extend(check_instances(name, check, bindings)),
                Err(found) => errors.extend(found),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        instances.sort_by(|a, b| a.address.cmp(&b.address));
        for (i, instance) in instances.iter().enumerate() {
            expanded.index.insert(instance.address.clone(), i);
            expanded.by_resource.entry(instance.address.resource.clone()).or_default().push(i);
            if let Some(node) = instance.node_name() {
                let of_resource = expanded.by_node.entry(instance.address.resource.clone()).or_default();
                of_resource.entry(node).or_default().push(i);
            }
        }
        expanded.instances = instances;
        expanded.is_complete = true;
        expanded.checks = checks;
        expanded.warnings = warnings;
        expanded.rollouts = Selection::all(&expanded)?;
        Ok(expanded)
    }

    /// Returns the scope of expressions outside instances, such as selectors.
    fn unbound(&self) -> InstanceScope<'_> {
        InstanceScope::new(self, Values::none(), Binding::default())
    }

    /// Returns the nodes that `on` of a resource selects, and its instances.
    fn instances_of(&self, resource: &Resource, warnings: &mut Vec<Diagnostic>) -> Selected<Instance> {
        let Entry { provider, resource_type } = self.entry(resource)?;
        let mut found = Vec::new();
        let (nodes, bindings) = self.bindings(resource.on.as_ref(), resource.for_each.as_ref(), &mut found)?;
        let about = |warning: Diagnostic| Diagnostic {
            summary: format!("`{}`: {}", resource.address, warning.summary),
            ..warning
        };
        warnings.extend(found.into_iter().map(about));
        let alias = match &resource.provider {
            Some((alias, span)) => self.provider_instance(provider.name(), alias, *span)?,
            None => provider.name().to_owned(),
        };
        let resource = Arc::new(resource.clone());
        let instance = |binding: Binding| {
            let target =
                match (resource_type.declaration().target_kind, &binding.node) {
                    (TargetKind::Node, Some(node)) => Target::Node(node.clone()),
                    (TargetKind::Provider, _) => Target::Provider(alias.clone()),
                    (TargetKind::Node, None) => {
                        let message = format!("`{}` needs a node, but the resource has no `on`", resource.address);
                        return Err(vec![Diagnostic::error(message).at(resource.span, "add `on`").help(
                            "select the nodes with on = { role = \"worker\" }, on = \"gpu01\" or on = \"all\"",
                        )]);
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
        Ok((nodes, bindings.into_iter().map(instance).collect::<Result<_, _>>()?))
    }

    fn entry(&self, resource: &Resource) -> Result<Entry, Vec<Diagnostic>> {
        let address = &resource.address;
        self.catalog.find(address).cloned().ok_or_else(|| {
            let kind = if address.mode == Mode::Data { "data source" } else { "resource type" };
            let error = Diagnostic::error(format!("unknown {kind} `{}`", address.resource_type))
                .at(resource.span, "no provider has this type");
            vec![match self.catalog.suggest(address.mode, &address.resource_type) {
                Some(name) => error.help(format!("did you mean `{name}`?")),
                None => error.help("`moorfast schema` lists all types"),
            }]
        })
    }

    fn provider_instance(&self, provider: &str, alias: &str, span: Span) -> Result<String, Vec<Diagnostic>> {
        let own = alias.split('.').next() == Some(provider);
        if own && (alias == provider || self.manifest.providers.contains_key(alias)) {
            return Ok(alias.to_owned());
        }
        let message = format!("unknown provider instance `{alias}` for a resource of `{provider}`");
        Err(vec![Diagnostic::error(message).at(span, "").help(format!("declare it as [providers.{provider}.ALIAS]"))])
    }

    /// Returns the nodes that `on` selects, and the binding of each instance.
    fn bindings(
        &self,
        on: Option<&Expr>,
        for_each: Option<&Expr>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Selected<Binding> {
        let mut nodes: Arc<[NodeName]> = Arc::default();
        let mut bound: Vec<Option<Arc<Node>>> = vec![None];
        if let Some(on) = on {
            let (names, found) = select_nodes(on, &self.unbound(), &self.inventory)?;
            warnings.extend(found);
            bound = names.iter().filter_map(|name| self.nodes.get(name).cloned()).map(Some).collect();
            nodes = Arc::from(names);
        }
        let mut bindings = Vec::new();
        for node in bound {
            let binding = Binding { node, nodes: nodes.clone(), ..Binding::default() };
            let Some(for_each) = for_each else {
                bindings.push(binding);
                continue;
            };
            let scope = InstanceScope::new(self, Values::none(), binding.clone());
            for item in evaluate_for_each(for_each, &scope)? {
                let collection = item.1.is_unknown().then(|| Arc::new(for_each.clone()));
                bindings.push(Binding { each: Some(item), collection, ..binding.clone() });
            }
        }
        Ok((nodes, bindings))
    }
}

/// Returns an error for each data source that must not use this machine: all of them if the manifest is not trusted, otherwise those that run commands if the
/// user excluded them.
fn refused_local_access(manifest: &Manifest, catalog: &Catalog) -> Vec<Diagnostic> {
    let refused = manifest.resources.values().filter_map(|resource| {
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

/// Returns the errors of resources and providers against their schemas.
fn schema_errors(manifest: &Manifest, catalog: &Catalog) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for resource in manifest.resources.values() {
        if let Some(entry) = catalog.find(&resource.address) {
            let schema = entry.resource_type.schema();
            errors.extend(check_attributes(schema, &resource.address.to_string(), resource.span, &resource.attributes));
            errors.extend(invalid_paths(resource, schema));
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

fn check_instances(name: &str, check: &Check, bindings: Vec<Binding>) -> impl Iterator<Item = CheckInstance> {
    let check = Arc::new(check.clone());
    let name = format!("check.{name}");
    bindings.into_iter().map(move |binding| CheckInstance {
        name: match binding.key() {
            Some(key) => format!("{name}[{}]", serde_json::Value::String(key)),
            None => name.clone(),
        },
        check: check.clone(),
        binding,
    })
}
