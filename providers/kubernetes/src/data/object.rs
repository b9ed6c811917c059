//! The data source `kubernetes_object`: one object of the cluster.

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Class, DataRequest, Declaration, ProviderError, TargetKind};
use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::data::{Data, check_kind};
use crate::object_reader::{ObjectName, fetch, not_served};
use crate::readiness::{Readiness, WaitCondition};
use crate::resource::object::mark;
use crate::waiting::{DEFAULT_TIMEOUT, Wait, deadline};

/// The data source `kubernetes_object`.
pub(crate) struct ObjectData;

#[async_trait]
impl Data for ObjectData {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "One object of the cluster. A missing object is an error. The data of a Secret is never shown.",
            [
                Attribute::required(
                    "api_version",
                    Kind::String,
                    "API version of the object, for example `v1` or `apps/v1`.",
                ),
                Attribute::required("kind", Kind::String, "Kind of the object, for example `ConfigMap`."),
                Attribute::required("name", Kind::String, "Name of the object."),
                Attribute::optional(
                    "namespace",
                    Kind::String,
                    "Namespace of the object. Default: `default` for a namespaced kind.",
                ),
                Attribute::optional(
                    "wait_for",
                    Kind::String,
                    "JSONPath to wait for: until it has any value (`{.status.loadBalancer.ingress}`) or the given one (`{.status.phase}=Bound`). The object is waited for too.",
                ),
                Attribute::computed(
                    "object",
                    Kind::Any,
                    "Object as the API server returns it, without `managedFields`.",
                ),
            ],
        );
        Declaration { name: "kubernetes_object", target_kind: TargetKind::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let text = |name: &str| request.arguments.text(name).unwrap_or_default().to_owned();
        let (api_version, kind, name) = (text("api_version"), text("kind"), text("name"));
        check_kind(cluster, &api_version, &kind)?;
        let served = cluster.served(&api_version, &kind).await?.ok_or_else(|| not_served(&api_version, &kind))?;
        let namespace = match (served.namespaced, text("namespace")) {
            (false, _) => String::new(),
            (true, namespace) if namespace.is_empty() => "default".to_owned(),
            (true, namespace) => namespace,
        };
        let what = if namespace.is_empty() { format!("{kind}/{name}") } else { format!("{kind}/{namespace}/{name}") };
        let object = match request.arguments.text("wait_for") {
            Some(path) => {
                let condition = WaitCondition::path(path)
                    .map_err(|e| ProviderError::new(Class::Invalid, e).attribute("wait_for"))?;
                let judge = |object: Option<&Json>| {
                    object.map_or(Readiness::Waiting("it does not exist yet".to_owned()), |o| condition.evaluate(o))
                };
                let deadline = deadline(request.timeout, DEFAULT_TIMEOUT);
                let wait = Wait { cluster, address: &request.address, what: &what, deadline };
                wait.until(&served, &namespace, &name, judge).await?
            }
            None => {
                let name = ObjectName { namespace, name };
                fetch(cluster, &served, std::slice::from_ref(&name)).await.remove(&name).unwrap_or(Ok(None))?
            }
        };
        let object = object.ok_or_else(|| {
            ProviderError::new(Class::Failed, format!("there is no {what}"))
                .help("if a resource of this manifest creates the object, add that resource to `depends_on`")
        })?;
        let mut attributes = request.arguments.clone();
        attributes.insert("object".to_owned(), readable(object));
        Ok(attributes)
    }
}

/// Returns the object without `managedFields`, with secret data marked as sensitive.
pub(super) fn readable(mut object: Json) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    mark(object, &Value::Null)
}
