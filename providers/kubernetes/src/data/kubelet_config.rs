//! `data.kubernetes_kubelet_config`: the configuration that a kubelet runs with.

use async_trait::async_trait;
use moorfast_engine::{
    Attribute, Attributes, Class, DataRequest, Kind, ProviderError, ResourceType, Schema, Scope, Value,
};

use crate::attributes::Read;
use crate::cluster::Cluster;
use crate::data::Data;
use crate::resource::kubelet_config::{Silence, live};

/// `data.kubernetes_kubelet_config`
pub(crate) struct KubeletConfigData;

#[async_trait]
impl Data for KubeletConfigData {
    fn declaration(&self) -> ResourceType {
        let schema = Schema::new(
            "The whole configuration that a kubelet runs with, defaults included, from its configz endpoint through the API server.",
            [
                Attribute::required("node", Kind::String, "The name of the Node."),
                Attribute::computed("config", Kind::Any, "The KubeletConfiguration."),
            ],
        );
        ResourceType { name: "kubernetes_kubelet_config", scope: Scope::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let node = request.arguments.text("node").unwrap_or_default();
        let config = live(cluster, node).await?.map_err(|silence| match silence {
            Silence::NoNode => ProviderError::new(Class::Failed, format!("there is no node {node}")),
            Silence::Kubelet(reason) => {
                let summary = format!("the kubelet of {node} does not tell its configuration: {reason}");
                ProviderError::new(Class::Unreachable, summary)
            }
        })?;
        let mut attributes = request.arguments.clone();
        attributes.insert("config".to_owned(), Value::from(config));
        Ok(attributes)
    }
}
