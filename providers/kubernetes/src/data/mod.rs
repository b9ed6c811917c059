//! The data sources, one module each.

mod kubelet_config;
mod object;
mod objects;
mod rendered;
mod service_account_token;
mod version;

use async_trait::async_trait;
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{Class, DataRequest, Declaration, Invalid, LocalAccess, ProviderError};

use crate::cluster::Cluster;

/// One data source.
#[async_trait]
pub(crate) trait Data: Send + Sync {
    /// Returns the name and the schema. It is called once.
    fn declaration(&self) -> Declaration;

    /// Returns what the reading does on the machine where moorfast runs, see [`ResourceType::local_access`](moorfast_engine::provider::ResourceType).
    fn local_access(&self) -> Option<LocalAccess> {
        None
    }

    /// Whether it can only be read after the cluster was started. Otherwise it is read when planning, also if `depends_on` of the provider names what starts the cluster.
    fn needs_cluster(&self) -> bool {
        true
    }

    /// Checks the rules that the schema cannot express, and returns each violation.
    fn validate(&self, _arguments: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// Reads the data source.
    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError>;
}

/// Refuses to read a secret for an untrusted manifest, which can print it with `nonsensitive()`.
fn check_trusted(cluster: &Cluster, secret: &str) -> Result<(), ProviderError> {
    if !cluster.context.untrusted {
        return Ok(());
    }
    let summary = format!("`plan --untrusted` reads no {secret} for the manifest, which could print it");
    Err(ProviderError::new(Class::Denied, summary).help("review the manifest first; then plan without --untrusted"))
}

/// Refuses to read the objects of this kind for an untrusted manifest if they are secret.
fn check_kind(cluster: &Cluster, api_version: &str, kind: &str) -> Result<(), ProviderError> {
    if api_version == "v1" && kind == "Secret" { check_trusted(cluster, "Secret") } else { Ok(()) }
}

/// All data sources.
pub(crate) const DATA: [&dyn Data; 6] = [
    &kubelet_config::KubeletConfigData,
    &object::ObjectData,
    &objects::ObjectsData,
    &rendered::RenderedData,
    &service_account_token::ServiceAccountToken,
    &version::VersionData,
];
