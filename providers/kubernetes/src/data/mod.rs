//! The data sources, one module each.

mod kubelet_config;
mod object;
mod objects;
mod rendered;
mod service_account_token;
mod version;

use async_trait::async_trait;
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{DataRequest, Declaration, Invalid, LocalAccess, ProviderError};

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

    /// Checks the rules that the schema cannot express, and returns each violation.
    fn validate(&self, _arguments: &Attributes) -> Vec<Invalid> {
        Vec::new()
    }

    /// Reads the data source.
    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError>;
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
