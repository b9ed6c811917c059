//! The data source `kubernetes_objects`: the objects of a kind.

use async_trait::async_trait;
use kube::api::{Api, DynamicObject, ListParams};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{DataRequest, Declaration, ProviderError, TargetKind};

use crate::cluster::Cluster;
use crate::data::{Data, check_kind, object::readable};
use crate::object_reader::{not_served, to_json};

/// The data source `kubernetes_objects`.
pub(crate) struct ObjectsData;

#[async_trait]
impl Data for ObjectsData {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "The objects of one kind, ordered by namespace and name.",
            [
                Attribute::required(
                    "api_version",
                    Kind::String,
                    "API version of the objects, for example `v1` or `apps/v1`.",
                ),
                Attribute::required("kind", Kind::String, "Kind of the objects, for example `Node`."),
                Attribute::optional("namespace", Kind::String, "Namespace of the objects. Default: all namespaces."),
                Attribute::optional(
                    "label_selector",
                    Kind::String,
                    "Label selector, for example `app=web,tier!=test`.",
                ),
                Attribute::optional(
                    "field_selector",
                    Kind::String,
                    "Field selector, for example `spec.nodeName=gpu01`.",
                ),
                Attribute::computed(
                    "objects",
                    Kind::list(Kind::Any),
                    "Objects as the API server returns them, without `managedFields`.",
                ),
            ],
        );
        Declaration { name: "kubernetes_objects", target_kind: TargetKind::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let text = |name: &str| request.arguments.text(name).unwrap_or_default();
        let (api_version, kind) = (text("api_version"), text("kind"));
        check_kind(cluster, api_version, kind)?;
        let served = cluster.served(api_version, kind).await?.ok_or_else(|| not_served(api_version, kind))?;
        let client = cluster.client().await?;
        let api: Api<DynamicObject> = match text("namespace") {
            "" => Api::all_with(client, &served.resource),
            namespace => served.api(client, namespace),
        };
        let selected = |name: &str| request.arguments.text(name).map(str::to_owned);
        let parameters = ListParams {
            label_selector: selected("label_selector"),
            field_selector: selected("field_selector"),
            ..ListParams::default()
        };
        let mut found = api.list(&parameters).await.map_err(|e| cluster.explain(e, &format!("list {kind}")))?.items;
        found.sort_by_key(|o| (o.metadata.namespace.clone(), o.metadata.name.clone()));
        let mut attributes = request.arguments.clone();
        let objects = found.into_iter().map(|o| readable(to_json(o, &served))).collect::<Vec<Value>>();
        attributes.insert("objects".to_owned(), Value::List(objects));
        Ok(attributes)
    }
}
