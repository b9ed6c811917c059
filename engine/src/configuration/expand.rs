//! Expansion of blocks into instances: one for each node of `on` and each element of `for_each`, with its target and provider.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use moorfast_state::Record;

use crate::configuration::scope::{InstanceScope, Values};
use crate::configuration::selection::Selection;
use crate::expression::{Expr, Files};

use crate::manifest::{
    Check, Manifest, Resource, check_attributes, evaluate_for_each, evaluate_inventory, select_nodes,
};
use crate::model::schema::mark_sensitive;
use crate::model::{
    Address, AttributePath, Attributes, Diagnostic, Mode, Node, NodeName, ResourceAddress, Schema, Span, Value, suggest,
};
use crate::provider::catalog::{Catalog, Entry};
use crate::provider::{Object, ResourceType, Target, TargetKind};

/// A manifest with its inventory evaluated and its blocks expanded. It does not depend on the state or on any target.
pub(crate) struct Expanded {
    pub manifest: Arc<Manifest>,
    pub variables: BTreeMap<String, Value>,
    pub files: Files,
    pub catalog: Catalog,
    pub inventory: Vec<Node>,
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
    /// The warnings of the expansion.
    pub warnings: Vec<Diagnostic>,
    /// Sorted by address.
    pub instances: Vec<Instance>,
    pub checks: Vec<CheckInstance>,
    /// The nodes and resources that each rollout selects.
    pub rollouts: Vec<Selection>,
    /// The index of each instance in `instances`.
    pub index: HashMap<Address, usize>,
    /// The instances of each resource, by their index in `instances`.
    pub by_resource: HashMap<ResourceAddress, Vec<usize>>,
    /// The instances of each resource on each node that its `on` selects. The list is empty if `for_each` has no elements there.
    pub by_node: HashMap<ResourceAddress, BTreeMap<NodeName, Vec<usize>>>,
    /// Whether `on` and `for_each` of all resources are evaluated. Until then, references to resources are unknown.
    pub is_complete: bool,
}

/// The node of `on` and the element of `for_each` to which an instance is bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binding {
    pub node: Option<Arc<Node>>,
    pub each: Option<(String, Value)>,
    /// The expression of `for_each` if the value of the element is known only after apply.
    pub collection: Option<Arc<Expr>>,
    /// All nodes that `on` of the block selects.
    pub nodes: Arc<[NodeName]>,
}

/// One instance of a resource or data source.
#[derive(Clone)]
pub(crate) struct Instance {
    pub address: Address,
    pub resource: Arc<Resource>,
    pub resource_type: Arc<ResourceType>,
    /// The provider instance: `ssh`, `kubernetes.prod`.
    pub provider: String,
    pub target: Target,
    pub binding: Binding,
}

impl Instance {
    /// Returns the name of the node to which the instance is bound.
    pub fn node_name(&self) -> Option<NodeName> {
        self.binding.node.as_ref().map(|node| node.name.clone())
    }
}

/// One instance of a check.
pub(crate) struct CheckInstance {
    /// `check.NAME` or `check.NAME["key"]`
    pub name: String,
    pub check: Arc<Check>,
    pub binding: Binding,
}

impl Binding {
    /// Returns the key of the instance: the node, the element, or both.
    fn key(&self) -> Option<String> {
        match (&self.node, &self.each) {
            (Some(node), Some((key, _))) => Some(format!("{}/{key}", node.name)),
            (Some(node), None) => Some(node.name.0.clone()),
            (None, Some((key, _))) => Some(key.clone()),
            (None, None) => None,
        }
    }
}

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
        let files = manifest.files();
        let mut expanded = Self {
            manifest: manifest.clone(),
            variables,
            files,
            catalog,
            inventory: Vec::new(),
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
        let inventory = expanded.inventory.iter().cloned();
        expanded.nodes = inventory.map(|node| (node.name.clone(), Arc::new(node))).collect();

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

    /// Returns the instance at `address`.
    pub fn instance(&self, address: &Address) -> Option<&Instance> {
        self.index.get(address).map(|i| &self.instances[*i])
    }

    /// Returns the identity of an instance with these attributes, if it is known.
    pub fn identity(&self, instance: &Instance, attributes: &Attributes) -> Option<String> {
        let provider = self.catalog.provider(&instance.provider)?;
        provider.identity(instance.resource_type.name, attributes)
    }

    /// Returns the known identities of all objects that an instance with these attributes manages.
    pub fn identities(&self, instance: &Instance, attributes: &Attributes) -> Vec<String> {
        let objects = self.objects(&instance.provider, instance.resource_type.name, attributes);
        match objects.is_empty() {
            true => self.identity(instance, attributes).into_iter().collect(),
            false => objects.into_iter().map(|object| object.identity).collect(),
        }
    }

    /// Returns the objects that an instance with these desired or observed attributes manages. Empty for a type whose instances are one object each.
    pub fn objects(&self, provider: &str, resource_type: &str, attributes: &Attributes) -> Vec<Object> {
        self.catalog.provider(provider).map(|p| p.objects(resource_type, attributes)).unwrap_or_default()
    }

    /// See [`Provider::planning_needs_dependencies`](crate::provider::Provider::planning_needs_dependencies).
    pub fn planning_needs_dependencies(&self, address: &Address) -> bool {
        self.instance(address).is_some_and(|instance| {
            let provider = self.catalog.provider(&instance.provider);
            provider.is_some_and(|provider| provider.planning_needs_dependencies(instance.resource_type.name))
        })
    }

    /// Whether `record` describes the same object as the instance with these attributes.
    pub fn continues(&self, instance: &Instance, record: &Record, attributes: &Attributes) -> bool {
        let provider = self.catalog.provider(&instance.provider);
        provider.is_some_and(|p| p.is_same_object(instance.resource_type.name, record, attributes))
    }

    /// Returns the target of a resource by the names of its provider instance and target. `None` if the node or the type no longer exists.
    pub fn target(&self, resource: &ResourceAddress, provider: &str, name: &str) -> Option<Target> {
        match self.catalog.find(resource)?.resource_type.target_kind {
            TargetKind::Provider => Some(Target::Provider(provider.to_owned())),
            TargetKind::Node => self.nodes.get(&NodeName(name.to_owned())).cloned().map(Target::Node),
        }
    }

    /// Returns the node to which an instance is bound by `on`. If the instance exists only as a record, returns the node of its target.
    pub fn bound_node(&self, address: &Address, provider: &str, target: &str) -> Option<Arc<Node>> {
        if let Some(instance) = self.instance(address) {
            return instance.binding.node.clone();
        }
        match self.target(&address.resource, provider, target)? {
            Target::Node(node) => Some(node),
            Target::Provider(_) => None,
        }
    }

    /// Returns the node whose machine holds the object. The object is lost if the machine is replaced.
    pub fn machine_of<'i>(&self, instance: &'i Instance) -> Option<&'i NodeName> {
        let node = instance.binding.node.as_ref()?;
        let is_on_node = instance.resource_type.target_kind == TargetKind::Node;
        let provider = self.catalog.provider(&instance.provider);
        let is_bound = || provider.is_some_and(|p| p.is_bound_to_machine(instance.resource_type.name));
        (is_on_node || is_bound()).then_some(&node.name)
    }

    /// Marks the attributes that the schema declares sensitive, whatever their source.
    pub fn marked(&self, resource: &ResourceAddress, attributes: Attributes) -> Attributes {
        match self.catalog.find(resource) {
            Some(entry) => mark_sensitive(&entry.resource_type.schema, attributes),
            None => attributes,
        }
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
                match (resource_type.target_kind, &binding.node) {
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
            let what = if address.mode == Mode::Data { "data source" } else { "resource type" };
            let error = Diagnostic::error(format!("unknown {what} `{}`", address.resource_type))
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

/// Returns the errors of resources and providers against their schemas.
fn schema_errors(manifest: &Manifest, catalog: &Catalog) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for resource in manifest.resources.values() {
        if let Some(entry) = catalog.find(&resource.address) {
            let schema = &entry.resource_type.schema;
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
