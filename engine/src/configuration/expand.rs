//! The expanded manifest: its instances, checks and rollouts. `instances.rs` builds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use moorfast_state::Record;

use crate::configuration::static_data::{StaticData, StaticSources};
use crate::expression::{Expr, Files};
use crate::manifest::{Check, Inventory, Manifest, Resource, Rollout};
use crate::model::{Address, Attributes, Diagnostic, Node, NodeName, Pattern, ResourceAddress, Value};
use crate::provider::catalog::Catalog;
use crate::provider::{ReadRequest, ResourceType, Target, TargetKind};

/// A manifest with its inventory evaluated and its blocks expanded. It does not depend on the state or on any target.
pub(crate) struct Expanded {
    pub manifest: Arc<Manifest>,
    pub variables: BTreeMap<String, Value>,
    pub files: Files,
    pub catalog: Catalog,
    pub inventory: Inventory,
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
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
    /// Whether the block is not expanded, so that its node and its element are unknown.
    pub is_open: bool,
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
}

/// The nodes and instances that a rollout selects.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// The name of the rollout.
    pub name: String,
    /// The block of the manifest.
    pub rollout: Rollout,
    /// The nodes: first those of `nodes` in that order, then the others in the order of the inventory.
    pub nodes: Vec<NodeName>,
    /// The position of each node in `nodes`.
    pub(super) places: HashMap<NodeName, usize>,
}

impl Binding {
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
        self.is_complete && !self.unexpanded.contains(resource)
    }

    /// Returns the instance at `address`.
    pub fn instance(&self, address: &Address) -> Option<&Instance> {
        self.index.get(address).map(|i| &self.instances[*i])
    }

    /// Returns the resources with instances that `pattern` names, in order.
    pub fn resources_of<'e>(&'e self, pattern: &Pattern) -> Vec<&'e ResourceAddress> {
        if let Pattern::Resource(address) = pattern
            && let Some((resource, _)) = self.by_resource.get_key_value(&address.resource)
        {
            return vec![resource];
        }
        let mut found: Vec<_> = self.by_resource.keys().filter(|resource| pattern.selects(resource)).collect();
        found.sort();
        found
    }

    /// Returns the instances of a resource.
    pub fn instances_of_resource<'e>(&'e self, resource: &ResourceAddress) -> impl Iterator<Item = &'e Instance> {
        let places = self.by_resource.get(resource).map(Vec::as_slice).unwrap_or_default();
        places.iter().map(|i| &self.instances[*i])
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
