//! `data.kubernetes_object`: one object as it is.

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Class, DataRequest, ProviderError, ResourceType, TargetKind};
use serde_json::Value as Json;

use crate::attributes::Read;
use crate::cluster::Cluster;
use crate::data::Data;
use crate::fetch::{Wanted, fetch, not_served};
use crate::readiness::{Goal, Readiness};
use crate::resource::object::mark;
use crate::waiting::{DEFAULT_TIMEOUT, Wait, deadline};

/// `data.kubernetes_object`
pub(crate) struct ObjectData;

#[async_trait]
impl Data for ObjectData {
    fn declaration(&self) -> ResourceType {
        let schema = Schema::new(
            "One object of the cluster as it is. That there is none is an error. What a Secret holds is never shown.",
            [
                Attribute::required("api_version", Kind::String, "`v1`, `apps/v1`."),
                Attribute::required("kind", Kind::String, "`ConfigMap`."),
                Attribute::required("name", Kind::String, "Its name."),
                Attribute::optional(
                    "namespace",
                    Kind::String,
                    "Its namespace; `default` where its kind lives in one and none is written.",
                ),
                Attribute::optional(
                    "wait_for",
                    Kind::String,
                    "Waits until the object is there and this JSONPath has a value, `{.status.loadBalancer.ingress}`, or this one: `{.status.phase}=Bound`.",
                ),
                Attribute::computed("object", Kind::Any, "The object."),
            ],
        );
        ResourceType { name: "kubernetes_object", target_kind: TargetKind::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let text = |name: &str| request.arguments.text(name).unwrap_or_default().to_owned();
        let (api_version, kind, name) = (text("api_version"), text("kind"), text("name"));
        let served = cluster.served(&api_version, &kind).await?.ok_or_else(|| not_served(&api_version, &kind))?;
        let namespace = match (served.namespaced, text("namespace")) {
            (false, _) => String::new(),
            (true, written) if written.is_empty() => "default".to_owned(),
            (true, written) => written,
        };
        let what = if namespace.is_empty() { format!("{kind}/{name}") } else { format!("{kind}/{namespace}/{name}") };
        let object = match request.arguments.text("wait_for") {
            Some(path) => {
                let goal = Goal::path(path).map_err(|e| ProviderError::new(Class::Invalid, e).attribute("wait_for"))?;
                let judge = |object: Option<&Json>| {
                    object.map_or(Readiness::Waiting("it is not there yet".to_owned()), |o| goal.judge(o))
                };
                let deadline = deadline(request.timeout, DEFAULT_TIMEOUT);
                let wait = Wait { cluster, address: &request.address, what: &what, deadline };
                wait.until(&served, &namespace, &name, judge).await?
            }
            None => {
                let wanted = Wanted { namespace, name };
                fetch(cluster, &served, std::slice::from_ref(&wanted)).await.remove(&wanted).unwrap_or(Ok(None))?
            }
        };
        let object = object.ok_or_else(|| {
            ProviderError::new(Class::Failed, format!("there is no {what}"))
                .help("if the same manifest makes it, add that resource to depends_on")
        })?;
        let mut attributes = request.arguments.clone();
        attributes.insert("object".to_owned(), readable(object));
        Ok(attributes)
    }
}

/// The object without the bookkeeping of the API server, its secrets marked.
pub(super) fn readable(mut object: Json) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    mark(object, &Value::Null)
}
