//! The data source `kubernetes_kubelet_config`: the live configuration of a kubelet.

use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Class, DataRequest, Declaration, ProviderError, TargetKind};
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::attributes::list;
use crate::cluster::Cluster;
use crate::data::Data;
use crate::resource::kubelet_config::{Unavailable, config_of, described_differences, live, sensitive_like};
use crate::waiting::deadline;

const PAUSE: Duration = Duration::from_secs(1);

/// The data source `kubernetes_kubelet_config`.
pub(crate) struct KubeletConfigData;

#[async_trait]
impl Data for KubeletConfigData {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The live configuration of a kubelet with its defaults, read from its configz endpoint through the API server, and the differences from an expected \
             configuration. A kubelet that does not answer is an error; if `config` is set, it is a difference.",
            [
                Attribute::required("node", Kind::String, "Name of the Node."),
                Attribute::optional(
                    "config",
                    Kind::Any,
                    "Expected KubeletConfiguration: a YAML text or a table. Only its fields are compared, durations and quantities by value.",
                ),
                Attribute::optional(
                    "retry_for",
                    Kind::Duration,
                    "How long to read again while there is a difference, for a kubelet that was just restarted. Default: read once.",
                ),
                Attribute::computed("live", Kind::Any, "Live KubeletConfiguration."),
                Attribute::computed(
                    "differences",
                    Kind::list(Kind::String),
                    "Differences between the live configuration and `config`, one line each.",
                ),
            ],
        );
        Declaration { name: "kubernetes_kubelet_config", target_kind: TargetKind::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let arguments = &request.arguments;
        let node = arguments.text("node").unwrap_or_default();
        let expected =
            config_of(arguments).map_err(|message| ProviderError::new(Class::Invalid, message).attribute("config"))?;
        let deadline = deadline(arguments.duration("retry_for"), Duration::ZERO);
        loop {
            let found = live(cluster, node).await?.map_err(|unavailable| unavailable.describe(node));
            let differing = match (&expected, &found) {
                (Some(expected), Ok(live)) => described_differences(arguments.get("config"), expected, live),
                (_, Err(reason)) => vec![reason.clone()],
                (None, Ok(_)) => Vec::new(),
            };
            if !differing.is_empty() && Instant::now() + PAUSE <= deadline {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            return match found {
                Err(reason) if expected.is_none() => Err(ProviderError::new(Class::Unreachable, reason)),
                found => Ok(result(arguments, found.unwrap_or_default(), differing)),
            };
        }
    }
}

impl Unavailable {
    fn describe(self, node: &str) -> String {
        match self {
            Unavailable::NoNode => format!("there is no Node {node}"),
            Unavailable::Kubelet(reason) => {
                format!("the kubelet of {node} does not return its configuration: {reason}")
            }
        }
    }
}

fn result(arguments: &Attributes, live: Json, differing: Vec<String>) -> Attributes {
    let mut attributes = arguments.clone();
    let live = sensitive_like(arguments.get("config"), Value::from(live));
    attributes.insert("live".to_owned(), live);
    attributes.insert("differences".to_owned(), list(differing));
    attributes
}
