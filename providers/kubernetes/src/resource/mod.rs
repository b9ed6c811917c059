//! The resource types, one module each.

mod bootstrap_token;
mod certificate_approval;
mod kubeconfig;
pub(crate) mod kubelet_config;
mod node;
pub(crate) mod object;

use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::{AttributePath, Attributes};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Invalid, Object as PlannedObject, Observed, Operation, PlanRequest, Proposal,
    ProviderError, ReadRequest,
};
use moorfast_engine::state::Record;

use crate::cluster::Cluster;
use crate::waiting::DEFAULT_TIMEOUT;

/// The result of reading one instance.
pub(crate) type Reading = Result<Option<Observed>, ProviderError>;

/// One resource type, with the methods of `ResourceType` and of the connection for this type.
#[async_trait]
pub(crate) trait Resource: Send + Sync {
    /// Returns the name and the schema. It is called once.
    fn declaration(&self) -> Declaration;

    /// Checks the rules that the schema cannot express.
    fn validate(&self, _attributes: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// Returns the natural key of an instance.
    fn identity(&self, attributes: &Attributes) -> Option<String>;

    /// Returns the objects of an instance with these attributes. Empty if each instance of the type is exactly one object.
    fn objects(&self, _attributes: &Attributes) -> Vec<PlannedObject> {
        Vec::new()
    }

    /// Returns data to record before the first operation on an instance.
    fn initial_private_data(&self, _desired: &Attributes) -> Option<serde_json::Value> {
        None
    }

    /// Whether `record` and `attributes` describe the same instance.
    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        self.identity(attributes).is_some_and(|identity| identity == record.identity)
    }

    /// Whether reading an instance needs its desired attributes.
    fn reading_needs_desired(&self) -> bool {
        false
    }

    /// Whether planning an instance needs the planned changes of its dependencies.
    fn planning_needs_dependencies(&self) -> bool {
        false
    }

    /// Returns the paths in the observed attributes that correspond to a path of `ignore_changes`.
    fn resolve_ignored_path(
        &self,
        path: AttributePath,
        _desired: &Attributes,
        _observed: &Attributes,
    ) -> Vec<AttributePath> {
        vec![path]
    }

    /// Whether an object of this type belongs to the machine of its node, and is lost when the machine is replaced.
    fn is_bound_to_machine(&self) -> bool {
        false
    }

    /// Reads the instances, in the order of `requests`.
    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading>;

    /// Plans one instance.
    async fn plan(&self, cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError>;

    /// Whether an object of this type has a health.
    fn has_health(&self) -> bool {
        false
    }

    /// Waits until the object is healthy.
    async fn healthy(&self, _cluster: &Cluster, request: &ReadRequest, _: Duration) -> Result<(), ProviderError> {
        Err(ProviderError::new(Class::Invalid, format!("{} has no health check", request.resource_type.name())))
    }

    /// Returns how long an operation may take if `timeouts` is not set.
    fn default_timeout(&self) -> Duration {
        DEFAULT_TIMEOUT
    }

    /// Does one operation.
    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError>;
}

/// All resource types.
pub(crate) const RESOURCES: [&dyn Resource; 6] = [
    &object::Object,
    &bootstrap_token::BootstrapToken,
    &kubeconfig::KubeconfigFile,
    &node::NodeObject,
    &certificate_approval::CertificateApproval,
    &kubelet_config::KubeletConfig,
];

/// Returns the same error for each of `count` requests.
pub(crate) fn fail_all(count: usize, error: &ProviderError) -> Vec<Reading> {
    (0..count).map(|_| Err(error.clone())).collect()
}
