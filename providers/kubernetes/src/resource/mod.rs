//! The resource types, one module each.

mod bootstrap_token;
mod certificate_approval;
mod kubeconfig;
pub(crate) mod kubelet_config;
pub(crate) mod node;
pub(crate) mod object;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{
    Applied, Class, Observed, Operation, PlanRequest, Proposal, ProviderError, ReadRequest, ResourceType,
};

use crate::cluster::Cluster;
use crate::permission::Permission;
use crate::waiting::DEFAULT_TIMEOUT;

/// The result of reading one instance.
pub(crate) type Reading = Result<Option<Observed>, ProviderError>;

/// A resource type, with the requests that need the cluster.
#[async_trait]
pub(crate) trait Resource: ResourceType {
    /// Reads the instances, in the order of `requests`.
    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading>;

    /// Plans one instance.
    async fn plan(&self, cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError>;

    /// Waits until the object is healthy.
    async fn healthy(&self, _cluster: &Cluster, request: &ReadRequest, _: Duration) -> Result<(), ProviderError> {
        Err(ProviderError::new(Class::Invalid, format!("{} has no health check", request.resource_type.name())))
    }

    /// Returns the permissions that an instance with these desired attributes needs.
    fn permissions(&self, _desired: &Attributes) -> Vec<Permission> {
        Vec::new()
    }

    /// Returns how long an operation may take if `timeouts` is not set.
    fn default_timeout(&self) -> Duration {
        DEFAULT_TIMEOUT
    }

    /// Does one operation.
    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError>;
}

/// All resource types.
pub(crate) static RESOURCES: LazyLock<Vec<Arc<dyn Resource>>> = LazyLock::new(|| {
    vec![
        Arc::new(object::Object),
        Arc::new(bootstrap_token::BootstrapToken),
        Arc::new(kubeconfig::KubeconfigFile),
        Arc::new(node::NodeObject),
        Arc::new(certificate_approval::CertificateApproval),
        Arc::new(kubelet_config::KubeletConfig),
    ]
});

/// Returns the same error for each of `count` requests.
pub(crate) fn fail_all<T>(count: usize, error: &ProviderError) -> Vec<Result<T, ProviderError>> {
    (0..count).map(|_| Err(error.clone())).collect()
}
