//! The trait of a provider before it is configured.

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_state::Record;

use super::{Connection, Context, Object, Observed, ProviderError, ResourceType, Target};
use crate::model::{Address, AttributePath, Attributes, Schema};

/// A provider: its name, its schemas, and the rules that need no connection.
///
/// No method except [`Provider::configure`] does any I/O. Methods with a `resource_type` are called only with the provider's own types.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Returns the name of the provider. It is the prefix of its resource types, up to the first `_`: `ssh`.
    fn name(&self) -> &'static str;

    /// Returns the schema of `[providers.NAME]`.
    fn config_schema(&self) -> Schema;

    /// Returns the resource types.
    fn resource_types(&self) -> Vec<ResourceType>;

    /// Returns the data sources.
    fn data_sources(&self) -> Vec<ResourceType>;

    /// Checks the rules that the schema cannot express, and returns each violation.
    ///
    /// The attributes may contain unknown values. A rule about an unknown value is not violated. The check must be quick.
    fn validate(&self, resource_type: &str, attributes: &Attributes) -> Vec<Invalid>;

    /// Returns the identity of an instance, the natural key of its object in the target: `/etc/motd`, `v1/Secret/kube-system/x`.
    ///
    /// Returns `None` if the identity depends on an unknown value.
    fn identity(&self, resource_type: &str, attributes: &Attributes) -> Option<String>;

    /// Returns the objects of an instance with these desired or observed attributes, as far as they are known.
    ///
    /// Returns an empty list if each instance of the type is exactly one object that contains no other objects.
    fn objects(&self, _resource_type: &str, _attributes: &Attributes) -> Vec<Object> {
        Vec::new()
    }

    /// Whether the observed attributes of this type depend on its desired attributes, for example because only the declared fields of an object are read.
    ///
    /// If `true`, an instance that was read while some of its attributes were unknown is read again when they are known.
    fn reading_needs_desired(&self, _resource_type: &str) -> bool {
        false
    }

    /// Returns the paths in the observed attributes that correspond to a path of `ignore_changes`.
    ///
    /// For example, `manifest.spec.replicas` stands for that field of every object if the manifest contains several objects.
    fn resolve_ignored_path(
        &self,
        _resource_type: &str,
        path: AttributePath,
        _desired: &Attributes,
        _observed: &Attributes,
    ) -> Vec<AttributePath> {
        vec![path]
    }

    /// Whether [`Connection::plan`] needs the planned changes of the direct dependencies of an instance ([`PlanRequest::dependencies`]).
    ///
    /// [`PlanRequest::dependencies`]: super::PlanRequest::dependencies
    fn planning_needs_dependencies(&self, _resource_type: &str) -> bool {
        false
    }

    /// Whether `record` and `attributes` describe the same object. If not, the recorded object is replaced.
    ///
    /// By default an object is the same if its identity is the same. A type can allow more: a list of packages is the same object as long as one package is
    /// in both lists.
    fn is_same_object(&self, resource_type: &str, record: &Record, attributes: &Attributes) -> bool {
        self.identity(resource_type, attributes).is_some_and(|identity| identity == record.identity)
    }

    /// Whether an object in the cluster belongs to the machine of its node, for example its registration or its bootstrap token.
    ///
    /// If another machine replaces the node, such an object is destroyed and created again before anything else is done on the node.
    fn is_bound_to_machine(&self, _resource_type: &str) -> bool {
        false
    }

    /// Returns the dependencies that a manifest does not have to declare, as pairs of indexes into `instances`: the first comes before the second.
    ///
    /// For example, a directory comes before the files in it, and a Namespace before the objects in it. `instances` are all instances of this provider, with
    /// the attributes that are known before anything is read. A dependency that contradicts a declared one is dropped.
    fn implied_order(&self, _instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// Returns private data to record before the first operation on an object, so that a later destroy can distinguish what moorfast created from what already
    /// existed.
    ///
    /// The private data of a successful operation replaces it. `observed` is `None` if the object is about to be created. The data must not contain sensitive
    /// values. Returns `None` if there is nothing to record.
    fn initial_private_data(
        &self,
        _resource_type: &str,
        _desired: &Attributes,
        _observed: Option<&Observed>,
    ) -> Option<serde_json::Value> {
        None
    }

    /// Whether objects of this type have a health, so that [`Connection::wait_until_healthy`] can be called for them.
    fn has_health(&self, _resource_type: &str) -> bool {
        false
    }

    /// Returns a provider instance with this configuration. It connects to its targets only when they are needed.
    ///
    /// # Errors
    /// If the configuration is not usable.
    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError>;
}

/// A violated rule of [`Provider::validate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Invalid {
    /// The attribute that violates the rule. `None` if the rule is about the whole block.
    pub attribute: Option<&'static str>,
    /// The description of the violation.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}
