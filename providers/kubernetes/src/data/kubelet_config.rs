//! `data.kubernetes_kubelet_config`: the configuration that a kubelet runs with.

use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Class, DataRequest, ProviderError, ResourceType, TargetKind};
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::attributes::{Read, list};
use crate::cluster::Cluster;
use crate::data::Data;
use crate::resource::kubelet_config::{Silence, config_of, like, live, told_differences};
use crate::waiting::deadline;

const PAUSE: Duration = Duration::from_secs(1);

/// `data.kubernetes_kubelet_config`
pub(crate) struct KubeletConfigData;

#[async_trait]
impl Data for KubeletConfigData {
    fn declaration(&self) -> ResourceType {
        let schema = Schema::new(
            "The configuration that a kubelet runs with, defaults included, from its configz endpoint through the API server, and where it differs from \
             the one that it should run with. It only looks. A kubelet that does not answer is an error, or a difference where `config` is written.",
            [
                Attribute::required("node", Kind::String, "The name of the Node."),
                Attribute::optional(
                    "config",
                    Kind::Any,
                    "The KubeletConfiguration that it should run with: YAML text or a table. Only what is written here is compared; durations and quantities by what they mean.",
                ),
                Attribute::optional(
                    "retry_for",
                    Kind::Duration,
                    "Looks again for so long while there is a difference, for a kubelet that was just restarted.",
                ),
                Attribute::computed("live", Kind::Any, "The live KubeletConfiguration."),
                Attribute::computed(
                    "differences",
                    Kind::list(Kind::String),
                    "Where the live configuration is not `config`, one line each.",
                ),
            ],
        );
        ResourceType { name: "kubernetes_kubelet_config", target_kind: TargetKind::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let arguments = &request.arguments;
        let node = arguments.text("node").unwrap_or_default();
        let wanted =
            config_of(arguments).map_err(|message| ProviderError::new(Class::Invalid, message).attribute("config"))?;
        let deadline = deadline(arguments.duration("retry_for"), Duration::ZERO);
        loop {
            let seen = live(cluster, node).await?.map_err(|silence| silence.of(node));
            let differing = match (&wanted, &seen) {
                (Some(wanted), Ok(live)) => told_differences(arguments.get("config"), wanted, live),
                (_, Err(silence)) => vec![silence.clone()],
                (None, Ok(_)) => Vec::new(),
            };
            if !differing.is_empty() && Instant::now() + PAUSE <= deadline {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            return match seen {
                Err(silence) if wanted.is_none() => Err(ProviderError::new(Class::Unreachable, silence)),
                seen => Ok(answer(arguments, seen.unwrap_or_default(), differing)),
            };
        }
    }
}

impl Silence {
    fn of(self, node: &str) -> String {
        match self {
            Silence::NoNode => format!("there is no node {node}"),
            Silence::Kubelet(reason) => format!("the kubelet of {node} does not tell its configuration: {reason}"),
        }
    }
}

fn answer(arguments: &Attributes, live: Json, differing: Vec<String>) -> Attributes {
    let mut attributes = arguments.clone();
    let live = like(arguments.get("config"), Value::from(live));
    attributes.insert("live".to_owned(), live);
    attributes.insert("differences".to_owned(), list(differing));
    attributes
}
