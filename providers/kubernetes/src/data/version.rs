//! The data source `kubernetes_version`: the version of the API server.

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Class, DataRequest, Declaration, ProviderError, TargetKind};

use crate::cluster::Cluster;
use crate::data::Data;

const DEFAULT: &str = "default";

/// The data source `kubernetes_version`.
pub(crate) struct VersionData;

#[async_trait]
impl Data for VersionData {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The version of the API server that answers now, before the plan changes anything. Behind a load balancer, other API servers can have another version. \
             [`kubernetes_version_skew`](../functions.md) compares it with the versions that the manifest installs.",
            [
                Attribute::optional(
                    DEFAULT,
                    Kind::String,
                    "The `version` while no API server can be reached, for example before the apply that makes the cluster. If not set, this is an error.",
                ),
                Attribute::computed("version", Kind::String, "Version, for example `v1.34.4`."),
            ],
        );
        Declaration { name: "kubernetes_version", target_kind: TargetKind::Provider, schema }
    }

    fn needs_cluster(&self) -> bool {
        false
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let version = match (version_of(cluster).await, request.arguments.text(DEFAULT)) {
            (Err(error), Some(default)) if error.class == Class::Unreachable => default.to_owned(),
            (Err(error), None) if error.class == Class::Unreachable => {
                return Err(error.help(
                    "set `default` to the version to assume while there is no API server, such as an empty text",
                ));
            }
            (version, _) => version?,
        };
        let mut attributes = request.arguments.clone();
        attributes.insert("version".to_owned(), Value::String(version));
        Ok(attributes)
    }
}

async fn version_of(cluster: &Cluster) -> Result<String, ProviderError> {
    let info = cluster.client().await?.apiserver_version().await;
    Ok(info.map_err(|e| cluster.explain(e, "read the version of the API server"))?.git_version)
}
