//! The trait of a resource type.

use std::any::Any;
use std::fmt;

use moorfast_state::Record;

use super::{LocalAccess, Object, Observed};
use crate::model::{AttributePath, Attributes, Schema};

/// A resource type or a data source: its schema, and the rules that need no connection.
///
/// The engine keeps one value for each type and passes it with each request to the [`Connection`](super::Connection). No method does any I/O. The methods after
/// [`ResourceType::declaration`] are for resource types; a data source has no identity.
pub trait ResourceType: Any + Send + Sync {
    /// Returns the name, the kind of target and the schema.
    fn declaration(&self) -> &Declaration;

    /// Returns the identity of an instance, the natural key of its object in the target: `/etc/motd`, `v1/Secret/kube-system/x`.
    ///
    /// Returns `None` if the identity depends on an unknown value.
    fn identity(&self, attributes: &Attributes) -> Option<String>;

    /// Returns what reading this data source does on the machine where moorfast runs. Returns `None` if it only reads its target.
    ///
    /// `--untrusted` refuses such a data source, and `--no-local-commands` refuses [`LocalAccess::Command`]. A result that is known during the plan is an
    /// input of the plan: a saved plan is stale if the data source returns another result. If its arguments are static, it is read before the inventory is
    /// evaluated, so that nodes can depend on it.
    fn local_access(&self) -> Option<LocalAccess> {
        None
    }

    /// Checks the rules that the schema cannot express, and returns each violation.
    ///
    /// The attributes may contain unknown values. A rule about an unknown value is not violated. The check must be quick.
    fn validate(&self, _attributes: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// Whether `record` and `attributes` describe the same object. If not, the recorded object is replaced.
    ///
    /// By default an object is the same if its identity is the same. A type can allow more: a list of packages is the same object as long as one package is
    /// in both lists.
    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        self.identity(attributes).is_some_and(|identity| identity == record.identity)
    }

    /// Returns the objects of an instance with these desired or observed attributes, as far as they are known.
    ///
    /// Returns an empty list if each instance of the type is exactly one object that contains no other objects.
    fn objects(&self, _attributes: &Attributes) -> Vec<Object> {
        Vec::new()
    }

    /// Whether the observed attributes depend on the desired attributes, for example because only the declared fields of an object are read.
    ///
    /// If `true`, an instance that was read while some of its attributes were unknown is read again when they are known.
    fn reading_needs_desired(&self) -> bool {
        false
    }

    /// Whether [`Connection::plan`](super::Connection::plan) needs the planned changes of the direct dependencies of an instance
    /// ([`PlanRequest::dependencies`](super::PlanRequest::dependencies)).
    fn planning_needs_dependencies(&self) -> bool {
        false
    }

    /// Returns the paths in the observed attributes that correspond to a path of `ignore_changes`.
    ///
    /// For example, `manifest.spec.replicas` stands for that field of every object if the manifest contains several objects.
    fn resolve_ignored_path(
        &self,
        path: AttributePath,
        _desired: &Attributes,
        _observed: &Attributes,
    ) -> Vec<AttributePath> {
        vec![path]
    }

    /// Whether an object in the cluster belongs to the machine of its node, for example its registration or its bootstrap token.
    ///
    /// If another machine replaces the node, such an object is destroyed and created again before anything else is done on the node.
    fn is_bound_to_machine(&self) -> bool {
        false
    }

    /// Returns private data to record before the first operation on an object, so that a later destroy can distinguish what moorfast created from what already
    /// existed.
    ///
    /// The private data of a successful operation replaces it. `observed` is `None` if the object is about to be created. The data must not contain sensitive
    /// values. Returns `None` if there is nothing to record.
    fn initial_private_data(&self, _desired: &Attributes, _observed: Option<&Observed>) -> Option<serde_json::Value> {
        None
    }

    /// Whether an instance needs the target of the provider, such as a cluster. Otherwise it exists only in moorfast, or can be read while there is no target: it neither
    /// depends on the resources that start the target (`depends_on` of the provider's configuration), nor waits until the target answers.
    fn accesses_target(&self) -> bool {
        true
    }

    /// Whether an object on a node is reached through the machine of this node. Otherwise it can still be read and destroyed when the machine does not exist any more,
    /// for example the membership of a node in a cluster, which the other members know.
    fn is_reached_through_node(&self) -> bool {
        self.declaration().target_kind == TargetKind::Node
    }

    /// Whether objects of this type have a health, so that [`Connection::wait_until_healthy`](super::Connection::wait_until_healthy) can be called for them.
    fn has_health(&self) -> bool {
        false
    }

    /// Whether objects of this type represent nodes in a cluster that runs workloads on them, so that [`Connection::drain`](super::Connection::drain) and
    /// [`Connection::undrain`](super::Connection::undrain) can be called for them.
    fn can_be_drained(&self) -> bool {
        false
    }

    /// Returns the owner that drained the node of an observed object and did not put it back into service.
    fn drained_by<'o>(&self, _observed: &'o Observed) -> Option<&'o str> {
        None
    }
}

impl dyn ResourceType {
    /// Returns the name: `ssh_file`.
    pub fn name(&self) -> &'static str {
        self.declaration().name
    }

    /// Returns the schema.
    pub fn schema(&self) -> &Schema {
        &self.declaration().schema
    }

    /// Returns the value as the provider implements it, if it is a `T`. With this, a provider gets its own type back from a request.
    pub fn downcast_ref<T: ResourceType>(&self) -> Option<&T> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }
}

impl fmt::Debug for dyn ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The declaration of a resource type or a data source.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The name: `ssh_file`.
    pub name: &'static str,
    /// The kind of target that its instances have.
    pub target_kind: TargetKind,
    /// The attributes that a manifest can set, and those that the provider computes.
    pub schema: Schema,
}

/// The kind of target that the instances of a resource type have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// The node that `on` selects. `on` is required.
    Node,
    /// The cluster of the provider instance. `on` is optional and makes one instance for each node.
    Provider,
}

/// A violated rule of [`ResourceType::validate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Invalid {
    /// The attribute that violates the rule. `None` if the rule is about the whole block.
    pub attribute: Option<&'static str>,
    /// The description of the violation.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}

impl Invalid {
    /// Returns a violation by the value of an attribute.
    pub fn new(attribute: &'static str, message: impl Into<String>) -> Self {
        Self { attribute: Some(attribute), message: message.into(), help: None }
    }

    /// Returns a violation by the whole block.
    pub fn block(message: impl Into<String>) -> Self {
        Self { attribute: None, message: message.into(), help: None }
    }

    /// Sets how to fix it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
