//! The data source `kubernetes_version`: the version of the API server.

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{DataRequest, Declaration, ProviderError, TargetKind};

use crate::cluster::Cluster;
use crate::data::Data;

/// The data source `kubernetes_version`.
pub(crate) struct VersionData;

#[async_trait]
impl Data for VersionData {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The version of the API server that answers at the URL of the kubeconfig. Behind a load balancer, other API servers can have another version. \
             [`kubernetes_version_skew`](../functions.md) compares it with the versions that the manifest installs.",
            [Attribute::computed("version", Kind::String, "Version, for example `v1.34.4`.")],
        );
        Declaration { name: "kubernetes_version", target_kind: TargetKind::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let info = cluster.client().await?.apiserver_version().await;
        let info = info.map_err(|e| cluster.explain(e, "read the version of the API server"))?;
        let mut attributes = request.arguments.clone();
        attributes.insert("version".to_owned(), Value::String(info.git_version));
        Ok(attributes)
    }
}
