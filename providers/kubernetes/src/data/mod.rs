//! The data sources, one module each.

mod kubelet_config;
mod object;
mod objects;
mod service_account_token;

use async_trait::async_trait;
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{DataRequest, Declaration, ProviderError};

use crate::cluster::Cluster;

/// One data source.
#[async_trait]
pub(crate) trait Data: Send + Sync {
    /// Returns the name and the schema. It is called once.
    fn declaration(&self) -> Declaration;

    /// Reads the data source.
    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError>;
}

/// All data sources.
pub(crate) const DATA: [&dyn Data; 4] = [
    &kubelet_config::KubeletConfigData,
    &object::ObjectData,
    &objects::ObjectsData,
    &service_account_token::ServiceAccountToken,
];
