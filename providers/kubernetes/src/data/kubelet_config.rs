//! `data.kubernetes_kubelet_config`: where a kubelet runs with something else than its file says.

use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::{
    Attribute, Attributes, Class, DataRequest, Kind, ProviderError, ResourceType, Schema, Scope,
};
use tokio::time::{Instant, sleep};

use crate::attributes::{Read, list};
use crate::cluster::Cluster;
use crate::data::Data;
use crate::equality::differences;
use crate::resource::kubelet_config::{config_of, live};

/// How often a kubelet that differs is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// `data.kubernetes_kubelet_config`
pub(crate) struct KubeletConfigData;

#[async_trait]
impl Data for KubeletConfigData {
    fn declaration(&self) -> ResourceType {
        let schema = Schema::new(
            "The configuration that a kubelet runs with, as its configz endpoint tells it through the API server, compared with the file that the \
             manifest wrote. Fields that `config` does not mention are not looked at; durations and quantities are compared by what they mean. \
             A kubelet that does not answer is a difference, so that a check can tell it and nothing else fails.",
            [
                Attribute::required("node", Kind::String, "The name of the Node."),
                Attribute::required(
                    "config",
                    Kind::Any,
                    "The KubeletConfiguration that it should run with: YAML text, such as the `content` of the file's resource, or a table.",
                ),
                Attribute::optional(
                    "retry_for",
                    Kind::Duration,
                    "How long to ask again while it differs: a kubelet that was just restarted needs a moment.",
                )
                .or("0s"),
                Attribute::computed(
                    "differences",
                    Kind::list(Kind::String),
                    "Where it differs, one line each: `maxPods: 220 is wanted, 110 is live`. Empty where it runs with its file.",
                ),
            ],
        );
        ResourceType { name: "kubernetes_kubelet_config", scope: Scope::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let arguments = &request.arguments;
        let invalid = |message: String| ProviderError::new(Class::Invalid, message).attribute("config");
        let declared = config_of(arguments).map_err(invalid)?.unwrap_or_default();
        let node = arguments.text("node").unwrap_or_default();
        let until = Instant::now() + arguments.duration("retry_for").unwrap_or_default();
        let found = loop {
            let found = match live(cluster, node).await? {
                Ok(live) => differences(&declared, &live),
                Err(silence) => vec![silence.to_string()],
            };
            if found.is_empty() || Instant::now() + PAUSE > until {
                break found;
            }
            sleep(PAUSE).await;
        };
        let mut attributes = arguments.clone();
        attributes.insert("differences".to_owned(), list(found));
        Ok(attributes)
    }
}
