//! The resource types, one file each.

mod bootstrap_token;
mod certificate_approval;
mod kubeconfig;
pub(crate) mod kubelet_config;
mod node;
pub(crate) mod object;

use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{
    Applied, Class, Invalid, Object as PlannedObject, Observed, Operation, PlanRequest, Proposal, ProviderError,
    ReadRequest, ResourceType,
};
use moorfast_engine::state::Record;

use crate::cluster::Cluster;
use crate::waiting::DEFAULT_TIMEOUT;

/// What reading one instance gave.
pub(crate) type Reading = Result<Option<Observed>, ProviderError>;

/// One resource type. The methods are those of the provider and its connection, for this type alone.
#[async_trait]
pub(crate) trait Resource: Send + Sync {
    /// Its name and schema.
    fn declaration(&self) -> ResourceType;

    /// Rules beyond the schema.
    fn validate(&self, _attributes: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// The natural key of an instance.
    fn identity(&self, attributes: &Attributes) -> Option<String>;

    /// Returns the objects that an instance with these attributes stands for; empty for a type of which each instance is one object.
    fn objects(&self, _attributes: &Attributes) -> Vec<PlannedObject> {
        Vec::new()
    }

    /// Returns data to record before the first operation on an instance.
    fn initial_private_data(&self, _desired: &Attributes) -> Option<serde_json::Value> {
        None
    }

    /// Is what `record` remembers still what `attributes` mean?
    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        self.identity(attributes).is_some_and(|identity| identity == record.identity)
    }

    /// Is an object of this type of the one machine that its node is?
    fn is_bound_to_machine(&self) -> bool {
        false
    }

    /// What is there, for each request in order.
    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading>;

    /// What would be done.
    async fn plan(&self, cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError>;

    /// Can an object of this type be healthy or not?
    fn has_health(&self) -> bool {
        false
    }

    /// Waits until it is.
    async fn healthy(&self, _cluster: &Cluster, request: &ReadRequest, _: Duration) -> Result<(), ProviderError> {
        Err(ProviderError::new(Class::Invalid, format!("{} has no health", request.resource_type)))
    }

    /// How long an operation may take where `timeouts` says nothing.
    fn patience(&self) -> Duration {
        DEFAULT_TIMEOUT
    }

    /// Does it.
    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError>;
}

/// All of them.
pub(crate) const RESOURCES: [&dyn Resource; 6] = [
    &object::Object,
    &bootstrap_token::BootstrapToken,
    &kubeconfig::KubeconfigFile,
    &node::NodeObject,
    &certificate_approval::CertificateApproval,
    &kubelet_config::KubeletConfig,
];

/// The same failure for each of `count` requests.
pub(crate) fn fail_all(count: usize, error: &ProviderError) -> Vec<Reading> {
    (0..count).map(|_| Err(error.clone())).collect()
}
