//! The expanded manifest: its instances, checks and rollouts. `instances.rs` builds it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use moorfast_state::Record;

use crate::configuration::static_data::StaticData;
use crate::configuration::static_sources::StaticSources;
use crate::expression::{Expr, Files};
use crate::manifest::{Check, Import, Inventory, Manifest, ModuleCall, Moved, Removed, Resource, Rollout};
use crate::model::hash::HashMap;
use crate::model::{Address, Attributes, Diagnostic, ModulePath, Node, NodeName, Pattern, ResourceAddress, Value};
use crate::provider::catalog::Catalog;
use crate::provider::{ReadRequest, ResourceType, Target, TargetKind};

/// A manifest with its inventory evaluated and its blocks expanded. It does not depend on the state or on any target.
pub(crate) struct Expanded {
    pub manifest: Arc<Manifest>,
    /// The instances of all modules. The first one is the root.
    pub modules: Vec<Module>,
    /// `[[moved]]`, `[[import]]` and `[[removed]]` of all modules, with addresses from the root.
    pub moved: Vec<Moved>,
    pub imports: Vec<Import>,
    pub removed: Vec<Removed>,
    pub catalog: Catalog,
    pub inventory: Inventory,
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
    /// The value of `nodes`, built when an expression uses it first.
    pub nodes_value: OnceLock<Arc<Value>>,
    /// The warnings of the expansion.
    pub warnings: Vec<Diagnostic>,
    /// Sorted by address.
    pub instances: Vec<Instance>,
    pub checks: Vec<CheckInstance>,
    /// The data sources that are read before the inventory is evaluated.
    pub static_sources: StaticSources,
    /// Their results.
    pub static_data: Arc<StaticData>,
    /// Why parts of the manifest are not expanded: `for_each` of nodes, resources or checks depends on static data that is not read.
    pub open: Vec<Diagnostic>,
    /// The resources that are not expanded for this reason.
    pub unexpanded: BTreeSet<ResourceAddress>,
    /// The nodes and resources that each rollout selects.
    pub rollouts: Vec<Selection>,
    /// The index of each instance in `instances`.
    pub index: HashMap<Address, usize>,
    /// The instances of each resource, by their index in `instances`.
    pub by_resource: HashMap<Arc<ResourceAddress>, Vec<usize>>,
    /// The instances of each resource on each node that its `on` selects. The list is empty if `for_each` has no elements there.
    pub by_node: HashMap<Arc<ResourceAddress>, BTreeMap<NodeName, Vec<usize>>>,
    /// How much is expanded.
    pub stage: Stage,
}

/// How much of a manifest is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The static data sources. Until the nodes are known, `nodes` is unknown.
    StaticData,
    /// The inventory. Until `on` and `for_each` of all resources are evaluated, references to resources are unknown.
    Inventory,
    /// Everything.
    Complete,
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
    /// Whether the block is not expanded, so that its node and its element are unknown.
    pub is_open: bool,
    /// The module of the block, an index of [`Expanded::modules`].
    pub module: usize,
}

/// An instance of a module, or the root.
pub(crate) struct Module {
    pub path: ModulePath,
    pub manifest: Arc<Manifest>,
    pub files: Files,
    /// The value of `path` in its expressions.
    pub folders: Value,
    /// The call. `None` for the root.
    pub call: Option<Call>,
    /// The values of the variables, except of inputs that need resources.
    pub variables: BTreeMap<String, Arc<Value>>,
    /// The locals that have the same value in all blocks, evaluated when a block uses them first. Empty until everything is expanded.
    pub shared_locals: BTreeMap<String, OnceLock<Arc<Value>>>,
    /// The instances of the modules that this one calls, by name and key. A call is missing until its `for_each` is evaluated.
    pub called: BTreeMap<String, BTreeMap<Option<String>, usize>>,
}

/// The element of a call to which a module instance belongs.
pub(crate) struct Call {
    /// The calling module, an index of [`Expanded::modules`].
    pub caller: usize,
    /// The name of the call.
    pub name: String,
    /// The element of `for_each`.
    pub each: Option<(String, Value)>,
    /// The expression of `for_each` if the value of the element is known only after apply.
    pub collection: Option<Arc<Expr>>,
}

/// One instance of a resource or data source.
#[derive(Clone)]
pub(crate) struct Instance {
    pub address: Address,
    pub resource: Arc<Resource>,
    pub resource_type: Arc<dyn ResourceType>,
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

    /// Returns the identity with these attributes, if it is known.
    pub fn identity(&self, attributes: &Attributes) -> Option<String> {
        self.resource_type.identity(attributes)
    }

    /// Returns the known identities of all objects that the instance manages with these attributes.
    pub fn identities(&self, attributes: &Attributes) -> Vec<String> {
        let objects = self.resource_type.objects(attributes);
        match objects.is_empty() {
            true => self.identity(attributes).into_iter().collect(),
            false => objects.into_iter().map(|object| object.identity).collect(),
        }
    }

    /// Whether `record` describes the same object as the instance with these attributes.
    pub fn continues(&self, record: &Record, attributes: &Attributes) -> bool {
        self.resource_type.is_same_object(record, attributes)
    }

    /// Returns the node whose machine holds the object. The object is lost if the machine is replaced.
    pub fn machine(&self) -> Option<&NodeName> {
        let node = self.binding.node.as_ref()?;
        let is_on_node = self.resource_type.declaration().target_kind == TargetKind::Node;
        (is_on_node || self.resource_type.is_bound_to_machine()).then_some(&node.name)
    }

    /// Returns a request to read the object of the instance. `recorded` is the record of this object, if there is one.
    pub fn read_request(&self, desired: Option<Attributes>, recorded: Option<Arc<Record>>) -> ReadRequest {
        ReadRequest { address: self.address.clone(), resource_type: self.resource_type.clone(), desired, recorded }
    }
}

/// One instance of a check.
pub(crate) struct CheckInstance {
    /// `check.NAME` or `check.NAME["key"]`
    pub name: String,
    pub check: Arc<Check>,
    pub binding: Binding,
    /// The nodes that send the probe. Empty if this machine sends it.
    pub from: Arc<[Arc<Node>]>,
}

/// The nodes and instances that a rollout selects.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// The name of the rollout, with the path of its module.
    pub name: String,
    /// The module of the rollout.
    pub module: ModulePath,
    /// The block of the manifest.
    pub rollout: Rollout,
    /// The nodes: first those of `nodes` in that order, then the others in the order of the inventory.
    pub nodes: Vec<NodeName>,
    /// The position of each node in `nodes`.
    pub(super) places: HashMap<NodeName, usize>,
}

impl Call {
    /// Returns the block of the call.
    pub fn block<'e>(&self, expanded: &'e Expanded) -> Option<&'e ModuleCall> {
        expanded.modules[self.caller].manifest.modules.get(&self.name)
    }
}

impl Binding {
    /// Returns the binding of expressions outside instances in a module.
    pub fn of_module(module: usize) -> Self {
        Self { module, ..Self::default() }
    }

    /// Returns the binding of an output of `module` that is used here. References keep to the same node, as through locals.
    pub fn in_module(&self, module: usize) -> Self {
        Self { node: self.node.clone(), nodes: self.nodes.clone(), ..Self::of_module(module) }
    }

    /// Returns the binding of an input that is used here: that of the call. References keep to the same node, as through locals.
    pub fn in_call(&self, call: &Call) -> Self {
        Self { each: call.each.clone(), collection: call.collection.clone(), ..self.in_module(call.caller) }
    }

    /// Returns the key of the instance: the node, the element, or both.
    pub(super) fn key(&self) -> Option<String> {
        match (&self.node, &self.each) {
            (Some(node), Some((key, _))) => Some(format!("{}/{key}", node.name)),
            (Some(node), None) => Some(node.name.0.clone()),
            (None, Some((key, _))) => Some(key.clone()),
            (None, None) => None,
        }
    }
}

impl Expanded {
    /// Whether the instances of a resource are known.
    pub fn is_expanded(&self, resource: &ResourceAddress) -> bool {
        self.stage == Stage::Complete && !self.unexpanded.contains(resource)
    }

    /// Returns the instance at `address`.
    pub fn instance(&self, address: &Address) -> Option<&Instance> {
        self.index.get(address).map(|i| &self.instances[*i])
    }

    /// Returns the name of the provider whose connection sends the probes of checks with `from`. `None` if there are none.
    pub fn probing_provider(&self) -> Option<String> {
        let is_used = self.checks.iter().any(|check| !check.from.is_empty());
        self.catalog.node_provider().filter(|_| is_used).map(str::to_owned)
    }

    /// Returns the address from the root of a resource that a block of `module` names.
    pub fn absolute<'a>(&self, module: usize, resource: &'a ResourceAddress) -> Cow<'a, ResourceAddress> {
        match self.modules[module].path.is_root() {
            true => Cow::Borrowed(resource),
            false => Cow::Owned(resource.within(&self.modules[module].path)),
        }
    }

    /// Whether the manifest has the block of `pattern`, which can have no instances.
    pub fn has_block(&self, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::Module(path) => self.manifest.module(path).is_some(),
            Pattern::Resource(address) => self.manifest.resource(&address.resource).is_some(),
        }
    }

    /// Returns the resources with instances that `pattern` names, in order.
    pub fn resources_of<'e>(&'e self, pattern: &Pattern) -> Vec<&'e ResourceAddress> {
        if let Pattern::Resource(address) = pattern
            && let Some((resource, _)) = self.by_resource.get_key_value(&address.resource)
        {
            return vec![resource];
        }
        let mut found: Vec<_> =
            self.by_resource.keys().map(Arc::as_ref).filter(|resource| pattern.selects(resource)).collect();
        found.sort();
        found
    }

    /// Returns the instances of a resource.
    pub fn instances_of_resource<'e>(&'e self, resource: &ResourceAddress) -> impl Iterator<Item = &'e Instance> {
        let places = self.by_resource.get(resource).map(Vec::as_slice).unwrap_or_default();
        places.iter().map(|i| &self.instances[*i])
    }

    /// Returns the instance of a module at `path`.
    pub fn module(&self, path: &ModulePath) -> Option<&Module> {
        self.modules.iter().find(|module| module.path == *path)
    }

    /// Returns a request to read the object that a record describes. `None` if its type does not exist any more.
    pub fn read_request(&self, address: &Address, record: Arc<Record>) -> Option<ReadRequest> {
        let resource_type = self.catalog.resource_type(&record.resource_type)?.clone();
        Some(ReadRequest { address: address.clone(), resource_type, desired: None, recorded: Some(record) })
    }

    /// Returns the target of a resource by the names of its provider instance and target. `None` if the node or the type no longer exists.
    pub fn target(&self, resource: &ResourceAddress, provider: &str, name: &str) -> Option<Target> {
        match self.catalog.find(resource)?.resource_type.declaration().target_kind {
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
}
